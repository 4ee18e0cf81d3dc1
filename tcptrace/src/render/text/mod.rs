//! Text output for people: events as a table, findings, notices and the summary.
//!
//! [`Text`] writes one record at a time, so output can be streamed; its columns have fixed widths. Stories have a writer of
//! their own ([`Ladder`]), and so has the list of `tcptrace stuck` ([`StuckText`]). On a terminal text fits its width: tables
//! leave out the least useful columns, and sentences break between words.

pub(crate) mod clock;
pub(crate) mod columns;
pub(crate) mod finding;
pub(crate) mod frame;
pub(crate) mod ladder;
pub mod nagios;
mod report;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod words;
pub(crate) mod wrap;

use bytes::{BufMut as _, BytesMut};

use crate::{
    analysis::report::Report,
    findings::Finding,
    model::{
        event::{Event, EventKind},
        losses::Losses,
        notice::Notice,
    },
    render::{
        context::Context,
        text::{
            clock::Clock,
            words::{gap_words, lost_words, netns_name},
            wrap::wrapped,
        },
    },
};
use columns::Columns;
use style::{Style, styled};

pub use clock::TimeStyle;
pub use columns::EventColumn;
pub use finding::StuckText;
pub(crate) use finding::{coverage_line, evidence, headline};
pub use ladder::Ladder;
pub(crate) use style::Address;

/// Options of text output.
#[derive(Clone, Debug)]
pub struct TextOptions {
    /// Format of the TIME column.
    pub time: TimeStyle,
    /// Whether to colour problems and headings.
    pub color: bool,
    /// Whether to show all columns about the owner, and the processes in the summary.
    pub owner_columns: bool,
    /// The columns of events; the usual ones if there are none.
    pub columns: Vec<EventColumn>,
    /// Whether text fits the width of the terminal, because it goes there.
    pub fits: bool,
}

/// Writes records as text.
pub struct Text {
    options: TextOptions,
    columns: Columns,
}

impl Text {
    /// A writer that starts with a heading.
    #[must_use]
    pub fn new(options: TextOptions) -> Self {
        let clock = Clock::new(options.time.clone());
        Self { columns: Columns::new(options.color, &options.columns, options.owner_columns, clock), options }
    }

    /// True if events name the processes at both ends.
    #[must_use]
    pub const fn names_peers(&self) -> bool {
        self.options.owner_columns
    }

    fn width(&self, context: &Context) -> Option<usize> {
        context.screen.filter(|_| self.options.fits).map(|screen| screen.columns)
    }

    /// Writes the heading; [`Text::event`] does so if it was not written.
    pub fn heading(&mut self, to: &mut BytesMut, context: &Context) {
        self.columns.heading(to, self.width(context));
    }

    /// Writes an event as a line, after the heading if it is the first one.
    pub fn event(&mut self, to: &mut BytesMut, event: &Event, context: &mut Context) {
        if event.what == EventKind::OwnerChanged {
            return; // the lines that follow show the owner
        }
        let width = self.width(context);
        self.columns.line(to, event, context, width);
    }

    /// Writes a notice.
    pub fn notice(&self, to: &mut BytesMut, notice: &Notice, context: &Context) {
        let words = match notice {
            Notice::Gap(gap) => gap_words(gap),
            Notice::TimeWaitOverflow { netns, count, .. } => format!(
                "-- {count} connections closed without TIME_WAIT in netns {}: tcp_max_tw_buckets is reached",
                netns_name(*netns, &context.names),
            ),
        };
        styled(to, &wrapped(&words, 3, self.width(context)), Style::Trouble, self.options.color);
        to.put_u8(b'\n');
    }

    /// Writes a finding: four lines when it opens, fewer when it is updated, merged or closed.
    pub fn finding(&mut self, to: &mut BytesMut, found: &Finding, context: &mut Context) {
        let width = self.width(context);
        finding::write(to, found, self.options.color, width, context);
    }

    /// Writes the findings that are still open at the end of a run.
    pub fn open_at_the_end(&self, to: &mut BytesMut, open: &[&Finding], context: &mut Context) {
        finding::write_open(to, open, self.options.color, self.width(context), context);
    }

    /// Writes a report.
    pub fn report(&self, to: &mut BytesMut, report: &Report, states: crate::model::state::StateSet, context: &Context) {
        report::write(to, report, &self.options, states, self.width(context));
    }
}

/// The last line on stderr: how many events were received, and what was lost where.
#[must_use]
pub fn losses_line(losses: &Losses) -> String {
    let events = if losses.received == 1 { "event" } else { "events" };
    let lost = lost_words(losses);
    if lost.is_empty() {
        return format!("received {} {events}, none lost", losses.received);
    }
    format!("received {} {events}; lost: {lost}", losses.received)
}

#[cfg(test)]
mod tests {
    use crate::model::{
        close_reason::{Abort, CloseReason},
        event::{ResetFacts, Retransmit, Socket, StateSource, TimeInState, TimeSource, Transition},
        names::Names,
        state::State,
    };
    use std::{
        collections::HashMap,
        net::{Ipv4Addr, SocketAddr},
    };

    use super::{
        words::{headline, note, time_in_old},
        *,
    };

    fn event(what: EventKind) -> Event {
        let end = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
        let socket = Socket { sk: Some(1), ..Socket::new(State::Established, end, end) };
        Event { cpu: Some(0), ..Event::new(0, socket, what) }
    }

    fn transition(new: State, ending: Option<CloseReason>) -> Transition {
        Transition { ending, ..Transition::new(State::Established, new) }
    }

    fn told(event: &Event) -> String {
        let names = Names::new(HashMap::from([(3, "no_socket".to_owned())]), Box::new(|_| None));
        let mut parts = Vec::new();
        note(event, &names, |part| parts.push(part.to_string()));
        parts.join(", ")
    }

