//! Records as JSON, one object per line (`docs/json.md`). Events are written by hand, because there are many of them; all
//! other records with `serde_json`.

mod story;

use std::{io, net::SocketAddr};

use bytes::{BufMut, BytesMut};
use serde::Serialize as _;
use serde_json::{Serializer, Value, json, ser::Formatter};

use super::{SCHEMA_VERSION, fields};
use crate::{
    analysis::{
        histogram::RELATIVE_ERROR,
        report::{Activity, Key, KeyRow, Report, TransitionRow},
    },
    findings::{Coverage, Example, Finding, Value as Evidence},
    model::{
        close_reason::CloseReason,
        errno,
        event::{Command, Event, Owner, Peer},
        losses::Losses,
        names::Names,
        notice::Notice,
        output_state::OutputState,
        printable::pieces,
        time::{WallFormat, WallOffset},
    },
    render::{context::Context, fields::FieldValue, finding_columns::FindingColumn},
};

/// Writes records as JSON.
pub struct Json {
    time: WallFormat,
    line: Vec<u8>,
    /// The columns of findings; empty for whole ones.
    columns: Vec<FindingColumn>,
}

impl Default for Json {
    fn default() -> Self {
        Self { time: WallFormat::rfc3339(), line: Vec::new(), columns: Vec::new() }
    }
}

/// Writes the members of an event's object.
struct Members<'a> {
    line: &'a mut Vec<u8>,
    time: &'a mut WallFormat,
}

impl fields::Emit for Members<'_> {
    // Inlined where a field is passed, so that its key is a constant there, and of its value's kinds one is left.
    #[inline(always)]
    fn emit(&mut self, field: fields::Field, value: FieldValue<'_>) {
        if let FieldValue::Nulls(nulls) = value {
            return self.line.put_slice(nulls.json());
        }
        self.line.extend_from_slice(field.key().as_bytes());
        self::value(self.line, value, self.time);
    }
}

impl Json {
    /// Findings as objects of these columns of CSV; whole ones if there are none.
    #[must_use]
    pub fn findings(columns: &[FindingColumn]) -> Self {
        Self { columns: columns.to_vec(), ..Self::default() }
    }

    /// Writes an event.
    pub fn event(&mut self, to: &mut BytesMut, event: &Event, context: &mut Context) {
        let Self { time, line, .. } = self;
        line.clear();
        begin(line);
        fields::visit(event, context, &mut Members { line, time });
        line.put_slice(b"}\n");
        to.put_slice(line);
    }

