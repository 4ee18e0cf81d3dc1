//! Parses one TCP socket from a sock_diag(7) message (`net/ipv4/inet_diag.c`). The bytes are untrusted.

use std::{
    mem::offset_of,
    net::{Ipv4Addr, SocketAddr},
};

use tcptrace_common::record::{AF_INET, AF_INET6};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::model::{
    event,
    socket::{ConnectionInfo, Keepalive, Kind, ListedSocket, Timer, TimerKind},
    state::State,
};

/// `INET_DIAG_INFO` of `include/uapi/linux/inet_diag.h`.
pub(super) const INET_DIAG_INFO: u16 = 2;

/// `struct inet_diag_msg`; addresses and ports are in network byte order.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Message {
    family: u8,
    state: u8,
    timer: u8,
    retrans: u8,
    local_port: [u8; 2],
    remote_port: [u8; 2],
    local: [u8; 16],
    remote: [u8; 16],
    interface: u32,
    cookie: [u32; 2],
    expires_ms: u32,
    receive_queue: u32,
    send_queue: u32,
    uid: u32,
    inode: u32,
}

/// Values of `idiag_timer` (`net/ipv4/inet_diag.c`, `inet_sk_diag_fill` and `inet_twsk_diag_fill`).
const TIMERS: [TimerKind; 4] = [TimerKind::Retransmit, TimerKind::Keepalive, TimerKind::TimeWait, TimerKind::Probe];

/// Parses the socket in a message; `None` if it is malformed.
#[must_use]
pub fn socket(payload: &[u8], netns: u32) -> Option<ListedSocket> {
    let (message, attributes) = Message::read_from_prefix(payload).ok()?;
    let state = State::from_raw(message.state)?;
    let timer_kind = TIMERS.get(usize::from(message.timer).wrapping_sub(1)).copied();
    let Attributes { info, has_ulp } = Attributes::read(attributes)?;
    let (info, given) = info.unzip();
    let kind = match (timer_kind, state, &info) {
        (Some(TimerKind::TimeWait), ..) => Kind::TimeWait,
        // `inet_req_diag_fill` adds no `tcp_info`.
        (_, State::SynRecv, None) => Kind::Request,
        _ => Kind::Full,
    };
    let retransmits = if timer_kind == Some(TimerKind::Retransmit) { message.retrans } else { 0 };
    let cookie = u64::from(message.cookie[1]) << 32 | u64::from(message.cookie[0]);
    Some(ListedSocket {
        sk: None,
        cookie: (cookie != 0).then_some(cookie),
        handle: message.inode.into(),
        interface: message.interface,
        netns,
        ipv6: event::is_ipv6(message.family.into()),
        state,
        kind,
        local: address(message.family, message.local, message.local_port)?,
        remote: address(message.family, message.remote, message.remote_port)?,
        receive_queue: message.receive_queue,
        send_queue: message.send_queue,
        timer: timer_kind.map(|kind| Timer { kind, left_ns: u64::from(message.expires_ms) * NS_PER_MS }),
        // While another timer runs, this field of the message counts probes.
        timeouts: info.as_ref().map_or(retransmits, |info| info.retransmits),
        probes: info.as_ref().map_or(0, |info| info.probes),
        rto_ns: info.as_ref().and_then(Info::rto_ns),
        backoff: info.as_ref().filter(|info| info.rto_us != 0).map(|info| info.backoff),
        keepalive: keepalive(kind, state, timer_kind),
        user_timeout_ms: None,
        uid: (message.inode != 0).then_some(message.uid),
        entered_ns: None,
        owner: None,
        is_unlisted: false,
        connection: info.filter(|_| ConnectionInfo::is_available(kind, state)).map(|info| ConnectionInfo {
            // Without a file; but an MPTCP subflow never has a file of its own.
            is_accepted: (message.inode != 0 || !has_ulp).then_some(message.inode != 0),
            ..info.connection(given.unwrap_or(0))
        }),
    })
}

