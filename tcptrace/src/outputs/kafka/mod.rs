//! Produces records in JSON to a Kafka topic.
//!
//! The value of a message is the record; its key is the socket's cookie (for a finding, its number), so that related
//! records stay in order within one partition; its time is that of the record; and the header `host.name` names this
//! host. Messages count as delivered when all in-sync replicas have them (acks=all). Delivery is at least once: if an
//! acknowledgement is lost, the messages are produced again.

mod settings;
pub(super) mod target;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use rskafka::{
    BackoffConfig,
    chrono::DateTime,
    client::{
        ClientBuilder, Credentials, SaslConfig,
        error::{Error, ProtocolError},
        partition::{Compression, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};
use serde::Deserialize;

pub use self::settings::{KafkaError, KafkaSettings, Sasl, SaslMechanism};
use super::{
    tls,
    waiting::{Waiting, host_name},
};
use crate::{
    outputs::sink::{DeliveryError, Sink},
    pipeline::records::Records,
};

/// Maximum size of a broker's response, in bytes.
const LONGEST_ANSWER: usize = 16 << 20;

/// Produces records in JSON, over one connection per partition.
pub struct Kafka {
    settings: KafkaSettings,
    tls: Option<Arc<rustls::ClientConfig>>,
    waiting: Waiting,
    host: Option<String>,
    /// `None` before the first connection, and after a failure.
    partitions: Option<Vec<PartitionClient>>,
    /// A batch that some partitions have accepted, but not all.
    begun: Option<Begun>,
}

/// Progress of a batch.
#[derive(Default)]
struct Begun {
    /// The batch and the number of partitions, which identify it on a retry.
    batch: (Vec<u8>, usize),
    /// The partitions that accepted their part.
    done: BTreeSet<usize>,
    /// Number of records refused so far.
    refused: usize,
    reason: String,
}

impl Kafka {
    /// Creates the output without connecting.
    ///
    /// # Errors
    /// If a certificate file cannot be used.
    pub fn new(settings: KafkaSettings) -> Result<Self, KafkaError> {
        let tls = settings.tls.then(|| tls::client(settings.ca.as_deref())).transpose()?.map(Arc::new);
        let (waiting, host) = (Waiting::new()?, host_name());
        Ok(Self { settings, tls, waiting, host, partitions: None, begun: None })
    }

    /// Prefixes a reason with the target.
    fn name(&self, reason: &str) -> String {
        format!("{}/{}: {reason}", self.settings.brokers.join(","), self.settings.topic)
    }

    /// Produces the first `count` records; returns how many of them were refused, and why.
    fn produce(&mut self, records: &Records, count: usize) -> Result<(usize, String), String> {
        let timeout = self.settings.timeout;
        let late = || format!("no response within {timeout:?}");
        let partitions = match self.partitions.take() {
            Some(partitions) => partitions,
            None => self.waiting.wait(timeout, connect(&self.settings, &self.tls)).ok_or_else(late)??,
        };
        let length = records.iter().take(count).map(<[u8]>::len).sum();
        let batch = (records.bytes().get(..length).unwrap_or_default().to_vec(), partitions.len());
        let begun = match self.begun.take().filter(|begun| begun.batch == batch) {
            Some(begun) => self.begun.insert(begun),
            None => self.begun.insert(Begun { batch, ..Begun::default() }),
        };
        for (index, part) in parts(records.iter().take(count), partitions.len(), self.host.as_deref()) {
            let Some(partition) = partitions.get(index).filter(|_| !begun.done.contains(&index)) else { continue };
            let produced = self.waiting.wait(timeout, produce(partition, part, self.settings.gzip));
            let (refused, reason) = produced.ok_or_else(late)??;
            begun.done.insert(index);
            begun.refused += refused;
            if let Some(reason) = reason {
                begun.reason = reason;
            }
        }
        self.partitions = Some(partitions);
        Ok(self.begun.take().map(|begun| (begun.refused, begun.reason)).unwrap_or_default())
    }
}

impl Sink for Kafka {
    fn deliver(&mut self, records: &mut Records) -> Result<(), DeliveryError> {
        while !records.is_empty() {
            let count = records.within(self.settings.bytes).min(self.settings.records).max(1);
            match self.produce(records, count) {
                Ok((0, _)) => records.take(count),
                Ok((refused, reason)) => {
                    // Only the number matters for the counters, not which records were refused.
                    records.take(count - refused);
                    return Err(DeliveryError::Refused { records: refused, reason: self.name(&reason) });
                }
                Err(reason) => return Err(DeliveryError::Later(self.name(&reason))),
            }
        }
        Ok(())
    }
}

/// Finds the topic's partitions, and connects to their leaders.
async fn connect(
    settings: &KafkaSettings,
    tls: &Option<Arc<rustls::ClientConfig>>,
) -> Result<Vec<PartitionClient>, String> {
    let KafkaSettings { brokers, topic, sasl, .. } = settings;
    let mut builder = ClientBuilder::new(brokers.clone())
        .client_id("tcptrace")
        .max_message_size(LONGEST_ANSWER)
        // The output itself retries after a pause.
        .backoff_config(BackoffConfig { deadline: Some(Duration::ZERO), ..BackoffConfig::default() });
    if let Some(tls) = tls {
        builder = builder.tls_config(Arc::clone(tls));
    }
    if let Some(Sasl { mechanism, user, password }) = sasl {
        let credentials = Credentials::new(user.clone(), password.clone());
        builder = builder.sasl_config(match mechanism {
            SaslMechanism::Plain => SaslConfig::Plain(credentials),
            SaslMechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
            SaslMechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
        });
    }
    let client = builder.build().await.map_err(|error| cause(&error))?;
    let topics = client.list_topics().await.map_err(|error| cause(&error))?;
    let found = topics.into_iter().find(|found| found.name == *topic).map(|found| found.partitions);
    let mut partitions = Vec::new();
    for index in found.unwrap_or_default() {
        let partition = client.partition_client(topic, index, UnknownTopicHandling::Error).await;
        partitions.push(partition.map_err(|error| cause(&error))?);
    }
    if partitions.is_empty() { Err("the topic does not exist; create it".to_owned()) } else { Ok(partitions) }
}

/// Produces messages to a partition; splits them if they are too large together. Returns how many were refused, and
/// why.
async fn produce(
    partition: &PartitionClient,
    messages: Vec<Record>,
    gzip: bool,
) -> Result<(usize, Option<String>), String> {
    let compression = if gzip { Compression::Gzip } else { Compression::NoCompression };
    let (mut refused, mut reason) = (0, None);
    let mut rest = vec![messages];
    while let Some(mut messages) = rest.pop() {
        let count = messages.len();
        let Err(error) = partition.produce(messages.clone(), compression).await else { continue };
        let Error::ServerError { protocol_error, .. } = &error else { return Err(cause(&error)) };
        match protocol_error {
            ProtocolError::MessageTooLarge | ProtocolError::RecordListTooLarge if count > 1 => {
                let second = messages.split_off(count / 2);
                rest.extend([second, messages]);
            }
            ProtocolError::MessageTooLarge
            | ProtocolError::RecordListTooLarge
            | ProtocolError::InvalidTimestamp
            | ProtocolError::InvalidRecord => {
                refused += count;
                reason = Some(format!("refused by the broker ({protocol_error:?})"));
            }
            _ => return Err(format!("refused by the broker for now ({protocol_error:?})")),
        }
    }
    Ok((refused, reason))
}

/// The root cause of an error whose upper layers only say that retries have ended.
fn cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    while let Some((_, rest)) = text.split_once("Retry exceeded deadline. Source: ") {
        text = rest.to_owned();
    }
    text
}

/// The parts of a record that its message needs.
#[derive(Debug, Default, Deserialize)]
struct Facts<'a> {
    #[serde(default, borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    cookie: Option<u64>,
    #[serde(default)]
    number: Option<u64>,
}

