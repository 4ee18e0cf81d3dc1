//! What containerd keeps about a running container: the bundle of its task, `NAMESPACE/ID/config.json` (the runtime
//! specification), whose annotations the CRI plugin (`pkg/cri/annotations`; sandbox and container names since 1.5) and
//! nerdctl write.

use serde::Deserialize;

use super::{
    facts::{Facts, Labels, PodFacts},
    root::Root,
};
use crate::model::place::{Place, PlaceSource, Runtime};

/// State folders: containerd's default, those of k3s and RKE2, MicroK8s, k0s, and of the containerd that dockerd starts.
const STATE: [&str; 5] = [
    "/run/containerd",
    "/run/k3s/containerd",
    "/var/snap/microk8s/common/run/containerd",
    "/run/k0s/containerd",
    "/run/docker/containerd/daemon",
];
/// Folders of the tasks of runtimes (`runtime/v2/manager.go`; before 1.3 `runtime/v1/linux`).
const TASKS: [&str; 2] = ["io.containerd.runtime.v2.task", "io.containerd.runtime.v1.linux"];
/// Number of containerd's namespaces that are searched.
const MAX_NAMESPACES: usize = 64;
/// Largest file that is read.
const MAX_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: Labels,
    linux: Option<Linux>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    cgroups_path: Option<String>,
}

/// Adds what containerd says about the container `id`. `tasks` is the folder of the containers of its namespace, if its
/// shim's process showed it.
pub(super) fn add(root: &Root, id: &str, tasks: Option<&str>, place: &mut Place) {
    let found = tasks.and_then(|folder| read(root, &format!("{folder}/{id}")));
    if let Some(spec) = found.or_else(|| search(root, id)) {
        add_spec(&spec, place);
    }
}

fn search(root: &Root, id: &str) -> Option<Spec> {
    let folders = STATE.iter().flat_map(|state| TASKS.map(|tasks| format!("{state}/{tasks}")));
    folders.into_iter().find_map(|folder| {
        let mut namespaces = Vec::new();
        root.list(&folder, MAX_NAMESPACES, |name| namespaces.push(name.to_owned())).ok()?;
        namespaces.iter().find_map(|namespace| read(root, &format!("{folder}/{namespace}/{id}")))
    })
}

fn read(root: &Root, bundle: &str) -> Option<Spec> {
    serde_json::from_slice(&root.read(&format!("{bundle}/config.json"), MAX_BYTES).ok()?).ok()
}

/// Adds the container whose cgroup is `/NAMESPACE/ID`, whatever its id looks like, if its specification names this
/// cgroup: `ctr run` lets its user choose the id.
pub(super) fn add_by_cgroup(root: &Root, shim_folder: Option<&str>, place: &mut Place) {
    let mut parts = place.cgroup.split('/').filter(|part| !part.is_empty());
    let (Some(namespace), Some(id)) = (parts.next(), parts.next()) else { return };
    if [namespace, id].contains(&"..") {
        return;
    }
    let (cgroup, id) = (format!("/{namespace}/{id}"), id.to_owned());
    let known = STATE.iter().flat_map(|state| TASKS.map(|tasks| format!("{state}/{tasks}/{namespace}/{id}")));
    let mut bundles = shim_folder.map(str::to_owned).into_iter().chain(known);
    let is_it = |spec: &Spec| spec.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref()) == Some(&cgroup);
    if let Some(spec) = bundles.find_map(|bundle| read(root, &bundle).filter(is_it)) {
        Facts::new(place, PlaceSource::ContainerdTask).id(&id);
        add_spec(&spec, place);
    }
}

fn add_spec(spec: &Spec, place: &mut Place) {
    let annotation = |key| spec.annotations.get(key).map(String::as_str);
    let cri = |key: &str| spec.annotations.get(&format!("io.kubernetes.cri.{key}")).map(String::as_str);
    let mut facts = Facts::new(place, PlaceSource::ContainerdTask);
    facts.runtime(Runtime::Containerd);
    let container = cri("container-name").filter(|_| cri("container-type") != Some("sandbox"));
    facts.name(container.or_else(|| annotation("nerdctl/name")));
    facts.image(cri("image-name"));
    facts.pod(&PodFacts {
        uid: cri("sandbox-uid"),
        name: cri("sandbox-name"),
        namespace: cri("sandbox-namespace"),
        container,
    });
}
