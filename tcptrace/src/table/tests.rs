use std::net::Ipv4Addr;

use super::*;
use crate::model::{
    close_reason::CloseReason,
    event::{Command, OwnerSource, Retransmit, Socket, Transition},
    namespace::Namespace,
    notice::Reconciled,
    skipped::Skipped,
    snapshot::Snapshot,
    socket::{Kind, ListedSocket, Timer, TimerKind},
};

pub(super) fn event(sk: u64, cookie: u64, time_ns: u64, what: EventKind) -> Event {
    let end = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
    Event {
        cpu: Some(0),
        ..Event::new(
            time_ns,
            Socket {
                sk: (sk != 0).then_some(sk),
                cookie: (cookie != 0).then_some(cookie),
                ..Socket::new(State::Close, end, end)
            },
            what,
        )
    }
}

pub(super) fn enters(new: State) -> EventKind {
    EventKind::Transition(Transition::new(State::Close, new))
}

fn owned(event: Event) -> Event {
    let command = Command::new([0; 16]);
    Event {
        owner: Some(Owner { pid: 7, uid: 0, cgroup: 0, start: None, command, source: OwnerSource::Accept }),
        ..event
    }
}

fn table(max: usize) -> Table {
    Table::new(max, StateSet::default(), true)
}

fn cookies(table: &Table) -> Vec<u64> {
    let mut cookies: Vec<_> = table.connections().filter_map(|connection| connection.cookie()).collect();
    cookies.sort_unstable();
    cookies
}

#[test]
fn a_socket_is_there_from_its_first_event_to_its_end() {
    let mut table = table(10);
    table.ingest(&mut event(1, 11, 100, enters(State::SynSent)));
    table.ingest(&mut event(1, 11, 130, enters(State::Established)));
    let connection = table.connections().next().unwrap();
    assert_eq!((connection.state, connection.first_seen_ns, connection.since_ns), (State::Established, 100, 130));
    table.ingest(&mut event(1, 11, 140, EventKind::ResetReceived(None)));
    table.ingest(&mut event(2, 12, 140, EventKind::ResetReceived(None)));
    assert_eq!(cookies(&table), [11], "only a state makes a socket known");
    table.ingest(&mut event(1, 11, 150, enters(State::Close)));
    assert!(table.is_empty());
    table.ingest(&mut event(0, 0, 160, enters(State::Established)));
    assert_eq!(table.len(), 0, "no socket, no connection");
}

#[test]
fn what_becomes_a_mini_socket_lives_on_as_one() {
    let mut table = table(10);
    table.ingest(&mut event(1, 11, 100, enters(State::FinWait2)));
    let EventKind::Transition(shown) = enters(State::TimeWait) else { unreachable!() };
    table.ingest(&mut event(1, 11, 110, EventKind::Transition(Transition { source: StateSource::Inferred, ..shown })));
    let timewait = table.connections().next().unwrap();
    assert_eq!(
        (timewait.state, timewait.since_ns, timewait.expires_ns()),
        (State::TimeWait, 110, Some(110 + TIME_WAIT_NS))
    );
    assert_eq!(table.len(), 1);
}

#[test]
fn the_socket_that_came_first_makes_room() {
    let mut table = table(3);
    for sk in 1..=3 {
        table.ingest(&mut event(sk, sk, sk, enters(State::SynSent)));
    }
    table.ingest(&mut event(1, 1, 9, enters(State::Established)));
    table.ingest(&mut event(2, 2, 9, enters(State::Close)));
    table.ingest(&mut event(4, 4, 10, enters(State::SynSent)));
    assert_eq!((cookies(&table), table.evicted()), (vec![1, 3, 4], 0));
    table.ingest(&mut event(5, 5, 11, enters(State::SynSent)));
    assert_eq!((cookies(&table), table.evicted()), (vec![3, 4, 5], 1));
    table.ingest(&mut event(6, 6, 12, enters(State::SynSent)));
    assert_eq!((cookies(&table), table.evicted()), (vec![4, 5, 6], 2));
}

#[test]
fn a_later_socket_at_the_same_address_is_not_evicted_for_the_earlier_one() {
    let mut table = table(2);
    table.ingest(&mut event(1, 11, 1, enters(State::SynSent)));
    table.ingest(&mut event(1, 11, 2, enters(State::Close)));
    table.ingest(&mut event(2, 12, 3, enters(State::SynSent)));
    table.ingest(&mut event(1, 13, 4, enters(State::SynSent)));
    table.ingest(&mut event(3, 14, 5, enters(State::SynSent)));
    assert_eq!(cookies(&table), [13, 14]);
}

#[test]
fn another_cookie_at_the_same_address_is_another_life() {
    // The event of the first one's end was lost.
    let mut table = table(10);
    table.ingest(&mut owned(event(1, 11, 100, enters(State::Established))));
    table.ingest(&mut owned(event(1, 12, 200, EventKind::OwnerChanged)));
    assert_eq!(cookies(&table), [11]);
    table.ingest(&mut event(1, 12, 300, enters(State::Established)));
    let connection = table.connections().next().unwrap();
    assert_eq!((connection.cookie(), connection.first_seen_ns, connection.owner()), (Some(12), 300, None));
    table.ingest(&mut owned(event(1, 11, 310, EventKind::OwnerChanged)));
    assert_eq!(table.connections().next().unwrap().owner(), None, "the owner of another life");
    table.ingest(&mut owned(event(1, 12, 320, EventKind::OwnerChanged)));
    assert_eq!(table.connections().next().unwrap().owner().unwrap().pid, 7);
}

#[test]
fn a_cookie_may_come_late() {
    let mut table = table(10);
    table.ingest(&mut event(1, 0, 100, enters(State::SynSent)));
    table.ingest(&mut event(1, 11, 200, enters(State::Established)));
    let connection = table.connections().next().unwrap();
    assert_eq!((connection.cookie(), connection.first_seen_ns), (Some(11), 100));
}

