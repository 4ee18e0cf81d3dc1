//! Every JSON line of the stories follows the schema, the schema names what the program writes, and CSV says the same.

use std::collections::{BTreeSet, HashSet};

use clap::ValueEnum as _;
use serde_json::Value;
use tcptrace::{
    cli::args::GroupBy,
    commands::{kill::report::KillField, sockets::fields::SocketField},
    findings::Kind,
    model::{decode::split, event::EventKind, filter::Filter},
    pipeline::settings::SessionSettings,
    render::Field,
};
use tcptrace_common::state::CLOSE;

use crate::{
    doctor, findings, kills, ladders, listings, rates, stories,
    support::{
        listing,
        records::{Life, Stream},
        replay::{csv, json, output, replay, session, settings},
        rfc4180, schema,
    },
};

/// Kinds of records that tell of events, those between them, those that tell of the run, and those of `tcptrace sockets`.
const EVENTS: [&str; 6] = ["transition", "retransmit", "synack_retransmit", "reset_sent", "reset_received", "owner"];
const NOTICES: [&str; 3] = ["gap", "time_wait_overflow", "finding"];
const REPORTS: [&str; 3] = ["summary", "looked", "end"];
const STORIES: [&str; 2] = ["story", "silent"];
const LISTINGS: [&str; 3] = ["socket", "socket_count", "sockets_end"];
const KILLS: [&str; 2] = ["kill", "kill_end"];
const RATES: &str = "rates";
const CHECK_UPS: [&str; 2] = ["check", "checks_end"];

fn all_kinds() -> impl Iterator<Item = &'static str> {
    let reports = EVENTS.into_iter().chain(NOTICES).chain(REPORTS).chain(STORIES);
    reports.chain(LISTINGS).chain(KILLS).chain([RATES]).chain(CHECK_UPS)
}

/// A listing, and its counts by each thing.
fn all_listings() -> String {
    let print = |by: &[GroupBy]| listing::printed(&listing::snapshot(), &Filter::default(), by, listing::json);
    let alone = GroupBy::value_variants().iter().map(|by| vec![*by]);
    let all = std::iter::once(Vec::new()).chain(alone).chain([vec![GroupBy::Comm, GroupBy::State]]);
    all.map(|by| print(&by)).collect()
}

/// All that is no story.
fn all_others() -> String {
    let sessions = listings::all_json() + &findings::all_json();
    let sessions = sessions + &ladders::all_json();
    all_listings() + &kills::json() + &sessions + &rates::printed(rates::json()) + &doctor::json()
}

fn all_stories() -> Stream {
    let mut stream = Stream::new();
    stories::all(&mut stream);
    stream
}

#[test]
fn every_line_follows_the_schema() {
    let validator = schema::validator();
    let mut kinds = HashSet::new();
    for (_, story) in stories::ALL {
        let mut stream = Stream::new();
        story(&mut stream);
        for line in replay(&stream, settings(), json()).lines() {
            let record = schema::valid_record(&validator, line);
            kinds.insert(record["event"].as_str().unwrap().to_owned());
        }
    }
    for line in all_others().lines() {
        let record = schema::valid_record(&validator, line);
        kinds.insert(record["event"].as_str().unwrap().to_owned());
    }
    let all: HashSet<_> = all_kinds().map(str::to_owned).collect();
    assert_eq!(kinds, all, "the stories and listings have records of all kinds");
}

#[test]
fn the_schema_refuses_what_is_not_written() {
    let validator = schema::validator();
    let written = replay(&all_stories(), settings(), json()) + &all_others();
    let mut kinds = HashSet::new();
    for line in written.lines() {
        let record = schema::valid_record(&validator, line);
        if !kinds.insert(record["event"].clone()) {
            continue;
        }
        for name in record.keys() {
            let mut without = record.clone();
            without.remove(name);
            assert!(!validator.is_valid(&without.into()), "{name} may be missing: {line}");
            let mut wrong = record.clone();
            wrong[name] = Value::Bool(record[name] != Value::Bool(true));
            assert!(
                ["final", "shared", "after_gap", "over", "dry_run"].contains(&name.as_str())
                    || !validator.is_valid(&wrong.into()),
                "{name} may be anything: {line}"
            );
        }
        let mut more = record.clone();
        more.insert("another".to_owned(), Value::Null);
        assert!(!validator.is_valid(&more.into()), "{line}");
    }
    assert_eq!(kinds.len(), all_kinds().count());
}

