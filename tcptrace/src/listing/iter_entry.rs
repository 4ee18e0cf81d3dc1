//! Parses the entries that the iterator programs write.

use std::{collections::BTreeMap, net::SocketAddr};

use tcptrace_common::{
    listing::{HolderEntry, KIND_FULL, KIND_MINI, KIND_REQUEST, SocketEntry, timer},
    record::socket_flag,
};
use zerocopy::FromBytes;

use crate::model::{
    decode,
    event::{Command, StartTicks, address, is_ipv6},
    holders::Holder,
    socket::{ConnectionInfo, Keepalive, Kind, ListedSocket, Timer, TimerKind},
};

/// Appends the sockets in these bytes; returns the number of malformed entries. `tick_ns` is the length of a jiffy.
#[must_use]
pub fn sockets(bytes: &[u8], tick_ns: u64, to: &mut Vec<ListedSocket>) -> u64 {
    entries(bytes, |entry: &SocketEntry| {
        to.push(socket(entry, tick_ns)?);
        Some(())
    })
}

/// The holders of sockets read so far.
#[derive(Debug, Default)]
pub struct Held {
    /// The holders of sockets.
    pub holders: Vec<Holder>,
    /// The network namespaces of their sockets, each with a PID and a descriptor of a socket in it.
    pub namespaces: BTreeMap<u32, (u32, u32)>,
    /// Number of malformed entries.
    pub broken: u64,
}

impl Held {
    /// Adds the holders in these bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.broken += entries(bytes, |entry: &HolderEntry| {
            self.namespaces.entry(entry.netns).or_insert((entry.pid, entry.fd));
            self.holders.push(Holder {
                handle: entry.sk,
                pid: entry.pid,
                ns_pid: entry.ns_pid,
                fd: entry.fd,
                uid: entry.uid,
                cgroup: (entry.cgroup != 0).then_some(entry.cgroup),
                start: StartTicks::new(entry.start_ticks),
                command: Command::new(entry.comm),
            });
            Some(())
        });
    }
}

/// Passes each entry to `understand`; returns the number of malformed entries.
fn entries<E: FromBytes>(bytes: &[u8], mut understand: impl FnMut(&E) -> Option<()>) -> u64 {
    let chunks = bytes.chunks_exact(size_of::<E>());
    let cut = u64::from(!chunks.remainder().is_empty());
    let broken = chunks.filter(|chunk| E::read_from_bytes(chunk).ok().and_then(|entry| understand(&entry)).is_none());
    cut + broken.count() as u64
}

fn socket(entry: &SocketEntry, tick_ns: u64) -> Option<ListedSocket> {
    let kind = match entry.kind {
        KIND_FULL => Kind::Full,
        KIND_MINI => Kind::TimeWait,
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
        handle: if is_held { some(entry.mptcp_inode).unwrap_or(entry.sk) } else { 0 },
        interface: 0,
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
        rto_ns: some(ns(entry.rto_ticks)),
        backoff: (entry.rto_ticks != 0).then_some(entry.backoff),
        keepalive: match kind {
            Kind::Full if entry.socket.flags & socket_flag::KEEPALIVE != 0 => Keepalive::On {
                time_ns: some(ns(entry.keepalive_ticks)),
                interval_ns: some(ns(entry.keepalive_interval_ticks)),
                probes: (entry.keepalive_probes != 0).then_some(entry.keepalive_probes),
            },
            Kind::Full => Keepalive::Off,
            Kind::TimeWait | Kind::Request => Keepalive::Unknown,
        },
        user_timeout_ms: (entry.rto_ticks != 0).then_some(entry.user_timeout_ms),
        uid: is_held.then_some(entry.uid),
        entered_ns: some(entry.entered_ns),
        owner: decode::owner(&entry.owner).ok()?,
        is_unlisted: false,
        connection: ConnectionInfo::is_available(kind, state).then(|| ConnectionInfo {
            last_sent_ns: ns(entry.last_sent_ticks),
            last_received_ns: ns(entry.last_received_ticks),
            last_ack_ns: ns(entry.last_ack_ticks),
            srtt_us: decode::srtt_us(entry.srtt_us8),
            total_retrans: entry.total_retrans,
            bytes_acked: entry.bytes_acked,
            bytes_received: entry.bytes_received,
            is_accepted: (is_held || entry.ulp == 0).then_some(is_held),
            send_window: Some(entry.send_window),
            unsent: Some(entry.unsent),
            receive_window: Some(entry.receive_window),
        }),
    })
}
