//! Events put together to connections, and what follows from them.

use std::net::SocketAddr;

use tcptrace_common::record::socket_flag::{DONE, FROM_PACKET, OWNED};

use super::*;
use crate::{
    analysis::story::connection::{Bytes, Listed, Role, Side, Story},
    cli::parse::StoryFilter,
    model::{
        close_reason::{Abort, CloseReason},
        event::{Command, Event, EventKind, Owner, OwnerSource, Retransmit, Socket, StateSource, Transition},
        snapshot::Snapshot,
        socket::{ConnectionInfo, Keepalive, Kind, ListedSocket},
        state::State::{
            self, Close, CloseWait, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent, TimeWait,
        },
    },
};

const CLIENT: &str = "10.0.0.1:4000";
const SERVER: &str = "10.0.0.2:80";
const MS: u64 = 1_000_000;

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A socket's name and ends; its cookie is its `sk`, its namespace 1.
fn socket(sk: u64, local: &str, remote: &str) -> Socket {
    Socket {
        sk: (sk != 0).then_some(sk),
        cookie: (sk != 0).then_some(sk),
        netns: Some(1),
        ipv6: false,
        state: Established,
        local: end(local),
        remote: end(remote),
        flags: 0,
    }
}

fn owner(pid: u32) -> Owner {
    Owner { pid, uid: 0, cgroup: 0, start: None, command: Command::new([0; 16]), source: OwnerSource::Io }
}

/// What happened to a socket at a time in ms; its owner's PID is its `sk`.
fn event(ms: u64, socket: Socket, what: EventKind) -> Event {
    let state = match what {
        EventKind::Transition(transition) => transition.old,
        _ => socket.state,
    };
    let owner = socket.sk.map(|sk| owner(sk as u32));
    Event { cpu: Some(0), owner, ..Event::new(ms * MS, Socket { state, ..socket }, what) }
}

fn enters(old: State, new: State) -> EventKind {
    ends(old, new, if new == TimeWait { Some(CloseReason::Normal) } else { None })
}

fn ends(old: State, new: State, ending: Option<CloseReason>) -> EventKind {
    EventKind::Transition(Transition {
        source: if new == TimeWait { StateSource::Inferred } else { StateSource::Observed },
        ending,
        ..Transition::new(old, new)
    })
}

/// A packet that no socket of the connection's own answered.
fn packet(sk: u64, state: State, local: &str, remote: &str) -> Socket {
    Socket { cookie: None, netns: None, state, flags: FROM_PACKET, ..socket(sk, local, remote) }
}

const RST: EventKind = EventKind::ResetSent { reason: None, facts: None };

/// Stories of all connections of the client and the server.
fn stories() -> Stories {
    Stories::new(StoryFilter::Port(80), Limits::default())
}

fn told(events: &[Event]) -> Vec<Story> {
    let mut stories = stories();
    for event in events {
        stories.ingest(event);
    }
    rest(&mut stories)
}

fn rest(stories: &mut Stories) -> Vec<Story> {
    std::iter::from_fn(|| stories.take_rest(0)).collect()
}

fn over(stories: &mut Stories, ms: u64) -> Vec<Story> {
    std::iter::from_fn(|| stories.take_over(ms * MS)).collect()
}

/// How many events each side has; `-` for one that was not seen.
fn shape(stories: &[Story]) -> Vec<String> {
    let side = |side: &Option<Side>| side.as_ref().map_or_else(|| "-".to_owned(), |side| side.events.len().to_string());
    stories.iter().map(|story| format!("{} {}", side(&story.sides[0]), side(&story.sides[1]))).collect()
}

/// A connection with both ends here from its beginning to ESTABLISHED, in three ms.
fn opens(ms: u64, client: u64, server: u64) -> Vec<Event> {
    vec![
        event(ms, socket(client, "10.0.0.1:0", SERVER), enters(Close, SynSent)),
        event(ms + 1, socket(client, CLIENT, SERVER), enters(SynSent, Established)),
        event(ms + 2, socket(server, SERVER, CLIENT), enters(Listen, SynRecv)),
        event(ms + 3, socket(server, SERVER, CLIENT), enters(SynRecv, Established)),
    ]
}

