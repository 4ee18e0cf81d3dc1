//! Events and reports for people.

pub(super) mod columns;
mod finding;
mod ladder;
mod report;

use std::fmt::{Arguments, Write as _};

use bytes::{BufMut as _, BytesMut};
use jiff::tz::TimeZone;

use super::{Context, Names};
use crate::{
    clock::{Human, WallFormat, WallOffset, human, write_human},
    ending::Ending,
    errno,
    event::{Event, Process, ResetFacts, StateSource, TimeSource, Transition, What},
    findings::Finding,
    losses::Losses,
    notice::{Gap, Notice},
    printable::{Printable, printable},
    report::Report,
    snapshot::Age,
    state::State,
    table::Reconciled,
};
use columns::{Columns, Style, styled};

pub use finding::StuckText;
pub use ladder::Ladder;

/// How the column of times is written.
#[derive(Clone, Debug)]
pub enum TimeStyle {
    /// Wall clock in a time zone.
    Wall(TimeZone),
    /// CLOCK_MONOTONIC, in seconds.
    Monotonic,
    /// Since the event before it.
    Delta,
}

/// What people chose for the text.
#[derive(Clone, Debug)]
pub struct TextOptions {
    /// Column of times.
    pub time: TimeStyle,
    /// Colour.
    pub color: bool,
    /// All columns on the owner, and processes first in the summary.
    pub owner_columns: bool,
}

/// Writes text.
pub struct Text {
    options: TextOptions,
    wall: Option<WallFormat>,
    columns: Columns,
    last_ns: Option<u64>,
}

impl Text {
    /// A writer that did not write its heading yet.
    #[must_use]
    pub fn new(options: TextOptions) -> Self {
        let wall = match &options.time {
            TimeStyle::Wall(zone) => Some(WallFormat::time_of_day(zone.clone())),
            TimeStyle::Monotonic | TimeStyle::Delta => None,
        };
        Self { columns: Columns::new(options.color, options.owner_columns), options, wall, last_ns: None }
    }

    /// Writes the heading; [`Text::event`] writes another one only if the columns get wider.
    pub fn heading(&mut self, to: &mut BytesMut) {
        self.columns.heading(to);
    }

    /// Writes an event as a line, and the heading before it where the columns are new.
    pub fn event(&mut self, to: &mut BytesMut, event: &Event, context: &mut Context) {
        if event.what == What::OwnerChanged {
            return; // the lines that follow show the owner
        }
        self.write_columns(to, event, context.wall);
        let mut separator = " ";
        note(event, &context.names, |words| {
            to.put_slice(std::mem::replace(&mut separator, ", ").as_bytes());
            let _ = to.write_fmt(words); // to memory
        });
        if self.options.owner_columns
            && let Some(owner) = event.owner
            && let Some(path) = context.names.cgroup(owner.cgroup).filter(|path| *path != "/")
        {
            let _ = write!(to, "{}cgroup {}", std::mem::replace(&mut separator, ", "), Printable(path)); // to memory
        }
        if separator == " " {
            columns::trim_end(to);
        }
        to.put_u8(b'\n');
    }

    fn write_columns(&mut self, to: &mut BytesMut, event: &Event, wall: WallOffset) {
        let Self { options, wall: format, columns, last_ns } = self;
        let socket = &event.socket;
        columns.fit(to, [socket.local, socket.remote], event.owner.as_ref());
        let since_ns = last_ns.replace(event.time_ns);
        columns.time(to, |to| write_time(to, &options.time, format.as_mut(), event.time_ns, since_ns, wall));
        columns.owner(to, event.owner.as_ref());
        columns.addresses(to);
        let (what, style) = headline(event);
        columns.states(to, socket.state, what, style);
        columns.duration(to, |to| time_in_old(to, event));
    }

    /// Writes a notice.
    pub fn notice(&self, to: &mut BytesMut, notice: &Notice, context: &Context) {
        let words = match notice {
            Notice::Gap(gap) => gap_words(gap),
            Notice::TimeWaitOverflow { netns, count, .. } => format!(
                "-- {count} connections closed without TIME_WAIT in netns {}: there are tcp_max_tw_buckets of them",
                netns_name(*netns, &context.names),
            ),
        };
        styled(to, &words, Style::Trouble, self.options.color);
        to.put_u8(b'\n');
    }

