//! Renders a record as a sentence: one line for people who read a log, whatever kind of record it is.

use serde_json::{Map, Value};

use super::flat;
use crate::model::{printable::printable, time::human};

/// Severity as numbered by syslog and journald (RFC 5424, section 6.2.1, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    /// A finding: service is being refused, or will be soon.
    Critical = 2,
    /// A check that failed.
    Error = 3,
    /// Something is wrong, or was lost.
    Warning = 4,
    /// A finding has closed.
    Notice = 5,
    Info = 6,
    /// Rarely of interest: changes of a socket's owner.
    Debug = 7,
}

/// Severity of a record.
#[must_use]
pub(super) fn priority(record: &Map<String, Value>) -> Priority {
    let record = Fields(record);
    match (record.text("event"), record.text("severity"), record.text("status")) {
        ("finding", ..) if record.text("phase") == "closed" => Priority::Notice,
        ("finding", "critical", _) => Priority::Critical,
        ("check", _, "failed") => Priority::Error,
        ("finding", "warning", _) | ("check", _, "warning") | ("gap" | "time_wait_overflow", ..) => Priority::Warning,
        ("owner", ..) => Priority::Debug,
        _ => Priority::Info,
    }
}

/// Subject of a record: the identifier of a finding, otherwise the kind of the record.
#[must_use]
pub(super) fn subject(record: &Map<String, Value>) -> &str {
    let record = Fields(record);
    match record.text("event") {
        "finding" => record.text("finding"),
        event => event,
    }
}

/// The record as one printable line.
#[must_use]
pub(super) fn line(record: &Map<String, Value>) -> String {
    let fields = Fields(record);
    let text = match fields.text("event") {
        "transition" => transition(fields),
        "retransmit" | "synack_retransmit" => retransmit(fields),
        "reset_sent" => happened(fields, &format!("RST sent{}", fields.with(", reason ", "reason"))),
        "reset_received" => happened(fields, "RST received"),
        "owner" => format!("{} {}{}", fields.ends(), fields.text("state"), fields.owned()),
        "finding" => finding(fields),
        "gap" => gap(fields),
        "time_wait_overflow" => format!(
            "{} closed without TIME_WAIT in network namespace {}",
            fields.plural("count", "connection"),
            fields.first(&["netns_name", "netns"]),
        ),
        "summary" => format!("summary of {}: {}", fields.time("span_ns"), activity(fields)),
        "end" => format!(
            "ended ({}): {} received, {} filtered, {} lost",
            fields.text("reason"),
            fields.plural("received", "event"),
            fields.number("filtered"),
            lost(fields),
        ),
        "socket" => format!(
            "{} {}{}, {}",
            fields.ends(),
            fields.text("state"),
            fields.after(" for", "age_ns", "age_source"),
            held(fields)
        ),
        "socket_count" => {
            format!("{} {}: {}", fields.text("by"), fields.text("group"), fields.plural("sockets", "socket"))
        }
        "sockets_end" => format!("{} listed", fields.plural("sockets", "socket")),
        "rates" => format!(
            "in {}: {} opened, {} accepted, {} failed, {} reset, {} of {} retransmitted",
            fields.time("span_ns"),
            fields.number("active_opens"),
            fields.number("passive_opens"),
            fields.number("attempt_fails"),
            fields.number("estab_resets"),
            fields.number("retrans_segs"),
            fields.plural("out_segs", "segment"),
        ),
        "check" => {
            let value = fields.with(" ", "value");
            format!("{} {}{value}: {}", fields.text("status"), fields.text("title"), fields.text("consequence"))
        }
        "checks_end" => ["ok", "warnings", "failed", "unknown"].map(|name| fields.counted(name)).join(", "),
        event => other(event, record),
    };
    printable(&text)
}

fn transition(fields: Fields<'_>) -> String {
    let change = format!("{} -> {}", fields.text("old_state"), fields.text("new_state"));
    let time = fields.after(" after", "time_in_old_state_ns", "time_source");
    let ending = fields.with(", ended: ", "ending").replace('_', " ");
    let errno = fields.with(", ", "errno");
    format!("{} {change}{time}{ending}{errno}{}", fields.ends(), fields.owned())
}

fn retransmit(fields: Fields<'_>) -> String {
    let what = if fields.text("event") == "retransmit" { "segment" } else { "SYN-ACK" };
    let timeouts = fields.with(", consecutive timeouts: ", "timeouts");
    let errno = fields.with(", ", "errno");
    happened(fields, &format!("{what} retransmitted, {} in total{timeouts}{errno}", fields.number("total_retrans")))
}

/// Something that happened to a socket in a state.
fn happened(fields: Fields<'_>, what: &str) -> String {
    format!("{} {}: {what}{}", fields.ends(), fields.text("state"), fields.owned())
}

fn finding(fields: Fields<'_>) -> String {
    let owner = fields.object("owner").and_then(Fields::process).unwrap_or_else(|| "owner unknown".to_owned());
    let count = fields.plural("count", "socket");
    let place = match (fields.end("local"), fields.end("remote")) {
        (Some(local), Some(remote)) => format!(" from {local} to {remote}"),
        (Some(local), None) => format!(" on {local}"),
        (None, Some(remote)) => format!(" to {remote}"),
        (None, None) => String::new(),
    };
    let age = fields.after(", oldest", "age_ns", "age_source");
    let netns = fields.with(", network namespace ", "netns_name");
    let phase = fields.text("phase");
    let over = if phase == "closed" { format!(" after {}", fields.time("open_for_ns")) } else { String::new() };
    let meaning = fields.text("explanation");
    format!("{} {phase}{over}: {owner} {count}{place}{age}{netns}: {meaning}", fields.text("finding"))
}

