//! Each cause follows from facts that prove it, and from no others.

mod closing;
mod connecting;
mod serving;
mod silence;
mod walk;

use std::net::SocketAddr;

use super::{
    Cause,
    connect::{of_connect, of_given_up},
    reset::{of_abort, of_reset},
};
use crate::{
    findings::{EndEvents, EndedSocket, Incident, Kind, Peer, PeerEnd, ResetSent, Severity},
    model::{
        close_reason::{Abort, CloseReason},
        event::{Exit, ResetFacts},
        state::State,
    },
};

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

/// A client's connection that had carried data both ways, and waits for an answer when the RST comes.
fn reset() -> Incident {
    let end = |port| SocketAddr::from(([10, 1, 0, 1], port));
    let facts = ResetFacts {
        receive_queue: 0,
        send_queue: 300,
        probes: 0,
        last_sent_ns: MS,
        last_received_ns: 20 * MS,
        last_ack_ns: 20 * MS,
    };
    Incident {
        kind: Kind::ResetByPeer,
        cause: (Severity::Warning, Cause::PeerSentReset),
        time_ns: 0,
        netns: None,
        owner: None,
        cookie: None,
        local: end(40_000),
        remote: end(80),
        state: State::Established,
        ending: CloseReason::ResetByPeer(libc::ECONNRESET),
        exit: None,
        active: Some(true),
        in_state_ns: Some(S),
        total_retrans: 0,
        timeouts: 0,
        received: 5000,
        acked: 300,
        unread: 0,
        unacked: 300,
        reset: Some(facts),
        keepalive: false,
        window: None,
        is_shown: true,
        is_pair_used: false,
        next_hop: None,
        own: EndEvents { reset_received_ns: Some(0), ..EndEvents::default() },
        peer: Peer::default(),
        peer_process: None,
    }
}

fn served() -> Incident {
    Incident { active: Some(false), ..reset() }
}

fn with_facts(incident: Incident, change: impl FnOnce(&mut ResetFacts)) -> Incident {
    let mut facts = incident.reset.unwrap();
    change(&mut facts);
    Incident { reset: Some(facts), ..incident }
}

/// This side has closed too, and so much was not acknowledged, its FIN among it.
fn closed(unacked: u32) -> Incident {
    Incident { state: State::LastAck, ..with_facts(reset(), |facts| facts.send_queue = unacked) }
}

/// The peer is on this host, and its socket ended.
fn ended(ending: CloseReason, exit: Option<Exit>, unread: u32) -> Peer {
    let ended = Some(EndedSocket { ending: Some(ending), owner: None, exit, unread });
    Peer { end: PeerEnd::Gone, events: EndEvents { ended, ..EndEvents::default() }, ..Peer::default() }
}

fn aborted(how: Abort, unread: u32) -> Peer {
    ended(CloseReason::Aborted(how), None, unread)
}

/// The kernel of this host sent the RST for the peer.
fn answered(end: PeerEnd, state: State) -> Peer {
    let sent = ResetSent { by_socket: false, state, netns: None, facts: None };
    Peer { end, events: EndEvents { reset_sent: Some(sent), ..EndEvents::default() }, ..Peer::default() }
}

/// In CLOSE_WAIT: the peer's FIN came after so long without data, and so long after it data was sent; it was answered at once.
fn after_fin(idle_ns: u64, sent_after_ns: u64, bytes: u32) -> Incident {
    let incident = Incident { state: State::CloseWait, in_state_ns: Some(sent_after_ns + MS), ..reset() };
    let incident = Incident { kind: Kind::WriteAfterClose, ..incident };
    with_facts(incident, |facts| {
        (facts.last_sent_ns, facts.last_received_ns) = (MS, idle_ns + sent_after_ns + MS);
        facts.send_queue = bytes;
    })
}

/// Nothing is on its way, and the peer had the last word.
fn quiet(facts: &mut ResetFacts) {
    (facts.send_queue, facts.last_sent_ns) = (0, 30 * MS);
}

/// A request that was sent after a silence.
fn after_idle(facts: &mut ResetFacts) {
    facts.last_received_ns = 5 * S;
}

/// A connect that failed.
fn failed(ending: CloseReason) -> Incident {
    Incident { kind: Kind::ConnectFailed, state: State::SynSent, reset: None, ending, ..reset() }
}

