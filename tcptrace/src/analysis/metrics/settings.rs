//! The labels of metrics, and the limit of series.

/// Which labels metrics have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// True to separate by the owner's command name (label `process`).
    pub by_process: bool,
    /// True to separate by the owner's cgroup (label `cgroup`).
    pub by_cgroup: bool,
    /// True to separate by the owner's systemd unit (label `unit`).
    pub by_unit: bool,
    /// True to separate by the owner's container (label `container`).
    pub by_container: bool,
    /// True to separate by the owner's pod (labels `namespace` and `pod`).
    pub by_pod: bool,
    /// True to separate by the local port of a service (label `local_port`).
    pub by_local_port: bool,
    /// Most series of one metric with these labels; the owners that were idle longest are dropped and counted under `other`.
    pub max_series: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            by_process: true,
            by_cgroup: false,
            by_unit: false,
            by_container: false,
            by_pod: false,
            by_local_port: false,
            max_series: 1000,
        }
    }
}

impl Settings {
    /// True if series are separated by where owners run.
    #[must_use]
    pub const fn by_place(&self) -> bool {
        self.by_cgroup || self.by_unit || self.names_places()
    }

    /// True if labels need names that the path of a cgroup does not have.
    #[must_use]
    pub const fn names_places(&self) -> bool {
        self.by_container || self.by_pod
    }
}