#[test]
fn sockets_in_other_states_than_the_wanted_are_not_kept() {
    let mut table = Table::new(10, [State::CloseWait].into_iter().collect(), true);
    table.ingest(&mut event(1, 11, 100, enters(State::Established)));
    assert!(table.is_empty());
    table.ingest(&mut event(1, 11, 110, enters(State::CloseWait)));
    assert_eq!(table.len(), 1);
    table.ingest(&mut event(1, 11, 120, enters(State::LastAck)));
    assert!(table.is_empty());
}

#[test]
fn what_left_is_not_remembered_for_ever() {
    let mut table = table(1000);
    for time_ns in 0..10_000 {
        table.ingest(&mut event(1 + time_ns % 3, 1 + time_ns, 2 * time_ns, enters(State::SynSent)));
        table.ingest(&mut event(1 + time_ns % 3, 1 + time_ns, 2 * time_ns + 1, enters(State::Close)));
    }
    assert!(table.is_empty() && table.full.room() <= 64, "{}", table.full.room());
}

pub(super) const NETNS: u32 = 7;
pub(super) const S: u64 = 1_000_000_000;

pub(super) fn listed(cookie: u64, kind: Kind, state: State, local: &str) -> ListedSocket {
    let local: SocketAddr = local.parse().unwrap();
    ListedSocket {
        sk: Some(cookie),
        cookie: Some(cookie),
        handle: cookie,
        ipv6: local.is_ipv6(),
        ..ListedSocket::new(kind, state, NETNS, local, local)
    }
}

fn timewait(cookie: u64, state: State, left_ns: u64) -> ListedSocket {
    let timer = Some(Timer { kind: TimerKind::TimeWait, left_ns });
    ListedSocket { timer, ..listed(cookie, Kind::TimeWait, state, "127.0.0.1:1") }
}

fn at_port(port: u16, socket: ListedSocket) -> ListedSocket {
    let end = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    ListedSocket { local: end, remote: end, ..socket }
}

pub(super) fn holder(handle: u64, pid: u32) -> Holder {
    Holder { handle, pid, ns_pid: pid, fd: 3, uid: 33, cgroup: Some(9), start: None, command: Command::new([b'a'; 16]) }
}

/// A listing that took a second.
pub(super) fn snapshot(ended_ns: u64, sockets: Vec<ListedSocket>) -> Snapshot {
    let namespaces = vec![Namespace { inode: NETNS, ..Namespace::default() }];
    Snapshot { started_ns: ended_ns - S, ended_ns, sockets, namespaces, ..Snapshot::default() }
}

fn here(event: Event) -> Event {
    Event { socket: Socket { netns: Some(NETNS), ..event.socket }, ..event }
}

/// A timewait socket replaces the full socket.
fn becomes(cookie: u64, time_ns: u64, new: State) -> Event {
    let EventKind::Transition(shown) = enters(new) else { unreachable!() };
    let inferred = Transition { old: State::FinWait2, source: StateSource::Inferred, ..shown };
    here(owned(event(1, cookie, time_ns, EventKind::Transition(inferred))))
}

/// An event that a poll produced.
type Emitted = (State, State, Option<CloseReason>, Option<TimeInState>);

fn poll(table: &mut Table, snapshot: &Snapshot) -> Vec<Emitted> {
    let mut emitted = Vec::new();
    table.poll(
        snapshot,
        |_, _| true,
        |event| {
            let EventKind::Transition(transition) = event.what else { panic!("{event:?}") };
            assert_eq!((event.cpu, event.socket.sk, transition.source), (None, None, StateSource::Polled));
            let is_timed = transition.time_in_old.is_some_and(|time| time.source == TimeSource::Timer);
            assert_eq!((event.time_ns < snapshot.ended_ns, event.socket.state), (is_timed, transition.old));
            emitted.push((transition.old, transition.new, transition.ending, transition.time_in_old));
        },
    );
    emitted
}

fn reconcile(table: &mut Table, snapshot: &Snapshot) -> Reconciled {
    table.reconcile(snapshot, |_, _| true, |_| ())
}

const fn polled_after(ns: u64) -> Option<TimeInState> {
    Some(TimeInState { ns, source: TimeSource::Polled })
}

const fn timed_after(ns: u64) -> Option<TimeInState> {
    Some(TimeInState { ns, source: TimeSource::Timer })
}

#[test]
fn time_wait_ends_when_a_poll_does_not_find_it() {
    let mut table = table(10);
    table.ingest(&mut becomes(11, 100 * S, State::TimeWait));
    assert_eq!(poll(&mut table, &snapshot(100 * S, vec![])), [], "it may have begun after it was looked for");
    assert_eq!(poll(&mut table, &snapshot(150 * S, vec![timewait(11, State::TimeWait, 10 * S)])), []);
    let known = table.connections().next().unwrap();
    assert_eq!((known.since_ns, known.expires_ns(), known.since), (100 * S, Some(160 * S), AgeSource::Observed));
    let gone = (State::TimeWait, State::Close, None, polled_after(61 * S));
    assert_eq!(poll(&mut table, &snapshot(161 * S, vec![])), [gone]);
    assert!(table.is_empty());
    assert_eq!(poll(&mut table, &snapshot(162 * S, vec![])), [], "once");
}

