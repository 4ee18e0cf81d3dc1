//! A connection's story as one object: its two sides with all of their events, and how it ended.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::{Json, line, owner_value, port, text_time};
use crate::{
    analysis::story::{
        ResetSender,
        connection::{Role, Side, Story},
    },
    findings::causes_of,
    model::{age::Age, close_reason::CloseReason, errno, names::Names, time::WallOffset},
    render::{SCHEMA_VERSION, context::Context},
    table::Connection,
};

/// Names of the sides.
const SIDES: [&str; 2] = ["left", "right"];

impl Json {
    /// Writes a story.
    pub fn story(&mut self, to: &mut BytesMut, story: &Story, context: &mut Context) {
        let events = story.events();
        let Some((_, first)) = events.first() else { return };
        let (start_ns, end_ns) = (first.time_ns, events.last().map_or(first.time_ns, |(_, event)| event.time_ns));
        let time = text_time(&mut self.time, context.wall, start_ns);
        let [left, right] = [0, 1].map(|place| self.side(story, place, context));
        let names = &context.names;
        let closed = story.closed_first().map(|closed| {
            json!({
                "side": SIDES[closed.place], "owner": owner_value(closed.owner.as_ref()),
                "abort": closed.abort.map(|abort| CloseReason::Aborted(abort).name()),
            })
        });
        let resets = story.resets();
        let resets = resets.iter().map(|reset| {
            let (sender, owner) = sender(reset.sender);
            json!({
                "from": SIDES[reset.from], "mono_ns": reset.time_ns, "sent": reset.sent, "received": reset.received,
                "sender": sender, "owner": owner, "reason": reset.reason.map(|code| reason(code, names)),
            })
        });
        let causes = causes_of(events.iter().map(|(_, event)| *event));
        let causes = causes.iter().map(|cause| json!({ "cause": cause.name(), "explanation": cause.words() }));
        line(
            to,
            &json!({
                "schema": SCHEMA_VERSION, "event": "story", "time": time, "mono_ns": start_ns,
                "span_ns": end_ns.saturating_sub(start_ns), "over": story.is_over(),
                "left": left, "right": right, "closed_first": closed,
                "resets": resets.collect::<Value>(), "causes": causes.collect::<Value>(),
            }),
        );
    }

    /// Writes that a connection exists but had no events.
    pub fn silent(&mut self, to: &mut BytesMut, known: &Connection, now_ns: u64, wall: WallOffset) {
        let age = Age { ns: now_ns.saturating_sub(known.since_ns), source: known.since };
        let (local, remote) = (known.local(), known.remote());
        line(
            to,
            &json!({
                "schema": SCHEMA_VERSION, "event": "silent", "time": text_time(&mut self.time, wall, now_ns),
                "mono_ns": now_ns, "cookie": known.cookie(), "netns": known.netns(),
                "local_address": local.ip(), "local_port": port(local),
                "remote_address": remote.ip(), "remote_port": port(remote),
                "state": known.state.name(), "age_ns": age.ns, "age_source": age.source.name(),
                "owner": owner_value(known.owner().as_ref()),
            }),
        );
    }

    /// A side with its events; null if it was not seen.
    fn side(&mut self, story: &Story, place: usize, context: &mut Context) -> Value {
        let end = story.ends()[place];
        let Some(side) = &story.sides[place] else { return Value::Null };
        let mut event_value = |event| {
            let mut text = BytesMut::new();
            self.event(&mut text, event, context);
            serde_json::from_slice(&text).unwrap_or(Value::Null)
        };
        let events: Value = side.events.iter().map(&mut event_value).collect();
        let moved = side.moved(story.until_ns).filter(|_| side.transitions().next().is_some());
        let ending = side.ending();
        json!({
            "address": end.ip(), "port": port(end), "cookie": side.cookie, "netns": side.netns,
            "role": role(side), "state": side.state().map(|state| state.name()),
            "owner": owner_value(side.last_owner()), "ending": ending.map(CloseReason::name),
            "errno": ending.and_then(CloseReason::errno).and_then(errno::name),
            "ended_mono_ns": side.ended_ns, "retransmits": side.retransmits(),
            "bytes_sent": moved.map(|bytes| bytes.sent), "bytes_received": moved.map(|bytes| bytes.received),
            "omitted": side.omitted, "events": events,
        })
    }
}

fn role(side: &Side) -> &'static str {
    match side.role() {
        Role::Active => "active",
        Role::Passive => "passive",
        Role::Unknown => "unknown",
    }
}

/// Who sent a RST, and its process.
fn sender(sender: ResetSender) -> (&'static str, Value) {
    let owner = match &sender {
        ResetSender::Process(owner)
        | ResetSender::Destroyer(owner)
        | ResetSender::Socket(owner)
        | ResetSender::Listener(owner) => owner_value(owner.as_ref()),
        _ => Value::Null,
    };
    let name = match sender {
        ResetSender::Process(_) => "process",
        ResetSender::Destroyer(_) => "destroyer",
        ResetSender::Socket(_) => "socket",
        ResetSender::Listener(_) => "listener",
        ResetSender::TimeWait => "time_wait",
        ResetSender::NoSocket => "no_socket",
        ResetSender::NotSeen => "not_seen",
        ResetSender::Peer => "peer",
    };
    (name, owner)
}

fn reason(code: u32, names: &Names) -> String {
    names.reset_reason(code).map_or_else(|| code.to_string(), str::to_owned)
}
