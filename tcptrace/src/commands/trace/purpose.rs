//! What sockets are listed for while tracing.

/// What sockets are being listed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To know what was there before the start.
    Start,
    /// To see which listeners went while they were told to the programs.
    Listeners,
    /// To make up for lost events.
    Heal,
    /// To see what makes no events.
    Poll,
    /// To tell who holds the sockets of a report.
    Report,
    /// To know more of sockets that are suspected of trouble.
    Evidence,
    /// To know who holds listeners.
    Services,
    /// To see whether the namespace that is chosen is still there.
    Namespace,
}
