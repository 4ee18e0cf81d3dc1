//! Connections that this host tries to open.

use crate::{
    findings::testing::{Host, LISTENER, MS, NETNS, S, SERVER, end},
    model::{
        close_reason::{Abort, CloseReason},
        snapshot::NextHop,
        state::State,
    },
};

/// A destination on another host.
const FAR: &str = "10.9.0.1:443";

/// Otherwise the destination is a listener of this host, and its queue is full.
pub(super) fn syn_unanswered(host: &mut Host, is_proven: bool) {
    host.connecting(50_000, SERVER, 6 * S);
    host.listening(LISTENER, if is_proven { 2 } else { 3 }, 2);
}

/// Otherwise each attempt lasts until its SYN would have been sent again.
pub(super) fn given_up_early(host: &mut Host, is_proven: bool) {
    for port in [50_000, 50_001] {
        let place = host.connecting(port, FAR, if is_proven { 899 * MS } else { S });
        host.fails(place, CloseReason::Aborted(Abort::BeforeEstablished));
        host.wait(MS);
    }
}

/// Otherwise there are only nine destinations.
pub(super) fn scan_like(host: &mut Host, is_proven: bool) {
    for number in 0..if is_proven { 10 } else { 9 } {
        host.connecting(50_000 + number, &format!("10.9.0.{number}:443"), 6 * S);
    }
}

/// Otherwise the destination is a listener of this host, and its queue is full.
pub(super) fn connect_timed_out(host: &mut Host, is_proven: bool) {
    let place = host.connecting(50_000, SERVER, 3 * S);
    host.sockets[place].timeouts = 1;
    host.listening(LISTENER, if is_proven { 2 } else { 3 }, 2);
    host.fails(place, CloseReason::TimedOut);
    host.wait(300 * MS);
}

/// A connect() that ends before a SYN is sent, with this local port.
fn not_sent(host: &mut Host, local_port: u16) {
    let place = host.connecting(local_port, FAR, 0);
    host.fails(place, CloseReason::Aborted(Abort::NeverSent));
}

/// So many connections to the destination, with ten local ports.
fn open(host: &mut Host, count: u16) {
    host.settings.local_ports = Some((50_000, 50_009));
    for port in 50_000..50_000 + count {
        host.add(State::Established, &format!("10.1.0.1:{port}"), FAR, S);
    }
}

/// Otherwise bind() had chosen a port.
pub(super) fn no_local_port(host: &mut Host, is_proven: bool) {
    not_sent(host, if is_proven { 0 } else { 50_000 });
}

/// Otherwise open connections have only half of the ports.
pub(super) fn ports_held_open(host: &mut Host, is_proven: bool) {
    open(host, if is_proven { 6 } else { 5 });
    not_sent(host, 0);
}

/// Otherwise half of the range is not reserved.
pub(super) fn ports_reserved(host: &mut Host, is_proven: bool) {
    open(host, 1);
    host.settings.reserved_ports = Some(if is_proven { 6 } else { 5 });
    not_sent(host, 0);
}

/// Otherwise it connected to another socket of this host.
pub(super) fn connected_to_itself(host: &mut Host, is_proven: bool) {
    let (local, remote) = ("127.0.0.1:50000", if is_proven { "127.0.0.1:50000" } else { "127.0.0.1:50001" });
    let place = host.add(State::SynSent, local, remote, 0);
    host.list();
    host.enters(place, State::Established, None);
    host.wait(300 * MS);
}

/// connect() failed with EHOSTUNREACH, and a poll asked whether the next hop answers.
fn at_hop(host: &mut Host, answers: Option<bool>) {
    let place = host.connecting(50_000, FAR, 3 * S);
    host.fails(place, CloseReason::Failed(libc::EHOSTUNREACH));
    let (remote, hop) = (end(FAR).ip(), [10, 1, 0, 9].into());
    host.next_hops = vec![NextHop { netns: NETNS, remote, hop, answers, read_ns: host.now_ns }];
}

/// Otherwise the next hop does not answer.
pub(super) fn unreachable(host: &mut Host, is_proven: bool) {
    at_hop(host, Some(is_proven));
}

/// Otherwise it does.
pub(super) fn neighbour_silent(host: &mut Host, is_proven: bool) {
    at_hop(host, Some(!is_proven));
}

/// Otherwise another port is open there.
pub(super) fn listens_elsewhere(host: &mut Host, is_proven: bool) {
    host.listening(if is_proven { "10.1.0.1:443" } else { "10.1.0.1:80" }, 0, 128);
    let place = host.add(State::SynSent, "127.0.0.1:50000", "127.0.0.1:443", 0);
    host.is_refused(place);
    host.wait(300 * MS);
}