/// Its normal end, the client first, in three ms.
fn closes(ms: u64, client: u64, server: u64) -> Vec<Event> {
    vec![
        event(ms, socket(client, CLIENT, SERVER), enters(Established, FinWait1)),
        event(ms, socket(server, SERVER, CLIENT), enters(Established, CloseWait)),
        event(ms + 1, socket(server, SERVER, CLIENT), enters(CloseWait, LastAck)),
        event(ms + 2, socket(client, CLIENT, SERVER), enters(FinWait1, FinWait2)),
        event(ms + 2, socket(client, CLIENT, SERVER), enters(FinWait2, TimeWait)),
        event(ms + 3, socket(server, SERVER, CLIENT), ends(LastAck, Close, Some(CloseReason::Normal))),
    ]
}

#[test]
fn both_ends_make_one_story_with_the_client_on_the_left() {
    let mut stories = stories();
    for event in opens(100, 1, 2).iter().chain(&closes(200, 1, 2)) {
        stories.ingest(event);
    }
    assert!(over(&mut stories, 400).is_empty(), "the other end may still tell something");
    let told = over(&mut stories, 403);
    assert_eq!(shape(&told), ["5 5"]);
    let story = &told[0];
    assert_eq!(story.ends(), [end(CLIENT), end(SERVER)]);
    assert!(story.is_over() && story.resets().is_empty());
    assert_eq!(story.closed_first(), Some(Closed { place: 0, owner: Some(owner(1)), abort: None }));
    assert!(rest(&mut stories).is_empty());
    assert!(stories.is_clear(), "nothing stays behind");
}

#[test]
fn a_story_waits_for_its_other_side() {
    let mut stories = stories();
    for event in opens(100, 1, 2) {
        stories.ingest(&event);
    }
    stories.ingest(&event(200, socket(1, CLIENT, SERVER), ends(Established, Close, Some(CloseReason::TimedOut))));
    assert!(over(&mut stories, 100_000).is_empty());
    stories.ingest(&event(200_000, socket(2, SERVER, CLIENT), ends(Established, Close, Some(CloseReason::TimedOut))));
    let told = over(&mut stories, 200_200);
    assert_eq!(shape(&told), ["3 3"]);
    assert_eq!(told[0].closed_first(), None, "nobody closed it");
}

#[test]
fn events_of_the_other_end_come_first_or_have_another_namespace() {
    // The client's first event waited for its port, and a RST without a socket came before it.
    let refused = told(&[
        event(101, packet(0, Close, SERVER, CLIENT), RST),
        event(100, socket(1, CLIENT, SERVER), enters(Close, SynSent)),
        event(102, socket(1, CLIENT, SERVER), EventKind::ResetReceived(None)),
        event(103, socket(1, CLIENT, SERVER), ends(SynSent, Close, Some(CloseReason::Refused))),
    ]);
    assert_eq!(shape(&refused), ["3 1"]);
    let resets = refused[0].resets();
    assert_eq!((resets.len(), resets[0].from, resets[0].sent, resets[0].received), (1, 1, 1, 1));
    assert_eq!(resets[0].sender, ResetSender::NoSocket);
    assert_eq!(refused[0].closed_first(), None);

    let elsewhere = |mut event: Event| {
        event.socket.netns = event.socket.sk.map(|sk| sk as u32);
        event
    };
    let opened: Vec<_> = opens(100, 1, 2).into_iter().map(elsewhere).collect();
    assert_eq!(shape(&told(&opened)), ["2 2"], "over a veth pair, say");
}

#[test]
fn loopback_connections_of_two_namespaces_are_two() {
    let (client, server) = ("127.0.0.1:4000", "127.0.0.1:80");
    let here = event(100, socket(1, client, server), enters(SynSent, Established));
    let mut there = event(101, socket(2, server, client), enters(SynRecv, Established));
    there.socket.netns = Some(2);
    assert_eq!(shape(&told(&[here, there])), ["1 -", "1 -"]);
}

