//! The names in a cgroup path: the systemd unit, the container and its runtime, the Kubernetes pod. The formats are
//! conventions of systemd, docker, containerd, cri-o, podman and the kubelet, and documented by none of them; a path
//! that follows no convention yields no names.

use crate::model::names::PlaceNames;

/// A cgroup path and the names in it; each name comes from the innermost path component that has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupNames {
    /// The path in the v2 hierarchy.
    pub path: String,
    /// systemd unit (systemd.unit(5)), for example `nginx.service`.
    pub unit: Option<String>,
    /// Container id, 64 hexadecimal digits.
    pub container_id: Option<String>,
    /// Container runtime, if the path names it.
    pub container_runtime: Option<&'static str>,
    /// UID of the Kubernetes pod, as `metadata.uid` in `kubectl get pod -o yaml`; for a static pod the hash of its
    /// manifest.
    pub pod_uid: Option<String>,
}

/// The names in a path, for filters.
#[must_use]
pub fn places(path: &str) -> PlaceNames {
    let names = CgroupNames::new(path.to_owned());
    let short = names.short_container_id().map(str::to_owned);
    PlaceNames {
        units: names.unit.into_iter().collect(),
        containers: names.container_id.into_iter().chain(short).collect(),
        pods: names.pod_uid.into_iter().collect(),
    }
}

/// Prefixes of a container id, and the runtimes that write them.
const RUNTIMES: [(&str, &str); 5] = [
    ("docker", "docker"),
    ("cri-containerd", "containerd"),
    ("crio", "cri-o"),
    ("libpod", "podman"),
    ("libpod-payload", "podman"),
];

/// Unit types that have cgroups (systemd.resource-control(5)).
const UNITS: [&str; 6] = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];

/// Number of digits of a container id in text output.
const SHORT_ID: usize = 12;

impl CgroupNames {
    /// Parses a path as in `/proc/PID/cgroup`.
    #[must_use]
    pub fn new(path: String) -> Self {
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        let innermost = |find: fn(&str) -> Option<String>| parts.iter().rev().find_map(|part| find(part));
        let unit = innermost(|part| UNITS.iter().any(|end| part.ends_with(end)).then(|| part.to_owned()));
        let pod_uid = innermost(pod_uid);
        let container = parts.iter().enumerate().rev().find_map(|(depth, part)| container(&parts[..depth], part));
        let (container_id, container_runtime) =
            container.map_or((None, None), |(id, runtime)| (Some(id.to_owned()), runtime));
        Self { unit, container_id, container_runtime, pod_uid, path }
    }

    /// The first 12 digits of the container id.
    #[must_use]
    pub fn short_container_id(&self) -> Option<&str> {
        self.container_id.as_deref().and_then(|id| id.get(..SHORT_ID))
    }
}

impl std::fmt::Display for CgroupNames {
    /// For people: the container and the pod, else the unit, else the path.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.short_container_id(), &self.pod_uid) {
            (Some(id), pod) => {
                write!(f, "{} {id}", self.container_runtime.unwrap_or("container"))?;
                pod.as_ref().map_or(Ok(()), |pod| write!(f, " pod {pod}"))
            }
            (None, Some(pod)) => write!(f, "pod {pod}"),
            (None, None) => f.write_str(self.unit.as_deref().unwrap_or(&self.path)),
        }
    }
}

/// Container id and runtime of the path component `part`, whose parents are `above`.
fn container<'a>(above: &[&str], part: &'a str) -> Option<(&'a str, Option<&'static str>)> {
    let is_id = |text: &str| text.len() == 64 && is_hex(text);
    if is_id(part) {
        // cgroupfs: the parent is docker's, a containerd namespace (one of the usual two), or a pod.
        let runtime = match above {
            [.., "docker"] => Some("docker"),
            ["default" | "k8s.io"] => Some("containerd"),
            _ => None,
        };
        return Some((part, runtime));
    }
    // `RUNTIME-ID.scope`, without `.scope` if systemd does not manage it; `SLICE:RUNTIME:ID` if containerd uses the
    // kubelet's systemd name as a path.
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let (before, id) = name.rsplit_once(['-', ':']).filter(|(_, id)| is_id(id))?;
    let prefix = before.rsplit(':').next()?;
    RUNTIMES.iter().find(|(name, _)| *name == prefix).map(|(_, runtime)| (id, Some(*runtime)))
}