/// Distributes records over this number of partitions: the same key always goes to the same partition, records without
/// a key to the first.
fn parts<'a>(
    records: impl Iterator<Item = &'a [u8]>,
    partitions: usize,
    host: Option<&str>,
) -> BTreeMap<usize, Vec<Record>> {
    let mut parts: BTreeMap<usize, Vec<Record>> = BTreeMap::new();
    for record in records {
        let facts: Facts<'_> = serde_json::from_slice(record).unwrap_or_default();
        let time = facts.time.parse().unwrap_or_else(|_| Timestamp::now());
        let key = facts.cookie.or(facts.number);
        let partition = key.unwrap_or(0) % (partitions.max(1) as u64);
        let message = Record {
            key: key.map(|key| key.to_string().into_bytes()),
            value: Some(record.strip_suffix(b"\n").unwrap_or(record).to_vec()),
            headers: host.map(|host| ("host.name".to_owned(), host.into())).into_iter().collect(),
            timestamp: DateTime::from_timestamp_millis(time.as_millisecond()).unwrap_or_default(),
        };
        parts.entry(usize::try_from(partition).unwrap_or(0)).or_default().push(message);
    }
    parts
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_together_goes_to_one_partition_in_order() {
        let lines: [&[u8]; 6] = [
            b"{\"event\":\"transition\",\"time\":\"2026-03-04T05:06:07.338807Z\",\"cookie\":7}\n",
            b"{\"event\":\"transition\",\"cookie\":8}\n",
            b"{\"event\":\"finding\",\"number\":5,\"time\":\"then\"}\n",
            b"{\"event\":\"retransmit\",\"cookie\":7}\n",
            b"{\"event\":\"gap\"}\n",
            b"half a li",
        ];
        let parts = parts(lines.into_iter(), 4, Some("here"));
        let shown: Vec<_> = parts
            .iter()
            .flat_map(|(partition, messages)| messages.iter().map(move |message| (*partition, message)))
            .map(|(partition, message)| {
                let text = |bytes: &Option<Vec<u8>>| bytes.clone().map(|bytes| String::from_utf8(bytes).unwrap());
                assert_eq!(message.headers["host.name"], b"here");
                (partition, text(&message.key), text(&message.value).unwrap())
            })
            .collect();
        let text = |line: usize| String::from_utf8(lines[line].to_vec()).unwrap().trim_end().to_owned();
        let key = |key: &str| Some(key.to_owned());
        assert_eq!(
            shown,
            [
                (0, key("8"), text(1)),
                (0, None, text(4)),
                (0, None, text(5)),
                (1, key("5"), text(2)),
                (3, key("7"), text(0)),
                (3, key("7"), text(3)),
            ]
        );
        assert_eq!(parts[&3][0].timestamp.timestamp_millis(), 1_772_600_767_338);
        assert!(parts[&1][0].timestamp.timestamp_millis() > 1_700_000_000_000, "what has no time is of now");
    }
}