    /// Writes an object with these fields.
    pub(crate) fn object<'a>(&mut self, to: &mut BytesMut, fields: impl Iterator<Item = (&'a str, FieldValue<'a>)>) {
        begin(to);
        fields.for_each(|(name, value)| member(to, name, value, &mut self.time));
        to.put_slice(b"}\n");
    }

    /// Writes a report.
    pub fn report(&mut self, to: &mut BytesMut, report: &Report, wall: WallOffset) {
        let time = text_time(&mut self.time, wall, report.now_ns);
        line(to, &report_value(report, &time));
    }

    /// Writes a notice.
    pub fn notice(&mut self, to: &mut BytesMut, notice: &Notice, context: &Context) {
        match notice {
            Notice::Gap(gap) => {
                let time = text_time(&mut self.time, context.wall, gap.noticed_ns);
                let changes = gap.healed.map(|(_, reconciled)| reconciled);
                line(
                    to,
                    &json!({
                        "schema": SCHEMA_VERSION, "event": "gap", "time": time, "mono_ns": gap.noticed_ns,
                        "after_mono_ns": gap.after_ns, "lost": gap.lost(), "ring_buffer_by_cpu": gap.ring_by_cpu,
                        "program_busy": gap.program_busy, "healed_mono_ns": gap.healed.map(|(healed_ns, _)| healed_ns),
                        "sockets_added": changes.map(|changes| changes.added),
                        "sockets_removed": changes.map(|changes| changes.removed),
                        "sockets_changed": changes.map(|changes| changes.changed),
                    }),
                );
            }
            Notice::TimeWaitOverflow { time_ns, netns, count } => {
                let time = text_time(&mut self.time, context.wall, *time_ns);
                line(
                    to,
                    &json!({
                        "schema": SCHEMA_VERSION, "event": "time_wait_overflow", "time": time, "mono_ns": time_ns,
                        "netns": netns, "netns_name": context.names.netns.get(netns), "count": count,
                    }),
                );
            }
        }
    }

    /// Writes a finding.
    pub fn finding(&mut self, to: &mut BytesMut, found: &Finding, context: &mut Context) {
        let time = text_time(&mut self.time, context.wall, found.time_ns);
        let finding = finding_value(found, &time, &mut context.names);
        if self.columns.is_empty() {
            return line(to, &finding);
        }
        let always = ["schema", "event", "time", "mono_ns"].map(|name| (name.to_owned(), finding[name].clone()));
        let chosen = self.columns.iter().map(|column| (column.name().to_owned(), column.of(&finding).clone()));
        line(to, &always.into_iter().chain(chosen).collect());
    }

    /// Writes what was checked for problems, and the sockets below the thresholds.
    pub fn looked(&mut self, to: &mut BytesMut, open: usize, seen: &Coverage, wall: WallOffset) {
        let time = text_time(&mut self.time, wall, seen.now_ns);
        let waiting = seen.states.iter().map(|row| {
            json!({
                "state": row.state.name(), "stuck_after_ns": row.stuck_after_ns,
                "below": row.below, "oldest_ns": row.oldest.map(|age| age.ns),
                "oldest_source": row.oldest.map(|age| age.source.name()), "beyond": row.beyond,
            })
        });
        line(
            to,
            &json!({
                "schema": SCHEMA_VERSION, "event": "looked", "time": time, "mono_ns": seen.now_ns,
                "span_ns": seen.span_ns, "findings": open, "sockets": seen.sockets, "shown": seen.shown,
                "unlisted": seen.unlisted, "waiting": waiting.collect::<Value>(),
            }),
        );
    }

    /// Writes the last record of a run.
    pub fn end(
        &mut self,
        to: &mut BytesMut,
        wall: WallOffset,
        now_ns: u64,
        reason: &str,
        losses: &Losses,
        outputs: &[OutputState],
    ) {
        let time = text_time(&mut self.time, wall, now_ns);
        line(
            to,
            &json!({
                "schema": SCHEMA_VERSION, "event": "end", "time": time, "mono_ns": now_ns, "reason": reason,
                "sent": losses.sent, "received": losses.received, "filtered": losses.all_filtered(),
                "losses": losses_value(losses), "ring_buffer_by_cpu": losses.ring_by_cpu,
                "outputs": outputs.iter().map(output_value).collect::<Value>(),
            }),
        );
    }
}

pub(crate) fn text_time(time: &mut WallFormat, wall: WallOffset, now_ns: u64) -> String {
    let mut text = BytesMut::new();
    time.write(&mut text, wall.wall_ns(now_ns), 9);
    format!("{}Z", String::from_utf8_lossy(&text))
}

/// Writes a member of an object, after the first one.
pub(crate) fn member(to: &mut impl BufMut, name: &str, value: FieldValue<'_>, time: &mut WallFormat) {
    to.put_slice(b",\"");
    to.put_slice(name.as_bytes());
    to.put_slice(b"\":");
    self::value(to, value, time);
}

#[inline(always)]
fn value(to: &mut impl BufMut, value: FieldValue<'_>, time: &mut WallFormat) {
    match value {
        FieldValue::Null => to.put_slice(b"null"),
        FieldValue::Number(number) => to.put_slice(itoa::Buffer::new().format(number).as_bytes()),
        FieldValue::Text(text) => string(to, text),
        FieldValue::Word(word) => {
            to.put_u8(b'"');
            to.put_slice(word.as_bytes());
            to.put_u8(b'"');
        }
        FieldValue::Pointer(address) => {
            to.put_u8(b'"');
            fields::pointer(to, address);
            to.put_u8(b'"');
        }
        FieldValue::Address(address) => {
            to.put_u8(b'"');
            fields::ip(to, address);
            to.put_u8(b'"');
        }
        FieldValue::Time(wall_ns) => {
            to.put_u8(b'"');
            time.write(to, wall_ns, 9);
            to.put_slice(b"Z\"");
        }
        FieldValue::Flag(flag) => to.put_slice(if flag { b"true" } else { b"false" }),
        FieldValue::List(texts) => list(to, texts),
        FieldValue::Json(json) => to.put_slice(json),
        FieldValue::Nulls(_) => to.put_slice(b"null"),
    }
}

