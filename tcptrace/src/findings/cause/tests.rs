//! Each cause of a failure follows from facts that prove it, and from no others.

use std::net::SocketAddr;

use super::{Cause, of_abort, of_connect, of_given_up, of_reset};
use crate::{
    ending::{Abort, Ending},
    event::{Exit, ResetFacts},
    findings::{Ended, Incident, Kind, Lately, Peer, PeerEnd, ResetSent, Severity},
    snapshot::NextHop,
    state::State,
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
        ending: Ending::ResetByPeer(libc::ECONNRESET),
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
        own: Lately { reset_received_ns: Some(0), ..Lately::default() },
        peer: Peer::default(),
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
fn ended(ending: Ending, exit: Option<Exit>, unread: u32) -> Peer {
    let ended = Some(Ended { ending: Some(ending), owner: None, exit, unread });
    Peer { end: PeerEnd::Gone, lately: Lately { ended, ..Lately::default() }, ..Peer::default() }
}

fn aborted(how: Abort, unread: u32) -> Peer {
    ended(Ending::Aborted(how), None, unread)
}

/// The kernel of this host sent the RST for the peer.
fn answered(end: PeerEnd, state: State) -> Peer {
    let sent = ResetSent { by_socket: false, state, netns: None, facts: None };
    Peer { end, lately: Lately { reset_sent: Some(sent), ..Lately::default() }, ..Peer::default() }
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

#[test]
fn a_reset_has_the_cause_that_its_facts_prove() {
    use Severity::{Info, Warning};
    let alive = Peer { end: PeerEnd::Alive, ..Peer::default() };
    let quiet = |facts: &mut ResetFacts| (facts.send_queue, facts.last_sent_ns) = (0, 30 * MS);
    let after_idle = |facts: &mut ResetFacts| facts.last_received_ns = 5 * S;
    let idle = Incident { kind: Kind::IdleReset, ..reset() };
    let linger = aborted(Abort::LingerZero, 0);
    let unread = aborted(Abort::UnreadData, 300);
    let killed = Some(Exit { signal: libc::SIGKILL as u8 });
    for (number, (incident, expected)) in [
        (reset(), (Warning, Cause::PeerSentReset)),
        (with_facts(reset(), quiet), (Info, Cause::NothingLost)),
        (with_facts(Incident { received: 0, ..reset() }, quiet), (Warning, Cause::PeerSentReset)),
        (served(), (Info, Cause::ReaderCancelled)),
        (with_facts(served(), quiet), (Info, Cause::ClientLeft)),
        (Incident { peer: linger, ..with_facts(served(), quiet) }, (Info, Cause::ClientLeft)),
        (Incident { peer: unread, ..served() }, (Info, Cause::ReaderCancelled)),
        (Incident { peer: linger, ..reset() }, (Warning, Cause::PeerClosedWithLinger)),
        (Incident { peer: linger, ..with_facts(reset(), quiet) }, (Info, Cause::PeerClosedWithLinger)),
        (Incident { peer: unread, ..reset() }, (Warning, Cause::PeerClosedUnread)),
        (Incident { peer: aborted(Abort::UnreadData, 31), ..reset() }, (Info, Cause::LastWords)),
        (Incident { peer: unread, ..with_facts(reset(), after_idle) }, (Warning, Cause::KeepaliveRace)),
        (
            Incident { peer: ended(Ending::ResetAfterClose, None, 0), ..with_facts(reset(), after_idle) },
            (Warning, Cause::KeepaliveRace),
        ),
        (
            Incident { peer: ended(Ending::Aborted(Abort::UnreadData), killed, 300), ..reset() },
            (Info, Cause::PeerKilled),
        ),
        (Incident { peer: aborted(Abort::ListenerClosed, 0), ..reset() }, (Warning, Cause::PeerListenerClosed)),
        (Incident { peer: aborted(Abort::Destroyed, 0), ..reset() }, (Warning, Cause::PeerDestroyed)),
        (Incident { peer: ended(Ending::TimedOut, None, 0), ..reset() }, (Warning, Cause::PeerGaveUp)),
        (Incident { peer: linger, ..idle.clone() }, (Warning, Cause::PeerAbortedIdle)),
        (Incident { peer: alive, ..idle.clone() }, (Warning, Cause::SentOnPath)),
        (idle, (Warning, Cause::ForgottenOnPath)),
        (Incident { peer: alive, ..reset() }, (Warning, Cause::SentOnPath)),
        (Incident { peer: alive, ..served() }, (Warning, Cause::SentOnPath)),
        (Incident { peer: answered(PeerEnd::Gone, State::Close), ..reset() }, (Warning, Cause::NoSocketThere)),
        (Incident { peer: answered(PeerEnd::Closed, State::TimeWait), ..reset() }, (Warning, Cause::PeerSentReset)),
        (
            Incident { peer: answered(PeerEnd::Closed, State::TimeWait), ..with_facts(reset(), after_idle) },
            (Warning, Cause::KeepaliveRace),
        ),
        (after_fin(5 * S, 2 * MS, 300), (Warning, Cause::KeepaliveRace)),
        (after_fin(5 * S, 2 * MS, 18), (Warning, Cause::KeepaliveRace)),
        (after_fin(MS, 2 * MS, 31), (Info, Cause::LastWords)),
        (after_fin(MS, 2 * MS, 300), (Warning, Cause::WroteAfterClose)),
        (after_fin(5 * S, 2 * S, 300), (Warning, Cause::WroteAfterClose)),
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
    let abort = |how, active, unread, unacked| Incident {
        kind: Kind::AbortedClose,
        ending: Ending::Aborted(how),
        active: Some(active),
        reset: None,
        unread,
        unacked,
        ..reset()
    };
    let (linger, unread) = (Abort::LingerZero, Abort::UnreadData);
    let idle = ResetFacts { last_sent_ns: 5 * S, last_received_ns: MS, ..ResetFacts::default() };
    let sent = ResetSent { by_socket: true, state: State::Close, netns: None, facts: Some(idle) };
    let after_idle = Lately { reset_sent: Some(sent), ..Lately::default() };
    for (number, (incident, expected)) in [
        (abort(linger, true, 0, 0), (Info, Cause::LingerNothingLost)),
        (abort(linger, false, 0, 0), (Info, Cause::LingerNothingLost)),
        (
            Incident { peer: ended(Ending::ResetByPeer(104), None, 7), ..abort(linger, false, 0, 0) },
            (Warning, Cause::ClosedWithLinger),
        ),
        (abort(linger, true, 9, 0), (Info, Cause::StoppedReading)),
        (abort(linger, true, 0, 5), (Warning, Cause::ClosedWithLinger)),
        (abort(linger, false, 9, 0), (Warning, Cause::ClosedWithLinger)),
        (abort(unread, true, 9000, 0), (Info, Cause::StoppedReading)),
        (abort(unread, false, 9000, 0), (Warning, Cause::ClosedUnread)),
        (abort(unread, false, 31, 0), (Info, Cause::LastWords)),
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
fn a_failed_connect_has_the_cause_that_its_facts_prove() {
    use Severity::{Critical, Info, Warning};
    let failed = |ending| Incident { kind: Kind::ConnectFailed, state: State::SynSent, reset: None, ending, ..reset() };
    let at_hop = |answers| {
        let (remote, hop) = ([10, 1, 0, 2].into(), [10, 1, 0, 9].into());
        let next_hop = Some(NextHop { netns: 1, remote, hop, answers, read_ns: 0 });
        Incident { next_hop, ..failed(Ending::Failed(libc::EHOSTUNREACH)) }
    };
    let never_sent = failed(Ending::Aborted(Abort::NeverSent));
    let without_port = SocketAddr::from(([10, 1, 0, 1], 0));
    let elsewhere = Peer { listens_at: Some((SocketAddr::from(([127, 0, 0, 1], 80)), None)), ..Peer::default() };
    let given_up = failed(Ending::Aborted(Abort::BeforeEstablished));
    for (incident, expected) in [
        (failed(Ending::Refused), (Warning, Cause::PortClosed)),
        (Incident { own: Lately::default(), ..failed(Ending::Refused) }, (Warning, Cause::RejectedByIcmp)),
        (Incident { peer: elsewhere, ..failed(Ending::Refused) }, (Warning, Cause::ListensElsewhere)),
        (failed(Ending::TimedOut), (Warning, Cause::ConnectTimedOut)),
        (failed(Ending::Failed(libc::EHOSTUNREACH)), (Warning, Cause::Unreachable)),
        (at_hop(Some(false)), (Warning, Cause::NeighbourSilent)),
        (at_hop(Some(true)), (Warning, Cause::Unreachable)),
        (at_hop(None), (Warning, Cause::Unreachable)),
        (Incident { local: without_port, ..never_sent.clone() }, (Critical, Cause::NoLocalPort)),
        (Incident { is_pair_used: true, ..never_sent.clone() }, (Warning, Cause::PairInUse)),
        (never_sent, (Warning, Cause::NotSent)),
        (Incident { total_retrans: 1, ..given_up.clone() }, (Warning, Cause::SynUnanswered)),
        (given_up, (Info, Cause::EndedAtOnce)),
    ] {
        assert_eq!(of_connect(&incident), expected, "{incident:#?}");
    }
}

#[test]
fn an_attempt_that_is_given_up_before_its_syn_is_sent_again_is_told_of_as_that() {
    let attempt = Incident { state: State::SynSent, ending: Ending::Aborted(Abort::BeforeEstablished), ..reset() };
    for (ms, total_retrans, cause) in [
        (300, 0, Cause::GivenUpEarly),
        (899, 0, Cause::GivenUpEarly),
        (1000, 0, Cause::SynUnanswered),
        (1500, 1, Cause::SynUnanswered),
    ] {
        let attempt = Incident { in_state_ns: Some(ms * MS), total_retrans, ..attempt.clone() };
        assert_eq!(of_given_up(&attempt), cause, "{ms} ms");
    }
    let unknown = Incident { in_state_ns: None, total_retrans: 1, ..attempt };
    assert_eq!(of_given_up(&unknown), Cause::SynUnanswered);
}