    /// Writes a finding: in four lines where it opens, in fewer where it goes on, merges or closes.
    pub fn finding(&mut self, to: &mut BytesMut, found: &Finding, context: &mut Context) {
        finding::write(to, found, self.options.color, context);
    }

    /// Writes which findings are open at the end of a run.
    pub fn open_at_the_end(&self, to: &mut BytesMut, open: &[&Finding], context: &mut Context) {
        finding::write_open(to, open, self.options.color, context);
    }

    /// Writes a report.
    pub fn report(&self, to: &mut BytesMut, report: &Report, states: crate::state::StateSet) {
        report::write(to, report, &self.options, states);
    }
}

/// Writes a time as it was asked for; `since_ns` is that of the line before.
fn write_time(
    to: &mut BytesMut,
    style: &TimeStyle,
    format: Option<&mut WallFormat>,
    time_ns: u64,
    since_ns: Option<u64>,
    wall: WallOffset,
) {
    // To memory, which cannot fail.
    let _ = match (style, format) {
        (TimeStyle::Wall(_), Some(format)) => {
            format.write(to, wall.wall_ns(time_ns), 6);
            Ok(())
        }
        (TimeStyle::Delta, _) => write!(to, "+{}", Human(time_ns.saturating_sub(since_ns.unwrap_or(time_ns)))),
        _ => write!(to, "{}.{:06}", time_ns / 1_000_000_000, time_ns / 1000 % 1_000_000),
    };
}

/// The line that ends every run on stderr: how many events came, and what was lost where, if anything was.
#[must_use]
pub fn losses_line(losses: &Losses) -> String {
    let events = if losses.received == 1 { "event" } else { "events" };
    let lost = lost_words(losses);
    if lost.is_empty() {
        return format!("{} {events}, none lost", losses.received);
    }
    format!("{} {events}; lost: {lost}", losses.received)
}

/// What was lost, by place.
pub(super) fn lost_words(losses: &Losses) -> String {
    let lost = losses.fields().into_iter().filter(|(_, count)| *count > 0);
    lost.map(|(place, count)| format!("{} {count}", place.replace('_', " "))).collect::<Vec<_>>().join(", ")
}

/// With `≥` where it is a lower bound, and `~` where it comes from a timer.
fn age_words(age: Age) -> String {
    format!("{}{}", age.source.mark(), human(age.ns))
}

fn gap_words(gap: &Gap) -> String {
    let by_cpu = gap.ring_by_cpu.iter().enumerate().filter(|(_, lost)| **lost > 0);
    let mut places: Vec<_> = by_cpu.map(|(cpu, lost)| format!("CPU {cpu}: {lost}")).collect();
    if gap.program_busy > 0 {
        places.push(format!("program busy: {}", gap.program_busy));
    }
    let healed = gap.healed.map_or_else(
        || "the sockets were not listed again".to_owned(),
        |(healed_ns, Reconciled { added, removed, changed })| {
            let after = human(healed_ns.saturating_sub(gap.noticed_ns));
            format!("healed {after} later by a listing: {added} sockets added, {removed} removed, {changed} changed")
        },
    );
    let span = human(gap.noticed_ns.saturating_sub(gap.after_ns));
    format!("-- gap: {} events lost within {span} ({}); {healed}", gap.lost(), places.join(", "))
}

