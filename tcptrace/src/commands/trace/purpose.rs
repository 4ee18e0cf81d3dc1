//! Reasons to list sockets while tracing.

/// Why sockets are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To learn the sockets that exist at the start.
    Start,
    /// To find listeners that were closed while their owners were written to the BPF map.
    Listeners,
    /// To repair the table after lost events.
    Heal,
    /// To see changes that cause no events.
    Poll,
    /// To find the holders of the sockets in a summary.
    Report,
    /// To collect evidence about suspicious sockets.
    Evidence,
    /// To find the holders of listeners.
    Services,
    /// To check that the chosen network namespace still exists.
    Namespace,
}
