//! Each cause, reported where the facts prove it, and not where one of them is missing.

use std::collections::BTreeSet;

use super::*;
use crate::{
    findings::{Detection, Value, testing::Host},
    model::socket::Keepalive,
};

/// A situation, once with the fact that proves a cause and once without.
enum Situation {
    /// What the rules see on a host.
    Host(fn(&mut Host, bool)),
    /// A connection that failed.
    Failure(fn(&Incident) -> (Severity, Cause), Box<[Incident; 2]>),
}

/// Is it true where this is seen?
type Holds = fn(&Host, &[Detection]) -> bool;

/// What a remedy or the words say that is true only of some hosts.
const CONDITIONS: &[(&str, Holds)] = &[
    ("see fin-wait2-stuck", |_, seen| seen.iter().any(|seen| seen.kind == Kind::FinWait2Stuck)),
    ("see next_hop_answers", |_, seen| has_evidence(seen, "next_hop_answers")),
    ("see next_hop)", |_, seen| has_evidence(seen, "next_hop")),
    ("see listens_at", |_, seen| has_evidence(seen, "listens_at")),
    ("nothing leaks", |_, seen| seen.iter().all(|seen| seen.cause != Cause::NeverClosed)),
    ("set tcp_tw_reuse=1", |host, _| host.settings.tw_reuse == Some(0)),
    ("set tcp_timestamps=1", |host, _| host.settings.timestamps == Some(0)),
    ("tcp_tw_reuse lets", |host, _| host.settings.tw_reuse == Some(1) && host.settings.timestamps != Some(0)),
    ("reserve fewer ports", |host, _| host.settings.reserved_ports.is_some_and(|ports| ports > 0)),
    ("keepalive is off", |host, _| host.sockets.iter().all(|socket| socket.keepalive == Keepalive::Off)),
    ("kill -CONT", |host, _| host.processes.iter().all(|process| process.letter == b'T')),
    ("LimitNOFILE=", |host, _| host.processes.iter().all(|process| process.descriptors == process.max_descriptors)),
    ("perf top", |host, _| host.processes.iter().all(|process| process.letter == b'R')),
    ("what it waits for (a lock", |host, _| host.processes.iter().all(|process| process.letter == b'S')),
    ("may be stopped, blocked, or out of", |host, _| host.processes.is_empty()),
    ("at another address", |host, _| host.sockets.iter().any(|socket| socket.state == State::Listen)),
];

fn has_evidence(seen: &[Detection], name: &str) -> bool {
    seen.iter().flat_map(|seen| &seen.evidence).any(|(known, value)| *known == name && *value != Value::Unknown)
}

impl Situation {
    /// The causes that are reported, and what is said under a condition, which then must be true.
    fn reported(&self, is_proven: bool) -> (Vec<Cause>, Vec<&'static str>) {
        let build = match self {
            Self::Host(build) => build,
            Self::Failure(diagnose, incidents) => {
                return (vec![diagnose(&incidents[usize::from(!is_proven)]).1], Vec::new());
            }
        };
        let mut host = Host::new();
        build(&mut host, is_proven);
        let seen = host.detections();
        let causes: Vec<_> = seen.iter().map(|seen| seen.cause).collect();
        let says =
            |phrase: &str| causes.iter().any(|cause| cause.words().contains(phrase) || cause.remedy().contains(phrase));
        let said: Vec<_> = CONDITIONS.iter().filter(|(phrase, _)| says(phrase)).collect();
        for (phrase, is_true) in &said {
            assert!(is_true(&host, &seen), "{phrase:?} is said of {seen:#?}");
        }
        (causes, said.into_iter().map(|(phrase, _)| *phrase).collect())
    }
}

