//! What metrics are kept apart by.

/// How much is told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Has each command name of an owner a series of its own (label `process`)?
    pub by_process: bool,
    /// Each cgroup (label `cgroup`)?
    pub by_cgroup: bool,
    /// Each local port of a service (label `local_port`)?
    pub by_local_port: bool,
    /// Series of one metric by these at most; what was idle for longest makes room, and is counted under `other`.
    pub max_series: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { by_process: true, by_cgroup: false, by_local_port: false, max_series: 1000 }
    }
}
