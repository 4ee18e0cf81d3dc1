//! JSON and CSV, which are written by hand, are what a library makes of the same event.

use std::net::SocketAddr;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tcptrace::{
    model::{
        decode::decode,
        errno,
        event::{Event, EventKind, Owner, ResetFacts, Transition},
        printable::is_printable,
        state::State,
    },
    render::Field,
};

use crate::{
    any_record::any_record,
    support::{
        replay::{context, csv, json as json_renderer, output, session, settings},
        rfc4180, schema,
    },
};

/// The fields of an event by way of `serde_json`.
fn expected(event: &Event) -> Map<String, Value> {
    let wall_ns = context().wall.wall_ns(event.time_ns);
    let time = Timestamp::from_nanosecond(wall_ns.into()).unwrap();
    let socket = &event.socket;
    let port = |end: SocketAddr| (end.port() != 0).then_some(end.port());
    let services = context().names.services;
    let service = |end: SocketAddr| services.get(&end.port());
    let mut all = json!({
        "schema": 1, "event": kind(&event.what), "time": format!("{time:.9}"), "mono_ns": event.time_ns,
        "cpu": event.cpu, "sk": socket.sk.map(|sk| format!("{sk:#x}")), "cookie": socket.cookie,
        "netns": socket.netns, "netns_name": null, "family": if socket.ipv6 { "inet6" } else { "inet" },
        "local_address": socket.local.ip(), "local_port": port(socket.local), "local_service": service(socket.local),
        "remote_address": socket.remote.ip(), "remote_port": port(socket.remote),
        "remote_service": service(socket.remote), "remote_name": null,
    });
    let own = match event.what {
        EventKind::Transition(transition) => of_transition(&transition),
        EventKind::Retransmit(retransmit) => json!({
            "state": retransmit.state.name(), "srtt_us": retransmit.srtt_us,
            "total_retrans": retransmit.total_retrans, "timeouts": retransmit.timeouts,
            "errno": retransmit.failed.and_then(errno::name),
        }),
        EventKind::SynAckRetransmit { count } => json!({ "state": socket.state.name(), "total_retrans": count }),
        EventKind::ResetSent { reason, facts } => {
            let mut reset = of_reset(socket.state, facts);
            reset["reason"] = json!(reason.and_then(|code| context().names.reset_reason(code).map(str::to_owned)));
            reset["reason_code"] = json!(reason);
            reset
        }
        EventKind::ResetReceived(facts) => of_reset(socket.state, facts),
        EventKind::OwnerChanged => json!({ "state": socket.state.name() }),
    };
    let all = all.as_object_mut().unwrap();
    for part in [own, of_owner(event.owner.as_ref())] {
        all.extend(part.as_object().unwrap().clone());
    }
    // Nothing was read about the processes, but the path of the cgroup names a unit.
    let unit = event.owner.filter(|owner| owner.cgroup == 4711).map(|_| "web.service");
    let names = Field::ALL.iter().map(|field| field.name()).skip_while(|name| *name != "user");
    all.extend(names.map(|name| (name.to_owned(), if name == "unit" { json!(unit) } else { Value::Null })));
    all["peer_source"] = json!("unknown");
    all.clone()
}

fn kind(what: &EventKind) -> &'static str {
    match what {
        EventKind::Transition(_) => "transition",
        EventKind::Retransmit(_) => "retransmit",
        EventKind::SynAckRetransmit { .. } => "synack_retransmit",
        EventKind::ResetSent { .. } => "reset_sent",
        EventKind::ResetReceived(_) => "reset_received",
        EventKind::OwnerChanged => "owner",
    }
}

fn of_transition(transition: &Transition) -> Value {
    json!({
        "old_state": transition.old.name(), "new_state": transition.new.name(),
        "new_state_source": transition.source.name(),
        "time_in_old_state_ns": transition.time_in_old.map(|time| time.ns),
        "time_source": transition.time_in_old.map(|time| time.source.name()),
        "after_gap": false, "handshake_rtt_ns": transition.handshake_rtt_ns, "srtt_us": transition.srtt_us,
        "total_retrans": transition.total_retrans, "bytes_acked": transition.bytes_acked,
        "bytes_received": transition.bytes_received, "receive_queue": transition.receive_queue,
        "send_queue": transition.send_queue, "ending": transition.ending.map(|ending| ending.name()),
        "process_exit": transition.exit.map(|exit| exit.name()), "expires_in_ns": transition.expires_in_ns,
        "errno": transition.ending.and_then(|ending| ending.errno()).and_then(errno::name),
    })
}