#[test]
fn the_schema_has_the_fields_of_events_and_no_others() {
    let document = schema::document();
    let named: BTreeSet<_> =
        EVENTS.iter().flat_map(|kind| schema::fields(&document, kind)).map(|(name, _)| name).collect();
    let written: BTreeSet<_> =
        Field::ALL.iter().map(|field| field.name()).chain(["schema"]).map(str::to_owned).collect();
    assert_eq!(named, written);
    let named: Vec<_> = schema::fields(&document, "socket").into_iter().map(|(name, _)| name).collect();
    let written: Vec<_> = SocketField::ALL.iter().map(|field| field.name()).collect();
    assert_eq!(named[1..], written);
    let named: Vec<_> = schema::fields(&document, "kill").into_iter().map(|(name, _)| name).collect();
    let written: Vec<_> = KillField::ALL.iter().map(|field| field.name()).collect();
    assert_eq!(named[1..], written);
    let kinds = document["oneOf"].as_array().unwrap().iter().map(|kind| kind["$ref"].as_str().unwrap().to_owned());
    let expected: BTreeSet<_> = all_kinds().map(|kind| format!("#/$defs/{kind}")).collect();
    assert_eq!(kinds.collect::<BTreeSet<_>>(), expected);
}

#[test]
fn fields_of_events_are_written_in_the_order_of_the_columns() {
    let order: Vec<_> = std::iter::once("schema").chain(Field::ALL.iter().map(|field| field.name())).collect();
    for line in (replay(&all_stories(), settings(), json()) + &listings::all_json()).lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        if !EVENTS.contains(&record["event"].as_str().unwrap()) {
            continue;
        }
        let places: Vec<_> =
            record.as_object().unwrap().keys().map(|name| order.iter().position(|other| other == name)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{line}");
    }
}

#[test]
fn csv_has_the_values_of_json() {
    let stream = all_stories();
    let rows = rfc4180::rows(&replay(&stream, settings(), csv())).unwrap();
    let names: Vec<_> = Field::ALL.iter().map(|field| field.name().to_owned()).collect();
    assert_eq!(rows[0], names);
    let json = replay(&stream, settings(), json());
    let records = json.lines().map(|line| serde_json::from_str(line).unwrap());
    let events: Vec<Value> =
        records.filter(|record: &Value| !REPORTS.contains(&record["event"].as_str().unwrap())).collect();
    assert_eq!(rows.len() - 1, events.len());
    for (row, event) in rows[1..].iter().zip(&events) {
        let cells: Vec<_> = names.iter().map(|name| cell(event.get(name))).collect();
        assert_eq!(*row, cells, "{event}");
    }
}

#[test]
fn rates_follow_the_schema_and_csv_has_their_values() {
    let (document, validator) = (schema::document(), schema::validator());
    let rows = rfc4180::rows(&rates::printed(rates::csv())).unwrap();
    let names: Vec<_> = schema::fields(&document, "rates").into_iter().map(|(name, _)| name).collect();
    assert_eq!(rows[0], names[1..], "all but `schema`");
    let json = rates::printed(rates::json());
    assert_eq!(json.lines().count(), rows.len() - 1);
    for (line, row) in json.lines().zip(&rows[1..]) {
        let record = schema::valid_record(&validator, line);
        assert_eq!(record.keys().cloned().collect::<Vec<_>>(), names, "{line}");
        assert_eq!(*row, names[1..].iter().map(|name| cell(record.get(name))).collect::<Vec<_>>(), "{line}");
    }
}

#[test]
fn check_ups_follow_the_schema_and_csv_has_their_values() {
    let (document, validator) = (schema::document(), schema::validator());
    let rows = rfc4180::rows(&doctor::csv()).unwrap();
    let names: Vec<_> = schema::fields(&document, "check").into_iter().map(|(name, _)| name).collect();
    assert_eq!(rows[0], names[1..], "all but `schema`");
    let json = doctor::json();
    assert_eq!(json.lines().count(), rows.len(), "a last line in the place of the heading");
    for (line, row) in json.lines().zip(&rows[1..]) {
        let record = schema::valid_record(&validator, line);
        assert_eq!(record.keys().cloned().collect::<Vec<_>>(), names, "{line}");
        assert_eq!(*row, names[1..].iter().map(|name| cell(record.get(name))).collect::<Vec<_>>(), "{line}");
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => rfc4180::cell(text),
        Some(other) => other.to_string(),
    }
}

