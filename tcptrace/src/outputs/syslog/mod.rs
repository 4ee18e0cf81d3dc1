//! Output of records as syslog messages (RFC 5424) over a unix socket, UDP, or TCP with octet counting.

use std::{io, path::Path};

use super::flat;
use crate::{
    outputs::{
        sink::{DeliveryError, Sink},
        target::{OutputKind, Target},
        waiting::host_name,
    },
    pipeline::records::{Records, RecordsBuilder},
};

mod connection;
mod message;
mod stream;
mod target;

use connection::Connection;
use message::{Header, frame};
pub use target::SyslogTarget;

/// SD-ID of tcptrace's structured data. 32473 is the enterprise number for documentation (RFC 5612), since tcptrace has
/// none of its own.
const SD_ID: &str = "tcptrace@32473";

/// Output to a syslog server. A message counts as delivered over a unix socket when it is in the server's socket, over
/// UDP when it was sent and no ICMP error came at once, and over TCP when the server's kernel has acknowledged it. None
/// of this shows that the server has read it.
pub struct Syslog {
    target: SyslogTarget,
    header: Header,
    connection: Option<Connection>,
}

impl Syslog {
    /// An output to `target` whose messages have this `hostname`.
    #[must_use]
    pub fn new(target: SyslogTarget, hostname: String) -> Self {
        Self { target, header: Header::new(&hostname, SD_ID, std::process::id()), connection: None }
    }

    /// Sends messages over the current connection, or a new one, and removes those that were delivered.
    fn send(&mut self, messages: &mut Records) -> Result<(), DeliveryError> {
        let later = |target: &SyslogTarget, error| DeliveryError::Later(format!("syslog {target}: {error}"));
        let mut connection = match self.connection.take() {
            Some(connection) if connection.is_open() => connection,
            _ => Connection::new(&self.target).map_err(|error| later(&self.target, error))?,
        };
        let result = connection.send(messages);
        // After an error a new connection is made: the server may have been restarted, or its name may resolve to
        // another host.
        match result {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                self.connection = Some(connection);
                Err(DeliveryError::Refused { records: 1, reason: format!("syslog {}: {error}", self.target) })
            }
            Err(error) => Err(later(&self.target, error)),
            Ok(()) => {
                self.connection = Some(connection);
                Ok(())
            }
        }
    }
}

impl Sink for Syslog {
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
        let mut messages = RecordsBuilder::default();
        let mut refused = Ok(());
        for record in records.iter() {
            match flat::parse(record) {
                Ok(record) => {
                    let message = self.header.message(&record);
                    messages.add(|to| frame(to, &message, &self.target));
                }
                Err(reason) => {
                    refused = Err(DeliveryError::Refused { records: 1, reason });
                    break;
                }
            }
        }
        let mut messages = messages.take();
        let all = messages.len();
        let sent = if all == 0 { Ok(()) } else { self.send(&mut messages) };
        records.take(all - messages.len());
        sent.and(refused)
    }

    fn reopen(&mut self) {
        self.connection = None;
    }
}

#[cfg(test)]
mod tests;

/// The kind `syslog`.
pub(super) const KIND: OutputKind = OutputKind {
    name: "syslog",
    form: "syslog:unix|udp:HOST|tcp:HOST",
    parse: |rest| match rest.parse::<SyslogTarget>() {
        Ok(target) => Ok(Box::new(target)),
        Err(error) => Err(error.to_string()),
    },
};

impl Target for SyslogTarget {
    fn path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Udp(..) | Self::Tcp(..) => None,
        }
    }

    fn open(&self) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(Syslog::new(self.clone(), host_name().unwrap_or_default())))
    }

    fn boxed(&self) -> Box<dyn Target> {
        Box::new(self.clone())
    }
}
