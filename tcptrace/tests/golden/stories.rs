//! Lives of connections as the BPF programs record them. Times, flags and errors are those that Linux shows.

use std::time::Duration;

use tcptrace_common::{
    record::{
        Owner, owner_source,
        socket_flag::{ATTACHED, DEAD, DONE, FROM_PACKET, LINGER, LINGER_ZERO, OWNED, SHUTDOWN_RECEIVE, SHUTDOWN_SEND},
    },
    state::{CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, NEW_SYN_RECV, SYN_RECV, SYN_SENT},
};

use crate::support::records::{Life, Stream, known_by, process};

/// A story tells itself to a stream.
pub(crate) type Story = fn(&mut Stream);

/// All stories, by the names of their files.
pub(crate) const ALL: &[(&str, Story)] = &[
    ("client_life", client_life),
    ("server_life", server_life),
    ("refused", refused),
    ("reset_by_peer", reset_by_peer),
    ("linger_abort", linger_abort),
    ("timed_out", timed_out),
    ("failed_connects", failed_connects),
    ("orphan_fin_wait2", orphan_fin_wait2),
    ("half_open", half_open),
    ("ipv6", ipv6),
    ("v4_mapped", v4_mapped),
    ("unknown_owner", unknown_owner),
    ("older_socket", older_socket),
    ("owner_change", owner_change),
    ("no_socket", no_socket),
    ("hostile_names", hostile_names),
];

/// All stories one after the other.
pub(crate) fn all(stream: &mut Stream) {
    for (_, story) in ALL {
        story(stream);
        stream.wait(Duration::from_millis(250));
    }
}

pub(crate) const BOTH_SHUT: u16 = SHUTDOWN_SEND | SHUTDOWN_RECEIVE;
/// Facts of a socket that its process closes.
pub(crate) const CLOSING: u16 = OWNED | ATTACHED | BOTH_SHUT;

pub(crate) fn curl() -> Owner {
    process(4242, b"curl", owner_source::CONNECT)
}

pub(crate) fn web() -> Owner {
    Owner { uid: 33, ..process(800, b"web", owner_source::LISTEN) }
}

/// A client that connected.
pub(crate) fn connected(stream: &mut Stream, local: &str, remote: &str, owner: Owner) -> Life {
    let mut client = Life::in_state(CLOSE, local, remote).owned_by(owner);
    client.flags(OWNED | ATTACHED).enters(stream, SYN_SENT);
    stream.wait_us(412);
    client.flags(ATTACHED).srtt_us(409).enters(stream, ESTABLISHED);
    client.facts.bytes_acked = 1;
    client
}

fn client_life(stream: &mut Stream) {
    let mut client = connected(stream, "192.0.2.10:51034", "198.51.100.7:443", curl());
    stream.wait(Duration::from_millis(87));
    (client.facts.bytes_acked, client.facts.bytes_received) = (518, 48_113);
    client.flags(CLOSING).enters(stream, FIN_WAIT1);
    stream.wait_us(85);
    client.facts.bytes_acked = 519;
    client.flags(DEAD | BOTH_SHUT).enters(stream, FIN_WAIT2);
    stream.wait_us(1310);
    client.facts.bytes_received = 48_114;
    client.flags(DEAD | DONE | BOTH_SHUT).enters(stream, CLOSE);
}

fn server_life(stream: &mut Stream) {
    let mut listener = Life::in_state(CLOSE, "0.0.0.0:80", "0.0.0.0:0").owned_by(web());
    listener.flags(OWNED | ATTACHED).enters(stream, LISTEN);
    stream.wait(Duration::from_secs(2));
    let mut child = accepted(stream, "10.1.0.1:80", "10.1.0.2:40112");
    stream.wait(Duration::from_secs(95));
    child.flags(ATTACHED | DONE | SHUTDOWN_RECEIVE).enters(stream, CLOSE_WAIT);
    stream.wait(Duration::from_millis(30));
    child.flags(CLOSING | DONE).enters(stream, LAST_ACK);
    stream.wait_us(61);
    child.flags(DEAD | DONE | BOTH_SHUT).enters(stream, CLOSE);
    stream.wait(Duration::from_secs(1));
    listener.flags(CLOSING).enters(stream, CLOSE);
}

