//! Connections that are being closed.

use crate::{
    findings::testing::{Host, MS, PID, S, process},
    model::{
        socket::{ConnectionInfo, Timer, TimerKind},
        state::State,
    },
};

const LOCAL: &str = "10.1.0.1:80";
const REMOTE: &str = "10.1.0.9:40000";

/// A connection that nothing came or went on for so long each.
fn half_closed(host: &mut Host, state: State, sent_ns: u64, received_ns: u64, ack_ns: u64) -> usize {
    let place = host.add(state, LOCAL, REMOTE, 300 * S);
    host.sockets[place].connection = Some(ConnectionInfo {
        last_sent_ns: sent_ns,
        last_received_ns: received_ns,
        last_ack_ns: ack_ns,
        ..ConnectionInfo::default()
    });
    place
}

/// Otherwise data still goes to the peer.
pub(super) fn never_closed(host: &mut Host, is_proven: bool) {
    half_closed(host, State::CloseWait, if is_proven { 300 * S } else { 100 * MS }, 300 * S, 300 * S);
}

/// Otherwise the connections in FIN_WAIT2 are another program's.
pub(super) fn waits_for_other_side(host: &mut Host, is_proven: bool) {
    host.add(State::Listen, LOCAL, "0.0.0.0:0", 100 * S);
    for port in [1, 2] {
        host.add(State::CloseWait, LOCAL, &format!("10.1.0.9:{port}"), 90 * S);
        let place = host.add(State::FinWait2, &format!("10.1.0.1:4000{port}"), "10.2.0.1:8080", 90 * S);
        let mut owner = process(if is_proven { PID } else { 900 });
        if !is_proven {
            owner.command = crate::model::event::Command::new(*b"other\0\0\0\0\0\0\0\0\0\0\0");
        }
        host.sockets[place].owner = Some(owner);
    }
}

/// Otherwise the process has a descriptor still.
pub(super) fn peer_keeps_open(host: &mut Host, is_proven: bool) {
    let place = half_closed(host, State::FinWait2, 300 * S, 300 * S, 300 * S);
    if is_proven {
        host.sockets[place].uid = None;
        host.sockets[place].timer = Some(Timer { kind: TimerKind::Keepalive, left_ns: 7 * S });
    }
}

/// Otherwise there is one more than a pool has.
pub(super) fn idle_pooled(host: &mut Host, is_proven: bool) {
    host.settings.local_ports = Some((32_768, 60_999));
    for number in 0..if is_proven { 8 } else { 9 } {
        host.add(State::CloseWait, &format!("10.1.0.1:4000{number}"), "10.9.0.9:5432", 70 * S);
    }
}

/// Otherwise the peer still sends.
pub(super) fn only_shut_down(host: &mut Host, is_proven: bool) {
    half_closed(host, State::FinWait2, 300 * S, if is_proven { 300 * S } else { 100 * MS }, 100 * MS);
}

/// Otherwise the peer acknowledged something a moment ago: the path loses segments, and the rest is on its way.
pub(super) fn fin_unanswered(host: &mut Host, is_proven: bool) {
    let place = half_closed(host, State::FinWait1, S, 300 * S, if is_proven { 20 * S } else { S });
    (host.sockets[place].timeouts, host.sockets[place].backoff) = (1, Some(1));
}

/// Otherwise nothing was sent again, and the peer acknowledged what was sent before the FIN.
pub(super) fn last_ack_missing(host: &mut Host, is_proven: bool) {
    let place = half_closed(host, State::LastAck, S, 300 * S, 20 * S);
    let timeouts = if is_proven { 6 } else { 0 };
    (host.sockets[place].timeouts, host.sockets[place].backoff) = (timeouts, Some(timeouts));
}