/// Every ending that polls and the decoder can tell, by way of all states, flags and errors that matter.
fn endings() -> BTreeSet<String> {
    let lines: Vec<Value> = listings::all_json().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let polled = lines.iter().filter(|record| record["new_state_source"] == "polled");
    let mut endings: BTreeSet<_> = polled.filter_map(|record| record["ending"].as_str()).map(str::to_owned).collect();
    let errors =
        [0, libc::ECONNREFUSED, libc::ECONNRESET, libc::EPIPE, libc::ETIMEDOUT, libc::ECONNABORTED, libc::ENETDOWN];
    let ends = ["192.0.2.10:0", "192.0.2.10:1"]; // without a local port, and with one
    for (state, local) in (1..=11).flat_map(|state| ends.map(|local| (state, local))) {
        let mut stream = Stream::new();
        let life = Life::in_state(state, local, "192.0.2.11:2");
        // The bit above those of flags: was there unread data?
        for (err, bits) in errors.iter().flat_map(|err| (0..1 << 11).map(move |bits| (*err, bits))) {
            let (unread, flags) = (bits >> 10, bits & ((1 << 10) - 1));
            let mut life = life.clone();
            (life.facts.err, life.facts.receive_queue) = (err, unread.into());
            life.flags(flags).enters(&mut stream, CLOSE);
        }
        for record in split(&stream.bytes) {
            let EventKind::Transition(transition) = tcptrace::model::decode::decode(record.unwrap()).unwrap().what
            else {
                panic!("only transitions are in the stream");
            };
            endings.extend(transition.ending.map(|ending| ending.name().to_owned()));
        }
    }
    endings
}

#[test]
fn the_schema_knows_every_ending_and_no_others() {
    let document = schema::document();
    let (_, field) = schema::fields(&document, "transition").into_iter().find(|(name, _)| name == "ending").unwrap();
    let listed = field["enum"].as_array().unwrap().iter().filter_map(Value::as_str).map(str::to_owned);
    assert_eq!(listed.collect::<BTreeSet<_>>(), endings());
}

#[test]
fn the_schema_knows_every_finding_and_no_others() {
    let document = schema::document();
    let ids: Vec<_> = Kind::ALL.iter().map(|kind| Value::from(kind.id())).collect();
    assert_eq!(document["$defs"]["finding_id"]["enum"], Value::from(ids));
    // All that there are, with all their evidence, and no more.
    let (mut kinds, mut evidence) = (BTreeSet::new(), BTreeSet::new());
    for line in findings::all_json().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        if record["event"] == "finding" {
            kinds.insert(record["finding"].as_str().unwrap().to_owned());
            evidence.extend(record["evidence"].as_object().unwrap().keys().cloned());
        }
    }
    assert_eq!(kinds, Kind::ALL.iter().map(|kind| kind.id().to_owned()).collect());
    assert_eq!(evidence, schema::fields(&document, "evidence").into_iter().map(|(name, _)| name).collect());
}

#[test]
fn summaries_follow_the_schema_too() {
    let validator = schema::validator();
    let stream = all_stories();
    let mut session = session(SessionSettings { events: false, ..settings() }, json());
    for (index, record) in split(&stream.bytes).enumerate() {
        session.ingest(record.unwrap());
        session.ingest(&[0; 7]);
        session.losses.ring_by_cpu = vec![index as u64, 0];
        session.end_interval(stream.now_ns);
    }
    session.finish(stream.now_ns);
    session.end(stream.now_ns, "closed", &[]);
    let printed = output(&mut session);
    for line in printed.lines() {
        schema::valid_record(&validator, line);
    }
    let last: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    let records = split(&stream.bytes).count();
    assert_eq!(
        (last["received"].as_u64(), last["losses"]["undecodable"].as_u64()),
        (Some(2 * records as u64), Some(records as u64))
    );
}