/// What stands beside the socket's state: `-> ` and the new one, or what happened.
fn headline(event: &Event) -> ([&'static str; 2], Style) {
    match event.what {
        What::Transition(transition) => {
            let style = match transition.ending {
                Some(Ending::Normal) | None if transition.new == State::CloseWait => Style::Attention,
                Some(Ending::Normal) | None => Style::Plain,
                Some(_) => Style::Trouble,
            };
            (["-> ", transition.new.name()], style)
        }
        What::Retransmit(_) => (["   ", "retransmit"], Style::Attention),
        What::SynAckRetransmit { .. } => (["   ", "SYN-ACK again"], Style::Attention),
        What::ResetSent { .. } => (["   ", "RST sent"], Style::Trouble),
        What::ResetReceived(_) => (["   ", "RST received"], Style::Trouble),
        What::OwnerChanged => (["   ", "owner"], Style::Plain),
    }
}

fn time_in_old(to: &mut String, event: &Event) {
    let What::Transition(transition) = event.what else { return };
    let Some(time) = transition.time_in_old else { return to.push('-') };
    to.push_str(match time.source {
        TimeSource::Observed | TimeSource::Handshake | TimeSource::Timer => "",
        TimeSource::HandshakeLowerBound | TimeSource::LowerBound => "≥",
        TimeSource::Polled => "~",
        TimeSource::HandshakeUnreliable => "?",
    });
    write_human(to, time.ns);
}

/// Tells `part` what is to be noted of an event, each thing by itself.
fn note(event: &Event, names: &Names, mut part: impl FnMut(Arguments<'_>)) {
    note_parts(event, names, &mut part);
    let elsewhere = event.socket.netns.filter(|netns| names.own_netns.is_some_and(|own| own != *netns));
    if let Some(netns) = elsewhere {
        part(format_args!("netns {}", netns_name(netns, names)));
    }
}

/// A network namespace's name, else its inode number.
fn netns_name(inode: u32, names: &Names) -> String {
    names.netns.get(&inode).map_or_else(|| inode.to_string(), |name| printable(name))
}

/// The same without what tells where it was.
fn note_parts(event: &Event, names: &Names, tell: &mut dyn FnMut(Arguments<'_>)) {
    let mut is_empty = true;
    let mut part = |words: Arguments<'_>| {
        is_empty = false;
        tell(words);
    };
    match event.what {
        What::Transition(transition) => transition_note(&transition, &mut part),
        What::Retransmit(retransmit) => {
            part(format_args!("{} so far", retransmit.total_retrans));
            if retransmit.timeouts > 0 {
                part(format_args!("timeouts in a row: {}", retransmit.timeouts));
            }
            if let Some(srtt_us) = retransmit.srtt_us {
                part(format_args!("srtt {}", Human(u64::from(srtt_us) * 1000)));
            }
            if let Some(errno) = retransmit.failed {
                part(format_args!("not sent: {}", errno_words(errno)));
            }
        }
        What::SynAckRetransmit { count } => part(format_args!("{count} so far")),
        What::ResetSent { reason, facts } => {
            if let Some(code) = reason {
                part(format_args!("reason: {}", reset_reason(code, names)));
            }
            reset_note(facts, &mut part);
        }
        What::ResetReceived(facts) => reset_note(facts, &mut part),
        What::OwnerChanged => {}
    }
    if let Some(candidates) = &event.candidates {
        part(format_args!("one of {}", processes(candidates)));
    }
    if event.after_gap {
        part(format_args!("events before this were lost"));
    }
    if event.socket.sk.is_none() && is_empty {
        tell(format_args!("no socket"));
    }
}

/// Processes by command: `nginx[8154, 8156], sh[9]`.
fn processes(processes: &[Process]) -> String {
    let by_command = processes.chunk_by(|one, other| one.command == other.command);
    let words = by_command.map(|of_one| {
        let pids: Vec<_> = of_one.iter().map(|process| process.pid.to_string()).collect();
        format!("{}[{}]", printable(&of_one[0].command.to_text()), pids.join(", "))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// A peer's silence before a RST is told of from here on.
const SILENCE_NS: u64 = 1_000_000_000;

fn reset_note(facts: Option<ResetFacts>, part: &mut dyn FnMut(Arguments<'_>)) {
    let facts = facts.unwrap_or_default();
    if facts.silence_ns() >= SILENCE_NS {
        part(format_args!("peer silent for {}", Human(facts.silence_ns())));
    }
    for (count, words) in [(facts.receive_queue, "not read"), (facts.send_queue, "not acknowledged")] {
        if count > 0 {
            part(format_args!("{count} bytes {words}"));
        }
    }
}

fn reset_reason(code: u32, names: &Names) -> String {
    names.reset_reason(code).map_or_else(|| code.to_string(), str::to_owned)
}

fn transition_note(transition: &Transition, part: &mut dyn FnMut(Arguments<'_>)) {
    if let Some(ending) = transition.ending {
        part(format_args!("{}", ending.words()));
        if let Some(errno) = ending.errno() {
            part(format_args!("{}", errno_words(errno)));
        }
    } else if transition.new == State::FinWait2 && transition.source == StateSource::Inferred {
        part(format_args!("orphan, the peer has not closed"));
    }
    if let Some(exit) = transition.exit.filter(|exit| exit.is_killed()) {
        part(format_args!("process killed by {}", exit.name()));
    }
    if transition.source != StateSource::Observed {
        part(format_args!("{}", transition.source.name()));
    }
    // The whole of TIME_WAIT, which follows from its name, where the beginning was seen.
    if let Some(ns) = transition.expires_in_ns.filter(|_| transition.source == StateSource::Polled) {
        part(format_args!("ends in {}", Human(ns)));
    }
    if let Some(ns) = transition.handshake_rtt_ns {
        part(format_args!("handshake rtt {}", Human(ns)));
    }
    if transition.ending.is_some() && transition.total_retrans > 0 {
        part(format_args!("retransmits: {}", transition.total_retrans));
    }
}

fn errno_words(errno: i32) -> String {
    errno::name(errno).map_or_else(|| format!("errno {errno}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        net::{Ipv4Addr, SocketAddr},
    };

    use super::*;
    use crate::{
        ending::Abort,
        event::{Retransmit, Socket, TimeInState},
    };

    fn event(what: What) -> Event {
        let end = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
        let socket = Socket {
            sk: Some(1),
            cookie: None,
            netns: None,
            ipv6: false,
            state: State::Established,
            local: end,
            remote: end,
            flags: 0,
        };
        Event {
            time_ns: 0,
            cpu: Some(0),
            socket,
            owner: None,
            candidates: None,
            listener: None,
            after_gap: false,
            what,
        }
    }

    fn transition(new: State, ending: Option<Ending>) -> Transition {
        Transition {
            old: State::Established,
            new,
            source: StateSource::Observed,
            time_in_old: None,
            handshake_rtt_ns: None,
            srtt_us: None,
            total_retrans: 0,
            bytes_acked: 0,
            bytes_received: 0,
            receive_queue: 0,
            send_queue: 0,
            ending,
            exit: None,
            expires_in_ns: None,
        }
    }

    fn told(event: &Event) -> String {
        let names = Names::new(HashMap::from([(3, "no_socket".to_owned())]), Box::new(|_| None));
        let mut parts = Vec::new();
        note(event, &names, |part| parts.push(part.to_string()));
        parts.join(", ")
    }

    #[test]
    fn notes_tell_why_a_connection_ended() {
        let closed = |ending| told(&event(What::Transition(transition(State::Close, Some(ending)))));
        assert_eq!(closed(Ending::Normal), "closed");
        assert_eq!(closed(Ending::ResetByPeer(libc::EPIPE)), "reset by peer, EPIPE");
        assert_eq!(closed(Ending::Failed(libc::ENETUNREACH)), "failed, ENETUNREACH");
        assert_eq!(closed(Ending::Failed(4095)), "failed, errno 4095");
        assert_eq!(closed(Ending::Aborted(Abort::Destroyed)), "aborted: socket destroyed from outside, ECONNABORTED");
        let retransmitted = Transition { total_retrans: 3, ..transition(State::Close, Some(Ending::TimedOut)) };
        assert_eq!(told(&event(What::Transition(retransmitted))), "timed out, ETIMEDOUT, retransmits: 3");
        let under_way = Transition { ending: None, new: State::CloseWait, ..retransmitted };
        assert_eq!(told(&event(What::Transition(under_way))), "");
    }

    #[test]
    fn notes_tell_what_was_inferred_and_measured() {
        let inferred = |new, ending| Transition { source: StateSource::Inferred, ..transition(new, ending) };
        let note = |transition| told(&event(What::Transition(transition)));
        assert_eq!(note(inferred(State::TimeWait, Some(Ending::Normal))), "closed, inferred");
        assert_eq!(note(inferred(State::FinWait2, None)), "orphan, the peer has not closed, inferred");
        let measured = Transition { handshake_rtt_ns: Some(409_000), ..transition(State::Established, None) };
        assert_eq!(note(measured), "handshake rtt 409µs");
    }

    #[test]
    fn notes_tell_of_retransmits_and_resets() {
        let once = Retransmit { state: State::Established, total_retrans: 1, timeouts: 0, srtt_us: None, failed: None };
        assert_eq!(told(&event(What::Retransmit(once))), "1 so far");
        let again = Retransmit { total_retrans: 4, timeouts: 2, srtt_us: Some(1500), failed: Some(113), ..once };
        let words = "4 so far, timeouts in a row: 2, srtt 1.50ms, not sent: EHOSTUNREACH";
        assert_eq!(told(&event(What::Retransmit(again))), words);
        let reset = |reason| event(What::ResetSent { reason, facts: None });
        assert_eq!(told(&reset(Some(3))), "reason: no_socket");
        assert_eq!(told(&reset(Some(8))), "reason: 8");
        assert_eq!(told(&reset(None)), "");
        let mut stray = reset(None);
        stray.socket.sk = None;
        assert_eq!(told(&stray), "no socket");
        assert_eq!(told(&event(What::ResetReceived(None))), "");
        let facts = ResetFacts { last_received_ns: 90_000_000_000, last_ack_ns: 61_000_000_000, ..Default::default() };
        assert_eq!(told(&event(What::ResetReceived(Some(facts)))), "peer silent for 1m01s");
        let facts = ResetFacts { receive_queue: 5, send_queue: 12, last_ack_ns: 999_999_999, ..facts };
        let sent = What::ResetSent { reason: Some(3), facts: Some(facts) };
        assert_eq!(told(&event(sent)), "reason: no_socket, 5 bytes not read, 12 bytes not acknowledged");
    }

    #[test]
    fn times_in_the_old_state_tell_how_sure_they_are() {
        let shown = |time_in_old| {
            time_in_old_of(What::Transition(Transition { time_in_old, ..transition(State::Close, None) }))
        };
        let time = |source| Some(TimeInState { ns: 20_000_000, source });
        assert_eq!(shown(None), "-", "never 0");
        assert_eq!(shown(time(TimeSource::Observed)), "20.0ms");
        assert_eq!(shown(time(TimeSource::Handshake)), "20.0ms");
        assert_eq!(shown(time(TimeSource::HandshakeLowerBound)), "≥20.0ms");
        assert_eq!(time_in_old_of(What::ResetReceived(None)), "", "nothing was left");
    }

    fn time_in_old_of(what: What) -> String {
        let mut text = String::new();
        time_in_old(&mut text, &event(what));
        text
    }

    #[test]
    fn styles_tell_trouble() {
        let style = |what| headline(&event(what)).1;
        let closed = |ending| What::Transition(transition(State::Close, ending));
        assert_eq!(style(closed(Some(Ending::Normal))), Style::Plain);
        assert_eq!(style(closed(Some(Ending::TimedOut))), Style::Trouble);
        assert_eq!(style(What::Transition(transition(State::CloseWait, None))), Style::Attention);
        assert_eq!(style(What::Transition(transition(State::Established, None))), Style::Plain);
        assert_eq!(style(What::ResetReceived(None)), Style::Trouble);
        assert_eq!(style(What::SynAckRetransmit { count: 1 }), Style::Attention);
    }

    #[test]
    fn the_last_line_names_the_places_where_something_was_lost_and_no_others() {
        let line = |losses: Losses| losses_line(&losses);
        let lossy = Losses { received: 12, evicted: 3, outputs: 1, ..Losses::default() };
        assert_eq!(line(lossy), "12 events; lost: evicted 3, outputs 1");
        assert_eq!(line(Losses { received: 1, ..Losses::default() }), "1 event, none lost");
        assert_eq!(line(Losses::default()), "0 events, none lost");
    }
}