#[test]
fn a_connection_that_comes_in_without_addresses_is_joined_by_its_socket() {
    let mut request = socket(2, "0.0.0.0:80", "0.0.0.0:0");
    request.cookie = Some(77); // the listener's
    let mut events = opens(100, 1, 2);
    events[2] = event(102, request, enters(Listen, SynRecv));
    let told = told(&events);
    assert_eq!(shape(&told), ["2 2"]);
    assert_eq!(told[0].sides[1].as_ref().unwrap().cookie, Some(2), "its own, not the listener's");
}

#[test]
fn syn_acks_sent_again_belong_to_the_child() {
    let again = |ms, count| event(ms, packet(9, SynRecv, SERVER, CLIENT), EventKind::SynAckRetransmit { count });
    let mut events = opens(100, 1, 2);
    events.splice(1..1, [again(100, 1), again(100, 2)]);
    let both = told(&events);
    assert_eq!(shape(&both), ["2 4"]);
    let server = both[0].sides[1].as_ref().unwrap();
    assert_eq!((server.sk, server.retransmits(), server.role()), (Some(2), 2, Role::Passive));
    let half_open = told(&[again(100, 1)]);
    assert_eq!(shape(&half_open), ["- 1"]);
    assert!(!half_open[0].is_over());
    assert_eq!(half_open[0].sides[1].as_ref().unwrap().cookie, None);
}

#[test]
fn ends_that_are_used_again_are_another_connection() {
    let mut events = [opens(100, 1, 2), closes(110, 1, 2)].concat();
    // The same memory for the sockets, too; and soon.
    events.extend(opens(120, 1, 2).into_iter().map(|mut event| {
        event.socket.cookie = event.socket.cookie.map(|cookie| cookie + 10);
        event
    }));
    events.push(event(121, packet(9, SynRecv, SERVER, CLIENT), EventKind::SynAckRetransmit { count: 1 }));
    let told = told(&events);
    assert_eq!(shape(&told), ["5 5", "2 3"]);
    assert!(told[0].is_over() && !told[1].is_over());
    let cookies: Vec<_> = told.iter().flat_map(|story| story.seen().map(|(_, side)| side.cookie)).collect();
    assert_eq!(cookies, [Some(1), Some(2), Some(11), Some(12)]);
}

#[test]
fn a_side_from_before_the_start_was_there_when_the_other_ended() {
    let (client, server) = (socket(1, CLIENT, SERVER), socket(2, SERVER, CLIENT));
    let told = told(&[
        event(100, client, ends(Established, Close, Some(CloseReason::Aborted(Abort::LingerZero)))),
        event(101, server, EventKind::ResetReceived(None)),
        event(101, server, ends(Established, Close, Some(CloseReason::ResetByPeer(104)))),
        event(102, Socket { state: Close, ..client }, RST),
    ]);
    assert_eq!(shape(&told), ["2 2"]);
}

#[test]
fn each_refused_attempt_is_a_story() {
    let attempt = |ms, sk| {
        [
            event(ms, socket(sk, CLIENT, SERVER), enters(Close, SynSent)),
            event(ms + 1, packet(0, Close, SERVER, CLIENT), RST),
            event(ms + 2, socket(sk, CLIENT, SERVER), EventKind::ResetReceived(None)),
            event(ms + 2, socket(sk, CLIENT, SERVER), ends(SynSent, Close, Some(CloseReason::Refused))),
        ]
    };
    assert_eq!(shape(&told(&[attempt(100, 1), attempt(110, 2)].concat())), ["3 1", "3 1"]);
    let from_afar = [100, 200].map(|ms| event(ms, packet(0, Close, SERVER, CLIENT), RST));
    assert_eq!(shape(&told(&from_afar)), ["- 1", "- 1"], "somebody else's attempts");
}

#[test]
fn a_socket_whose_end_was_lost_is_over_when_another_has_its_memory() {
    let mut stories = stories();
    for event in opens(100, 1, 2).into_iter().take(2) {
        stories.ingest(&event);
    }
    let other = socket(1, "10.0.0.1:4001", SERVER);
    stories.ingest(&event(500, Socket { cookie: Some(5), ..other }, EventKind::ResetReceived(None)));
    let told = over(&mut stories, 700);
    assert_eq!(shape(&told), ["2 -"]);
    assert_eq!(told[0].seen().next().unwrap().1.ending(), None);
    assert_eq!(shape(&rest(&mut stories)), ["1 -"]);
}