#[test]
fn an_orphans_peer_closes_or_never_does_or_something_else_ends_it() {
    let ended = |timer_left_ns: Option<u64>, ended_ns| {
        let mut table = table(10);
        table.ingest(&mut becomes(11, 100 * S, State::FinWait2));
        if let Some(left_ns) = timer_left_ns {
            assert_eq!(poll(&mut table, &snapshot(110 * S, vec![timewait(11, State::FinWait2, left_ns)])), []);
        }
        let emitted = poll(&mut table, &snapshot(ended_ns, vec![]));
        assert!(table.is_empty());
        emitted
    };
    let emitted = |ending, ns| [(State::FinWait2, State::Close, Some(ending), polled_after(ns))];
    assert_eq!(ended(Some(50 * S), 161 * S), emitted(CloseReason::PeerNeverClosed, 61 * S), "its timer ran out");
    assert_eq!(ended(Some(50 * S), 120 * S), emitted(CloseReason::Unknown, 20 * S), "before its time");
    assert_eq!(ended(None, 161 * S), emitted(CloseReason::Unknown, 61 * S), "nobody saw its timer");
    assert_eq!(
        ended(Some(50 * S), 300 * S),
        emitted(CloseReason::Unknown, 67 * S + S / 2),
        "TIME_WAIT may have come and gone"
    );

    let mut table = table(10);
    table.ingest(&mut becomes(11, 100 * S, State::FinWait2));
    let emitted = poll(&mut table, &snapshot(110 * S, vec![timewait(11, State::TimeWait, 57 * S)]));
    assert_eq!(emitted, [(State::FinWait2, State::TimeWait, Some(CloseReason::Normal), timed_after(7 * S))]);
    let known = table.connections().next().unwrap();
    assert_eq!((known.state, known.since_ns, known.since), (State::TimeWait, 107 * S, AgeSource::Timer));
    assert_eq!(known.owner().unwrap().pid, 7);
}

#[test]
fn time_wait_began_when_its_timer_says_and_not_when_a_poll_saw_it() {
    let emitted = |seen: ListedSocket| {
        let mut table = table(10);
        table.ingest(&mut becomes(11, 100 * S, State::FinWait2));
        let mut events = Vec::new();
        table.poll(&snapshot(101 * S, vec![seen]), |_, _| true, |event| events.push(event));
        let EventKind::Transition(transition) = events[0].what else { panic!("{events:?}") };
        (events[0].time_ns, transition.time_in_old, transition.expires_in_ns)
    };
    let ms = 1_000_000;
    // The peer closed after 50 ms; the poll ended 950 ms later.
    assert_eq!(
        emitted(timewait(11, State::TimeWait, 60 * S - 950 * ms)),
        (100 * S + 50 * ms, timed_after(50 * ms), Some(60 * S))
    );
    assert_eq!(emitted(timewait(11, State::TimeWait, 58 * S)).1, timed_after(0), "never before FIN_WAIT2 began");
    assert_eq!(emitted(timewait(11, State::TimeWait, 61 * S)).1, timed_after(S), "never after it was looked at");
    let untimed = ListedSocket { timer: None, ..timewait(11, State::TimeWait, 0) };
    assert_eq!(emitted(untimed), (101 * S, polled_after(S), None));
}

#[test]
fn a_new_connection_with_its_ends_ends_time_wait() {
    let new = |cookie, old, time_in_old| {
        let EventKind::Transition(shown) = enters(State::Established) else { unreachable!() };
        here(event(9, cookie, 105 * S, EventKind::Transition(Transition { old, time_in_old, ..shown })))
    };
    let time = |source| Some(TimeInState { ns: S / 10, source });
    let emitted = |timewait: Option<Event>, new: &Event| {
        let mut table = table(10);
        timewait.clone().map(|mut timewait| table.ingest(&mut timewait));
        let emitted = table.end_replaced(new).into_iter().map(|event| {
            let EventKind::Transition(transition) = event.what else { panic!("{event:?}") };
            assert_eq!((transition.source, event.socket.sk), (StateSource::Inferred, None));
            (transition.old, transition.new, event.time_ns, transition.time_in_old)
        });
        let emitted: Vec<_> = emitted.collect();
        let kept = table.len();
        assert_eq!(emitted.is_empty() && timewait.is_some(), kept == 1);
        assert_eq!(poll(&mut table, &snapshot(110 * S, vec![])).len(), kept, "told once");
        emitted
    };
    let time_wait = || Some(becomes(11, 100 * S, State::TimeWait));
    let over =
        |at_ns, source| [(State::TimeWait, State::Close, at_ns, Some(TimeInState { ns: at_ns - 100 * S, source }))];
    // The SYN arrived, or was sent, 100 ms before.
    let exact = over(105 * S - S / 10, TimeSource::Observed);
    assert_eq!(emitted(time_wait(), &new(12, State::SynRecv, time(TimeSource::Handshake))), exact);
    assert_eq!(emitted(time_wait(), &new(12, State::SynSent, time(TimeSource::Observed))), exact);
    // Its SYN-ACK was retransmitted: the SYN may have arrived long before.
    let about = over(105 * S, TimeSource::Polled);
    assert_eq!(emitted(time_wait(), &new(12, State::SynRecv, time(TimeSource::HandshakeLowerBound))), about);
    assert_eq!(emitted(time_wait(), &new(12, State::SynRecv, None)), about);
    assert_eq!(emitted(None, &new(12, State::SynRecv, None)), []);
    assert_eq!(emitted(time_wait(), &new(11, State::SynRecv, None)), [], "an event that comes late, of the same one");
    assert_eq!(emitted(time_wait(), &new(12, State::Established, None)), [], "it does not begin");
    let elsewhere = Event {
        socket: Socket { netns: Some(8), ..new(12, State::SynRecv, None).socket },
        ..new(12, State::SynRecv, None)
    };
    assert_eq!(emitted(time_wait(), &elsewhere), [], "in another namespace");
    // No poll saw its TIME_WAIT.
    let orphan = Some(becomes(11, 100 * S, State::FinWait2));
    let (left, over) =
        (emitted(orphan, &new(12, State::SynRecv, None)), (State::TimeWait, State::Close, 105 * S, None));
    assert_eq!(left, [(State::FinWait2, State::TimeWait, 105 * S, polled_after(5 * S)), over]);
}

