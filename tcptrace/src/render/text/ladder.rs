//! A connection's story as a ladder diagram: one line for each event, the left end on the left, the right end on the right,
//! and segments as arrows between them; then how the connection ended.

use std::fmt::Write as _;

use bytes::{BufMut as _, BytesMut};

use super::{
    clock::{Clock, TimeStyle},
    style::{Address, Style, styled},
};
use crate::{
    analysis::story::{
        Closed, Reset, ResetSender,
        connection::{Bytes, Role, Side, Story},
    },
    findings::causes_of,
    model::{
        age::Age,
        close_reason::{Abort, CloseReason},
        event::{Event, EventKind, Owner},
        event_kind::Segment,
        losses::Losses,
        names::Names,
        printable::printable,
        state::State,
        time::human,
    },
    render::{
        context::Context,
        text::words::{age_words, errno_words, headline, lost_words, note_parts, reset_reason, time_in_old},
    },
    table::Connection,
};

// Widths of the columns, in characters.
/// The time before each row.
const HEAD: usize = 7;
/// What happened at one side.
const CELL: usize = 49;
/// An arrow without its head.
const SHAFT: usize = 11;
const ARROW: usize = SHAFT + 1;
/// Names of the sides.
const PLACES: [&str; 2] = ["left", "right"];

/// Writes stories.
pub struct Ladder {
    color: bool,
    clock: Clock,
    legend_written: bool,
}

/// A row: its time, its arrow, and what happened at each side, in parts between which a line may break.
struct Row {
    head: String,
    arrow: String,
    cells: [Vec<String>; 2],
    style: Style,
}

// Writing to memory cannot fail, so the results of `write!` are ignored below.

impl Ladder {
    /// Stories with times of this format.
    #[must_use]
    pub fn new(color: bool, time: TimeStyle) -> Self {
        Self { color, clock: Clock::new(time), legend_written: false }
    }

    /// Writes a story.
    pub fn story(&mut self, to: &mut BytesMut, story: &Story, context: &Context) {
        let events = story.events();
        let Some(start_ns) = events.first().map(|(_, event)| event.time_ns) else {
            return;
        };
        if self.legend_written {
            to.put_u8(b'\n');
        } else {
            to.put_slice("Segments: ──▶ reported by the kernel, ╌╌▶ inferred from a transition\n\n".as_bytes());
            self.legend_written = true;
        }
        self.head(to, story, start_ns, context);
        let mut shown = [Shown::default(), Shown::default()];
        for (place, side) in story.seen() {
            let first = side.events.first().and_then(|event| event.owner);
            shown[place].pid = first.map(|owner| owner.pid);
        }
        for (place, event) in events {
            let Some(side) = &story.sides[place] else {
                continue;
            };
            let mut cells = [Vec::new(), Vec::new()];
            cells[place] = cell(event, side, &mut shown[place], &context.names);
            self.row(
                to,
                &Row {
                    head: format!("+{}", human(event.time_ns.saturating_sub(start_ns))),
                    arrow: if story.is_with_itself() { String::new() } else { segment(place, event, side) },
                    cells,
                    style: headline(event).1,
                },
            );
        }
        self.end_of_sides(to, story);
        self.verdicts(to, story, start_ns, &context.names);
    }

    /// Writes that a connection exists but had no events.
    pub fn silent(&self, to: &mut BytesMut, known: &Connection, now_ns: u64) {
        let age = Age { ns: now_ns.saturating_sub(known.since_ns), source: known.since };
        let owner = known.owner().as_ref().map_or_else(|| "owner unknown".to_owned(), owner_and_source);
        let ends = [known.local(), known.remote()].map(Address);
        let mut parts = vec![format!("{} ⇄ {}: {} for {}", ends[0], ends[1], known.state, age_words(age)), owner];
        parts.extend(known.cookie().map(|cookie| format!("cookie {cookie}")));
        parts.extend(known.netns().map(|netns| format!("netns {netns}")));
        parts.push("no event since the start".to_owned());
        for line in lines(&parts, HEAD + 1 + 2 * CELL + ARROW + 2) {
            let _ = writeln!(to, "{line}");
        }
    }

    /// Writes the losses at the end of the run.
    pub fn end(&self, to: &mut BytesMut, losses: &Losses) {
        if losses.any() {
            let text = format!("\nLost: {}. Stories may be incomplete.", lost_words(losses));
            styled(to, &text, Style::Trouble, self.color);
            to.put_u8(b'\n');
        }
    }

