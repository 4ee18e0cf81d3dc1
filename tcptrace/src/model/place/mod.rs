//! Where a process runs: its systemd unit, its container, its Kubernetes pod.
//!
//! Ids come from the path of its cgroup ([`Place::from_cgroup`]), names from the files that container runtimes and the
//! kubelet keep on the node ([`crate::sys::places`]). Each fact has its source; what is not known is `None`.

use serde::{Deserialize, Serialize};

use std::fmt::{self, Display, Formatter};

mod cgroup;

/// Where a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Path of the cgroup, as in `/proc/PID/cgroup`.
    pub cgroup: Box<str>,
    /// systemd unit.
    pub unit: Option<Unit>,
    /// The innermost container.
    pub container: Option<Container>,
    /// Pod of Kubernetes.
    pub pod: Option<Pod>,
}

/// A systemd unit (systemd.unit(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its name, for example `nginx.service`. Always from the path of the cgroup.
    pub name: Box<str>,
    /// Whose unit it is.
    pub manager: Manager,
}

/// The systemd that manages a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manager {
    /// That of the host.
    System,
    /// That of the user with this UID (`user@UID.service`).
    User(u32),
    /// One inside the container.
    Container,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Id that the runtime gave it, usually 64 hexadecimal digits; containers of LXC and systemd-nspawn have only names.
    pub id: Option<Sourced<Box<str>>>,
    /// The program that manages it.
    pub runtime: Option<Sourced<Runtime>>,
    /// Name that its user or the runtime gave it; in a pod, the name of the container in the pod's specification.
    pub name: Option<Sourced<Box<str>>>,
    /// Image that it was made from, as its user named it; an id if the runtime keeps only that.
    pub image: Option<Sourced<Box<str>>>,
}

/// A pod of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// `metadata.uid` in `kubectl get pod -o yaml`; for a static pod the hash of its manifest.
    pub uid: Option<Sourced<Box<str>>>,
    /// Its name.
    pub name: Option<Sourced<Box<str>>>,
    /// Its namespace.
    pub namespace: Option<Sourced<Box<str>>>,
    /// Name of the container in the pod's specification; `None` for the sandbox that holds the pod's namespaces.
    pub container: Option<Sourced<Box<str>>>,
}

/// A program that manages containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Runtime {
    Docker,
    Containerd,
    CriO,
    Podman,
    Lxc,
    Nspawn,
}

impl Runtime {
    /// Its name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
            Self::Lxc => "lxc",
            Self::Nspawn => "systemd-nspawn",
        }
    }
}

/// A fact and its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sourced<T> {
    /// The fact.
    pub value: T,
    /// Where it was read.
    pub source: PlaceSource,
}

impl<T> Sourced<T> {
    /// A fact from `source`.
    pub const fn new(value: T, source: PlaceSource) -> Self {
        Self { value, source }
    }
}

/// Where a fact about a place was read. `docs/names.md` has the paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlaceSource {
    /// The path of the cgroup.
    Cgroup,
    /// dockerd's state of the container, `config.v2.json`.
    DockerState,
    /// containerd's bundle of the running task, `config.json`.
    ContainerdTask,
    /// The container's bundle of podman or CRI-O, `userdata/config.json`.
    ContainerBundle,
    /// The list of containers of podman and CRI-O, `containers.json`.
    ContainerStorage,
    /// The names of the kubelet's log folders and links.
    KubeletLogs,
}

impl PlaceSource {
    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::DockerState => "docker_state",
            Self::ContainerdTask => "containerd_task",
            Self::ContainerBundle => "container_bundle",
            Self::ContainerStorage => "container_storage",
            Self::KubeletLogs => "kubelet_logs",
        }
    }
}

/// Number of digits of a container id in text output, as docker and podman shorten it.
const SHORT_ID: usize = 12;

impl Place {
    /// What the path of a cgroup says; a path that follows no convention yields no names.
    #[must_use]
    pub fn from_cgroup(path: &str) -> Self {
        cgroup::parse(path)
    }

    /// Id of the container that the innermost one runs in, as the node of a cluster of `kind` does; from the path of
    /// the cgroup.
    #[must_use]
    pub fn outer_container(&self) -> Option<&str> {
        cgroup::containers(&self.cgroup).nth(1).map(|(_, id, _)| id)
    }

    /// Name of the systemd unit.
    #[must_use]
    pub fn unit_name(&self) -> Option<&str> {
        self.unit.as_ref().map(|unit| &*unit.name)
    }

    /// Id of the container.
    #[must_use]
    pub fn container_id(&self) -> Option<&str> {
        text(self.container.as_ref()?.id.as_ref())
    }