#[test]
fn a_mini_socket_from_before_the_start_is_adopted() {
    let mut table = table(10);
    let sockets = vec![timewait(11, State::TimeWait, 40 * S), at_port(2, timewait(12, State::FinWait2, 30 * S))];
    assert_eq!(poll(&mut table, &snapshot(200 * S, sockets)), []);
    let found: Vec<_> = table.connections().map(|known| (known.state, known.since_ns, known.since)).collect();
    assert!(found.contains(&(State::TimeWait, 180 * S, AgeSource::Timer)), "{found:?}");
    assert!(found.contains(&(State::FinWait2, 200 * S, AgeSource::LowerBound)), "{found:?}");
    let emitted = poll(&mut table, &snapshot(241 * S, vec![]));
    let at_least = Some(TimeInState { ns: 30 * S, source: TimeSource::LowerBound });
    assert!(emitted.contains(&(State::TimeWait, State::Close, None, polled_after(61 * S))), "{emitted:?}");
    assert!(
        emitted.contains(&(State::FinWait2, State::Close, Some(CloseReason::PeerNeverClosed), at_least)),
        "{emitted:?}"
    );
}

#[test]
fn a_mini_socket_without_a_cookie_is_known_by_its_ends() {
    let mut table = table(10);
    table.ingest(&mut becomes(0, 100 * S, State::FinWait2));
    assert_eq!(poll(&mut table, &snapshot(110 * S, vec![timewait(11, State::FinWait2, 50 * S)])), []);
    assert_eq!((table.len(), cookies(&table)), (1, vec![11]));
    assert_eq!(poll(&mut table, &snapshot(111 * S, vec![timewait(11, State::TimeWait, 59 * S)])).len(), 1);
    assert_eq!(poll(&mut table, &snapshot(180 * S, vec![])).len(), 1);
}

#[test]
fn where_nobody_looked_nothing_is_told_and_nothing_is_for_ever() {
    let elsewhere = |ended_ns| Snapshot { namespaces: Vec::new(), ..snapshot(ended_ns, vec![]) };
    let cut_short = |ended_ns| {
        let skipped = Skipped { cut_short: 1, ..Skipped::default() };
        Snapshot { skipped, ..snapshot(ended_ns, vec![]) }
    };
    for unseen in [&elsewhere as &dyn Fn(u64) -> Snapshot, &cut_short] {
        let mut table = table(10);
        table.ingest(&mut here(event(2, 12, 90 * S, enters(State::Established))));
        table.ingest(&mut becomes(11, 100 * S, State::TimeWait));
        assert_eq!(reconcile(&mut table, &unseen(150 * S)), Reconciled::default());
        assert_eq!(cookies(&table), [11, 12]);
        assert_eq!(poll(&mut table, &unseen(161 * S)), []);
        assert_eq!(cookies(&table), [12], "TIME_WAIT is over; who saw the end?");
        assert_eq!(reconcile(&mut table, &snapshot(170 * S, vec![])).removed, 1);
    }
}

#[test]
fn of_the_wanted_states_a_mini_socket_that_goes_on_is_told_of_and_left() {
    let mut table = Table::new(10, [State::FinWait2].into_iter().collect(), true);
    table.ingest(&mut becomes(11, 100 * S, State::FinWait2));
    let emitted = poll(&mut table, &snapshot(110 * S, vec![timewait(11, State::TimeWait, 59 * S)]));
    assert_eq!(emitted.len(), 1);
    assert!(table.is_empty());
    assert_eq!(poll(&mut table, &snapshot(111 * S, vec![timewait(11, State::TimeWait, 58 * S)])), []);
    assert!(table.is_empty());
}

#[test]
fn without_polls_mini_sockets_are_not_followed() {
    let mut table = Table::new(10, StateSet::default(), false);
    table.ingest(&mut here(event(1, 11, 90, enters(State::FinWait2))));
    table.ingest(&mut becomes(11, 100, State::TimeWait));
    assert!(table.is_empty());
    assert_eq!(poll(&mut table, &snapshot(200 * S, vec![timewait(12, State::FinWait2, 40 * S)])), []);
    assert_eq!(
        poll(&mut table, &snapshot(300 * S, vec![timewait(13, State::TimeWait, 40 * S)])),
        [],
        "when it ended is unknown"
    );
    assert_eq!(cookies(&table), [13], "but what is there is told");
}

#[test]
fn who_holds_a_socket_now_is_its_owner_whoever_used_it_before() {
    let mut table = table(10);
    let mut socket = listed(1, Kind::Full, State::Established, "127.0.0.1:1");
    let mut held = |socket, ended_ns, pids: &[u32]| {
        let holders = Some(Holders::new(pids.iter().map(|pid| holder(1, *pid)).collect()));
        reconcile(&mut table, &Snapshot { holders, ..snapshot(ended_ns, vec![socket]) });
        table.connections().next().and_then(|known| known.owner()).map(|owner| owner.pid)
    };
    let known =
        |source| owned(event(1, 1, 1, EventKind::ResetReceived(None))).owner.map(|owner| Owner { source, ..owner });
    assert_eq!(held(socket, 10 * S, &[7]), Some(7));
    socket.owner = known(OwnerSource::Holder);
    assert_eq!(held(socket, 20 * S, &[8]), Some(8), "the programs still know the one of the start");
    socket.owner = None;
    assert_eq!(held(socket, 30 * S, &[]), Some(8));
    socket.owner = known(OwnerSource::Io);
    assert_eq!(held(socket, 40 * S, &[7, 8]), Some(7), "it was seen, and still holds it");
    assert_eq!(held(socket, 50 * S, &[8]), Some(8), "it was seen, and holds it no more");
    socket.owner = None;
    assert_eq!(held(socket, 60 * S, &[8]), Some(8));
    assert_eq!(held(socket, 70 * S, &[]), Some(8), "nothing tells who holds it");
}

