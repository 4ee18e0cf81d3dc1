//! The labels of metrics, and the limit of series.

/// Which labels metrics have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// True to separate by the owner's command name (label `process`).
    pub by_process: bool,
    /// True to separate by the owner's cgroup (label `cgroup`).
    pub by_cgroup: bool,
    /// True to separate by the local port of a service (label `local_port`).
    pub by_local_port: bool,
    /// Most series of one metric with these labels; the owners that were idle longest are dropped and counted under `other`.
    pub max_series: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { by_process: true, by_cgroup: false, by_local_port: false, max_series: 1000 }
    }
}