/// Derives keepalive from the timer. If keepalive is on, its timer runs whenever no other timer does
/// (`net/ipv4/tcp_timer.c`, `tcp_keepalive_timer`); but the message reports other timers first, and in FIN_WAIT2 the
/// same timer has another purpose.
fn keepalive(kind: Kind, state: State, timer: Option<TimerKind>) -> Keepalive {
    match (kind, state, timer) {
        (Kind::Full, State::Established | State::CloseWait, Some(TimerKind::Keepalive)) => {
            Keepalive::On { time_ns: None, interval_ns: None, probes: None }
        }
        (Kind::Full, State::Established | State::CloseWait, None) => Keepalive::Off,
        _ => Keepalive::Unknown,
    }
}

fn address(family: u8, bytes: [u8; 16], port: [u8; 2]) -> Option<SocketAddr> {
    let [a, b, c, d, ..] = bytes;
    let address = match u16::from(family) {
        AF_INET => Ipv4Addr::new(a, b, c, d).into(),
        AF_INET6 => event::address(bytes),
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_be_bytes(port)))
}

const NS_PER_MS: u64 = 1_000_000;

/// The beginning of `struct tcp_info` (`include/uapi/linux/tcp.h`), which keeps growing.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Info {
    state: u8,
    ca_state: u8,
    retransmits: u8,
    probes: u8,
    backoff: u8,
    options_to_flags: [u8; 3],
    rto_us: u32,
    ato_to_fackets: [u32; 8],
    last_data_sent_ms: u32,
    last_ack_sent_ms: u32,
    last_data_received_ms: u32,
    last_ack_received_ms: u32,
    pmtu: u32,
    rcv_ssthresh: u32,
    rtt_us: u32,
    rttvar_to_rcv_space: [u32; 7],
    total_retrans: u32,
    pacing_rates: [u64; 2],
    bytes_acked: u64,
    bytes_received: u64,
    // Older kernels end here or further below.
    segments: [u32; 2],
    unsent: u32,
    min_rtt_to_ooopack: [u32; 20],
    /// Since 5.4.
    send_window: u32,
    /// Since 6.2.
    receive_window: u32,
    rehash: u32,
}

/// Minimum length of `struct tcp_info` in bytes.
const LEAST_INFO: usize = offset_of!(Info, segments);

impl Info {
    fn rto_ns(&self) -> Option<u64> {
        (self.rto_us != 0).then(|| u64::from(self.rto_us) * 1000)
    }

    /// The kernel supplied the first `given` bytes.
    fn connection(&self, given: usize) -> ConnectionInfo {
        let known = |value: u32, at: usize| (at + size_of::<u32>() <= given).then_some(value);
        ConnectionInfo {
            last_sent_ns: u64::from(self.last_data_sent_ms) * NS_PER_MS,
            last_received_ns: u64::from(self.last_data_received_ms) * NS_PER_MS,
            last_ack_ns: u64::from(self.last_ack_received_ms) * NS_PER_MS,
            srtt_us: (self.rtt_us != 0).then_some(self.rtt_us),
            total_retrans: self.total_retrans,
            bytes_acked: self.bytes_acked,
            bytes_received: self.bytes_received,
            is_accepted: None,
            send_window: known(self.send_window, offset_of!(Self, send_window)),
            unsent: known(self.unsent, offset_of!(Self, unsent)),
            receive_window: known(self.receive_window, offset_of!(Self, receive_window)),
        }
    }
}

/// The attributes of a message that are used here.
#[derive(Default)]
struct Attributes {
    /// The `struct tcp_info`, and how many bytes of it the kernel supplied.
    info: Option<(Info, usize)>,
    /// True if the socket has an upper-layer protocol (MPTCP, kTLS).
    has_ulp: bool,
}

impl Attributes {
    /// `None` if they are malformed.
    fn read(bytes: &[u8]) -> Option<Self> {
        /// `INET_DIAG_ULP_INFO` of `include/uapi/linux/inet_diag.h`.
        const ULP_INFO: u16 = 19;
        let mut read = Self::default();
        for attribute in attributes(bytes) {
            let (kind, value) = attribute?;
            match kind {
                INET_DIAG_INFO => {
                    let mut bytes = [0; size_of::<Info>()];
                    let given = value.len().min(bytes.len());
                    bytes[..given].copy_from_slice(&value[..given]);
                    let info = Info::read_from_bytes(&bytes).ok().filter(|_| given >= LEAST_INFO)?;
                    read.info = Some((info, given));
                }
                ULP_INFO => read.has_ulp = true,
                _ => {}
            }
        }
        Some(read)
    }
}

