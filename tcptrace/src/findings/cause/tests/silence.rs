//! Peers that do not answer, ports that are held, and loss.

use crate::{
    findings::testing::{Host, MS, ON, S},
    model::{
        socket::{ConnectionInfo, Timer, TimerKind},
        state::State,
    },
};

const NEAR: &str = "10.1.0.1:40000";
const FAR: &str = "10.9.0.9:80";

/// Otherwise keepalive is on.
pub(super) fn nobody_asks(host: &mut Host, is_proven: bool) {
    let place = host.idle(NEAR, FAR, 7200 * S);
    if !is_proven {
        host.sockets[place].keepalive = ON;
    }
}

/// Data that was sent after a silence of `idle_ns`, and was not answered: the timer has run out so often.
fn unanswered(host: &mut Host, timeouts: u8, idle_ns: u64) {
    let place = host.add(State::Established, NEAR, FAR, 100 * S);
    let socket = &mut host.sockets[place];
    (socket.timeouts, socket.backoff, socket.send_queue) = (timeouts, Some(timeouts), 1448);
    socket.rto_ns = Some((200 * MS) << timeouts);
    socket.timer = Some(Timer { kind: TimerKind::Retransmit, left_ns: (200 * MS) << timeouts });
    let tried_ns = ((200 * MS) << timeouts) - 200 * MS;
    socket.connection = Some(ConnectionInfo { last_ack_ns: tried_ns + idle_ns, ..ConnectionInfo::default() });
}

/// Otherwise a timeout less.
pub(super) fn data_unanswered(host: &mut Host, is_proven: bool) {
    unanswered(host, if is_proven { 5 } else { 4 }, S);
}

/// Otherwise the silence before was shorter.
pub(super) fn forgotten_silently(host: &mut Host, is_proven: bool) {
    unanswered(host, 5, if is_proven { 60 * S } else { 60 * S - 1 });
}

/// Otherwise data was in flight.
pub(super) fn probes_unanswered(host: &mut Host, is_proven: bool) {
    let place = host.add(State::Established, NEAR, FAR, 14 * S);
    (host.sockets[place].send_queue, host.sockets[place].timeouts) = (u32::from(!is_proven), 4);
    host.is_given_up(place, 9, 20 * S);
}

/// Otherwise a port less is held.
pub(super) fn ports_in_time_wait(host: &mut Host, is_proven: bool) {
    host.over(if is_proven { 5 } else { 4 });
    (host.settings.tw_reuse, host.settings.timestamps) = (Some(0), Some(1));
}

/// Otherwise tcp_tw_reuse is off.
pub(super) fn ports_reused(host: &mut Host, is_proven: bool) {
    host.over(5);
    (host.settings.tw_reuse, host.settings.timestamps) = (Some(u32::from(is_proven)), Some(1));
}

/// Otherwise tcp_timestamps is on.
pub(super) fn ports_not_reused(host: &mut Host, is_proven: bool) {
    host.over(5);
    (host.settings.tw_reuse, host.settings.timestamps) = (Some(1), Some(u32::from(!is_proven)));
}

/// Otherwise nothing is answered in between.
pub(super) fn path_loses(host: &mut Host, is_proven: bool) {
    let place = host.add(State::Established, NEAR, FAR, 100 * S);
    host.list();
    for timeouts in 1..=20 {
        host.wait(S / 2);
        host.retransmits(place, if is_proven { 1 } else { timeouts });
    }
}