fn never_sent() -> Incident {
    failed(CloseReason::Aborted(Abort::NeverSent))
}

/// A client or a server closes by a RST, with so much not read and not acknowledged.
fn abort(how: Abort, active: bool, unread: u32, unacked: u32) -> Incident {
    let (kind, ending, active) = (Kind::AbortedClose, CloseReason::Aborted(how), Some(active));
    Incident { kind, ending, active, reset: None, unread, unacked, ..reset() }
}

#[test]
fn a_reset_has_the_cause_that_its_facts_prove() {
    use Severity::{Info, Warning};
    let alive = Peer { end: PeerEnd::Alive, ..Peer::default() };
    let idle = Incident { kind: Kind::IdleReset, ..reset() };
    let (linger, disconnect) = (aborted(Abort::LingerZero, 0), aborted(Abort::Disconnect, 0));
    for (number, (incident, expected)) in [
        (with_facts(Incident { received: 0, ..reset() }, quiet), (Warning, Cause::PeerSentReset)),
        (Incident { peer: linger, ..with_facts(served(), quiet) }, (Info, Cause::ClientLeft)),
        (Incident { peer: aborted(Abort::UnreadData, 300), ..served() }, (Info, Cause::ReaderCancelled)),
        (Incident { peer: disconnect, ..served() }, (Info, Cause::ReaderCancelled)),
        (Incident { peer: linger, ..with_facts(reset(), quiet) }, (Info, Cause::PeerClosedWithLinger)),
        (
            Incident { peer: ended(CloseReason::ResetAfterClose, None, 0), ..with_facts(reset(), after_idle) },
            (Warning, Cause::KeepaliveRace),
        ),
        (Incident { peer: alive, ..idle }, (Warning, Cause::SentOnPath)),
        (Incident { peer: alive, ..served() }, (Warning, Cause::SentOnPath)),
        (
            Incident { peer: answered(PeerEnd::Closed, State::TimeWait), ..with_facts(reset(), after_idle) },
            (Warning, Cause::KeepaliveRace),
        ),
        (after_fin(5 * S, 2 * MS, 18), (Warning, Cause::KeepaliveRace)),
        (Incident { received: 1, acked: 1, ..after_fin(MS, 300 * MS, 4) }, (Warning, Cause::WroteAfterClose)),
        (Incident { active: Some(false), ..after_fin(5 * S, 2 * MS, 300) }, (Info, Cause::ReaderCancelled)),
        (closed(32), (Info, Cause::LastWords)),
        (closed(300), (Warning, Cause::PeerSentReset)),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(of_reset(&incident), expected, "{number}: {incident:#?}");
    }
}

#[test]
fn an_abort_has_the_cause_that_its_facts_prove() {
    use Severity::{Info, Warning};
    let (linger, unread) = (Abort::LingerZero, Abort::UnreadData);
    let idle = ResetFacts { last_sent_ns: 5 * S, last_received_ns: MS, ..ResetFacts::default() };
    let sent = ResetSent { by_socket: true, state: State::Close, netns: None, facts: Some(idle) };
    let after_idle = EndEvents { reset_sent: Some(sent), ..EndEvents::default() };
    for (number, (incident, expected)) in [
        (abort(linger, true, 9, 0), (Info, Cause::StoppedReading)),
        (abort(linger, false, 9, 0), (Warning, Cause::ClosedWithLinger)),
        (Incident { acked: 0, ..abort(unread, false, 9, 0) }, (Warning, Cause::ClosedUnread)),
        (Incident { own: after_idle, ..abort(unread, false, 18, 0) }, (Warning, Cause::KeepaliveRace)),
        (abort(unread, false, 31, 31), (Info, Cause::LastWords)),
        (abort(unread, false, 31, 100), (Warning, Cause::ClosedUnread)),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(of_abort(&incident), expected, "{number}: {incident:#?}");
    }
}

#[test]
fn an_attempt_of_unknown_length_was_not_given_up_early() {
    let attempt = failed(CloseReason::Aborted(Abort::BeforeEstablished));
    for (in_state_ns, total_retrans) in [(None, 1), (Some(100 * MS), 1), (None, 0)] {
        assert_eq!(of_given_up(&Incident { in_state_ns, total_retrans, ..attempt.clone() }), Cause::SynUnanswered);
    }
}