#[test]
fn who_holds_a_socket_no_more_is_its_former_owner() {
    let mut table = table(10);
    let connected = owned(event(1, 1, 5 * S, enters(State::Established)));
    table.ingest(&mut here(connected.clone()));
    let socket = listed(1, Kind::Full, State::Established, "127.0.0.1:1");
    let holders = Some(Holders::new(vec![holder(1, 9)]));
    reconcile(&mut table, &Snapshot { holders, ..snapshot(10 * S, vec![socket]) });
    let of = |table: &Table| {
        let known = table.connections().next().unwrap();
        (known.owner().map(|owner| owner.pid), known.former().map(|owner| owner.pid))
    };
    assert_eq!(of(&table), (Some(9), Some(7)));
    let mut emitted = here(owned(event(1, 1, 11 * S, enters(State::CloseWait))));
    table.ingest(&mut emitted);
    assert_eq!(emitted.owner.map(|owner| owner.pid), Some(9), "the programs remember one that holds it no more");
    assert_eq!(of(&table), (Some(9), Some(7)));
    let mut again = here(owned(event(1, 1, 12 * S, enters(State::LastAck))));
    again.owner = again.owner.map(|owner| Owner { source: OwnerSource::Close, ..owner });
    table.ingest(&mut again);
    assert_eq!(of(&table), (Some(7), None), "it was seen again");
}

#[test]
fn what_is_not_chosen_is_followed_but_not_shown() {
    let mut table = table(10);
    let established = here(event(1, 1, 10 * S, enters(State::Established)));
    table.ingest(&mut established.clone());
    table.apply_filter(|known, holders| known.state == State::CloseWait && holders.is_empty());
    assert_eq!((table.len(), table.all().count(), table.connections().count()), (1, 1, 0));
    table.apply_filter(|known, _| known.state == State::Established);
    assert_eq!(table.connections().count(), 1, "asked anew each time");
    let listing = |pids: &[u32]| {
        let holders = Some(Holders::new(pids.iter().map(|pid| holder(1, *pid)).collect()));
        Snapshot { holders, ..snapshot(20 * S, vec![listed(1, Kind::Full, State::Established, "127.0.0.1:1")]) }
    };
    table.reconcile(&listing(&[5, 6]), |_, _| false, |_| ());
    assert_eq!(table.len(), 1, "what is known stays");
    let held_by = |table: &mut Table, pid| {
        table.apply_filter(|_, holders| holders.iter().any(|holder| holder.pid == pid));
        table.connections().count()
    };
    assert_eq!((held_by(&mut table, 6), held_by(&mut table, 7)), (1, 0), "by any holder");
    let closes = becomes(1, 30 * S, State::TimeWait);
    table.ingest(&mut closes.clone());
    table.apply_filter(|known, _| known.state == State::TimeWait);
    assert_eq!((table.len(), table.connections().count()), (1, 1));
}

#[test]
fn all_that_is_listed_is_kept_where_all_is_looked_at() {
    let timewait = || timewait(13, State::TimeWait, 40 * S);
    let request = || ListedSocket { timeouts: 1, ..listed(14, Kind::Request, State::SynRecv, "127.0.0.1:1") };
    let full = || listed(1, Kind::Full, State::Established, "127.0.0.1:1");
    let rows = |table: Table| {
        let mut table = table;
        table.reconcile(&snapshot(20 * S, vec![full(), timewait(), request()]), |_, _| false, |_| ());
        (table.len(), table.half_open().len(), table.half_open_matching().len())
    };
    assert_eq!(rows(table(10)), (0, 0, 0));
    assert_eq!(rows(table(10).keeping_all()), (2, 1, 0), "those that are not wanted are not shown");
}

#[test]
fn a_port_that_is_chosen_later_is_learnt_from_a_listing() {
    let mut table = table(10);
    let mut begins = event(1, 1, 10 * S, enters(State::SynSent));
    begins.socket.local.set_port(0);
    table.ingest(&mut begins);
    let port = |table: &Table| table.all().next().unwrap().local().port();
    assert_eq!(port(&table), 0);
    let listed = listed(1, Kind::Full, State::SynSent, "127.0.0.1:4000");
    let known = listed.local.port();
    reconcile(&mut table, &snapshot(20 * S, vec![listed]));
    assert_eq!((table.len(), port(&table)), (1, known));
}

#[test]
fn a_request_is_wanted_where_its_listener_is() {
    let mut table = table(10);
    let at = |cookie, local| listed(cookie, Kind::Full, State::Listen, local);
    let holders = Some(Holders::new(vec![holder(1, 7), holder(2, 8)]));
    let listeners = vec![at(1, "0.0.0.0:80"), at(2, "127.0.0.1:81")];
    reconcile(&mut table, &Snapshot { holders, ..snapshot(10 * S, listeners) });
    let request = |cookie, local| listed(cookie, Kind::Request, State::SynRecv, local);
    let requests = vec![request(3, "127.0.0.1:80"), request(4, "127.0.0.1:81"), request(5, "127.0.0.1:82")];
    let of_7 = |socket: &ListedSocket, holders: &[Holder]| {
        assert_eq!(socket.owner.map(|owner| owner.pid), holders.first().map(|holder| holder.pid));
        holders.iter().any(|holder| holder.pid == 7)
    };
    table.poll(&snapshot(11 * S, requests), of_7, |_| ());
    let rows: Vec<_> = table.half_open().iter().map(|row| (row.local.port(), row.count)).collect();
    assert_eq!(rows, [(80, 1)]);
}

#[test]
fn what_left_while_a_listing_was_made_is_not_there() {
    let mut table = table(10);
    table.begin_listing();
    table.ingest(&mut here(event(1, 1, 10 * S, enters(State::Close))));
    table.ingest(&mut becomes(2, 10 * S, State::TimeWait));
    let sockets = [1, 2, 3].map(|cookie| listed(cookie, Kind::Full, State::Established, "127.0.0.1:1"));
    let reconciled = reconcile(&mut table, &snapshot(10 * S, sockets.to_vec()));
    assert_eq!(reconciled, Reconciled { added: 1, ..Reconciled::default() });
    assert_eq!(cookies(&table), [2, 3]);
    assert_eq!(table.connections().filter(|known| known.state == State::TimeWait).count(), 1);
    // What left earlier no longer counts.
    table.begin_listing();
    assert_eq!(reconcile(&mut table, &snapshot(12 * S, sockets[..1].to_vec())).added, 1);
}

