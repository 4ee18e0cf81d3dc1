//! Stories of connections, as `tcptrace story` prints them: of recorded lives that have one end here, and of some that
//! have both.

use std::time::Duration;

use serde_json::Value;
use tcptrace::{
    model::{decode::split, snapshot::Snapshot, socket::Kind, state::State},
    pipeline::settings::SessionSettings,
};
use tcptrace_common::{
    counters::Counters,
    record::{
        owner_source,
        socket_flag::{ATTACHED, DEAD, DONE, FROM_PACKET, LINGER, LINGER_ZERO, OWNED, SHUTDOWN_RECEIVE},
    },
    state::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, NEW_SYN_RECV, SYN_SENT},
};

use crate::{
    compare::compare,
    listings::listed,
    stories::{self, BOTH_SHUT, CLOSING, Story, accepted, connected, curl, web},
    support::{
        records::{Life, START_NS, Stream, known_by, process},
        replay::{ladder, output, session, settings, stories_json},
    },
};

/// Stories with both ends here, and the port that is asked for.
const BOTH_HERE: &[(&str, Story, u16)] = &[
    ("both_close", both_close, 8080),
    ("both_refused", both_refused, 8081),
    ("both_linger", both_linger, 8082),
    ("both_unread", both_unread, 8083),
    ("both_retransmit", both_retransmit, 8084),
];

/// Of the stories with one end, and the port that is asked for.
const ONE_HERE: &[(&str, u16)] = &[
    ("client_life", 443),
    ("failed_connects", 443),
    ("half_open", 8443),
    ("hostile_names", 443),
    ("ipv6", 443),
    ("linger_abort", 443),
    ("no_socket", 81),
    ("older_socket", 5432),
    ("orphan_fin_wait2", 8080),
    ("owner_change", 80),
    ("reset_by_peer", 5432),
    ("server_life", 80),
    ("timed_out", 22),
];

fn both(stream: &mut Stream, port: u16) -> (Life, Life) {
    let (client, server) = ("10.1.0.2:40200".to_owned(), format!("10.1.0.1:{port}"));
    let mut left = connected(stream, &client, &server, curl());
    stream.wait_us(9);
    let right = accepted(stream, &server, &client);
    stream.wait(Duration::from_millis(20));
    left.facts.bytes_acked = 1;
    (left, right)
}

fn both_close(stream: &mut Stream) {
    let (mut client, mut server) = both(stream, 8080);
    (client.facts.bytes_acked, client.facts.bytes_received) = (101, 2000);
    client.flags(CLOSING).enters(stream, FIN_WAIT1);
    stream.wait_us(5);
    (server.facts.bytes_acked, server.facts.bytes_received) = (2000, 101);
    server.flags(ATTACHED | DONE | SHUTDOWN_RECEIVE).enters(stream, CLOSE_WAIT);
    stream.wait(Duration::from_millis(3));
    server.owner = process(801, b"worker", owner_source::CLOSE);
    server.flags(CLOSING | DONE).enters(stream, LAST_ACK);
    stream.wait_us(12);
    client.facts.bytes_acked = 102;
    client.flags(DEAD | BOTH_SHUT).enters(stream, FIN_WAIT2);
    stream.wait_us(2);
    client.facts.bytes_received = 2001;
    client.flags(DEAD | DONE | BOTH_SHUT).enters(stream, CLOSE);
    stream.wait_us(7);
    server.facts.bytes_acked = 2001;
    server.flags(DEAD | DONE | BOTH_SHUT).enters(stream, CLOSE);
}

fn both_refused(stream: &mut Stream) {
    let mut client = Life::in_state(CLOSE, "10.1.0.2:40200", "10.1.0.1:8081").owned_by(curl());
    client.flags(OWNED | ATTACHED).enters(stream, SYN_SENT);
    stream.wait_us(15);
    let mut packet = Life::in_state(CLOSE, "10.1.0.1:8081", "10.1.0.2:40200");
    (packet.header.sk, packet.header.cookie, packet.socket.netns) = (0, 0, 0);
    packet.flags(FROM_PACKET).sends_reset(stream, Some(3));
    stream.wait_us(6);
    client.flags(ATTACHED).gets_reset(stream);
    client.facts.err = libc::ECONNREFUSED;
    client.enters(stream, CLOSE);
}