/// Iterates over the attributes of a message (`struct nlattr`) with their types. A malformed attribute yields `None`
/// and ends the iteration.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u16, &[u8])>> {
    /// Bits of `nla_type` that are not flags (`NLA_TYPE_MASK`).
    const TYPE: u16 = 0x3fff;
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let read = || {
            let ([length, kind], _) = <[u16; 2]>::read_from_prefix(bytes).ok()?;
            Some((length, kind & TYPE, bytes.get(4..length.into())?))
        };
        let Some((length, kind, value)) = read() else {
            bytes = &[];
            return Some(None);
        };
        bytes = aligned_rest(bytes, length.into());
        Some(Some((kind, value)))
    })
}

/// The rest after `length` bytes and their padding to a multiple of four (`NLMSG_ALIGN`, `NLA_ALIGN`).
pub(super) fn aligned_rest(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(length.next_multiple_of(4)..).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use zerocopy::IntoBytes as _;

    use super::*;

    pub(in crate::listing) const V4: u8 = AF_INET as u8;
    pub(in crate::listing) const V6: u8 = AF_INET6 as u8;

    pub(in crate::listing) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [&(4 + value.len() as u16).to_ne_bytes(), &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// From `[::ffff:10.0.0.N]:1` to `[2001:db8::N]:2`, or from `10.0.0.N:1` to `32.1.13.184:2`.
    pub(in crate::listing) fn diag(family: u8, [state, timer, retrans]: [u8; 3], inode: u32, cookie: u32) -> Vec<u8> {
        let mut local = [0; 16];
        match u16::from(family) {
            AF_INET => local[..4].copy_from_slice(&[10, 0, 0, 1]),
            _ => local[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]),
        }
        let mut remote = [0; 16];
        remote[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        let words = [3_u32, cookie, 7, 1500, 11, 12, 1000, inode];
        [&[family, state, timer, retrans, 0, 1, 0, 2], &local[..], &remote, words.as_bytes()].concat()
    }

    pub(in crate::listing) fn info_bytes() -> Vec<u8> {
        let mut info = vec![0; size_of::<Info>() + 64];
        info[2] = 5;
        info[3] = 6;
        info[4] = 3;
        for (at, value) in [
            (8, 204_000_u32),
            (44, 100),
            (48, 7),
            (52, 200),
            (56, 300),
            (68, 400),
            (100, 9),
            (120, 1234),
            (128, 5678),
            (144, 70),
            (228, 80),
            (232, 90),
        ] {
            info[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        info
    }

    pub(in crate::listing) fn listed(payload: &[u8]) -> ListedSocket {
        socket(payload, 7).unwrap()
    }

    #[test]
    fn a_full_socket_has_its_facts() {
        let shutdown = attribute(8, &[3]);
        let payload = [diag(V6, [1, 4, 2], 99, 5), shutdown, attribute(INET_DIAG_INFO, &info_bytes())].concat();
        let expected = ListedSocket {
            cookie: Some(7 << 32 | 5),
            handle: 99,
            interface: 3,
            ipv6: true,
            receive_queue: 11,
            send_queue: 12,
            timer: Some(Timer { kind: TimerKind::Probe, left_ns: 1_500_000_000 }),
            timeouts: 5,
            probes: 6,
            rto_ns: Some(204_000_000),
            backoff: Some(3),
            uid: Some(1000),
            connection: Some(ConnectionInfo {
                last_sent_ns: 100_000_000,
                last_received_ns: 200_000_000,
                last_ack_ns: 300_000_000,
                srtt_us: Some(400),
                total_retrans: 9,
                bytes_acked: 1234,
                bytes_received: 5678,
                is_accepted: Some(true),
                send_window: Some(80),
                unsent: Some(70),
                receive_window: Some(90),
            }),
            ..ListedSocket::new(
                Kind::Full,
                State::Established,
                7,
                "10.0.0.1:1".parse().unwrap(),
                "[2001:db8::]:2".parse().unwrap(),
            )
        };
        assert_eq!(listed(&payload), expected);
    }

    #[test]
    fn what_a_kernel_does_not_give_is_unknown() {
        let of = |length: usize| {
            let info = attribute(INET_DIAG_INFO, &info_bytes()[..length]);
            let info = listed(&[diag(V4, [1, 0, 0], 1, 1), info].concat()).connection.unwrap();
            (info.bytes_received, info.unsent, info.send_window, info.receive_window)
        };
        assert_eq!(of(136), (5678, None, None, None));
        assert_eq!(of(148), (5678, Some(70), None, None));
        assert_eq!(of(232), (5678, Some(70), Some(80), None), "5.10");
        assert_eq!(of(300), (5678, Some(70), Some(80), Some(90)));
    }

    #[test]
    fn who_has_no_file_was_not_accepted_unless_it_is_of_mptcp() {
        let info = attribute(INET_DIAG_INFO, &info_bytes());
        let of = |inode, more: &[u8]| {
            listed(&[&diag(V4, [1, 0, 0], inode, 1), &info[..], more].concat()).connection.unwrap().is_accepted
        };
        assert_eq!([of(1, &[]), of(0, &[])], [Some(true), Some(false)]);
        assert_eq!(of(0, &attribute(19, b"mptcp")), None);
    }

    #[test]
    fn kinds_are_told_apart() {
        let info = attribute(INET_DIAG_INFO, &info_bytes());
        let request = listed(&diag(V4, [3, 1, 2], 0, 1));
        assert_eq!((request.kind, request.state, request.timeouts), (Kind::Request, State::SynRecv, 2));
        assert_eq!((request.uid, request.handle, request.ipv6), (None, 0, false));
        assert_eq!(request.remote, "32.1.13.184:2".parse().unwrap());
        for state in [2, 3] {
            let beginning = listed(&[diag(V4, [state, 0, 0], 0, 1), info.clone()].concat());
            assert_eq!((beginning.kind, beginning.connection), (Kind::Full, None));
        }
        for (number, state) in [(5, State::FinWait2), (6, State::TimeWait)] {
            let timewait = listed(&diag(V4, [number, 3, 0], 0, 1));
            assert_eq!((timewait.kind, timewait.state, timewait.connection), (Kind::TimeWait, state, None));
            assert_eq!(timewait.timer, Some(Timer { kind: TimerKind::TimeWait, left_ns: 1_500_000_000 }));
        }
        let orphan = listed(&[diag(V4, [5, 2, 9], 0, 1), info.clone()].concat());
        assert_eq!((orphan.kind, orphan.uid, orphan.timeouts), (Kind::Full, None, 5));
        let listener = listed(&[diag(V4, [10, 0, 0], 3, 1), info].concat());
        assert_eq!((listener.kind, listener.connection, listener.timer), (Kind::Full, None, None));
    }

    #[test]
    fn the_timer_tells_of_keepalive_where_it_can() {
        let info = attribute(INET_DIAG_INFO, &info_bytes());
        let of = |state, timer| listed(&[diag(V4, [state, timer, 0], 1, 1), info.clone()].concat()).keepalive.is_on();
        for state in [1, 8] {
            assert_eq!([0, 1, 2, 4].map(|timer| of(state, timer)), [Some(false), None, Some(true), None], "{state}");
        }
        assert_eq!([of(4, 0), of(5, 2), of(10, 0), of(7, 0)], [None; 4]);
        assert_eq!(listed(&diag(V4, [6, 3, 0], 0, 1)).keepalive, Keepalive::Unknown);
    }

    #[test]
    fn what_is_no_socket_is_refused() {
        let whole = [diag(V6, [1, 1, 0], 9, 5), attribute(INET_DIAG_INFO, &info_bytes())].concat();
        for end in (0..whole.len()).filter(|end| *end != 72) {
            assert_eq!(socket(&whole[..end], 7), None, "{end}");
        }
        assert_eq!(socket(&diag(V4, [13, 0, 0], 0, 1), 7), None);
        assert_eq!(socket(&diag(1, [1, 0, 0], 0, 1), 7), None);
        let short_info = attribute(INET_DIAG_INFO, &info_bytes()[..100]);
        assert_eq!(socket(&[diag(V4, [1, 0, 0], 1, 1), short_info].concat(), 7), None);
    }
}