    fn head(&mut self, to: &mut BytesMut, story: &Story, start_ns: u64, context: &Context) {
        let [left, right] = story.ends().map(Address);
        let mut title = BytesMut::new();
        let _ = write!(title, "{left} ⇄ {right}, from ");
        self.clock.write(&mut title, start_ns, context.wall, 6);
        styled(to, &String::from_utf8_lossy(&title), Style::Heading, self.color);
        to.put_u8(b'\n');
        let names = [left, right].map(|end| end.to_string());
        let describe = |place: usize| match &story.sides[place] {
            Some(side) => {
                let owner = side.first_owner().map_or_else(|| "owner unknown".to_owned(), owner_and_source);
                let cookie = side.cookie.map(|cookie| format!("cookie {cookie}"));
                let netns = side.netns.map(|netns| format!("netns {netns}"));
                let socket = if side.sk.is_some() { None } else { Some("no socket of its own".to_owned()) };
                let facts: Vec<_> = [socket, cookie, netns].into_iter().flatten().collect();
                [owner, facts.join(", ")]
            }
            None if story.is_with_itself() => ["(the same socket)".to_owned(), String::new()],
            None => ["(not seen on this host)".to_owned(), String::new()],
        };
        let ([left_owner, left_facts], [right_owner, right_facts]) = (describe(0), describe(1));
        let [left, right] = names;
        for cells in [[left, right], [left_owner, right_owner], [left_facts, right_facts]] {
            let cells = cells.map(|text| vec![text]);
            self.row(to, &Row { head: String::new(), arrow: String::new(), cells, style: Style::Plain });
        }
    }

    fn end_of_sides(&self, to: &mut BytesMut, story: &Story) {
        let of = |side: &Side| end_of_side(side, story.until_ns);
        let cells = [0, 1].map(|place| story.sides[place].as_ref().map(of).unwrap_or_default());
        self.row(to, &Row { head: "end".to_owned(), arrow: String::new(), cells, style: Style::Plain });
    }

    fn verdicts(&self, to: &mut BytesMut, story: &Story, start_ns: u64, names: &Names) {
        let mut write_verdict = |head: &str, parts: &[String], style| {
            for (index, line) in lines(parts, 2 * CELL + ARROW + 2).iter().enumerate() {
                let _ = write!(to, "{:>HEAD$} ", if index == 0 { head } else { "" });
                styled(to, line, style, self.color);
                to.put_u8(b'\n');
            }
        };
        if let Some(text) = closed_first(story) {
            write_verdict("closed", &[text], Style::Plain);
        }
        let resets = story.resets();
        if resets.is_empty() {
            write_verdict("RST", &["none seen".to_owned()], Style::Plain);
        }
        for reset in &resets {
            write_verdict("RST", &reset_words(story, reset, start_ns, names), Style::Trouble);
        }
        for cause in causes_of(story.events().into_iter().map(|(_, event)| event)) {
            write_verdict("why", &[cause.words().to_owned()], Style::Trouble);
        }
    }

    /// Writes a row, in several lines if its cells are long.
    fn row(&self, to: &mut BytesMut, row: &Row) {
        let cells = [0, 1].map(|place| lines(&row.cells[place], CELL));
        let text = |place: usize, line: usize| cells[place].get(line).map_or("", String::as_str);
        for line in 0..cells[0].len().max(cells[1].len()).max(1) {
            let (head, arrow) = if line == 0 { (row.head.as_str(), row.arrow.as_str()) } else { ("", "") };
            let (left, right) = (text(0, line), text(1, line));
            let text = match (arrow, right) {
                ("", "") => left.to_owned(),
                (_, "") => format!("{left:<CELL$} {arrow}"),
                _ => format!("{left:<CELL$} {arrow:<ARROW$} {right}"),
            };
            let _ = write!(to, "{head:>HEAD$} ");
            styled(to, &text, row.style, self.color);
            to.put_u8(b'\n');
        }
    }
}

/// The values last written in a side's column; they are repeated only when they change.
#[derive(Default)]
pub(crate) struct Shown {
    state: Option<State>,
    pub(crate) pid: Option<u32>,
    bytes: Option<Bytes>,
}

/// What happened at a side.
pub(crate) fn cell(event: &Event, side: &Side, shown: &mut Shown, names: &Names) -> Vec<String> {
    let what = headline(event).0;
    let mut parts = match event.what {
        EventKind::Transition(transition) => {
            let old = if shown.state.replace(transition.new) == Some(transition.old) {
                String::new()
            } else {
                format!("{} ", transition.old)
            };
            let mut time = String::new();
            time_in_old(&mut time, event);
            let time = match (transition.old, time) {
                (State::Close | State::Listen, _) => String::new(), // before the connection's life
                (_, time) if time == "-" => " after an unknown time".to_owned(),
                (_, time) => format!(" after {time}"),
            };
            vec![format!("{old}{}{time}", what.concat())]
        }
        EventKind::OwnerChanged => Vec::new(),
        _ => vec![what[1].to_owned()],
    };
    note_parts(event, names, &mut |part| parts.push(part.to_string()));
    if let EventKind::Transition(transition) = &event.what {
        let bytes = side.bytes(&event.socket, transition);
        if shown.bytes.replace(bytes).map_or((0, 0), |bytes| (bytes.sent, bytes.received))
            != (bytes.sent, bytes.received)
        {
            parts.push(bytes_words(bytes));
        }
    }
    if let Some(owner) = &event.owner
        && (shown.pid.replace(owner.pid) != Some(owner.pid) || event.what == EventKind::OwnerChanged)
    {
        parts.push(format!("owner: {}", owner_and_source(owner)));
    }
    parts
}

