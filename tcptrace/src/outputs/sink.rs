//! The interface to the destination of an output's records.

use std::fmt;

use crate::pipeline::records::Records;

/// Destination of an output's records: a file, a socket, a collector. It runs in the output's own thread, and may block
/// there for a few seconds, but not forever: everything that blocks needs a time limit. It must not panic, whatever the
/// receiver does.
pub trait Sink: Send {
    /// Delivers records, oldest first, and removes those that need not be sent again from `records`. After
    /// [`DeliveryError::Later`] it is called again with the rest; a record that was delivered in part is sent again as
    /// a whole.
    ///
    /// # Errors
    /// Why the rest was not delivered.
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError>;

    /// Called at least once a second while there is nothing to deliver, for time-dependent work such as rotation.
    ///
    /// # Errors
    /// See [`Sink::deliver`].
    fn idle(&mut self) -> Result<(), DeliveryError> {
        Ok(())
    }

    /// Reopens what may have been moved away (SIGHUP).
    fn reopen(&mut self) {}

    /// Called once after the last record, to deliver what the sink buffers.
    ///
    /// # Errors
    /// See [`Sink::deliver`].
    fn finish(&mut self) -> Result<(), DeliveryError> {
        Ok(())
    }
}

/// Why records were not delivered. The reasons name the target, never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryError {
    /// The receiver is down, full or slow: retry after a pause.
    Later(String),
    /// The first `records` of the rest can never be delivered: they are too large, or the receiver rejects them. They
    /// are counted as refused and skipped.
    Refused {
        /// Number of records that are refused.
        records: usize,
        /// Why they were refused.
        reason: String,
    },
    /// The first `records` of the rest are more than the user wants: they are counted as suppressed and skipped.
    Suppressed {
        /// Number of records that are suppressed.
        records: usize,
        /// Why they are suppressed.
        reason: String,
    },
    /// There will never be a reader again, as with a closed pipe: a normal end.
    Closed(String),
    /// Nothing can ever be written there, as with `/dev/full`.
    Failed(String),
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Later(reason)
            | Self::Refused { reason, .. }
            | Self::Suppressed { reason, .. }
            | Self::Closed(reason)
            | Self::Failed(reason) => to.write_str(reason),
        }
    }
}
