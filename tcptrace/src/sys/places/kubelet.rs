//! What the kubelet's log folders say (`pkg/kubelet/kuberuntime/legacy.go` and `helpers.go` of Kubernetes): links
//! `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`, and since 1.14 folders `/var/log/pods/NAMESPACE_POD_UID`.
//!
//! `/var/lib/kubelet/pods/UID/etc-hosts` has a host name, which is the pod's name only if its specification sets no other
//! one, so it is not read.

use std::collections::HashMap;

use super::{
    facts::{Facts, PodFacts},
    indexes::Indexes,
    root::Root,
};
use crate::model::place::{Place, PlaceSource};

const LINKS: &str = "/var/log/containers";
const FOLDERS: &str = "/var/log/pods";
/// Names that are read in each folder.
const MAX_NAMES: usize = 100_000;

/// A pod, and for a link the container.
#[derive(Debug)]
pub(super) struct Logged {
    namespace: Box<str>,
    pod: Box<str>,
    container: Option<Box<str>>,
}

/// Adds what the kubelet's logs say about a container and its pod.
pub(super) fn add(root: &Root, indexes: &mut Indexes<Logged>, place: &mut Place) {
    let linked = place.container_id().and_then(|id| indexes.get(root, LINKS, id, || read(root, LINKS, link)));
    if let Some(logged) = linked {
        return add_logged(logged, place);
    }
    let of_pod = place.pod_uid().and_then(|uid| indexes.get(root, FOLDERS, uid, || read(root, FOLDERS, folder)));
    if let Some(logged) = of_pod {
        add_logged(logged, place);
    }
}

fn add_logged(logged: &Logged, place: &mut Place) {
    let mut facts = Facts::new(place, PlaceSource::KubeletLogs);
    let container = logged.container.as_deref();
    facts.name(container);
    facts.pod(&PodFacts { uid: None, name: Some(&logged.pod), namespace: Some(&logged.namespace), container });
}

type Parse = fn(&str) -> Option<(&str, Logged)>;

fn read(root: &Root, path: &str, parse: Parse) -> HashMap<Box<str>, Logged> {
    let mut index = HashMap::new();
    let _ = root.list(path, MAX_NAMES, |name| {
        if let Some((key, logged)) = parse(name) {
            index.insert(key.into(), logged);
        }
    });
    index
}

/// `POD_NAMESPACE_CONTAINER-ID.log`.
fn link(name: &str) -> Option<(&str, Logged)> {
    let (names, id) = name.strip_suffix(".log")?.rsplit_once('-')?;
    let mut names = names.split('_');
    let (pod, namespace, container) = (names.next()?, names.next()?, names.next()?);
    let is_whole = names.next().is_none() && [pod, namespace, container].into_iter().all(is_name);
    let logged = || Logged { namespace: namespace.into(), pod: pod.into(), container: Some(container.into()) };
    is_whole.then(|| (id, logged()))
}

/// `NAMESPACE_POD_UID`.
fn folder(name: &str) -> Option<(&str, Logged)> {
    let mut names = name.split('_');
    let (namespace, pod, uid) = (names.next()?, names.next()?, names.next()?);
    let is_whole = names.next().is_none() && [namespace, pod].into_iter().all(is_name);
    is_whole.then(|| (uid, Logged { namespace: namespace.into(), pod: pod.into(), container: None }))
}

/// Whether it may be a name of Kubernetes (RFC 1123, dots included).
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}