/// The segment of an event as an arrow; empty if the event has none.
fn segment(place: usize, event: &Event, side: &Side) -> String {
    let Some((Segment { is_sent, name }, is_shown)) = segment_of(event, side) else { return String::new() };
    let name = format!(" {name} ");
    let shaft = if is_shown { format!("{name:─^SHAFT$}") } else { format!("{name:╌^SHAFT$}") };
    if is_sent == (place == 0) { format!("{shaft}▶") } else { format!("◀{shaft}") }
}

/// The segment of an event, and whether the kernel reported it or it is inferred from a transition.
pub(crate) fn segment_of(event: &Event, side: &Side) -> Option<(Segment, bool)> {
    use State::{Close, CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynRecv, SynSent, TimeWait};
    let implied = |is_sent, name| (Segment { is_sent, name }, false);
    Some(match event.what {
        EventKind::Transition(transition) => match (transition.old, transition.new) {
            (Close, SynSent) if side.ending() != Some(CloseReason::Aborted(Abort::NeverSent)) => implied(true, "SYN"),
            (SynSent, Established) => implied(false, "SYN-ACK"),
            (SynSent, SynRecv) => implied(false, "SYN"),
            (SynRecv, Established) | (FinWait1, FinWait2) | (Closing, TimeWait) => implied(false, "ACK"),
            (LastAck, Close) if transition.ending == Some(CloseReason::Normal) => implied(false, "ACK"),
            (_, FinWait1 | LastAck) => implied(true, "FIN"),
            (_, CloseWait | Closing | TimeWait) => implied(false, "FIN"),
            _ => return None,
        },
        // It could not be sent.
        EventKind::Retransmit(retransmit) if retransmit.failed.is_some() => return None,
        EventKind::Retransmit(retransmit) if retransmit.state == SynSent => {
            (Segment { is_sent: true, name: "SYN" }, true)
        }
        what => (what.row().segment?, true),
    })
}

/// How a side ended, and the totals of its life.
pub(crate) fn end_of_side(side: &Side, until_ns: u64) -> Vec<String> {
    let mut parts = vec![match (side.ending(), side.ended_ns, side.state()) {
        (Some(_), _, Some(State::TimeWait)) => "closed, TIME_WAIT began".to_owned(),
        (Some(ending), ..) => {
            let errno = ending.errno().map(|errno| format!(" ({})", errno_words(errno)));
            format!("{}{}", ending.words(), errno.unwrap_or_default())
        }
        (None, None, Some(state)) => format!("still in {state}"),
        (None, None, None) => "half-open".to_owned(),
        (None, Some(_), Some(State::FinWait2)) => "closed, orphan in FIN_WAIT2".to_owned(),
        (None, Some(_), Some(State::Close)) => "ended before".to_owned(),
        (None, Some(_), Some(_)) => "its end was not seen".to_owned(),
        (None, Some(_), None) => "answered with RST".to_owned(),
    }];
    if side.transitions().next().is_some() {
        parts.push(side.moved(until_ns).map_or_else(|| "bytes unknown".to_owned(), bytes_words));
    }
    parts.push(format!("retransmits: {}", side.retransmits()));
    if side.sk.is_some() {
        let is_whole = side.role() != Role::Unknown && side.ended_ns.is_some();
        let lived = side.lived_until_ns(until_ns).saturating_sub(side.first_ns);
        parts.push(format!("lived {}{}", if is_whole { "" } else { "≥" }, human(lived)));
    }
    if side.omitted > 0 {
        parts.push(format!("{} more events not kept", side.omitted));
    }
    parts
}

pub(crate) fn closed_first(story: &Story) -> Option<String> {
    let Some(Closed { place, owner, abort }) = story.closed_first() else {
        let has_failed = story
            .seen()
            .any(|(_, side)| side.sk.is_none() || side.ending().is_some_and(|end| end != CloseReason::Normal));
        let text = if story.is_over() { "first by an unknown side" } else { "by nobody yet" };
        return (!has_failed).then(|| text.to_owned());
    };
    let who = match (&story.sides[place], owner) {
        (None, _) if !story.is_with_itself() => "the peer".to_owned(),
        (_, owner) => owner_words(owner.as_ref()),
    };
    let how = match abort {
        None => String::new(),
        // The owner did not do this.
        Some(Abort::Destroyed | Abort::OrphanLimit) => {
            return abort.map(|how| CloseReason::Aborted(how).words().to_owned());
        }
        Some(how) => format!(", {}", CloseReason::Aborted(how).words()),
    };
    Some(format!("first by {} ({who}){how}", PLACES[place]))
}