#[test]
fn a_socket_that_comes_back_to_a_wanted_state_is_there() {
    let states = [State::Established, State::LastAck].into_iter().collect();
    let mut table = Table::new(10, states, true);
    table.ingest(&mut here(event(1, 1, 5 * S, enters(State::Established))));
    table.begin_listing();
    table.ingest(&mut here(event(1, 1, 6 * S, enters(State::CloseWait))));
    table.ingest(&mut here(event(1, 1, 7 * S, enters(State::LastAck))));
    let sockets = vec![listed(1, Kind::Full, State::LastAck, "127.0.0.1:1")];
    assert_eq!(reconcile(&mut table, &snapshot(10 * S, sockets)), Reconciled::default());
    assert_eq!(cookies(&table), [1]);
}

#[test]
fn a_listing_takes_in_what_is_wanted_and_drops_what_is_not_any_more() {
    let mut table = Table::new(10, [State::CloseWait].into_iter().collect(), true);
    table.ingest(&mut here(event(1, 1, 5 * S, enters(State::CloseWait))));
    table.ingest(&mut here(event(2, 2, 5 * S, enters(State::CloseWait))));
    let in_state = |cookie, state| listed(cookie, Kind::Full, state, "127.0.0.1:1");
    let sockets = vec![
        in_state(1, State::LastAck),
        in_state(2, State::CloseWait),
        in_state(3, State::CloseWait),
        in_state(4, State::CloseWait),
    ];
    let mut asked = Vec::new();
    let wanted = |socket: &ListedSocket, _: &[Holder]| {
        asked.extend(socket.cookie);
        socket.cookie != Some(4)
    };
    let reconciled = table.reconcile(&snapshot(10 * S, sockets), wanted, |_| ());
    assert_eq!(asked, [3, 4], "what is known is wanted");
    assert_eq!((cookies(&table), reconciled), (vec![2, 3], Reconciled { added: 1, removed: 1, changed: 0 }));
}

#[test]
fn an_event_that_comes_late_does_not_undo_what_a_listing_showed() {
    let mut table = table(10);
    let sockets = vec![listed(1, Kind::Full, State::CloseWait, "127.0.0.1:1")];
    reconcile(&mut table, &snapshot(10 * S, sockets));
    table.ingest(&mut here(event(1, 1, 8 * S, enters(State::Established))));
    table.ingest(&mut here(event(2, 2, 8 * S, enters(State::Established)))); // the event of its end was lost
    let known: Vec<_> = table.connections().map(|known| (known.cookie(), known.state)).collect();
    assert_eq!(known, [(Some(1), State::CloseWait)]);
    table.ingest(&mut event(3, 3, 8 * S, enters(State::Established)));
    assert_eq!(cookies(&table), [1, 3], "the listing did not look where this one is");
}

#[test]
fn what_was_listed_by_its_cookie_is_found_by_it_where_another_one_was_at_its_address() {
    let mut table = table(10);
    let address = 0xffff_8881_0000_0001;
    // A socket appears during a listing, before 5.12 without a cookie; the events of its end, and of the next one's
    // beginning, were lost.
    table.ingest(&mut here(event(address, 0, 10 * S - 1, enters(State::Established))));
    let later = ListedSocket { sk: None, ..listed(7, Kind::Full, State::SynSent, "127.0.0.2:2") };
    reconcile(&mut table, &snapshot(10 * S, vec![later]));
    assert_eq!(table.len(), 2, "of the first one nobody knows that it is gone");
    let mut established = here(event(address, 7, 11 * S, enters(State::Established)));
    (established.socket.local, established.socket.remote) = (later.local, later.remote);
    table.ingest(&mut established);
    let known: Vec<_> = table.connections().map(|known| (known.cookie(), known.state)).collect();
    assert_eq!(known, [(Some(7), State::Established)]);
}

#[test]
fn holders_are_owners() {
    let mut table = table(10);
    let seen = owned(event(1, 1, 5 * S, enters(State::Established)));
    table.ingest(&mut here(seen.clone()));
    let full = |cookie| listed(cookie, Kind::Full, State::Established, "127.0.0.1:1");
    let learnt = ListedSocket { owner: seen.owner.map(|owner| Owner { pid: 8, ..owner }), ..full(2) };
    let holders =
        vec![holder(1, 10), holder(1, 7), holder(2, 10), holder(3, 10), holder(3, 10), holder(4, 12), holder(4, 11)];
    let holders = Some(Holders::new(holders));
    let sockets = vec![full(1), learnt, full(3), full(4), full(5)];
    reconcile(&mut table, &Snapshot { holders, ..snapshot(10 * S, sockets) });
    let of = |table: &Table, cookie| {
        let known = table.connections().find(|known| known.cookie() == Some(cookie)).unwrap();
        let holders = table.holders_of(known).map(<[Holder]>::len);
        (known.owner().map(|owner| (owner.pid, owner.source)), holders)
    };
    assert_eq!(of(&table, 1), (Some((7, OwnerSource::Accept)), Some(2)), "of several the one that was seen");
    assert_eq!(of(&table, 2), (Some((10, OwnerSource::Holder)), Some(1)), "who was seen holds it no more");
    assert_eq!(of(&table, 3), (Some((10, OwnerSource::Holder)), Some(2)));
    assert_eq!(of(&table, 4), (Some((11, OwnerSource::Shared)), Some(2)), "the first of several");
    assert_eq!(of(&table, 5), (None, Some(0)));
    table.ingest(&mut here(event(3, 3, 11 * S, enters(State::CloseWait))));
    table.ingest(&mut here(event(6, 6, 11 * S, enters(State::Established))));
    table.ingest(&mut becomes(9, 11 * S, State::TimeWait));
    assert_eq!(of(&table, 3).1, Some(2), "as they were when they were listed");
    assert_eq!(of(&table, 6).1, None, "it came after that");
    assert_eq!(of(&table, 9).1, Some(0), "no process can hold it");
    let holders = Some(Holders::new(vec![holder(1, 20), holder(6, 20)]));
    table.update_listed(&Snapshot { holders, ..snapshot(12 * S, vec![full(1), full(6)]) });
    assert_eq!(of(&table, 1), (Some((20, OwnerSource::Holder)), Some(1)));
    assert_eq!(of(&table, 6), (Some((20, OwnerSource::Holder)), Some(1)), "a listing of suspects tells as well");
}

