//! A Kafka broker: librdkafka's, which is read back by librdkafka's consumer.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Map, Value};
use tcptrace::outputs::{DeliveryError, Kafka, KafkaSettings, Output, Sink as _};

use crate::{
    Test,
    program::{Program, end, lines, numbered, until},
    python,
};

pub(crate) const TESTS: &[Test] = &[
    ("messages_arrive_in_order", messages_arrive_in_order),
    ("the_rest_comes_after_a_restart", the_rest_comes_after_a_restart),
    ("partitions_that_have_their_part_do_not_get_it_again", partitions_that_have_their_part_do_not_get_it_again),
    ("what_is_too_large_goes_in_parts", what_is_too_large_goes_in_parts),
    ("what_the_broker_refuses_is_counted", what_the_broker_refuses_is_counted),
    ("a_topic_that_is_not_there_is_told", a_topic_that_is_not_there_is_told),
];

const COUNT: u64 = 1200;
const PARTITIONS: u64 = 3;
const TOPIC: &str = "tcptrace";
/// Error codes of the protocol.
const MESSAGE_TOO_LARGE: i16 = 10;
const NOT_ENOUGH_REPLICAS: i16 = 19;
const INVALID_RECORD: i16 = 87;

pub(crate) fn missing() -> Option<String> {
    python::missing("confluent_kafka.libs")
}

pub(crate) struct Broker {
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    address: String,
    _program: Program,
}

impl Broker {
    pub(crate) fn new() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/kafka_broker.py");
        let mut command = Command::new(python::interpreter());
        command.args([script, TOPIC, &PARTITIONS.to_string()]);
        let mut program = Program::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()));
        let commands = program.0.stdin.take().unwrap();
        let mut answers = BufReader::new(program.0.stdout.take().unwrap());
        let mut address = String::new();
        answers.read_line(&mut address).unwrap();
        Self { commands, answers, address: address.trim().to_owned(), _program: program }
    }

    /// What the broker answers to a command, without the last line.
    pub(crate) fn ask(&mut self, command: &str) -> Vec<Map<String, Value>> {
        writeln!(self.commands, "{command}").unwrap();
        let lines = self.answers.by_ref().lines().map(|line| line.unwrap()).take_while(|line| line != "done");
        lines.map(|line| serde_json::from_str(&line).unwrap()).collect()
    }

    /// The broker and the topic, as an output has them.
    pub(crate) fn target(&self) -> String {
        format!("{}/{TOPIC}", self.address)
    }

    fn settings(&self, topic: &str) -> KafkaSettings {
        KafkaSettings::new(&format!("{}/{topic}", self.address)).unwrap()
    }

    fn output(&self) -> Output {
        let sink = Kafka::new(self.settings(TOPIC)).unwrap();
        Output::start("kafka".to_owned(), Box::new(sink), 64 << 20, |_| ()).unwrap()
    }

    /// The numbers of `count` messages that were read back, in no order; there are no more.
    fn numbers(&mut self, count: u64) -> Vec<u64> {
        let mut numbers: Vec<_> = self.ask(&format!("read {count}")).iter().map(number).collect();
        numbers.sort_unstable();
        numbers
    }
}

fn number(message: &Map<String, Value>) -> u64 {
    record(message)["mono_ns"].as_u64().unwrap()
}

fn record(message: &Map<String, Value>) -> Map<String, Value> {
    serde_json::from_str(message["value"].as_str().unwrap()).unwrap()
}