#[test]
fn a_connection_with_itself_has_one_side() {
    let socket = socket(1, SERVER, SERVER);
    let told = told(&[
        event(100, socket, enters(Close, SynSent)),
        event(101, socket, enters(SynSent, SynRecv)),
        event(102, socket, enters(SynRecv, Established)),
        event(103, socket, EventKind::ResetReceived(None)),
    ]);
    assert_eq!(shape(&told), ["4 -"]);
    assert!(told[0].is_with_itself());
    assert_eq!(told[0].resets()[0].from, 0);
}

#[test]
fn listeners_and_what_is_long_over_are_no_stories() {
    let listener = socket(9, "0.0.0.0:80", "0.0.0.0:0");
    let events = [
        event(100, listener, enters(Close, Listen)),
        event(101, Socket { state: Listen, ..listener }, EventKind::OwnerChanged),
        event(102, listener, ends(Listen, Close, Some(CloseReason::Normal))),
        event(103, socket(1, CLIENT, SERVER), enters(TimeWait, Close)),
        event(104, Socket { state: Close, ..socket(1, CLIENT, SERVER) }, EventKind::OwnerChanged),
    ];
    assert!(told(&events).is_empty());
}

#[test]
fn the_sender_of_a_rst_is_told_by_what_was_seen() {
    let server = |flags| Socket { flags, state: Close, ..socket(2, SERVER, CLIENT) };
    let aborted = Some(CloseReason::Aborted(Abort::UnreadData));
    let mut events = opens(100, 1, 2);
    events.extend([
        event(110, socket(2, SERVER, CLIENT), ends(Established, Close, aborted)),
        event(111, socket(1, CLIENT, SERVER), EventKind::ResetReceived(None)),
        event(111, socket(1, CLIENT, SERVER), ends(Established, Close, Some(CloseReason::ResetByPeer(104)))),
    ]);
    let before = told(&events);
    assert_eq!(before[0].resets()[0].sender, ResetSender::NotSeen, "its end is here, its RST was lost");
    events.push(event(112, server(OWNED), EventKind::ResetSent { reason: Some(11), facts: None }));
    let after = told(&events);
    let want = Reset {
        from: 1,
        time_ns: 111 * MS,
        sent: 1,
        received: 1,
        sender: ResetSender::Process(Some(owner(2))),
        reason: Some(11),
    };
    assert_eq!(after[0].resets(), [want]);
    let closed = Closed { place: 1, owner: Some(owner(2)), abort: Some(Abort::UnreadData) };
    assert_eq!(after[0].closed_first(), Some(closed));

    events[4] =
        event(113, socket(2, SERVER, CLIENT), ends(Established, Close, Some(CloseReason::Aborted(Abort::Destroyed))));
    let destroyed = told(&events);
    assert_eq!(destroyed[0].resets()[0].sender, ResetSender::Destroyer(Some(owner(2))), "not its process");

    let alone = |what| told(&[event(100, socket(1, CLIENT, SERVER), what)])[0].resets()[0];
    assert_eq!(alone(EventKind::ResetReceived(None)).sender, ResetSender::Peer);
    assert_eq!(alone(RST).sender, ResetSender::Socket(Some(owner(1))), "in answer to a segment");
    let loopback = event(100, socket(1, "127.0.0.1:4000", "127.0.0.1:80"), EventKind::ResetReceived(None));
    assert_eq!(told(&[loopback])[0].resets()[0].sender, ResetSender::NotSeen, "it is this host's");
    let answered = |sk, state| told(&[event(100, packet(sk, state, SERVER, CLIENT), RST)])[0].resets()[0].sender;
    assert_eq!(answered(0, Close), ResetSender::NoSocket);
    assert_eq!(answered(0, TimeWait), ResetSender::TimeWait);
    assert_eq!(answered(9, Listen), ResetSender::Listener(Some(owner(9))));
}

