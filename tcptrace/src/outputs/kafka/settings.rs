//! Settings of a Kafka output.

use std::{fmt, path::PathBuf, time::Duration};

use crate::{model::number::digits, outputs::tls::TlsError};

/// Why the settings of a Kafka output cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// The target is malformed.
    #[error("{0}; expected HOST:PORT[,HOST:PORT]/TOPIC")]
    Target(&'static str),
    /// TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system provides no event queue or thread.
    #[error("cannot wait for the network: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Settings of a Kafka output.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// Bootstrap brokers, each as HOST:PORT.
    pub brokers: Vec<String>,
    /// The topic, which must exist.
    pub topic: String,
    /// Whether to use TLS.
    pub tls: bool,
    /// PEM file of the trusted certificate authorities; `None` for the system's.
    pub ca: Option<PathBuf>,
    /// Authentication, if the brokers require it.
    pub sasl: Option<Sasl>,
    /// Whether to compress batches with gzip.
    pub gzip: bool,
    /// Time limit for an attempt to produce, including all connections that it makes.
    pub timeout: Duration,
    /// Maximum number of records in a batch.
    pub records: usize,
    /// Maximum size of a batch in bytes; a longer record is sent alone. By default brokers accept batches of 1 MiB
    /// (`message.max.bytes`).
    pub bytes: usize,
}

/// How to authenticate with SASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// PLAIN (RFC 4616), for use over TLS.
    Plain,
    /// SCRAM-SHA-256 (RFC 7677), without sending the password.
    ScramSha256,
    /// SCRAM-SHA-512, as SCRAM-SHA-256 with another hash.
    ScramSha512,
}

/// SASL credentials. `Debug` hides the password.
#[derive(Clone)]
pub struct Sasl {
    /// How to authenticate.
    pub mechanism: SaslMechanism,
    /// User name known to the brokers.
    pub user: String,
    /// Password; `Debug` hides it.
    pub password: String,
}

impl fmt::Debug for Sasl {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mechanism, user, .. } = self;
        to.debug_struct("Sasl").field("mechanism", mechanism).field("user", user).finish_non_exhaustive()
    }
}

impl KafkaSettings {
    /// Default settings for `HOST:PORT[,HOST:PORT]/TOPIC`.
    ///
    /// # Errors
    /// If the target is malformed.
    pub fn new(target: &str) -> Result<Self, KafkaError> {
        let (brokers, topic) = target.split_once('/').ok_or(KafkaError::Target("the topic is missing"))?;
        let is_address = |broker: &&str| {
            broker.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && digits::<u16>(port).is_some())
        };
        if !brokers.split(',').all(|broker| is_address(&broker)) {
            return Err(KafkaError::Target("a broker's host or port is missing or wrong"));
        }
        // The rule in Kafka's `Topic.validate`.
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if topic.is_empty() || topic.len() > 249 || matches!(topic, "." | "..") || !topic.chars().all(is_allowed) {
            return Err(KafkaError::Target("a topic has 1 to 249 of the characters a-z, A-Z, 0-9, ., _ and -"));
        }
        Ok(Self {
            brokers: brokers.split(',').map(str::to_owned).collect(),
            topic: topic.to_owned(),
            tls: false,
            ca: None,
            sasl: None,
            gzip: true,
            timeout: Duration::from_secs(10),
            records: 1000,
            bytes: 512 << 10,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_brokers_and_a_topic() {
        let settings = KafkaSettings::new("a:9092,[::1]:9093/tcp-trace_1.x").unwrap();
        assert_eq!(
            (settings.brokers, settings.topic.as_str()),
            (vec!["a:9092".into(), "[::1]:9093".into()], "tcp-trace_1.x")
        );
        for (target, reason) in [
            ("", "the topic is missing"),
            ("a:9092", "the topic is missing"),
            ("a/t", "a broker's host"),
            ("a:/t", "a broker's host"),
            (":9092/t", "a broker's host"),
            ("a:99999/t", "a broker's host"),
            ("a:9092,/t", "a broker's host"),
            ("a:9092/", "a topic has"),
            ("a:9092/..", "a topic has"),
            ("a:9092/t/u", "a topic has"),
            ("a:9092/t u", "a topic has"),
        ] {
            let error = KafkaSettings::new(target).unwrap_err().to_string();
            assert!(error.starts_with(reason) && error.ends_with("expected HOST:PORT[,HOST:PORT]/TOPIC"), "{error}");
        }
        assert!(KafkaSettings::new(&format!("a:1/{}", "t".repeat(250))).is_err());
    }

    #[test]
    fn the_password_is_not_shown() {
        let mut settings = KafkaSettings::new("a:1/t").unwrap();
        let mechanism = SaslMechanism::ScramSha512;
        settings.sasl = Some(Sasl { mechanism, user: "tracer".to_owned(), password: "hunter2".to_owned() });
        let shown = format!("{settings:?}");
        assert!(shown.contains("tracer") && !shown.contains("hunter2"), "{shown}");
    }
}