fn messages_arrive_in_order() {
    let mut broker = Broker::new();
    let output = broker.output();
    let records = numbered(0..COUNT);
    output.push(lines(&records));
    end(&output);
    let state = output.state();
    assert_eq!((state.delivered, state.dropped, state.refused), (COUNT, 0, 0), "{state:?}");

    let messages = broker.ask(&format!("read {COUNT}"));
    let mut numbers: Vec<_> = messages.iter().map(number).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..COUNT), "{} arrived", messages.len());
    let mut last: BTreeMap<Option<&str>, (u64, &Value)> = BTreeMap::new();
    for message in &messages {
        let (number, record) = (number(message), record(message));
        assert_eq!(record, records[usize::try_from(number).unwrap()], "as it was sent");
        let time: jiff::Timestamp = record["time"].as_str().unwrap().parse().unwrap();
        assert_eq!(message["time_ms"].as_i64(), Some(time.as_millisecond()));
        assert!(message["headers"]["host.name"].is_string());
        let key = ["cookie", "number"].into_iter().find_map(|name| record.get(name)?.as_u64());
        assert_eq!(message["key"].as_str(), key.map(|key| key.to_string()).as_deref());
        if let Some((before, partition)) = last.insert(message["key"].as_str(), (number, &message["partition"])) {
            assert!(before < number && *partition == message["partition"], "{} is out of order", message["key"]);
        }
    }
    let partitions: BTreeSet<_> = messages.iter().map(|message| message["partition"].as_u64()).collect();
    assert!(partitions.len() > 1, "{partitions:?}");
}

fn the_rest_comes_after_a_restart() {
    let mut broker = Broker::new();
    let output = broker.output();
    output.push(lines(&numbered(0..COUNT / 2)));
    assert!(output.drained(Instant::now() + Duration::from_secs(60)));
    broker.ask("down");
    output.push(lines(&numbered(COUNT / 2..COUNT)));
    until("trouble", || output.state().trouble);
    broker.ask("up");
    end(&output);
    let state = output.state();
    assert_eq!((state.delivered, state.dropped, state.refused), (COUNT, 0, 0), "{state:?}");
    assert!(state.retries > 0 && state.trouble.is_none(), "{state:?}");
    assert!(broker.numbers(COUNT).into_iter().eq(0..COUNT));
}

fn partitions_that_have_their_part_do_not_get_it_again() {
    let mut broker = Broker::new();
    broker.ask(&format!("fail 0 {NOT_ENOUGH_REPLICAS} 0 {NOT_ENOUGH_REPLICAS}"));
    let output = broker.output();
    output.push(lines(&numbered(0..COUNT)));
    end(&output);
    let state = output.state();
    assert_eq!((state.delivered, state.dropped, state.refused, state.retries), (COUNT, 0, 0, 2), "{state:?}");
    assert!(broker.numbers(COUNT).into_iter().eq(0..COUNT));
}

fn what_is_too_large_goes_in_parts() {
    let mut broker = Broker::new();
    broker.ask(&format!("fail {MESSAGE_TOO_LARGE} {MESSAGE_TOO_LARGE} 0 {MESSAGE_TOO_LARGE}"));
    let output = broker.output();
    output.push(lines(&numbered(0..COUNT)));
    end(&output);
    let state = output.state();
    assert_eq!((state.delivered, state.refused, state.retries), (COUNT, 0, 0), "{state:?}");
    assert!(broker.numbers(COUNT).into_iter().eq(0..COUNT));
}

fn what_the_broker_refuses_is_counted() {
    let mut broker = Broker::new();
    broker.ask(&format!("fail {INVALID_RECORD}"));
    let output = broker.output();
    output.push(lines(&numbered(0..COUNT)));
    end(&output);
    let state = output.state();
    assert!(state.refused > 0 && state.delivered > 0, "{state:?}");
    assert_eq!(state.delivered + state.refused, COUNT, "{state:?}");
    assert_eq!(broker.numbers(state.delivered).len() as u64, state.delivered);
}

fn a_topic_that_is_not_there_is_told() {
    let broker = Broker::new();
    let mut records = lines(&numbered(0..10));
    let trouble = Kafka::new(broker.settings("other")).unwrap().deliver(&mut records);
    let reason = format!("{}/other: the topic does not exist; create it", broker.address);
    assert_eq!(trouble, Err(DeliveryError::Later(reason)));
    assert_eq!(records.len(), 10);
}