#[test]
fn half_open_connections_are_their_listeners_owners() {
    let mut table = table(20);
    let request = |cookie, local| listed(cookie, Kind::Request, State::SynRecv, local);
    let mut sockets = vec![
        ListedSocket { timeouts: 1, ..request(1, "10.0.0.1:80") },
        request(2, "10.0.0.1:80"),
        request(3, "10.0.0.2:80"),
        request(4, "10.0.0.1:81"),
        request(5, "[2001:db8::1]:81"),
        request(6, "[2001:db8::1]:80"),
        request(7, "10.0.0.1:82"),
        request(8, "10.0.0.1:83"),
        request(9, "10.0.0.1:84"),
        ListedSocket { netns: 8, ..request(10, "10.0.0.1:80") },
    ];
    let listeners = [
        ("10.0.0.1:80", Some(1)),
        ("0.0.0.0:80", Some(2)),
        ("[::]:81", Some(3)),
        // SO_REUSEPORT.
        ("0.0.0.0:82", Some(4)),
        ("0.0.0.0:82", Some(5)),
        ("0.0.0.0:83", Some(6)),
        ("0.0.0.0:83", Some(6)),
        ("0.0.0.0:84", Some(7)),
        ("0.0.0.0:84", None),
    ];
    let mut holders = Vec::new();
    for (cookie, (local, pid)) in (100..).zip(listeners) {
        sockets.push(listed(cookie, Kind::Full, State::Listen, local));
        holders.extend(pid.map(|pid| holder(cookie, pid)));
    }
    reconcile(&mut table, &Snapshot { holders: Some(Holders::new(holders)), ..snapshot(10 * S, sockets) });
    let rows: Vec<_> = table
        .half_open()
        .iter()
        .map(|row| (row.netns, row.local.to_string(), row.count, row.retransmitted, row.owner.map(|owner| owner.pid)))
        .collect();
    let row = |netns, local: &str, owner| (netns, local.to_owned(), 1, 0, owner);
    let expected = [
        (NETNS, "10.0.0.1:80".to_owned(), 2, 1, Some(1)), // an exact match before the wildcard
        row(NETNS, "10.0.0.1:81", Some(3)),               // an IPv6 listener accepts IPv4 too
        row(NETNS, "10.0.0.1:82", None),
        row(NETNS, "10.0.0.1:83", Some(6)),
        row(NETNS, "10.0.0.1:84", None),
        row(NETNS, "10.0.0.2:80", Some(2)),
        row(NETNS, "[2001:db8::1]:80", None), // an IPv4 listener does not accept IPv6
        row(NETNS, "[2001:db8::1]:81", Some(3)),
        row(8, "10.0.0.1:80", None),
    ];
    assert_eq!(rows, expected);
    poll(&mut table, &snapshot(11 * S, vec![]));
    assert_eq!(table.half_open(), [], "as the last poll found them");
}

/// A transition as the table completes it.
fn emitted(table: &mut Table, time_ns: u64, old: State, new: State) -> (Option<u32>, bool, Option<TimeInState>) {
    let EventKind::Transition(shown) = enters(new) else { unreachable!() };
    let mut event = here(event(1, 1, time_ns, EventKind::Transition(Transition { old, ..shown })));
    table.ingest(&mut event);
    let EventKind::Transition(transition) = event.what else { unreachable!() };
    (event.owner.map(|owner| owner.pid), event.after_gap, transition.time_in_old)
}

#[test]
fn an_event_gets_what_the_table_knows() {
    let at_least = |ns| Some(TimeInState { ns, source: TimeSource::LowerBound });
    let with = |state| {
        let mut table = table(10);
        let holders = Some(Holders::new(vec![holder(1, 10)]));
        let sockets = vec![listed(1, Kind::Full, state, "127.0.0.1:1")];
        reconcile(&mut table, &Snapshot { holders, ..snapshot(10 * S, sockets) });
        table
    };
    use State::{CloseWait, Established, LastAck};
    assert_eq!(emitted(&mut with(Established), 12 * S, Established, CloseWait), (Some(10), false, at_least(2 * S)));
    assert_eq!(emitted(&mut with(Established), 12 * S, CloseWait, LastAck), (Some(10), true, None), "one was lost");
    assert_eq!(
        emitted(&mut with(CloseWait), 9 * S + 1, Established, CloseWait),
        (Some(10), false, None),
        "known already"
    );
    // The start of the state was observed: the kernel side did not know it only because its own table was full.
    let mut table = table(10);
    table.ingest(&mut here(owned(event(1, 1, 5 * S, enters(Established)))));
    assert_eq!(emitted(&mut table, 6 * S, Established, CloseWait), (Some(7), false, None));
    assert_eq!(emitted(&mut table, 7 * S, LastAck, State::Close), (Some(7), true, None));
    // A new connection is none of those that existed before.
    let mut nameless = here(owned(event(1, 0, 5 * S, enters(Established))));
    table.ingest(&mut nameless);
    assert_eq!(emitted(&mut table, 7 * S, State::Close, State::SynSent), (None, false, None));
}

