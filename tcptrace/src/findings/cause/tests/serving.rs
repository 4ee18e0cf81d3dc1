//! Listeners, and connections that a process does not accept or read.

use crate::{
    findings::testing::{Host, LISTENER, S, SERVER, in_state},
    model::{close_reason::CloseReason, snapshot::ProcessState, state::State},
};

const NEAR: &str = "10.1.0.1:40000";
const FAR: &str = "10.9.0.9:80";

/// Otherwise there is room for one more.
pub(super) fn queue_full(host: &mut Host, is_proven: bool) {
    host.listening(LISTENER, if is_proven { 3 } else { 2 }, 2);
}

/// Otherwise it sleeps.
pub(super) fn accepter_stopped(host: &mut Host, is_proven: bool) {
    host.stalled(10 * S, Some(in_state(if is_proven { b'T' } else { b'S' })));
}

/// Otherwise it may open one more.
pub(super) fn accepter_out_of_descriptors(host: &mut Host, is_proven: bool) {
    let descriptors = Some(if is_proven { 1024 } else { 1023 });
    host.stalled(10 * S, Some(ProcessState { descriptors, ..in_state(b'S') }));
}

/// Otherwise it used no CPU from one look to the next.
pub(super) fn accepter_busy(host: &mut Host, is_proven: bool) {
    host.stalled(10 * S, Some(in_state(b'R')));
    host.list();
    host.wait(S);
    let state = &mut host.processes[0];
    (state.read_ns, state.cpu_ns) = (host.now_ns, if is_proven { S } else { 0 });
}

/// Otherwise it sleeps.
pub(super) fn accepter_runs(host: &mut Host, is_proven: bool) {
    host.stalled(10 * S, Some(in_state(if is_proven { b'R' } else { b'S' })));
}

/// Otherwise it was not read.
pub(super) fn accepter_waits(host: &mut Host, is_proven: bool) {
    host.stalled(10 * S, is_proven.then(|| in_state(b'S')));
}

/// Otherwise it has just come.
pub(super) fn not_accepted(host: &mut Host, is_proven: bool) {
    host.stalled(if is_proven { 3 * S } else { 3 * S - 1 }, None);
}

/// Otherwise most SYN-ACKs are answered before they are sent again.
pub(super) fn handshakes_unfinished(host: &mut Host, is_proven: bool) {
    host.listening(LISTENER, 0, 128);
    host.requests(SERVER, 100);
    let late = if is_proven { 50 } else { 49 };
    for (index, socket) in host.sockets[1..].iter_mut().enumerate() {
        socket.timeouts = u8::from(index < late);
    }
}

/// Otherwise its port is on the list.
pub(super) fn not_expected(host: &mut Host, is_proven: bool) {
    let expected: &[&str] = if is_proven { &["22"] } else { &["22", "80"] };
    host.findings.thresholds.expected = Some(expected.iter().map(|text| text.parse().unwrap()).collect());
    host.listening(LISTENER, 0, 128);
}

/// Otherwise its window is closed.
pub(super) fn requests_unread(host: &mut Host, is_proven: bool) {
    let place = host.unread(60 * S);
    if !is_proven {
        host.sockets[place].connection.as_mut().unwrap().receive_window = Some(0);
    }
}

/// Otherwise it sleeps.
pub(super) fn reader_stopped(host: &mut Host, is_proven: bool) {
    let place = host.unread(60 * S);
    host.held(place);
    let state = in_state(if is_proven { b'T' } else { b'S' });
    host.processes.push(ProcessState { read_ns: host.now_ns, ..state });
}

/// Otherwise its window has room for a byte.
pub(super) fn does_not_read(host: &mut Host, is_proven: bool) {
    let place = host.reader(NEAR, FAR, 10 * S);
    host.sockets[place].connection.as_mut().unwrap().receive_window = Some(u32::from(!is_proven));
}

/// Otherwise the probes are not answered.
pub(super) fn peer_does_not_read(host: &mut Host, is_proven: bool) {
    let place = host.sender(State::Established, NEAR, FAR, 20 * S);
    if !is_proven {
        host.sockets[place].probes = 5;
        host.sockets[place].connection.as_mut().unwrap().last_ack_ns = 20 * S;
    }
}

/// Otherwise the probes were not answered.
pub(super) fn ended_by_user_timeout(host: &mut Host, is_proven: bool) {
    let place = host.sender(State::Established, NEAR, FAR, 4 * S);
    if !is_proven {
        (host.sockets[place].probes, host.sockets[place].timeouts) = (5, 5);
        host.sockets[place].connection.as_mut().unwrap().last_ack_ns = 100 * S;
    }
    host.list();
    host.fails(place, CloseReason::TimedOut);
    host.sockets.clear();
}

/// Otherwise it exits by itself.
pub(super) fn killed_by_signal(host: &mut Host, is_proven: bool) {
    host.killed(if is_proven { libc::SIGKILL } else { 0 }, true, 9);
}