fn begin(to: &mut impl BufMut) {
    to.put_slice(b"{\"schema\":");
    to.put_slice(itoa::Buffer::new().format(SCHEMA_VERSION).as_bytes());
}

pub(crate) fn line(to: &mut BytesMut, value: &Value) {
    write(to, value);
    to.put_u8(b'\n');
}

fn write(to: &mut impl BufMut, value: &Value) {
    let _ = value.serialize(&mut Serializer::with_formatter(to.writer(), Escaping)); // to memory
}

/// `serde_json`'s format with every unprintable character escaped.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, to: &mut W, fragment: &str) -> io::Result<()> {
        pieces(fragment).try_for_each(|(plain, other)| {
            to.write_all(plain.as_bytes())?;
            other.map_or(Ok(()), |other| to.write_all(escape(other).as_bytes()))
        })
    }
}

/// The value as text, with every unprintable character escaped.
pub(crate) fn text(value: &Value) -> String {
    let mut to = Vec::new();
    write(&mut to, value);
    String::from_utf8_lossy(&to).into_owned()
}

/// A character as JSON escapes it, in UTF-16 (RFC 8259 section 7).
fn escape(c: char) -> String {
    c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

/// True if a backslash must stand before it in a string.
const fn is_quoted(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\')
}

/// Writes a JSON string (RFC 8259 section 7).
pub(crate) fn string(to: &mut impl BufMut, text: &str) {
    to.put_u8(b'"');
    // All bytes are tested, without a branch for each.
    if text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~') & !is_quoted(byte)) {
        to.put_slice(text.as_bytes());
    } else {
        for (plain, other) in pieces(text) {
            for byte in plain.bytes() {
                if is_quoted(byte) {
                    to.put_u8(b'\\');
                }
                to.put_u8(byte);
            }
            if let Some(other) = other {
                to.put_slice(escape(other).as_bytes());
            }
        }
    }
    to.put_u8(b'"');
}

/// Writes an array of strings.
pub(crate) fn list(to: &mut impl BufMut, texts: &[String]) {
    to.put_u8(b'[');
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            to.put_u8(b',');
        }
        string(to, text);
    }
    to.put_u8(b']');
}

fn activity_value(activity: &Activity) -> Value {
    json!({
        "transitions": activity.transitions, "retransmits": activity.retransmits,
        "resets_sent": activity.resets_sent, "resets_received": activity.resets_received,
    })
}

fn output_value(output: &OutputState) -> Value {
    json!({
        "output": output.name, "delivered": output.delivered, "dropped": output.dropped,
        "refused": output.refused, "suppressed": output.suppressed, "waiting": output.waiting, "retries": output.retries, "trouble": output.trouble,
    })
}

fn losses_value(losses: &Losses) -> Value {
    losses.fields().into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect()
}

fn owner_value(owner: Option<&Owner>) -> Value {
    owner.map_or(Value::Null, |owner| {
        json!({
            "pid": owner.pid, "command": owner.command.to_text(), "uid": owner.uid,
            "cgroup_id": owner.cgroup, "owner_source": owner.source.name(),
        })
    })
}

fn process_value((pid, command): &(u32, Command)) -> Value {
    json!({ "pid": pid, "command": command.to_text() })
}

fn transitions_value(rows: &[TransitionRow]) -> Value {
    let row = |row: &TransitionRow| {
        json!({
            "old_state": row.old.name(), "new_state": row.new.name(), "count": row.count, "timed": row.timed,
            "p50_ns": row.times.map(|times| times.p50_ns), "p90_ns": row.times.map(|times| times.p90_ns),
            "p99_ns": row.times.map(|times| times.p99_ns), "max_ns": row.times.map(|times| times.max_ns),
        })
    };
    rows.iter().map(row).collect()
}

