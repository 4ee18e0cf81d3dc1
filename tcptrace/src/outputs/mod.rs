//! The ways out: each output has a queue of bounded size, a thread of its own and counters, so that none of them keeps
//! another, or the reading of events, from its work.

mod all;
mod counters;
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
mod rotated;
mod sink;
mod standard;
mod syslog;
pub mod target;
#[cfg(test)]
mod tests;
mod tls;
mod waiting;
mod words;

pub use crate::outputs::rotated::Compression;
pub use all::Outputs;
pub use counters::{Count, Counters};
pub use file::{FileSettings, FileSink};
pub use journald::{Journald, log_entry};
#[cfg(feature = "kafka")]
pub use kafka::{Kafka, KafkaError, KafkaSettings, Sasl, SaslMechanism};
pub use otlp::{OtlpError, OtlpHeaders, OtlpLogs, OtlpMetrics, OtlpSettings, host_resource};
pub use output::Output;
pub use sink::{DeliveryError, Sink};
pub use standard::{Standard, Stdout};
pub use syslog::{Syslog, SyslogTarget};
pub use tls::TlsError;
pub use waiting::host_name;
