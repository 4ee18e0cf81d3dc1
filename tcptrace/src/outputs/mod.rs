//! The outputs: files, standard output, journald, syslog, OTLP, Kafka, HTTP, and hooks on findings.
//!
//! Each output has a bounded queue and a thread of its own, so that a slow receiver delays neither the other outputs
//! nor the reading of events. [`Output::push`] never blocks: if the queue is full, the oldest records are dropped, and
//! counted ([`Counters`]). What an output does with its records is a [`Sink`]; it runs in the output's thread, and the
//! output repeats what failed.
//!
//! A sink that collects records in memory:
//!
//! ```
//! use tcptrace::{outputs::{DeliveryError, Sink}, pipeline::records::Records};
//!
//! struct Memory(Vec<u8>);
//!
//! impl Sink for Memory {
//!     fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
//!         self.0.extend_from_slice(records.bytes());
//!         records.take(records.len());
//!         Ok(())
//!     }
//! }
//! ```

mod alertmanager;
mod all;
mod client;
mod counters;
pub mod exec;
mod file;
mod flat;
pub mod http;
mod journald;
#[cfg(feature = "kafka")]
mod kafka;
pub mod kinds;
pub mod messages;
mod otlp;
mod output;
mod queue;
mod rate;
pub mod recorder;
mod rotated;
mod sink;
mod standard;
mod syslog;
pub mod target;
#[cfg(test)]
mod tests;
mod tls;
mod waiting;
mod webhook;
mod words;

pub use crate::outputs::rotated::Compression;
pub use all::Outputs;
pub use client::{ClientError, HeaderError, Headers};
pub use counters::{Count, Counters};
pub use file::{FileSettings, FileSink};
pub use journald::{Journald, log_entry};
#[cfg(feature = "kafka")]
pub use kafka::{Kafka, KafkaError, KafkaSettings, Sasl, SaslMechanism};
pub use otlp::{OtlpError, OtlpLogs, OtlpMetrics, OtlpSettings, host_resource};
pub use output::Output;
pub use sink::{DeliveryError, Sink};
pub use standard::{Standard, Stdout};
pub use syslog::{Syslog, SyslogTarget};
pub use tls::TlsError;
pub use waiting::host_name;