fn of_reset(state: State, facts: Option<ResetFacts>) -> Value {
    json!({
        "state": state.name(), "receive_queue": facts.map(|facts| facts.receive_queue),
        "send_queue": facts.map(|facts| facts.send_queue), "last_sent_ns": facts.map(|facts| facts.last_sent_ns),
        "last_received_ns": facts.map(|facts| facts.last_received_ns),
        "last_ack_ns": facts.map(|facts| facts.last_ack_ns),
    })
}

fn of_owner(owner: Option<&Owner>) -> Value {
    json!({
        "pid": owner.map(|owner| owner.pid), "command": owner.map(|owner| owner.command.to_text()),
        "uid": owner.map(|owner| owner.uid), "cgroup_id": owner.map(|owner| owner.cgroup),
        "cgroup": owner.filter(|owner| owner.cgroup == 4711).map(|_| "/system.slice/web.service"),
        "owner_source": owner.map_or("unknown", |owner| owner.source.name()), "owner_candidates": Value::Null,
    })
}

/// Replaces the five escapes that JSON has a short form for, and all characters that may not be printed.
fn with_long_escapes(json: &str) -> String {
    // An escaped backslash is no part of another escape; NUL is in no JSON.
    let mut json = json.replace(r"\\", "\0");
    for (short, long) in
        [(r"\b", r"\u0008"), (r"\t", r"\u0009"), (r"\n", r"\u000a"), (r"\f", r"\u000c"), (r"\r", r"\u000d")]
    {
        json = json.replace(short, long);
    }
    let escape = |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
    let json = json.replace('\0', r"\\");
    json.chars().map(|c| if is_printable(c) { c.to_string() } else { escape(c) }).collect()
}

fn printed(record: &[u8], renderer: tcptrace::pipeline::route::Renderer) -> String {
    let mut session = session(settings(), renderer);
    session.ingest(record);
    output(&mut session)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn json_is_what_serde_json_makes(record in any_record()) {
        let event = decode(&record).unwrap();
        let line = printed(&record, json_renderer());
        prop_assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line:?}");
        let written: Map<String, Value> = serde_json::from_str(&line).unwrap();
        let expected = expected(&event);
        let as_library = with_long_escapes(&serde_json::to_string(&expected).unwrap());
        prop_assert_eq!(line.trim_end(), as_library, "names, their order and how text is quoted");
        prop_assert_eq!(written, expected);
    }

    #[test]
    fn csv_is_the_same(record in any_record()) {
        let event = decode(&record).unwrap();
        let rows = rfc4180::rows(&printed(&record, csv())).unwrap();
        prop_assert_eq!(rows.len(), 2);
        let expected = expected(&event);
        let cells = Field::ALL.iter().map(|field| match expected.get(field.name()) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => rfc4180::cell(text),
            Some(other) => other.to_string(),
        });
        prop_assert_eq!(&rows[1], &cells.collect::<Vec<_>>());
    }
}

proptest! {
    #[test]
    fn a_time_has_a_source_and_an_ending_is_at_an_end(record in any_record()) {
        let written: Value = serde_json::from_str(&printed(&record, json_renderer())).unwrap();
        prop_assert_eq!(written["time_in_old_state_ns"].is_null(), written["time_source"].is_null());
        let is_end = [State::Close, State::TimeWait].iter().any(|state| written["new_state"] == state.name());
        prop_assert!(written["ending"].is_null() || is_end, "{written}");
        prop_assert!(written["new_state"] != "CLOSE" || !written["ending"].is_null(), "{written}");
    }
}

#[test]
fn any_event_follows_the_schema() {
    let validator = schema::validator();
    proptest!(|(record in any_record())| {
        schema::valid_record(&validator, &printed(&record, json_renderer()));
    });
}
