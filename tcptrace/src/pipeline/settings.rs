//! What a session is to do.

use crate::{
    analysis::metrics::{self},
    findings::Thresholds,
    model::{socket_filter::SocketFilter, state::StateSet},
};

/// What a session does with events.
pub struct SessionSettings {
    /// States that an event must concern to be shown; empty for all.
    pub states: StateSet,
    /// The same for sockets, with all other parts of the filter. With findings nothing but the network namespace keeps
    /// anything out of the table: the rest says what is shown.
    pub selection: SocketFilter,
    /// The kernel side lets events pass whose owner it does not know: they must be looked at once more.
    pub owner_unchecked: bool,
    /// Are there polls for what makes no events?
    pub polls: bool,
    /// Sockets in the table at most.
    pub max_sockets: usize,
    /// Are transitions counted by process?
    pub by_process: bool,
    /// Are events written, or summaries alone?
    pub events: bool,
    /// Events and findings, or stories, to be written at most. With the last one all counting ends.
    pub count: Option<u64>,
    /// What is called trouble; `None` where it is not looked for.
    pub findings: Option<Thresholds>,
    /// What metrics tell apart; `None` where none are made.
    pub metrics: Option<metrics::Settings>,
}