pub(super) fn finding_value(found: &Finding, time: &str, names: &mut Names) -> Value {
    let detection = &found.detection;
    let (local, remote) = detection.subject.ends();
    let evidence: serde_json::Map<_, _> =
        detection.evidence.iter().map(|(name, value)| ((*name).to_owned(), evidence_value(value))).collect();
    json!({
        "schema": SCHEMA_VERSION, "event": "finding", "phase": found.phase.name(),
        "into": found.phase.into_number(), "time": time,
        "mono_ns": found.time_ns, "finding": detection.kind.id(), "number": found.number,
        "severity": detection.severity.name(), "netns": detection.netns,
        "netns_name": detection.netns.and_then(|netns| names.netns.get(&netns)),
        "local_address": local.map(|end| end.ip()), "local_port": local.and_then(port),
        "remote_address": remote.map(|end| end.ip()), "remote_port": remote.and_then(port),
        "owner": detection.owner.map(|owner| finding_owner(&owner, names)),
        "process_count": Some(detection.processes.len()).filter(|count| *count > 0),
        "processes": detection.processes.most().iter().take(MAX_PROCESSES).map(process_share).collect::<Value>(),
        "count": detection.count, "count_now": found.count_now, "age_ns": detection.oldest.map(|age| age.ns),
        "age_source": detection.oldest.map(|age| age.source.name()), "open_for_ns": found.open_for_ns,
        "evidence": evidence, "examples": detection.examples.iter().map(|example| example_value(example, names)).collect::<Value>(),
        "cause": detection.cause.name(), "explanation": detection.cause.words(), "remedy": detection.cause.remedy(), "docs": detection.kind.docs(),
    })
}