#[test]
fn each_cause_is_told_where_it_is_proven_and_only_there() {
    let (mut wrong, mut all_said) = (Vec::new(), BTreeSet::new());
    for cause in Cause::ALL.iter().copied() {
        let (situation, otherwise) = row(cause);
        assert!(!otherwise.contains(&cause));
        // The other side, which a proxy waits for, is a finding of its own.
        let beside = (cause == Cause::WaitsForOtherSide).then_some(Cause::OnlyShutDown);
        for (is_proven, expected) in [(true, vec![cause]), (false, otherwise)] {
            let expected: Vec<_> = expected.into_iter().chain(beside).collect();
            let (reported, said) = situation.reported(is_proven);
            all_said.extend(said);
            if reported != expected {
                wrong.push((cause, is_proven, reported));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let unsaid: Vec<_> =
        CONDITIONS.iter().map(|(phrase, _)| phrase).filter(|phrase| !all_said.contains(*phrase)).collect();
    assert!(unsaid.is_empty(), "nothing says {unsaid:?}");
}

/// A situation for each cause, and what is reported without the fact that proves it.
fn row(cause: Cause) -> (Situation, Vec<Cause>) {
    use Cause::*;
    use Situation::Host;
    match cause {
        NeverClosed => (Host(closing::never_closed), vec![]),
        WaitsForOtherSide => (Host(closing::waits_for_other_side), vec![NeverClosed]),
        PeerKeepsOpen => (Host(closing::peer_keeps_open), vec![OnlyShutDown]),
        IdlePooled => (Host(closing::idle_pooled), vec![NeverClosed]),
        OnlyShutDown => (Host(closing::only_shut_down), vec![]),
        FinUnanswered => (Host(closing::fin_unanswered), vec![]),
        LastAckMissing => (Host(closing::last_ack_missing), vec![]),
        SynUnanswered => (Host(connecting::syn_unanswered), vec![QueueFull]),
        GivenUpEarly => (Host(connecting::given_up_early), vec![SynUnanswered]),
        ScanLike => (Host(connecting::scan_like), vec![SynUnanswered]),
        ConnectTimedOut => (Host(connecting::connect_timed_out), vec![QueueFull]),
        PortsHeldOpen => (Host(connecting::ports_held_open), vec![NoLocalPort]),
        PortsReserved => (Host(connecting::ports_reserved), vec![NoLocalPort]),
        NoLocalPort => (Host(connecting::no_local_port), vec![NotSent]),
        ConnectedToItself => (Host(connecting::connected_to_itself), vec![]),
        Unreachable => (Host(connecting::unreachable), vec![NeighbourSilent]),
        NeighbourSilent => (Host(connecting::neighbour_silent), vec![Unreachable]),
        ListensElsewhere => (Host(connecting::listens_elsewhere), vec![PortClosed]),
        PortClosed | RejectedByIcmp | PairInUse | NotSent | EndedAtOnce => failed_connect(cause),
        QueueFull => (Host(serving::queue_full), vec![]),
        AccepterStopped => (Host(serving::accepter_stopped), vec![AccepterWaits]),
        AccepterOutOfDescriptors => (Host(serving::accepter_out_of_descriptors), vec![AccepterWaits]),
        AccepterBusy => (Host(serving::accepter_busy), vec![AccepterRuns]),
        AccepterRuns => (Host(serving::accepter_runs), vec![AccepterWaits]),
        AccepterWaits => (Host(serving::accepter_waits), vec![NotAccepted]),
        NotAccepted => (Host(serving::not_accepted), vec![]),
        HandshakesUnfinished => (Host(serving::handshakes_unfinished), vec![]),
        NotExpected => (Host(serving::not_expected), vec![]),
        RequestsUnread => (Host(serving::requests_unread), vec![DoesNotRead]),
        ReaderStopped => (Host(serving::reader_stopped), vec![RequestsUnread]),
        DoesNotRead => (Host(serving::does_not_read), vec![]),
        PeerDoesNotRead => (Host(serving::peer_does_not_read), vec![DataUnanswered]),
        EndedByUserTimeout => (Host(serving::ended_by_user_timeout), vec![DataUnanswered]),
        KilledBySignal => (Host(serving::killed_by_signal), vec![ClosedUnread]),
        NobodyAsks => (Host(silence::nobody_asks), vec![]),
        DataUnanswered => (Host(silence::data_unanswered), vec![]),
        ForgottenSilently => (Host(silence::forgotten_silently), vec![DataUnanswered]),
        ProbesUnanswered => (Host(silence::probes_unanswered), vec![DataUnanswered]),
        PortsInTimeWait => (Host(silence::ports_in_time_wait), vec![]),
        PortsReused => (Host(silence::ports_reused), vec![PortsInTimeWait]),
        PortsNotReused => (Host(silence::ports_not_reused), vec![PortsReused]),
        PathLoses => (Host(silence::path_loses), vec![DataUnanswered]),
        PeerSentReset | ClientLeft | ReaderCancelled | NothingLost | LastWords | KeepaliveRace | PeerKilled
        | PeerListenerClosed | PeerDestroyed | PeerGaveUp | PeerAbortedIdle | PeerClosedWithLinger
        | PeerClosedUnread | NoSocketThere | SentOnPath | ForgottenOnPath | WroteAfterClose => reset_of_peer(cause),
        ClosedWithLinger | ClosedUnread | LingerNothingLost | StoppedReading => aborted_close(cause),
    }
}

fn failed_connect(cause: Cause) -> (Situation, Vec<Cause>) {
    use Cause::*;
    let refused = failed(CloseReason::Refused);
    let silent = EndEvents::default();
    let given_up = failed(CloseReason::Aborted(Abort::BeforeEstablished));
    let (proven, otherwise, reported) = match cause {
        PortClosed => (refused.clone(), Incident { own: silent, ..refused }, RejectedByIcmp),
        RejectedByIcmp => (Incident { own: silent, ..refused.clone() }, refused, PortClosed),
        PairInUse => (Incident { is_pair_used: true, ..never_sent() }, never_sent(), NotSent),
        NotSent => (never_sent(), Incident { is_pair_used: true, ..never_sent() }, PairInUse),
        EndedAtOnce => (given_up.clone(), Incident { total_retrans: 1, ..given_up }, SynUnanswered),
        _ => panic!("{cause:?} is no failed connect"),
    };
    (Situation::Failure(of_connect, Box::new([proven, otherwise])), vec![reported])
}

fn reset_of_peer(cause: Cause) -> (Situation, Vec<Cause>) {
    use Cause::*;
    let of = |peer| Incident { peer, ..reset() };
    let (linger, unread) = (aborted(Abort::LingerZero, 0), aborted(Abort::UnreadData, 300));
    let killed = Some(Exit { signal: libc::SIGKILL as u8 });
    let idle = Incident { kind: Kind::IdleReset, ..reset() };
    let alive = Peer { end: PeerEnd::Alive, ..Peer::default() };
    let mut sends_too = alive;
    sends_too.events = answered(PeerEnd::Alive, State::Established).events;
    sends_too.events.reset_sent.as_mut().unwrap().by_socket = true;
    let (proven, otherwise, reported) = match cause {
        PeerSentReset => (reset(), of(alive), SentOnPath),
        ClientLeft => (with_facts(served(), quiet), served(), ReaderCancelled),
        ReaderCancelled => (served(), reset(), PeerSentReset),
        NothingLost => (with_facts(reset(), quiet), reset(), PeerSentReset),
        LastWords => (of(aborted(Abort::UnreadData, 64)), of(aborted(Abort::UnreadData, 65)), PeerClosedUnread),
        KeepaliveRace => (after_fin(5 * S, 2 * MS, 300), after_fin(5 * S, 2 * S, 300), WroteAfterClose),
        PeerKilled => (of(ended(CloseReason::Aborted(Abort::UnreadData), killed, 300)), of(unread), PeerClosedUnread),
        PeerListenerClosed => (of(aborted(Abort::ListenerClosed, 0)), of(linger), PeerClosedWithLinger),
        PeerDestroyed => (of(aborted(Abort::Destroyed, 0)), of(unread), PeerClosedUnread),
        PeerGaveUp => (of(ended(CloseReason::TimedOut, None, 0)), reset(), PeerSentReset),
        PeerAbortedIdle => (Incident { peer: linger, ..idle }, of(linger), PeerClosedWithLinger),
        PeerClosedWithLinger => (of(linger), reset(), PeerSentReset),
        PeerClosedUnread => (of(unread), Incident { peer: unread, ..with_facts(reset(), after_idle) }, KeepaliveRace),
        NoSocketThere => {
            (of(answered(PeerEnd::Gone, State::Close)), of(answered(PeerEnd::Closed, State::TimeWait)), PeerSentReset)
        }
        SentOnPath => (of(alive), of(sends_too), PeerSentReset),
        ForgottenOnPath => (idle, reset(), PeerSentReset),
        WroteAfterClose => (after_fin(MS, 2 * MS, 300), after_fin(MS, 2 * MS, 31), LastWords),
        _ => panic!("{cause:?} is no reset by the peer"),
    };
    (Situation::Failure(of_reset, Box::new([proven, otherwise])), vec![reported])
}

fn aborted_close(cause: Cause) -> (Situation, Vec<Cause>) {
    use Cause::*;
    let (linger, unread) = (Abort::LingerZero, Abort::UnreadData);
    let unread_there = ended(CloseReason::ResetByPeer(libc::ECONNRESET), None, 7);
    let nothing = abort(linger, false, 0, 0);
    let (proven, otherwise, reported) = match cause {
        ClosedWithLinger => (abort(linger, true, 0, 5), abort(linger, true, 0, 0), LingerNothingLost),
        LingerNothingLost => (nothing.clone(), Incident { peer: unread_there, ..nothing }, ClosedWithLinger),
        StoppedReading => (abort(unread, true, 9000, 0), abort(unread, false, 9000, 0), ClosedUnread),
        ClosedUnread => (abort(unread, false, 65, 0), abort(unread, false, 64, 0), LastWords),
        _ => panic!("{cause:?} is no close by a RST"),
    };
    (Situation::Failure(of_abort, Box::new([proven, otherwise])), vec![reported])
}