fn gap(fields: Fields<'_>) -> String {
    let lost = fields.plural("lost", "event");
    if fields.text_of("healed_mono_ns").is_none() {
        return format!("{lost} lost; no listing has made up for them");
    }
    let [added, removed, changed] =
        ["sockets_added", "sockets_removed", "sockets_changed"].map(|name| fields.number(name));
    format!("{lost} lost; a listing added {added}, removed {removed} and changed {changed} sockets")
}

fn activity(fields: Fields<'_>) -> String {
    let events = fields.object("events");
    let count = |name| events.map_or_else(|| "-".to_owned(), |events| events.number(name));
    format!(
        "transitions {}, retransmits {}, RSTs sent {}, RSTs received {}, events lost {}",
        count("transitions"),
        count("retransmits"),
        count("resets_sent"),
        count("resets_received"),
        lost(fields),
    )
}

/// Number of events lost on the way from the kernel.
fn lost(fields: Fields<'_>) -> u64 {
    let of = |name| fields.object("losses").and_then(|losses| losses.0.get(name)).and_then(Value::as_u64).unwrap_or(0);
    of("ring_buffer") + of("program_busy")
}

fn held(fields: Fields<'_>) -> String {
    let holders = fields.0.get("holders").and_then(Value::as_array).into_iter().flatten();
    let mut processes: Vec<_> = holders.filter_map(|holder| Fields(holder.as_object()?).process()).collect();
    processes.dedup();
    if processes.is_empty() {
        format!("held by {}", fields.text("held_by"))
    } else {
        format!("held by {}", processes.join(", "))
    }
}

/// A kind of record without a sentence of its own: its name, and the first of its fields.
fn other(event: &str, record: &Map<String, Value>) -> String {
    const SHOWN: usize = 8;
    let mut parts = Vec::new();
    flat::each(record, &mut |name, value| {
        if !["schema", "event", "time", "mono_ns"].contains(&name) && parts.len() < SHOWN {
            parts.push(format!("{name} {value}"));
        }
    });
    format!("{event}: {}", parts.join(", "))
}

/// Access to the fields of a record, or of an object in it.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// A field as text; `None` if it is null or missing.
    fn text_of(self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            value => Some(value.to_string()),
        }
    }

    fn text(self, name: &str) -> &'a str {
        self.0.get(name).and_then(Value::as_str).unwrap_or("-")
    }

    fn number(self, name: &str) -> String {
        self.text_of(name).unwrap_or_else(|| "-".to_owned())
    }

    fn object(self, name: &str) -> Option<Self> {
        Some(Self(self.0.get(name)?.as_object()?))
    }

    fn first(self, names: &[&str]) -> String {
        names.iter().find_map(|name| self.text_of(name)).unwrap_or_else(|| "-".to_owned())
    }

    /// The field with `before` in front, or nothing if it is null.
    fn with(self, before: &str, name: &str) -> String {
        self.text_of(name).map_or_else(String::new, |text| format!("{before}{text}"))
    }

    fn counted(self, name: &str) -> String {
        format!("{} {name}", self.number(name))
    }

    fn plural(self, name: &str, one: &str) -> String {
        let number = self.number(name);
        let s = if number == "1" { "" } else { "s" };
        format!("{number} {one}{s}")
    }

    /// A time in ns, with three digits and an ASCII unit.
    fn time(self, name: &str) -> String {
        self.0.get(name).and_then(Value::as_u64).map_or_else(|| "-".to_owned(), |ns| human(ns).replace('µ', "u"))
    }

    /// A time and how far to trust it, with `before` in front, or nothing if it is null.
    fn after(self, before: &str, name: &str, source: &str) -> String {
        if self.text_of(name).is_none() {
            return String::new();
        }
        let about = match self.text(source) {
            "lower_bound" | "handshake_rtt_lower_bound" => " at least",
            "polled" | "handshake_rtt_unreliable" => " about",
            _ => "",
        };
        format!("{before}{about} {}", self.time(name))
    }

    fn process(self) -> Option<String> {
        Some(format!("{}[{}]", self.text_of("command")?, self.text_of("pid")?))
    }

    fn owned(self) -> String {
        self.process().map_or_else(String::new, |process| format!(", owner {process}"))
    }

    /// One end of the connection; `None` if it is completely unknown.
    fn end(self, side: &str) -> Option<String> {
        let address = self.text_of(&format!("{side}_address"))?;
        let port = self.text_of(&format!("{side}_port"));
        Some(match port {
            Some(port) if address.contains(':') => format!("[{address}]:{port}"),
            Some(port) => format!("{address}:{port}"),
            None => address,
        })
    }

    /// Both ends, or the local end of a listener.
    fn ends(self) -> String {
        let [local, remote] = ["local", "remote"].map(|side| self.end(side).unwrap_or_else(|| "-".to_owned()));
        if self.text_of("remote_port").is_none() { local } else { format!("{local} -> {remote}") }
    }
}

#[cfg(test)]
mod tests;