    /// The first 12 digits of the container's id.
    #[must_use]
    pub fn short_container_id(&self) -> Option<&str> {
        self.container_id().map(|id| id.get(..SHORT_ID).unwrap_or(id))
    }

    /// Name of the container.
    #[must_use]
    pub fn container_name(&self) -> Option<&str> {
        text(self.container.as_ref()?.name.as_ref())
    }

    /// Image of the container.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        text(self.container.as_ref()?.image.as_ref())
    }

    /// Name of the container's runtime.
    #[must_use]
    pub fn runtime(&self) -> Option<&'static str> {
        self.container.as_ref()?.runtime.map(|runtime| runtime.value.name())
    }

    /// Where the container's name was read, or its image if it has no name.
    #[must_use]
    pub fn container_source(&self) -> Option<&'static str> {
        let container = self.container.as_ref()?;
        container.name.as_ref().or(container.image.as_ref()).map(|fact| fact.source.name())
    }

    /// Where the pod's name was read.
    #[must_use]
    pub fn pod_source(&self) -> Option<&'static str> {
        self.pod.as_ref()?.name.as_ref().map(|fact| fact.source.name())
    }

    /// UID of the pod.
    #[must_use]
    pub fn pod_uid(&self) -> Option<&str> {
        text(self.pod.as_ref()?.uid.as_ref())
    }

    /// Name of the pod.
    #[must_use]
    pub fn pod_name(&self) -> Option<&str> {
        text(self.pod.as_ref()?.name.as_ref())
    }

    /// Namespace of the pod.
    #[must_use]
    pub fn pod_namespace(&self) -> Option<&str> {
        text(self.pod.as_ref()?.namespace.as_ref())
    }

    /// Name of the container in the pod's specification.
    #[must_use]
    pub fn pod_container(&self) -> Option<&str> {
        text(self.pod.as_ref()?.container.as_ref())
    }
}

fn text(fact: Option<&Sourced<Box<str>>>) -> Option<&str> {
    fact.map(|fact| &*fact.value)
}

impl Display for Place {
    /// For people: the pod (`NAMESPACE/POD/CONTAINER`), else the container (`docker web`), else the unit, else the path
    /// of the cgroup. Foreign text: print it through [`crate::model::printable`].
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let container = self.container_name().or(self.short_container_id());
        if let Some(pod) = self.pod_name() {
            write!(f, "{}/{pod}", self.pod_namespace().unwrap_or("?"))?;
            return self.pod_container().map_or(Ok(()), |name| write!(f, "/{name}"));
        }
        match (container, self.pod_uid()) {
            (Some(container), pod) => {
                write!(f, "{} {container}", self.runtime().unwrap_or("container"))?;
                pod.map_or(Ok(()), |pod| write!(f, " pod {pod}"))
            }
            (None, Some(pod)) => write!(f, "pod {pod}"),
            (None, None) => f.write_str(self.unit_name().unwrap_or(&self.cgroup)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_shown_the_nearest_name() {
        let id = "0123456789abcdef".repeat(4);
        let uid = "4a1b2c3d-0e5f-6789-abcd-ef0123456789";
        for (path, want) in [
            (format!("/system.slice/docker-{id}.scope"), "docker 0123456789ab"),
            (format!("/tenant/{id}"), "container 0123456789ab"),
            (format!("/kubepods/pod{uid}/crio-{id}"), &format!("cri-o 0123456789ab pod {uid}")),
            (format!("/kubepods/pod{uid}"), &format!("pod {uid}")),
            ("/system.slice/nginx.service".to_owned(), "nginx.service"),
            ("/machine.slice/machine-web.scope".to_owned(), "systemd-nspawn web"),
            ("/tenant".to_owned(), "/tenant"),
            ("/".to_owned(), "/"),
        ] {
            assert_eq!(Place::from_cgroup(&path).to_string(), want, "{path}");
        }
        let fact = |text: &str| Some(Sourced::new(text.into(), PlaceSource::ContainerdTask));
        let mut place = Place::from_cgroup(&format!("/kubepods/pod{uid}/{id}"));
        place.container.as_mut().unwrap().name = fact("web");
        assert_eq!(place.to_string(), format!("container web pod {uid}"));
        let pod = place.pod.as_mut().unwrap();
        (pod.name, pod.namespace) = (fact("shop-1"), fact("prod"));
        assert_eq!(place.to_string(), "prod/shop-1", "its sandbox");
        place.pod.as_mut().unwrap().container = fact("web");
        assert_eq!(place.to_string(), "prod/shop-1/web");
    }
}