    #[test]
    fn notes_tell_why_a_connection_ended() {
        let closed = |ending| told(&event(EventKind::Transition(transition(State::Close, Some(ending)))));
        assert_eq!(closed(CloseReason::Normal), "closed");
        assert_eq!(closed(CloseReason::ResetByPeer(libc::EPIPE)), "reset by peer, EPIPE");
        assert_eq!(closed(CloseReason::Failed(libc::ENETUNREACH)), "failed, ENETUNREACH");
        assert_eq!(closed(CloseReason::Failed(4095)), "failed, errno 4095");
        assert_eq!(
            closed(CloseReason::Aborted(Abort::Destroyed)),
            "aborted: socket destroyed from outside, ECONNABORTED"
        );
        let retransmitted = Transition { total_retrans: 3, ..transition(State::Close, Some(CloseReason::TimedOut)) };
        assert_eq!(told(&event(EventKind::Transition(retransmitted))), "timed out, ETIMEDOUT, retransmits: 3");
        let under_way = Transition { ending: None, new: State::CloseWait, ..retransmitted };
        assert_eq!(told(&event(EventKind::Transition(under_way))), "");
    }

    #[test]
    fn notes_tell_what_was_inferred_and_measured() {
        let inferred = |new, ending| Transition { source: StateSource::Inferred, ..transition(new, ending) };
        let note = |transition| told(&event(EventKind::Transition(transition)));
        assert_eq!(note(inferred(State::TimeWait, Some(CloseReason::Normal))), "closed, inferred");
        assert_eq!(note(inferred(State::FinWait2, None)), "orphan, the peer has not closed, inferred");
        let measured = Transition { handshake_rtt_ns: Some(409_000), ..transition(State::Established, None) };
        assert_eq!(note(measured), "handshake rtt 409µs");
    }

    #[test]
    fn notes_tell_of_retransmits_and_resets() {
        let once = Retransmit { state: State::Established, total_retrans: 1, timeouts: 0, srtt_us: None, failed: None };
        assert_eq!(told(&event(EventKind::Retransmit(once))), "1 so far");
        let again = Retransmit { total_retrans: 4, timeouts: 2, srtt_us: Some(1500), failed: Some(113), ..once };
        let words = "4 so far, timeouts in a row: 2, srtt 1.50ms, not sent: EHOSTUNREACH";
        assert_eq!(told(&event(EventKind::Retransmit(again))), words);
        let reset = |reason| event(EventKind::ResetSent { reason, facts: None });
        assert_eq!(told(&reset(Some(3))), "reason: no_socket");
        assert_eq!(told(&reset(Some(8))), "reason: 8");
        assert_eq!(told(&reset(None)), "");
        let mut stray = reset(None);
        stray.socket.sk = None;
        assert_eq!(told(&stray), "no socket");
        assert_eq!(told(&event(EventKind::ResetReceived(None))), "");
        let facts = ResetFacts { last_received_ns: 90_000_000_000, last_ack_ns: 61_000_000_000, ..Default::default() };
        assert_eq!(told(&event(EventKind::ResetReceived(Some(facts)))), "peer silent for 1m01s");
        let facts = ResetFacts { receive_queue: 5, send_queue: 12, last_ack_ns: 999_999_999, ..facts };
        let sent = EventKind::ResetSent { reason: Some(3), facts: Some(facts) };
        assert_eq!(told(&event(sent)), "reason: no_socket, 5 bytes not read, 12 bytes not acknowledged");
    }

    #[test]
    fn times_in_the_old_state_tell_how_sure_they_are() {
        let shown = |time_in_old| {
            time_in_old_of(EventKind::Transition(Transition { time_in_old, ..transition(State::Close, None) }))
        };
        let time = |source| Some(TimeInState { ns: 20_000_000, source });
        assert_eq!(shown(None), "-", "never 0");
        assert_eq!(shown(time(TimeSource::Observed)), "20.0ms");
        assert_eq!(shown(time(TimeSource::Handshake)), "20.0ms");
        assert_eq!(shown(time(TimeSource::HandshakeLowerBound)), "≥20.0ms");
        assert_eq!(time_in_old_of(EventKind::ResetReceived(None)), "", "nothing was left");
    }

    fn time_in_old_of(what: EventKind) -> String {
        let mut text = String::new();
        time_in_old(&mut text, &event(what));
        text
    }

    #[test]
    fn styles_tell_trouble() {
        let style = |what| headline(&event(what)).1;
        let closed = |ending| EventKind::Transition(transition(State::Close, ending));
        assert_eq!(style(closed(Some(CloseReason::Normal))), Style::Plain);
        assert_eq!(style(closed(Some(CloseReason::TimedOut))), Style::Trouble);
        assert_eq!(style(EventKind::Transition(transition(State::CloseWait, None))), Style::Attention);
        assert_eq!(style(EventKind::Transition(transition(State::Established, None))), Style::Plain);
        assert_eq!(style(EventKind::ResetReceived(None)), Style::Trouble);
        assert_eq!(style(EventKind::SynAckRetransmit { count: 1 }), Style::Attention);
    }

    #[test]
    fn the_last_line_names_the_places_where_something_was_lost_and_no_others() {
        let line = |losses: Losses| losses_line(&losses);
        let lossy = Losses { received: 12, evicted: 3, outputs: 1, ..Losses::default() };
        assert_eq!(line(lossy), "received 12 events; lost: evicted 3, outputs 1");
        assert_eq!(line(Losses { received: 1, ..Losses::default() }), "received 1 event, none lost");
        assert_eq!(line(Losses::default()), "received 0 events, none lost");
    }
}