#[test]
fn who_closed_first_is_told_from_what_was_seen_too_late_as_well() {
    let closed = |old, new| {
        let story = told(&[event(100, socket(1, CLIENT, SERVER), enters(old, new))]);
        story[0].closed_first().map(|closed| closed.place)
    };
    assert_eq!(closed(Established, CloseWait), Some(1));
    assert_eq!(closed(CloseWait, LastAck), Some(1));
    assert_eq!(closed(FinWait2, TimeWait), Some(0));
    assert_eq!(closed(SynSent, Established), None);
}

#[test]
fn what_is_no_data_is_not_counted_as_data() {
    let bytes = |begins: Option<EventKind>, flags, what: EventKind| {
        let socket = socket(1, CLIENT, SERVER);
        let events = begins.map(|what| event(99, socket, what)).into_iter().chain([event(100, socket, what)]);
        let told = told(&events.collect::<Vec<_>>());
        let (_, side) = told[0].seen().next().unwrap();
        let EventKind::Transition(transition) = what else { unreachable!() };
        let transition = Transition { bytes_acked: 11, bytes_received: 21, ..transition };
        let bytes = side.bytes(&Socket { flags, ..socket }, &transition);
        (bytes.sent, bytes.sent_is_exact, bytes.received)
    };
    let (active, passive) = (Some(enters(Close, SynSent)), Some(enters(Listen, SynRecv)));
    assert_eq!(bytes(active, 0, enters(Established, FinWait1)), (10, true, 21), "the SYN");
    assert_eq!(bytes(passive, 0, enters(Established, FinWait1)), (11, true, 21));
    assert_eq!(bytes(passive, DONE, enters(Established, CloseWait)), (11, true, 20), "the peer's FIN");
    assert_eq!(bytes(active, DONE, enters(FinWait2, TimeWait)), (9, true, 20), "SYN and both FINs");
    assert_eq!(bytes(passive, DONE, ends(LastAck, Close, Some(CloseReason::Normal))), (10, true, 20));
    assert_eq!(
        bytes(passive, DONE, ends(LastAck, Close, Some(CloseReason::TimedOut))),
        (11, true, 20),
        "no ACK of the FIN"
    );
    assert_eq!(bytes(None, 0, enters(Established, FinWait1)), (11, false, 21), "a SYN may be among them");
}

#[test]
fn an_open_side_has_moved_what_a_listing_shows_and_lives_on() {
    let (state, info) =
        (Established, ConnectionInfo { bytes_acked: 11, bytes_received: 20, total_retrans: 3, ..Default::default() });
    let moved = |end: &[Event], listed: Option<Listed>| {
        let mut stories = stories();
        opens(100, 1, 2).iter().chain(end).for_each(|event| stories.ingest(event));
        let story = stories.take_rest(5000 * MS).unwrap();
        let side = Side { listed, ..story.sides[0].clone().unwrap() };
        (side.moved(story.until_ns), (side.lived_until_ns(story.until_ns) - side.first_ns) / MS, side.retransmits())
    };
    let bytes = |sent, received| Some(Bytes { sent, sent_is_exact: true, received });
    let listed = |state, at_ms| Some(Listed { at_ns: at_ms * MS, state, connection: Some(info) });
    assert_eq!(moved(&[], None), (None, 4900, 0), "unknown, and not 0");
    assert_eq!(moved(&[], listed(state, 5001)), (bytes(10, 20), 4901, 3), "the SYN");
    assert_eq!(moved(&[], listed(CloseWait, 5001)), (bytes(10, 19), 4901, 3), "the peer's FIN");
    assert_eq!(moved(&[], listed(FinWait2, 5001)), (bytes(9, 20), 4901, 3), "its own FIN");
    assert_eq!(moved(&[], listed(state, 4000)).0, None, "it may have moved more since");
    let nothing = Some(Listed { at_ns: 5001 * MS, state, connection: None });
    assert_eq!(moved(&[], nothing).0, None);
    let over = moved(&closes(200, 1, 2), None);
    assert_eq!((over.0.is_some(), over.1), (true, 102), "an end that was seen is exact");
    let connecting = event(100, socket(1, CLIENT, SERVER), enters(Close, SynSent));
    let mut stories = stories();
    stories.ingest(&connecting);
    let story = stories.take_rest(5000 * MS).unwrap();
    assert_eq!(story.sides[0].as_ref().unwrap().moved(story.until_ns), bytes(0, 0), "nothing can come or go yet");
}

