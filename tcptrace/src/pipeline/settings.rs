//! Settings of a session.

use crate::{
    analysis::metrics::{self},
    findings::Thresholds,
    model::{filter::Expr, socket_filter::SocketFilter, state::StateSet},
};

/// What a session does with events.
pub struct SessionSettings {
    /// States that an event must be about to be reported; empty for all.
    pub states: StateSet,
    /// Filter for sockets. With findings, only its network namespace limits the table; the other criteria limit what is
    /// reported.
    pub selection: SocketFilter,
    /// What events and sockets must match besides, which `selection` cannot express; `None` if nothing.
    pub rest: Option<Expr>,
    /// True if the kernel side passes events whose owner it does not know: they must be checked again.
    pub owner_unchecked: bool,
    /// True if nothing was filtered in the kernel, as in a recording: the filter is applied here.
    pub unfiltered: bool,
    /// True if sockets without events are polled.
    pub polls: bool,
    /// Maximum number of sockets in the table.
    pub max_sockets: usize,
    /// True if transitions are counted by process.
    pub by_process: bool,
    /// True if events are written, false for summaries only.
    pub events: bool,
    /// Maximum number of events and findings, or of stories, to write. All counting stops with the last one.
    pub count: Option<u64>,
    /// Thresholds of findings; `None` if findings are disabled.
    pub findings: Option<Thresholds>,
    /// Labels of the metrics; `None` if there are no metrics.
    pub metrics: Option<metrics::Settings>,
}
