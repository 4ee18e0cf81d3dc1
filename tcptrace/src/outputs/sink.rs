//! Where records go in the end.

use std::fmt;

use crate::pipeline::records::Records;

/// Where an output's records go: a file, a socket, a collector. It runs in its output's own thread, and may block there
/// for some seconds, but not for ever: what blocks has a time limit. It never panics, whatever the other end does.
pub trait Sink: Send {
    /// Delivers records, the oldest first, and takes those off `records` that need not be sent again. Called again with
    /// the rest after [`DeliveryError::Later`]; a record that was delivered in part is sent again as a whole.
    ///
    /// # Errors
    /// Why the rest was not delivered.
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError>;

    /// Called at least once a second while there is nothing to deliver, for what depends on time.
    ///
    /// # Errors
    /// As [`Sink::deliver`].
    fn idle(&mut self) -> Result<(), DeliveryError> {
        Ok(())
    }

    /// Opens again what may have been moved away (SIGHUP).
    fn reopen(&mut self) {}

    /// Called once after the last record: hands over what it holds back.
    ///
    /// # Errors
    /// As [`Sink::deliver`].
    fn finish(&mut self) -> Result<(), DeliveryError> {
        Ok(())
    }
}

/// Why records were not delivered. The reasons name the target, never a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryError {
    /// The other end is down, full or slow: to be tried again after a while.
    Later(String),
    /// The first `records` of the rest can never be delivered: they are too large, or the other end says that they are
    /// wrong. They are counted as refused and passed over.
    Refused {
        /// How many.
        records: usize,
        /// Why.
        reason: String,
    },
    /// There will never be a reader again, as with a pipe that was closed: a normal end.
    Closed(String),
    /// Nothing can ever be written there, as with `/dev/full`.
    Failed(String),
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Later(reason) | Self::Refused { reason, .. } | Self::Closed(reason) | Self::Failed(reason) => {
                to.write_str(reason)
            }
        }
    }
}
