use std::net::Ipv4Addr;

use super::*;
use crate::event::{Command, OwnerSource, Socket, Transition};

fn event(sk: u64, cookie: u64, time_ns: u64, what: What) -> Event {
    let end = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
    Event {
        time_ns,
        cpu: Some(0),
        socket: Socket {
            sk: (sk != 0).then_some(sk),
            cookie: (cookie != 0).then_some(cookie),
            netns: None,
            ipv6: false,
            state: State::Close,
            local: end,
            remote: end,
            flags: 0,
        },
        owner: None,
        after_gap: false,
        what,
    }
}

fn enters(new: State) -> What {
    What::Transition(Transition {
        old: State::Close,
        new,
        source: StateSource::Observed,
        time_in_old: None,
        handshake_rtt_ns: None,
        srtt_us: None,
        total_retrans: 0,
        bytes_acked: 0,
        bytes_received: 0,
        ending: None,
        expires_in_ns: None,
    })
}

fn owned(event: Event) -> Event {
    let command = Command::new([0; 16]);
    Event { owner: Some(Owner { pid: 7, uid: 0, cgroup: 0, command, source: OwnerSource::Accept }), ..event }
}

fn table(max: usize) -> Table {
    Table::new(max, StateSet::default(), true)
}

fn cookies(table: &Table) -> Vec<u64> {
    let mut cookies: Vec<_> = table.connections().filter_map(|connection| connection.cookie).collect();
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
    table.ingest(&mut event(1, 11, 140, What::ResetReceived));
    table.ingest(&mut event(2, 12, 140, What::ResetReceived));
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
    let What::Transition(shown) = enters(State::TimeWait) else { unreachable!() };
    table.ingest(&mut event(1, 11, 110, What::Transition(Transition { source: StateSource::Inferred, ..shown })));
    let mini = table.connections().next().unwrap();
    assert_eq!((mini.state, mini.since_ns, mini.expires_ns), (State::TimeWait, 110, Some(110 + TIME_WAIT_NS)));
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
    table.ingest(&mut owned(event(1, 12, 200, What::OwnerChanged)));
    assert_eq!(cookies(&table), [11]);
    table.ingest(&mut event(1, 12, 300, enters(State::Established)));
    let connection = table.connections().next().unwrap();
    assert_eq!((connection.cookie, connection.first_seen_ns, connection.owner), (Some(12), 300, None));
    table.ingest(&mut owned(event(1, 11, 310, What::OwnerChanged)));
    assert_eq!(table.connections().next().unwrap().owner, None, "the owner of another life");
    table.ingest(&mut owned(event(1, 12, 320, What::OwnerChanged)));
    assert_eq!(table.connections().next().unwrap().owner.unwrap().pid, 7);
}

#[test]
fn a_cookie_may_come_late() {
    let mut table = table(10);
    table.ingest(&mut event(1, 0, 100, enters(State::SynSent)));
    table.ingest(&mut event(1, 11, 200, enters(State::Established)));
    let connection = table.connections().next().unwrap();
    assert_eq!((connection.cookie, connection.first_seen_ns), (Some(11), 100));
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
    assert!(table.is_empty() && table.arrivals.len() <= 64, "{}", table.arrivals.len());
}