/// A connection that came in, and was accepted.
pub(crate) fn accepted(stream: &mut Stream, local: &str, remote: &str) -> Life {
    let mut child = Life::in_state(LISTEN, local, remote).owned_by(known_by(owner_source::LISTENER, web()));
    child.facts.srtt_us8 = 0;
    child.enters(stream, SYN_RECV);
    stream.wait_us(3);
    child.srtt_us(1702).enters(stream, ESTABLISHED);
    stream.wait_us(40);
    child.flags(ATTACHED | OWNED).is_taken_by(stream, known_by(owner_source::ACCEPT, web()));
    child
}

fn refused(stream: &mut Stream) {
    let mut client = Life::in_state(CLOSE, "127.0.0.1:51036", "127.0.0.1:1").owned_by(curl());
    client.flags(OWNED | ATTACHED).enters(stream, SYN_SENT);
    stream.wait_us(21);
    client.flags(ATTACHED).gets_reset(stream);
    client.facts.err = libc::ECONNREFUSED;
    client.enters(stream, CLOSE);
}

fn reset_by_peer(stream: &mut Stream) {
    let mut client = connected(stream, "192.0.2.10:51038", "198.51.100.7:5432", curl());
    stream.wait(Duration::from_secs(7260));
    client.since_ms = Some([12, 7_259_988, 7_200_004]);
    client.facts.send_queue = 120;
    client.gets_reset(stream);
    client.facts.err = libc::ECONNRESET;
    client.enters(stream, CLOSE);
    let mut writer = connected(stream, "192.0.2.10:51040", "198.51.100.7:5432", curl());
    stream.wait(Duration::from_secs(3));
    writer.flags(ATTACHED | DONE | SHUTDOWN_RECEIVE).enters(stream, CLOSE_WAIT);
    stream.wait(Duration::from_secs(4));
    writer.gets_reset(stream);
    writer.facts.err = libc::EPIPE;
    writer.enters(stream, CLOSE);
}

fn linger_abort(stream: &mut Stream) {
    let mut client = connected(stream, "192.0.2.10:51042", "198.51.100.7:443", curl());
    stream.wait(Duration::from_millis(5));
    client.flags(CLOSING | LINGER | LINGER_ZERO).enters(stream, CLOSE);
    let mut reader = connected(stream, "192.0.2.10:51044", "198.51.100.7:443", curl());
    stream.wait(Duration::from_millis(6));
    reader.since_ms = Some([6, 4, 4]);
    reader.facts.receive_queue = 48_114;
    reader.flags(CLOSING).sends_reset(stream, Some(7)).enters(stream, CLOSE);
}

fn timed_out(stream: &mut Stream) {
    let mut client = connected(stream, "192.0.2.10:51046", "203.0.113.9:22", curl());
    for timeouts in 0..4 {
        stream.wait(Duration::from_millis(200 << timeouts));
        client.timeouts = timeouts;
        client.retransmits(stream, 0);
    }
    stream.wait(Duration::from_secs(3));
    client.timeouts = 4;
    client.retransmits(stream, -libc::EHOSTUNREACH);
    stream.wait(Duration::from_secs(6));
    (client.facts.err, client.facts.send_queue) = (libc::ETIMEDOUT, 1448);
    client.enters(stream, CLOSE);
}

fn failed_connects(stream: &mut Stream) {
    // No local port was free: nothing is known but where it was to go.
    let mut unsent = Life::in_state(CLOSE, "0.0.0.0:0", "198.51.100.7:443").owned_by(curl());
    unsent.flags(OWNED | ATTACHED).enters(stream, SYN_SENT);
    stream.wait_us(9);
    unsent.enters(stream, CLOSE);
    for (port, err) in [(51048, libc::EHOSTUNREACH), (51050, 512)] {
        let mut client = Life::in_state(CLOSE, &format!("192.0.2.10:{port}"), "203.0.113.9:443").owned_by(curl());
        client.flags(OWNED | ATTACHED).enters(stream, SYN_SENT);
        stream.wait(Duration::from_secs(3));
        client.facts.err = err;
        client.flags(ATTACHED).enters(stream, CLOSE);
    }
}

fn orphan_fin_wait2(stream: &mut Stream) {
    let mut client = connected(stream, "192.0.2.10:51052", "198.51.100.7:8080", curl());
    stream.wait(Duration::from_millis(40));
    client.flags(CLOSING).enters(stream, FIN_WAIT1);
    stream.wait_us(300);
    client.flags(DEAD | BOTH_SHUT).enters(stream, FIN_WAIT2);
    stream.wait(Duration::from_secs(60));
    client.enters(stream, CLOSE);
}

