//! The ways out: each output has a queue of bounded size, a thread of its own and counters, so that none of them keeps
//! another, or the reading of events, from its work.

#[cfg(feature = "kafka")]
mod kafka;
mod otlp;
mod records;
mod sink;
mod tls;
mod waiting;

#[cfg(feature = "kafka")]
pub use kafka::{Kafka, KafkaError, KafkaSettings, Sasl, SaslMechanism};
pub use otlp::{OtlpError, OtlpHeaders, OtlpLogs, OtlpMetrics, OtlpSettings, host_resource};
pub use records::{Collecting, Records};
pub use sink::{Sink, Trouble};
pub use tls::TlsError;