fn both_linger(stream: &mut Stream) {
    let (mut client, mut server) = both(stream, 8082);
    client.flags(CLOSING | LINGER | LINGER_ZERO).enters(stream, CLOSE);
    stream.wait_us(8);
    server.flags(ATTACHED).gets_reset(stream);
    server.facts.err = libc::ECONNRESET;
    server.enters(stream, CLOSE);
    stream.wait_us(4);
    client.sends_reset(stream, Some(7));
}

fn both_unread(stream: &mut Stream) {
    let (mut client, mut server) = both(stream, 8083);
    (server.facts.bytes_received, server.facts.receive_queue) = (48, 48);
    server.flags(CLOSING).enters(stream, CLOSE);
    stream.wait_us(3);
    server.sends_reset(stream, Some(7));
    // It is lost; the answer to the next segment is not.
    stream.wait(Duration::from_millis(210));
    client.retransmits(stream, 0);
    stream.wait_us(9);
    let mut packet = Life::in_state(CLOSE, "10.1.0.1:8083", "10.1.0.2:40200");
    (packet.header.sk, packet.header.cookie, packet.socket.netns) = (0, 0, 0);
    packet.flags(FROM_PACKET).sends_reset(stream, Some(3));
    stream.wait_us(9);
    client.gets_reset(stream);
    client.facts.err = libc::ECONNRESET;
    client.enters(stream, CLOSE);
}

/// The first SYN-ACK is lost, later the server's data, and nobody closes.
fn both_retransmit(stream: &mut Stream) {
    let (ends, swapped) = (("10.1.0.2:40200", "10.1.0.1:8084"), ("10.1.0.1:8084", "10.1.0.2:40200"));
    let mut client = Life::in_state(CLOSE, "10.1.0.2:0", ends.1).owned_by(curl());
    client.flags(OWNED | ATTACHED).enters(stream, SYN_SENT);
    // The port was chosen meanwhile.
    let known = Life::in_state(SYN_SENT, ends.0, ends.1);
    client.socket.local_port = known.socket.local_port;
    stream.wait(Duration::from_secs(1));
    Life::in_state(NEW_SYN_RECV, swapped.0, swapped.1).owned_by(web()).flags(FROM_PACKET).retransmits_synack(stream, 1);
    stream.wait_us(20);
    client.retransmits(stream, 0);
    stream.wait_us(10);
    client.srtt_us(25).enters(stream, ESTABLISHED);
    let mut server = accepted(stream, swapped.0, swapped.1);
    for (timeouts, err) in [(0, 0), (1, 0), (2, -libc::EHOSTUNREACH)] {
        stream.wait(Duration::from_millis(200 << timeouts));
        server.timeouts = timeouts;
        server.retransmits(stream, err);
    }
    server.is_taken_by(stream, known_by(owner_source::IO, web()));
}

/// What is printed of a story that is over a second after its last event.
fn told(story: Story, port: u16, color: bool, lost: u64) -> String {
    let mut stream = Stream::new();
    story(&mut stream);
    let mut session = session(settings(), ladder(port, color));
    for record in split(&stream.bytes) {
        session.ingest(record.unwrap());
    }
    let now_ns = stream.now_ns + 1_000_000_000;
    session.tick(now_ns);
    session.losses.set_kernel(&[Counters { ring_full: lost, ..Counters::default() }], 0);
    session.finish(now_ns);
    session.end(now_ns, "interrupted", &[]);
    output(&mut session)
}

fn of_name(name: &str) -> Story {
    stories::ALL.iter().find(|(other, _)| *other == name).unwrap().1
}