fn half_open(stream: &mut Stream) {
    let mut request = Life::in_state(NEW_SYN_RECV, "10.1.0.1:8443", "10.1.0.9:33000").owned_by(web());
    for (seconds, count) in [(1, 1), (2, 2)] {
        stream.wait(Duration::from_secs(seconds));
        request.retransmits_synack(stream, count);
    }
    stream.wait(Duration::from_millis(20));
    let mut child =
        Life::in_state(LISTEN, "10.1.0.1:8443", "10.1.0.9:33000").owned_by(known_by(owner_source::LISTENER, web()));
    child.enters(stream, SYN_RECV);
    stream.wait_us(2);
    child.facts.total_retrans = 2;
    child.srtt_us(20_000).enters(stream, ESTABLISHED);
    // The listener is closed before anybody accepts.
    stream.wait(Duration::from_secs(9));
    child.flags(0).enters(stream, CLOSE);
}

fn ipv6(stream: &mut Stream) {
    connected(stream, "[::1]:51054", "[::1]:443", curl());
    connected(stream, "[2001:db8:0:1::15]:51056", "[2001:db8:0:2::7]:443", curl());
    let widest = "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535";
    connected(stream, widest, "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65534", curl());
    connected(stream, "[2001:db8::15]:51058", "[2001:db8::7]:443", curl());
}

fn v4_mapped(stream: &mut Stream) {
    let mut child = Life::in_state(LISTEN, "[::ffff:10.1.0.1]:8080", "[::ffff:10.1.0.2]:40116");
    child.owner = known_by(owner_source::LISTENER, web());
    child.enters(stream, SYN_RECV);
    stream.wait_us(3);
    child.srtt_us(88).enters(stream, ESTABLISHED);
}

fn unknown_owner(stream: &mut Stream) {
    let mut client = connected(stream, "192.0.2.10:51060", "198.51.100.7:443", Owner::default());
    stream.wait(Duration::from_millis(1));
    client.retransmits(stream, 0);
}

fn older_socket(stream: &mut Stream) {
    let mut server = Life::in_state(ESTABLISHED, "10.1.0.1:5432", "10.1.0.3:50000");
    server.srtt_us(250).flags(ATTACHED | DONE | SHUTDOWN_RECEIVE).enters(stream, CLOSE_WAIT);
    stream.wait(Duration::from_secs(12));
    // What it reads shows whose it is.
    server.flags(ATTACHED | OWNED | DONE | SHUTDOWN_RECEIVE);
    server.is_taken_by(stream, process(900, b"postgres", owner_source::IO));
    let mut other = Life::in_state(ESTABLISHED, "10.1.0.1:5432", "10.1.0.3:50002");
    other.owner = process(901, b"postgres", owner_source::CLOSE);
    other.header.cookie = 0; // as before 5.12
    other.flags(CLOSING).enters(stream, FIN_WAIT1);
}

fn owner_change(stream: &mut Stream) {
    let mut child = accepted(stream, "10.1.0.1:80", "10.1.0.2:40114");
    stream.wait(Duration::from_millis(2));
    let worker = Owner { uid: 1_879_048_191, ..process(4_194_303, b"a-worker-of-web", owner_source::IO) };
    child.is_taken_by(stream, worker);
    stream.wait(Duration::from_millis(2));
    child.flags(ATTACHED | DONE | SHUTDOWN_RECEIVE).enters(stream, CLOSE_WAIT);
}

fn no_socket(stream: &mut Stream) {
    for reason in [None, Some(3), Some(99)] {
        let mut packet = Life::in_state(CLOSE, "10.1.0.1:81", "10.1.0.2:40118");
        (packet.header.sk, packet.header.cookie) = (0, 0);
        packet.flags(FROM_PACKET).sends_reset(stream, reason);
        stream.wait(Duration::from_millis(1));
    }
}

fn hostile_names(stream: &mut Stream) {
    let names: [&[u8]; 7] =
        [b"\x1b[2J\x07\r\n\tend", b"a\"b\\c,d'", b"\xff\xfe\xc3(\x80", "наїв🦀".as_bytes(), b"", b" ,\"", b"=1+1"];
    for (port, name) in (51062..).zip(names) {
        let owner = process(5000, name, owner_source::CONNECT);
        connected(stream, &format!("192.0.2.10:{port}"), "198.51.100.7:443", owner);
    }
}