#[test]
fn what_is_sent_again_tells_the_port_that_was_chosen_after_its_beginning() {
    let mut table = table(10);
    let end = |text: &str| text.parse::<SocketAddr>().unwrap();
    let mut began = here(event(0xffff_8881_0000_0001, 0, 5 * S, enters(State::SynSent)));
    (began.socket.local, began.socket.remote) = (end("127.0.0.1:0"), end("127.0.0.1:80"));
    table.ingest(&mut began.clone());
    // Before 5.12 it has no cookie by which a listing without kernel addresses could find it.
    let listed = ListedSocket {
        sk: None,
        remote: began.socket.remote,
        ..listed(7, Kind::Full, State::SynSent, "127.0.0.1:4000")
    };
    let holders = Some(Holders::new(vec![holder(7, 10)]));
    let show = |table: &mut Table, ended_ns| {
        let snapshot = snapshot(ended_ns, vec![listed]);
        table.update_listed(&Snapshot { holders: holders.clone(), ..snapshot });
        let known = table.connections().next().unwrap();
        (table.len(), known.cookie(), known.local(), table.holders_of(known).map(<[Holder]>::len))
    };
    assert_eq!(show(&mut table, 6 * S), (1, None, end("127.0.0.1:0"), None));
    let what = Retransmit { state: State::SynSent, total_retrans: 1, timeouts: 1, srtt_us: None, failed: None };
    let mut again = Event { time_ns: 6 * S, what: EventKind::Retransmit(what), ..began };
    again.socket.local = listed.local;
    table.ingest(&mut again);
    assert_eq!(show(&mut table, 7 * S), (1, None, listed.local, Some(1)));
}

fn process(pid: u32) -> Option<Owner> {
    let command = Command::new([0; 16]);
    Some(Owner { pid, uid: 0, cgroup: 0, start: None, command, source: OwnerSource::Accept })
}

/// An event of the socket `sk` with these ends.
fn between(sk: u64, time_ns: u64, what: EventKind, netns: u32, ends: [&str; 2], pid: u32) -> Event {
    let [local, remote] = ends.map(|end| end.parse().unwrap());
    let event = event(sk, sk, time_ns, what);
    let socket = Socket { netns: Some(netns), local, remote, ..event.socket };
    Event { socket, owner: process(pid), ..event }
}

fn peer(table: &mut Table, mut event: Event) -> Option<(u32, PeerSource)> {
    table.ingest(&mut event);
    event.peer.map(|peer| (peer.owner.pid, peer.source))
}

#[test]
fn two_ends_on_this_host_name_each_other() {
    use PeerSource::{Earlier, Socket};
    let (client, server) = (["10.0.0.1:5000", "10.0.0.2:80"], ["10.0.0.2:80", "10.0.0.1:5000"]);
    let mut table = table(10).naming_peers();
    let unbound = ["10.0.0.1:0", "10.0.0.2:80"];
    assert_eq!(peer(&mut table, between(1, 100, enters(State::SynSent), 1, unbound, 7)), None, "no port yet");
    assert_eq!(peer(&mut table, between(1, 110, enters(State::Established), 1, client, 7)), None);
    let accepted = between(2, 120, enters(State::Established), 2, server, 8);
    assert_eq!(peer(&mut table, accepted), Some((7, Socket)), "in another namespace");
    assert_eq!(peer(&mut table, between(1, 130, EventKind::OwnerChanged, 1, client, 7)), Some((8, Socket)));
    assert_eq!(peer(&mut table, between(1, 140, enters(State::CloseWait), 1, client, 7)), Some((8, Socket)));
    assert_eq!(peer(&mut table, between(2, 150, enters(State::Close), 2, server, 8)), Some((7, Socket)));
    assert_eq!(peer(&mut table, between(1, 160, enters(State::LastAck), 1, client, 7)), Some((8, Earlier)));
    assert_eq!(peer(&mut table, between(1, 170, enters(State::Close), 1, client, 7)), Some((8, Earlier)));
    assert_eq!(peer(&mut table, between(1, 180, enters(State::SynSent), 1, client, 7)), None, "another life");
    let stray = between(0, 190, EventKind::ResetReceived(None), 2, server, 8);
    assert_eq!(peer(&mut table, stray), Some((7, Socket)), "no socket, but a packet with these ends");
    let without = self::table(10);
    assert!(without.peer_of(table.connections().next().unwrap()).is_none(), "nobody asked");
}

#[test]
fn a_peer_is_never_a_guess() {
    let (client, server) = (["10.0.0.1:5000", "10.0.0.2:80"], ["10.0.0.2:80", "10.0.0.1:5000"]);
    let mut table = table(10).naming_peers();
    peer(&mut table, between(1, 100, enters(State::Established), 1, client, 7));
    peer(&mut table, between(2, 110, enters(State::Established), 2, client, 8));
    let of_one = || between(3, 120, enters(State::Established), 3, server, 9);
    assert_eq!(peer(&mut table, of_one()), None, "two namespaces use the same addresses");
    peer(&mut table, between(2, 130, enters(State::Close), 2, client, 8));
    assert!(peer(&mut table, of_one()).is_some(), "only one is left");
    let loopback = |port: &'static str| [port, "127.0.0.1:80"];
    peer(&mut table, between(4, 140, enters(State::Established), 1, loopback("127.0.0.1:6000"), 7));
    let back = ["127.0.0.1:80", "127.0.0.1:6000"];
    assert_eq!(peer(&mut table, between(5, 150, enters(State::Established), 2, back, 9)), None, "other loopback");
    assert!(peer(&mut table, between(6, 160, enters(State::Established), 1, back, 9)).is_some());
    let translated = ["172.17.0.2:8080", "10.0.0.1:5000"];
    assert_eq!(peer(&mut table, between(7, 170, enters(State::Established), 4, translated, 9)), None, "NAT");
}