/// The same as JSON.
fn as_json(story: Story, port: u16) -> String {
    let mut stream = Stream::new();
    story(&mut stream);
    let mut session = session(settings(), stories_json(port));
    split(&stream.bytes).for_each(|record| session.ingest(record.unwrap()));
    session.tick(stream.now_ns + 1_000_000_000);
    session.finish(stream.now_ns + 1_000_000_000);
    output(&mut session)
}

/// Stories of all kinds, and a connection without one.
pub(crate) fn all_json() -> String {
    let one = ONE_HERE.iter().map(|&(name, port)| as_json(of_name(name), port));
    let both = BOTH_HERE.iter().map(|&(_, story, port)| as_json(story, port));
    one.chain(both).chain([silent()]).collect()
}

/// A connection to which nothing happens.
fn silent() -> String {
    let mut session = session(settings(), stories_json(80));
    let life = Life::in_state(ESTABLISHED, "10.1.0.1:80", "10.1.0.9:40000").owned_by(web());
    let sockets = vec![listed(&life, Kind::Full, State::Established, None)];
    session.begin_listing();
    session.reconcile(&Snapshot { sockets, started_ns: START_NS, ended_ns: START_NS + 1, ..Snapshot::default() });
    session.finish(START_NS + 1_000_000_000);
    output(&mut session)
}

/// Stories with only the kinds of their events: other files hold their fields.
fn without_events(printed: &str) -> String {
    let shortened = |line: &str| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        for side in ["left", "right"] {
            for event in record[side]["events"].as_array_mut().into_iter().flatten() {
                *event = event["event"].take();
            }
        }
        record.to_string() + "\n"
    };
    printed.lines().map(shortened).collect()
}

#[test]
fn stories_as_json() {
    let files = [
        ("both_linger", as_json(both_linger, 8082)),
        ("no_socket", as_json(of_name("no_socket"), 81)),
        ("silent", silent()),
    ];
    let files = files.map(|(name, printed)| (format!("story_{name}.json"), without_events(&printed)));
    compare(&files, |name| name.starts_with("story_"));
    let printed = as_json(both_linger, 8082);
    let record: Value = serde_json::from_str(printed.lines().next().unwrap()).unwrap();
    assert_eq!(record["event"], "story");
    assert_eq!(record["resets"][0]["sender"], "process", "{record}");
    let events = |side: &str| record[side]["events"].as_array().unwrap().len();
    assert!(events("left") > 2 && events("right") > 2, "{record}");
    assert!(files[2].1.starts_with("{\"schema\":1,\"event\":\"silent\""), "{}", files[2].1);
}

#[test]
fn each_story_as_a_ladder() {
    let one = ONE_HERE.iter().map(|&(name, port)| (name, told(of_name(name), port, false, 0)));
    let both = BOTH_HERE.iter().map(|&(name, story, port)| (name, told(story, port, false, 0)));
    let styles = [("color", told(both_linger, 8082, true, 0)), ("losses", told(of_name("timed_out"), 22, false, 3))];
    let files: Vec<_> =
        one.chain(both).chain(styles).map(|(name, printed)| (format!("{name}.ladder"), printed)).collect();
    compare(&files, |name| name.ends_with(".ladder"));
    for (name, printed) in files.iter().filter(|(name, _)| name != "color.ladder" && name != "ipv6.ladder") {
        for line in printed.lines() {
            assert!(line.chars().count() <= 120 && !line.contains(char::is_control), "{name}: {line}");
        }
    }
}

#[test]
fn count_is_of_stories() {
    let mut stream = Stream::new();
    stories::all(&mut stream);
    let mut session = session(SessionSettings { count: Some(2), ..settings() }, ladder(443, false));
    for record in split(&stream.bytes) {
        session.ingest(record.unwrap());
    }
    assert!(!session.is_complete());
    session.tick(stream.now_ns + 1_000_000_000);
    assert!(session.is_complete());
    session.finish(stream.now_ns + 1_000_000_000);
    session.end(stream.now_ns + 1_000_000_000, "count", &[]);
    assert_eq!(output(&mut session).matches(" ⇄ ").count(), 2);
}