pub(crate) fn reset_words(story: &Story, reset: &Reset, start_ns: u64, names: &Names) -> Vec<String> {
    let from = PLACES[reset.from];
    let who = match reset.sender {
        ResetSender::Process(owner) => format!("sent by {from} ({})", owner_words(owner.as_ref())),
        ResetSender::Destroyer(owner) => {
            format!("sent by {from}: by whoever destroyed the socket of {}", owner_words(owner.as_ref()))
        }
        ResetSender::Socket(owner) => {
            format!("sent by {from}: by the kernel, for the socket of {}", owner_words(owner.as_ref()))
        }
        ResetSender::Listener(owner) => {
            format!("sent by {from}: by the kernel, for the listener of {}", owner_words(owner.as_ref()))
        }
        ResetSender::TimeWait => format!("sent by {from}: by the kernel, for a closed socket"),
        ResetSender::NoSocket => format!("sent by {from}: by the kernel, because no such socket exists"),
        ResetSender::NotSeen => format!("from {from}: sender not seen"),
        ResetSender::Peer => format!("from {from}: by the peer or a device on the path, not seen on this host"),
    };
    let ending = story.sides[reset.from].as_ref().and_then(Side::ending);
    let is_sockets = matches!(reset.sender, ResetSender::Process(_) | ResetSender::Socket(_));
    let why = ending.filter(|ending| is_sockets && matches!(ending, CloseReason::Aborted(_)));
    let why = why.map(|ending| ending.words().to_owned());
    let reason = reset.reason.map(|code| format!("reason: {}", reset_reason(code, names)));
    let more = (reset.sent > 1 || reset.received > 1)
        .then(|| format!("{} seen sent, {} seen received", reset.sent, reset.received));
    let other = &story.sides[1 - reset.from];
    let is_missed = reset.received == 0 && other.as_ref().is_some_and(|other| other.sk.is_some());
    let missed = is_missed.then(|| "arrival not seen".to_owned());
    let at = format!("at +{}", human(reset.time_ns.saturating_sub(start_ns)));
    [Some(who), why, reason, Some(at), more, missed].into_iter().flatten().collect()
}

fn bytes_words(bytes: Bytes) -> String {
    let at_most = if bytes.sent_is_exact { "" } else { "≤" };
    format!("{at_most}{} B out, {} B in", bytes.sent, bytes.received)
}

fn owner_words(owner: Option<&Owner>) -> String {
    owner.map_or_else(
        || "owner unknown".to_owned(),
        |owner| format!("{} {}", owner.pid, printable(&owner.command.to_text())),
    )
}

pub(crate) fn owner_and_source(owner: &Owner) -> String {
    format!("{} ({})", owner_words(Some(owner)), owner.source.name())
}

/// Joins the parts with commas, in lines of at most `most` characters. Lines break between parts, and within a part only if it
/// is too long for a line.
fn lines(parts: &[String], most: usize) -> Vec<String> {
    const INDENT: &str = "  ";
    let width = |text: &str| text.chars().count();
    let mut lines: Vec<String> = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let part = format!("{part}{}", if index + 1 < parts.len() { "," } else { "" });
        let is_long = INDENT.len() + width(&part) > most;
        let pieces = if is_long { part.split(' ').collect() } else { vec![part.as_str()] };
        for piece in pieces {
            match lines.last_mut() {
                Some(line) if width(line) + 1 + width(piece) <= most => {
                    let _ = write!(line, " {piece}");
                }
                Some(_) => lines.push(format!("{INDENT}{piece}")),
                None => lines.push(piece.to_owned()),
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_parts_and_only_long_parts_between_words() {
        let lines = |parts: &[&str]| lines(&parts.iter().map(ToString::to_string).collect::<Vec<_>>(), 12);
        assert_eq!(lines(&[]), [""; 0]);
        assert_eq!(lines(&["one"]), ["one"]);
        assert_eq!(lines(&["one", "two two"]), ["one, two two"]);
        assert_eq!(lines(&["one", "two twos"]), ["one,", "  two twos"]);
        assert_eq!(lines(&["one", "a very long part", "x"]), ["one, a very", "  long part,", "  x"]);
        assert_eq!(lines(&["µµµµµ", "µµµµµ"]), ["µµµµµ, µµµµµ"], "characters, not bytes");
    }
}
