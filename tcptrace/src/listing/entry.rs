//! What the iterator programs write, as values.

use std::net::SocketAddr;

use tcptrace_common::{
    listing::{HolderEntry, KIND_FULL, KIND_MINI, KIND_REQUEST, SocketEntry, timer},
    record::socket_flag,
};
use zerocopy::FromBytes;

use crate::{
    decode,
    event::{Command, address, is_ipv6},
    snapshot::{ConnectionInfo, Holder, Kind, ListedSocket, Timer, TimerKind},
};

/// The sockets among these bytes, and how many entries could not be understood; `tick_ns` is the length of a jiffy.
#[must_use]
pub fn sockets(bytes: &[u8], tick_ns: u64) -> (Vec<ListedSocket>, u64) {
    entries(bytes, |entry: &SocketEntry| socket(entry, tick_ns))
}

/// The holders among these bytes with the network namespaces of their sockets, and how many could not be understood.
#[must_use]
pub fn holders(bytes: &[u8]) -> (Vec<(Holder, u32)>, u64) {
    entries(bytes, |entry: &HolderEntry| {
        let holder = Holder {
            handle: entry.sk,
            pid: entry.pid,
            ns_pid: entry.ns_pid,
            fd: entry.fd,
            uid: entry.uid,
            cgroup: (entry.cgroup != 0).then_some(entry.cgroup),
            command: Command::new(entry.comm),
        };
        Some((holder, entry.netns))
    })
}

fn entries<E: FromBytes, T>(bytes: &[u8], understand: impl Fn(&E) -> Option<T>) -> (Vec<T>, u64) {
    let chunks = bytes.chunks_exact(size_of::<E>());
    let mut broken = u64::from(!chunks.remainder().is_empty());
    let mut found = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        match E::read_from_bytes(chunk).ok().and_then(|entry| understand(&entry)) {
            Some(value) => found.push(value),
            None => broken += 1,
        }
    }
    (found, broken)
}

fn socket(entry: &SocketEntry, tick_ns: u64) -> Option<ListedSocket> {
    let kind = match entry.kind {
        KIND_FULL => Kind::Full,
        KIND_MINI => Kind::Mini,
        KIND_REQUEST => Kind::Request,
        _ => return None,
    };
    let timer = match entry.timer {
        timer::NONE => None,
        timer::RETRANSMIT => Some(TimerKind::Retransmit),
        timer::KEEPALIVE => Some(TimerKind::Keepalive),
        timer::TIME_WAIT => Some(TimerKind::TimeWait),
        timer::PROBE => Some(TimerKind::Probe),
        _ => return None,
    };
    let state = decode::state(entry.socket.state).ok()?;
    let is_held = entry.socket.flags & socket_flag::ATTACHED != 0;
    let ns = |ticks: u32| u64::from(ticks) * tick_ns;
    let some = |number: u64| (number != 0).then_some(number);
    Some(ListedSocket {
        sk: some(entry.sk),
        cookie: some(entry.cookie),
        handle: if is_held { entry.sk } else { 0 },
        netns: entry.socket.netns,
        ipv6: is_ipv6(entry.socket.family),
        state,
        kind,
        local: SocketAddr::new(address(entry.socket.local), entry.socket.local_port),
        remote: SocketAddr::new(address(entry.socket.remote), entry.socket.remote_port),
        receive_queue: entry.receive_queue,
        send_queue: entry.send_queue,
        timer: timer.map(|kind| Timer { kind, left_ns: ns(u32::try_from(entry.timer_ticks).unwrap_or(0)) }),
        timeouts: entry.timeouts,
        probes: entry.probes,
        uid: is_held.then_some(entry.uid),
        entered_ns: some(entry.entered_ns),
        owner: decode::owner(&entry.owner).ok()?,
        connection: ConnectionInfo::is_kept(kind, state).then(|| ConnectionInfo {
            last_sent_ns: ns(entry.last_sent_ticks),
            last_received_ns: ns(entry.last_received_ticks),
            last_ack_ns: ns(entry.last_ack_ticks),
            srtt_us: decode::srtt_us(entry.srtt_us8),
            total_retrans: entry.total_retrans,
            bytes_acked: entry.bytes_acked,
            bytes_received: entry.bytes_received,
        }),
    })
}
