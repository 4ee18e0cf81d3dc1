//! Facts that files of runtimes may add to a place.

use std::collections::HashMap;

use crate::model::place::{Container, Place, PlaceSource, Pod, Runtime, Sourced};

/// Longest name: that of a file (NAME_MAX).
const MAX_NAME: usize = 255;
/// Longest reference of an image.
const MAX_IMAGE: usize = 1024;

/// Labels or annotations of a container.
pub(super) type Labels = HashMap<String, String>;

/// Adds facts from one source to a place. A fact that is known already stays.
pub(super) struct Facts<'a> {
    place: &'a mut Place,
    source: PlaceSource,
}

impl<'a> Facts<'a> {
    pub(super) const fn new(place: &'a mut Place, source: PlaceSource) -> Self {
        Self { place, source }
    }

    pub(super) fn id(&mut self, id: &str) {
        self.container(|container| &mut container.id, Some(id), MAX_NAME);
    }

    pub(super) fn name(&mut self, name: Option<&str>) {
        self.container(|container| &mut container.name, name, MAX_NAME);
    }

    pub(super) fn image(&mut self, image: Option<&str>) {
        self.container(|container| &mut container.image, image, MAX_IMAGE);
    }

    pub(super) fn runtime(&mut self, runtime: Runtime) {
        let known = &mut self.place.container.get_or_insert_default().runtime;
        *known = known.or(Some(Sourced::new(runtime, self.source)));
    }

    fn container(
        &mut self,
        fact: fn(&mut Container) -> &mut Option<Sourced<Box<str>>>,
        text: Option<&str>,
        max: usize,
    ) {
        if text.is_some() {
            set(fact(self.place.container.get_or_insert_default()), text, max, self.source);
        }
    }

    /// Adds what is known of a pod; nothing makes no pod.
    pub(super) fn pod(&mut self, about: &PodFacts<'_>) {
        let mut pod = self.place.pod.take().unwrap_or_default();
        set(&mut pod.uid, about.uid, MAX_NAME, self.source);
        set(&mut pod.name, about.name, MAX_NAME, self.source);
        set(&mut pod.namespace, about.namespace, MAX_NAME, self.source);
        set(&mut pod.container, about.container, MAX_NAME, self.source);
        self.place.pod = (pod != Pod::default()).then_some(pod);
    }

    /// Adds the pod that the kubelet's labels name: docker and CRI-O keep them as they are.
    pub(super) fn kubelet_labels(&mut self, labels: &Labels, is_sandbox: bool) {
        let label = |key| labels.get(key).map(String::as_str);
        let container = label("io.kubernetes.container.name").filter(|_| !is_sandbox);
        self.name(container);
        self.pod(&PodFacts {
            uid: label("io.kubernetes.pod.uid"),
            name: label("io.kubernetes.pod.name"),
            namespace: label("io.kubernetes.pod.namespace"),
            container,
        });
    }
}

/// What a source says about a pod.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PodFacts<'a> {
    pub(super) uid: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) namespace: Option<&'a str>,
    pub(super) container: Option<&'a str>,
}

/// A text that is empty or longer than any name is none.
fn set(known: &mut Option<Sourced<Box<str>>>, text: Option<&str>, max: usize, source: PlaceSource) {
    if let (None, Some(text)) = (&known, text.filter(|text| (1..=max).contains(&text.len()))) {
        *known = Some(Sourced::new(text.into(), source));
    }
}

/// Whether nothing is left to find out by reading files.
pub(super) fn is_complete(place: &Place) -> bool {
    let has_names = place.container_id().is_none() || place.container_name().is_some() && place.image().is_some();
    let has_pod = place.pod.is_none() || place.pod_name().is_some() && place.pod_namespace().is_some();
    has_names && has_pod
}

/// Keeps what an earlier look found, if its files are gone now.
pub(super) fn keep(place: &mut Place, earlier: &Place) {
    if let Some(known) = &earlier.container {
        let container = place.container.get_or_insert_default();
        container.id = container.id.take().or_else(|| known.id.clone());
        container.runtime = container.runtime.or(known.runtime);
        container.name = container.name.take().or_else(|| known.name.clone());
        container.image = container.image.take().or_else(|| known.image.clone());
    }
    if let Some(known) = &earlier.pod {
        let pod = place.pod.get_or_insert_default();
        pod.uid = pod.uid.take().or_else(|| known.uid.clone());
        pod.name = pod.name.take().or_else(|| known.name.clone());
        pod.namespace = pod.namespace.take().or_else(|| known.namespace.clone());
        pod.container = pod.container.take().or_else(|| known.container.clone());
    }
}