/// Pod UID in `podUID` (cgroupfs) or `kubepods-QOS-podUID.slice`, which has `_` in place of `-`.
fn pod_uid(part: &str) -> Option<String> {
    let slice = part.split(':').next()?;
    let uid = match slice.strip_suffix(".slice") {
        Some(slice) => slice.strip_prefix("kubepods")?.rsplit_once("-pod")?.1,
        None => part.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let groups: Vec<_> = uid.split('-').map(str::len).collect();
    let is_uid = (groups == [8, 4, 4, 4, 12] || groups == [32]) && uid.split('-').all(is_hex);
    is_uid.then_some(uid)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    const POD: &str = "4a1b2c3d-0e5f-6789-abcd-ef0123456789";

    /// A path in which `ID`, `OTHER`, `POD` and `P_O_D` stand for the constants.
    fn names(path: &str) -> CgroupNames {
        let path = path.replace("OTHER", OTHER).replace("ID", ID).replace("POD", POD);
        CgroupNames::new(path.replace("P_O_D", &POD.replace('-', "_")))
    }

    #[test]
    fn units() {
        for (path, want) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-a\\x2db.scope", Some("app-a\\x2db.scope")),
            ("/system.slice/sshd.socket", Some("sshd.socket")),
            ("/system.slice/run-data.mount", Some("run-data.mount")),
            ("/system.slice/pg.service/worker", Some("pg.service")),
            ("/init.scope", Some("init.scope")),
            ("/system.slice", Some("system.slice")),
            ("/", None),
            ("", None),
            ("/kubepods/besteffort", None),
            ("/a.services", None),
            ("/service", None),
        ] {
            assert_eq!(names(path).unit.as_deref(), want, "{path}");
        }
    }

    #[test]
    fn containers() {
        for (path, runtime) in [
            ("/system.slice/docker-ID.scope", Some("docker")),
            ("/docker/ID", Some("docker")),
            ("/docker/ID/system.slice/cron.service", Some("docker")),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope", Some("docker")),
            ("/docker/OTHER/kubelet/kubepods/podPOD/ID", None),
            ("/default/ID", Some("containerd")),
            ("/k8s.io/ID", Some("containerd")),
            ("/ecs/0a1b/ID", None),
            ("/tenant/ID", None),
            ("/ID", None),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podP_O_D.slice/cri-containerd-ID.scope",
                Some("containerd"),
            ),
            ("/system.slice/containerd.service/kubepods-podP_O_D.slice:cri-containerd:ID", Some("containerd")),
            ("/kubepods.slice/kubepods-podP_O_D.slice/crio-ID.scope", Some("cri-o")),
            ("/kubepods/burstable/podPOD/crio-ID", Some("cri-o")),
            ("/machine.slice/libpod-ID.scope", Some("podman")),
            ("/machine.slice/libpod-ID.scope/container", Some("podman")),
            ("/machine.slice/libpod-payload-ID", Some("podman")),
            ("/kubepods/burstable/podPOD/ID", None),
        ] {
            let names = names(path);
            assert_eq!(names.container_id.as_deref(), Some(ID), "{path}");
            assert_eq!(names.container_runtime, runtime, "{path}");
        }
        for path in [
            "/",
            "/docker",
            "/docker/0123456789ab",
            "/docker/ID0",
            "/docker/x/ID.slice",
            "/system.slice/docker.service",
            "/system.slice/docker-0123456789ab.scope",
            "/machine.slice/libpod-conmon-ID.scope",
            "/system.slice/crio-conmon-ID.scope",
            "/system.slice/other-ID.scope",
            "/docker/0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
            "/docker/é123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde",
        ] {
            let names = names(path);
            assert_eq!((names.container_id, names.container_runtime), (None, None), "{path}");
        }
    }

    #[test]
    fn pods() {
        for path in [
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podP_O_D.slice/cri-containerd-ID.scope",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podP_O_D.slice",
            "/kubepods.slice/kubepods-podP_O_D.slice/crio-ID.scope",
            "/kubepods/burstable/podPOD/ID",
            "/kubepods/podPOD",
            "/system.slice/containerd.service/kubepods-podP_O_D.slice:cri-containerd:ID",
        ] {
            assert_eq!(names(path).pod_uid.as_deref(), Some(POD), "{path}");
        }
        let fixed = "/kubepods.slice/kubepods-pod0123456789abcdef0123456789abcdef.slice/crio-ID.scope";
        assert_eq!(names(fixed).pod_uid.as_deref(), Some("0123456789abcdef0123456789abcdef"), "of a static pod");
        for path in [
            "/",
            "/kubepods",
            "/kubepods.slice/kubepods-burstable.slice",
            "/podman",
            "/machine.slice/libpod-ID.scope",
            "/kubepods/pod4a1b2c3d",
            "/kubepods/podPOD0",
            "/kubepods/pod4a1b2c3d-0e5f-6789-abcd-ef012345678g",
            "/other-podP_O_D.slice",
        ] {
            assert_eq!(names(path).pod_uid, None, "{path}");
        }
    }

    #[test]
    fn people_are_shown_the_nearest_name() {
        for (path, want) in [
            ("/system.slice/docker-ID.scope", "docker 0123456789ab"),
            ("/tenant/ID", "container 0123456789ab"),
            ("/kubepods/podPOD/crio-ID", "cri-o 0123456789ab pod 4a1b2c3d-0e5f-6789-abcd-ef0123456789"),
            ("/kubepods/podPOD", "pod 4a1b2c3d-0e5f-6789-abcd-ef0123456789"),
            ("/system.slice/nginx.service", "nginx.service"),
            ("/workers/a", "/workers/a"),
            ("/", "/"),
        ] {
            assert_eq!(names(path).to_string(), want, "{path}");
        }
    }
}
