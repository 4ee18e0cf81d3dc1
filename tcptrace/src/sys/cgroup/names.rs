//! The ids in a cgroup path, as fields of listings.

use crate::model::place::Place;

/// A cgroup path and the names in it: see [`Place::from_cgroup`].
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
    text: String,
}

impl CgroupNames {
    /// Parses a path as in `/proc/PID/cgroup`.
    #[must_use]
    pub fn new(path: String) -> Self {
        let place = Place::from_cgroup(&path);
        Self {
            unit: place.unit_name().map(str::to_owned),
            container_id: place.container_id().map(str::to_owned),
            container_runtime: place.runtime(),
            pod_uid: place.pod_uid().map(str::to_owned),
            text: place.to_string(),
            path,
        }
    }

    /// The first 12 digits of the container id.
    #[must_use]
    pub fn short_container_id(&self) -> Option<&str> {
        self.container_id.as_deref().and_then(|id| id.get(..12))
    }
}

impl std::fmt::Display for CgroupNames {
    /// For people: the container and the pod, else the unit, else the path.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