fn finding_owner(owner: &Owner, names: &mut Names) -> Value {
    let known = json!({
        "pid": owner.pid, "command": owner.command.to_text(), "uid": owner.uid,
        "cgroup_id": Some(owner.cgroup).filter(|id| *id > 0), "cgroup": names.cgroup(owner.cgroup),
        "source": owner.source.name(),
    });
    let Value::Object(mut fields) = known else { return known };
    super::names::process(Some(owner), names, &mut |field, value: FieldValue<'_>| insert(&mut fields, field, value));
    Value::Object(fields)
}

/// The process at the other end, with the names that its fields have in events without `peer_`.
fn peer_value(peer: &Peer, names: &mut Names) -> Value {
    let mut fields = serde_json::Map::new();
    super::names::peer(Some(peer), names, &mut |field, value: FieldValue<'_>| insert(&mut fields, field, value));
    Value::Object(fields)
}

/// Inserts a field under its name without `peer_`.
fn insert(to: &mut serde_json::Map<String, Value>, field: fields::Field, value: FieldValue<'_>) {
    let all = if let FieldValue::Nulls(nulls) = value { nulls.fields } else { &[field] };
    for name in all.iter().map(|field| field.name()) {
        to.insert(name.strip_prefix("peer_").unwrap_or(name).to_owned(), field_value(value));
    }
}

fn field_value(value: FieldValue<'_>) -> Value {
    match value {
        FieldValue::Null => Value::Null,
        FieldValue::Text(text) | FieldValue::Word(text) => json!(text),
        FieldValue::Number(number) => json!(number),
        FieldValue::List(texts) => json!(texts),
        FieldValue::Address(address) => json!(address),
        FieldValue::Flag(flag) => json!(flag),
        FieldValue::Pointer(_) | FieldValue::Time(_) | FieldValue::Json(_) | FieldValue::Nulls(_) => Value::Null,
    }
}

/// Most processes of a finding.
const MAX_PROCESSES: usize = 8;

fn process_share((owner, count): &(Owner, u64)) -> Value {
    json!({ "pid": owner.pid, "command": owner.command.to_text(), "count": count })
}

/// The port of an end; none for port 0.
fn port(end: SocketAddr) -> Option<u16> {
    Some(end.port()).filter(|port| *port > 0)
}

fn evidence_value(value: &Evidence) -> Value {
    match value {
        Evidence::Unknown => Value::Null,
        Evidence::Number(number) => json!(number),
        Evidence::Ratio(ratio) => json!(ratio),
        Evidence::Flag(flag) => json!(flag),
        Evidence::Name(name) => json!(name),
        Evidence::Text(text) => json!(text),
    }
}

fn example_value(example: &Example, names: &mut Names) -> Value {
    let listed = example.facts.as_ref().map(|facts| facts.socket);
    let timer = listed.and_then(|socket| socket.timer);
    let holders = example
        .holders
        .iter()
        .map(|holder| json!({ "pid": holder.pid, "command": holder.command.to_text(), "fd": holder.fd }));
    json!({
        "cookie": example.cookie, "local_address": example.local.ip(), "local_port": port(example.local),
        "remote_address": example.remote.ip(), "remote_port": port(example.remote),
        "state": example.state.name(), "age_ns": example.age.map(|age| age.ns),
        "age_source": example.age.map(|age| age.source.name()),
        "receive_queue": listed.map(|socket| socket.receive_queue),
        "send_queue": listed.map(|socket| socket.send_queue), "timer": listed.and_then(|socket| socket.timer_name()),
        "timer_left_ns": timer.map(|timer| timer.left_ns), "timeouts": listed.map(|socket| socket.timeouts),
        "probes": listed.map(|socket| socket.probes),
        "keepalive": listed.and_then(|socket| socket.keepalive.is_on()), "holders": holders.collect::<Value>(),
        "peer": example.peer.as_ref().map(|peer| peer_value(peer, names)),
    })
}

fn endings_value(rows: &[(CloseReason, u64)]) -> Value {
    let row = |(ending, count): &(CloseReason, u64)| json!({ "ending": ending.name(), "errno": ending.errno().and_then(errno::name), "count": count });
    rows.iter().map(row).collect()
}

fn key_value(row: &KeyRow) -> Value {
    let (mut port, mut cgroup) = (None, None);
    match &row.key {
        Key::Port(known) => port = *known,
        Key::Cgroup(known) => cgroup.clone_from(known),
        Key::Other => {}
    }
    let (id, path) = cgroup.map_or((None, None), |(id, path)| (Some(id), path));
    json!({
        "port": port, "cgroup_id": id, "cgroup": path, "other": row.key == Key::Other,
        "events": activity_value(&row.activity), "transitions": transitions_value(&row.transitions),
        "endings": endings_value(&row.endings),
    })
}

/// The rows as an array; null if they are not known.
fn rows_value<T>(rows: Option<&Vec<T>>, row: impl FnMut(&T) -> Value) -> Value {
    rows.map_or(Value::Null, |rows| rows.iter().map(row).collect())
}

fn report_value(report: &Report, time: &str) -> Value {
    let processes = rows_value(report.processes.as_ref(), |row| {
        json!({
            "pid": row.process.map(|(pid, _)| pid),
            "command": row.process.map(|(_, command)| command.to_text().into_owned()),
            "events": activity_value(&row.activity), "transitions": transitions_value(&row.transitions),
        })
    });
    let sockets = rows_value(report.sockets.as_ref(), |row| {
        json!({
            "state": row.state.name(), "count": row.count, "oldest_ns": row.oldest.ns,
            "oldest_source": row.oldest.source.name(), "owner": owner_value(row.owner.as_ref()),
            "creator": row.creator.as_ref().map(process_value), "acceptor": row.acceptor.as_ref().map(process_value),
            "holders": row.holders.as_ref().map(|holders| holders.iter().map(process_value).collect::<Vec<_>>()),
        })
    });
    let half_open = rows_value(report.half_open.as_ref(), |row| {
        json!({
            "netns": row.netns, "local_address": row.local.ip(), "local_port": row.local.port(), "count": row.count,
            "retransmitted": row.retransmitted, "owner": owner_value(row.owner.as_ref()),
        })
    });
    json!({
        "schema": SCHEMA_VERSION, "event": "summary", "time": time, "mono_ns": report.now_ns,
        "final": report.is_final, "span_ns": report.span_ns, "events": activity_value(&report.activity),
        "percentile_error": RELATIVE_ERROR, "transitions": transitions_value(&report.transitions),
        "endings": endings_value(&report.endings), "keys": rows_value(report.keys.as_ref(), key_value),
        "processes": processes, "sockets": sockets, "half_open": half_open, "losses": losses_value(&report.losses),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_written_as_serde_json_reads_them(text in any::<String>()) {
            let mut written = BytesMut::new();
            string(&mut written, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&written).unwrap(), text);
        }
    }
}