#[test]
fn what_was_not_sent_is_not_among_the_retransmits() {
    let again = |total_retrans, failed| {
        let what =
            EventKind::Retransmit(Retransmit { state: Established, total_retrans, timeouts: 0, srtt_us: None, failed });
        event(110, socket(1, CLIENT, SERVER), what)
    };
    let told =
        |events: &[Event]| told(&[&opens(100, 1, 2), events].concat())[0].sides[0].as_ref().unwrap().retransmits();
    assert_eq!(told(&[again(1, None), again(2, None)]), 2);
    assert_eq!(told(&[again(1, None), again(2, Some(libc::EHOSTUNREACH))]), 1);
    assert_eq!(told(&[again(1, None), again(1, Some(libc::EBUSY))]), 1, "the kernel has not counted it");
}

#[test]
fn filters_ask_for_one_of_the_ends_or_a_cookie() {
    let told = |filter| {
        let mut stories = Stories::new(filter, Limits::default());
        opens(100, 1, 2).iter().for_each(|event| stories.ingest(event));
        rest(&mut stories).len()
    };
    let cases = [
        (StoryFilter::Address(end(CLIENT).ip()), 1),
        (StoryFilter::Address("::ffff:10.0.0.2".parse().unwrap()), 1),
        (StoryFilter::Address("10.0.0.3".parse().unwrap()), 0),
        (StoryFilter::End(end(SERVER)), 1),
        (StoryFilter::End(end("10.0.0.1:80")), 0),
        (StoryFilter::Port(4000), 1),
        (StoryFilter::Port(81), 0),
        (StoryFilter::Cookie(2), 1),
        (StoryFilter::Cookie(3), 0),
    ];
    for (filter, count) in cases {
        assert_eq!(told(filter), count, "{filter:?}");
    }
}

#[test]
fn what_came_first_makes_room_and_the_one_asked_for_stays() {
    let limits = Limits { sides: 3, events: 5, all_events: 100 };
    let mut stories = Stories::new(StoryFilter::Cookie(1), limits);
    opens(100, 1, 2).iter().for_each(|event| stories.ingest(event));
    for sk in 10..20 {
        let remote = format!("10.0.0.9:{sk}");
        stories.ingest(&event(sk * 100, socket(sk, CLIENT, &remote), enters(SynSent, Established)));
    }
    assert_eq!(stories.evicted(), 9);
    for _ in 0..10 {
        stories.ingest(&event(5000, socket(1, CLIENT, SERVER), EventKind::ResetReceived(None)));
    }
    stories.ingest(&event(5001, socket(1, CLIENT, SERVER), enters(Established, FinWait1)));
    let told = rest(&mut stories);
    assert_eq!(shape(&told), ["6 2"]);
    assert_eq!(told[0].sides[0].as_ref().unwrap().omitted, 7, "the transition was kept");

    let mut stories = Stories::new(StoryFilter::Port(80), Limits { all_events: 2, ..limits });
    opens(100, 1, 2).iter().for_each(|event| stories.ingest(event));
    assert!(stories.evicted() > 0);
}

#[test]
fn what_had_no_cookie_is_found_by_its_ends_in_a_listing_without_addresses() {
    let connection = Some(ConnectionInfo { bytes_acked: 11, bytes_received: 20, ..Default::default() });
    let listed = |netns| ListedSocket {
        cookie: Some(77),
        handle: 1,
        keepalive: Keepalive::Off,
        uid: Some(0),
        connection,
        ..ListedSocket::new(Kind::Full, Established, netns, end(CLIENT), end(SERVER))
    };
    let found = |netns| {
        let mut stories = stories();
        for mut event in opens(100, 1, 2) {
            event.socket.cookie = None; // before 5.12
            stories.ingest(&event);
        }
        stories.listed(&Snapshot { ended_ns: 200 * MS, sockets: vec![listed(netns)], ..Snapshot::default() });
        let sides = stories.take_rest(5000 * MS).unwrap().sides;
        sides.map(|side| side.unwrap().listed.is_some())
    };
    assert_eq!(found(1), [true, false]);
    assert_eq!(found(2), [false, false], "of another namespace");
}
