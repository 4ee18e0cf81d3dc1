//! The TCP sockets of a network namespace as sock_diag(7) lists them. No privilege is needed.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd as _,
};

use rustc_hash::FxHashSet;
use tcptrace_common::{
    record::{AF_INET, AF_INET6},
    state::{NEW_SYN_RECV, bit},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::procfs::descriptor;
use crate::{
    event,
    snapshot::{ConnectionInfo, Kind, ListedSocket, Skipped, Timer, TimerKind},
    state::{State, StateSet},
};

/// Bytes for one answer. The kernel fills at most 32 KiB (`net/netlink/af_netlink.c`, `netlink_dump`).
const ANSWER_BYTES: usize = 256 << 10;
/// Answers of one dump at most: room for a hundred million sockets.
const MAX_ANSWERS: usize = 1 << 20;
/// The kernel makes an answer at once; a dump whose end got lost is given up after this.
const PATIENCE: libc::timeval = libc::timeval { tv_sec: 5, tv_usec: 0 };

/// The TCP sockets of the calling thread's namespace, IPv4 and IPv6, that are in `states` (empty: in any), each once.
///
/// A socket that moves while the kernel goes through its table may be missing. One that moves from a full socket to a
/// mini-socket may be seen as both: the mini-socket is kept.
///
/// # Errors
/// Where the kernel lists nothing at all, for example as its modules are not loaded. What comes after is counted.
pub fn list(netns: u32, states: StateSet) -> io::Result<(Vec<ListedSocket>, Skipped)> {
    let mut sockets = Vec::new();
    let mut skipped = Skipped::default();
    for family in [AF_INET, AF_INET6] {
        let dump = with_retry(|| {
            let socket = ask(family as u8, states)?;
            receive(netns, |buffer| {
                // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
                let length = unsafe {
                    libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_TRUNC)
                };
                usize::try_from(length).map_err(|_| io::Error::last_os_error())
            })
        })?;
        skipped.cut_short += dump.cut_short;
        sockets.extend(dump.sockets);
    }
    keep_last(&mut sockets);
    Ok((sockets, skipped))
}

/// Keeps the last of those that are the same socket.
fn keep_last(sockets: &mut Vec<ListedSocket>) {
    let mut seen = FxHashSet::default();
    sockets.reverse();
    sockets.retain(|socket| socket.cookie.is_none_or(|cookie| seen.insert(cookie)));
}

/// `struct nlmsghdr`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Request {
    header: Header,
    family: u8,
    protocol: u8,
    extensions: u8,
    padding: u8,
    states: u32,
    id: [u32; 12],
}

/// `SOCK_DIAG_BY_FAMILY` of `include/uapi/linux/sock_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `INET_DIAG_INFO` of `include/uapi/linux/inet_diag.h`.
const INET_DIAG_INFO: u16 = 2;

/// Asks for a dump; the answers come to the socket.
fn ask(family: u8, states: StateSet) -> io::Result<std::os::fd::OwnedFd> {
    // SAFETY: socket(2) takes numbers only.
    let socket = descriptor(unsafe {
        libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG)
    })
    .map_err(explained)?;
    // SAFETY: the kernel reads a `timeval` from where one is.
    unsafe {
        let size = size_of_val(&PATIENCE) as u32;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const PATIENCE).cast(), size);
    }
    let states = if states.is_empty() { State::ALL.into_iter().collect() } else { states };
    let requests = if states.contains(State::SynRecv) { bit(NEW_SYN_RECV) } else { 0 };
    let request = Request {
        header: Header {
            length: size_of::<Request>() as u32,
            kind: SOCK_DIAG_BY_FAMILY,
            flags: (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16,
            sequence: 0,
            port: 0,
        },
        family,
        protocol: libc::IPPROTO_TCP as u8,
        extensions: 1 << (INET_DIAG_INFO - 1),
        padding: 0,
        states: u32::from(states.bits() | requests),
        id: [0; 12],
    };
    let bytes = request.as_bytes();
    // SAFETY: the kernel reads `bytes.len()` bytes from `bytes`. A netlink socket without a peer sends to the kernel.
    match unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) } {
        -1 => Err(explained(io::Error::last_os_error())),
        _ => Ok(socket),
    }
}

/// Says what a kernel means that does not know sock_diag, or TCP in it.
fn explained(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EPROTONOSUPPORT) => {
            let message = "the kernel cannot list TCP sockets, its modules inet_diag and tcp_diag are not loaded: \
                           `modprobe tcp_diag` loads them";
            io::Error::new(io::ErrorKind::NotFound, message)
        }
        _ => error,
    }
}

/// What a dump has told so far.
#[derive(Default)]
struct Dump {
    sockets: Vec<ListedSocket>,
    cut_short: u64,
    /// The table changed under the dump, or answers were lost: the kernel itself says that it is not whole.
    interrupted: bool,
}

/// Dumps again where the first was interrupted. What is not whole then either stays so, and is counted.
fn with_retry(mut dump: impl FnMut() -> io::Result<Dump>) -> io::Result<Dump> {
    let mut last = dump()?;
    if last.interrupted {
        last = dump().unwrap_or(last);
        last.cut_short += u64::from(last.interrupted);
    }
    Ok(last)
}

/// Takes answers to their end. `next` writes one into the buffer, and gives its length, as recv(2) with MSG_TRUNC does.
fn receive(netns: u32, mut next: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<Dump> {
    let mut dump = Dump::default();
    let mut buffer = vec![0; ANSWER_BYTES];
    for _ in 0..MAX_ANSWERS {
        let end = match next(&mut buffer) {
            Ok(length) => {
                dump.cut_short += u64::from(length > buffer.len());
                dump.take(&buffer[..length.min(buffer.len())], netns)
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => None,
                Some(libc::ENOBUFS) => {
                    dump.interrupted = true;
                    return Ok(dump);
                }
                _ => Some(Err(error)),
            },
        };
        match end {
            None => {}
            Some(Ok(())) => return Ok(dump),
            Some(Err(error)) if dump.sockets.is_empty() => return Err(explained(error)),
            Some(Err(_)) => break,
        }
    }
    // The end is missing.
    dump.cut_short += 1;
    Ok(dump)
}

impl Dump {
    /// Takes the messages of an answer (RFC 3549 section 2.3.2); tells how the dump ended, where it did.
    fn take(&mut self, mut answer: &[u8], netns: u32) -> Option<io::Result<()>> {
        while !answer.is_empty() {
            let message = Header::read_from_prefix(answer)
                .ok()
                .and_then(|(header, _)| Some((answer.get(size_of::<Header>()..header.length as usize)?, header)));
            let Some((payload, header)) = message else {
                self.cut_short += 1;
                return None;
            };
            self.interrupted |= i32::from(header.flags) & libc::NLM_F_DUMP_INTR != 0;
            match i32::from(header.kind) {
                // Both begin with a negative errno, or 0.
                libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                    return Some(match i32::read_from_prefix(payload) {
                        Ok((errno @ ..0, _)) => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
                        _ => Ok(()),
                    });
                }
                libc::NLMSG_NOOP => {}
                libc::NLMSG_OVERRUN => self.interrupted = true,
                _ => match socket(header.kind, payload, netns) {
                    Some(socket) => self.sockets.push(socket),
                    None => self.cut_short += 1,
                },
            }
            answer = aligned_rest(answer, header.length as usize);
        }
        None
    }
}

/// What comes after `length` bytes and their padding to four (`NLMSG_ALIGN`, `NLA_ALIGN`).
fn aligned_rest(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(length.next_multiple_of(4)..).unwrap_or_default()
}

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

/// Numbers of `idiag_timer` (`net/ipv4/inet_diag.c`, `inet_sk_diag_fill` and `inet_twsk_diag_fill`).
const TIMERS: [TimerKind; 4] = [TimerKind::Retransmit, TimerKind::Keepalive, TimerKind::TimeWait, TimerKind::Probe];

/// The socket that a message tells of.
fn socket(kind: u16, payload: &[u8], netns: u32) -> Option<ListedSocket> {
    if kind != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let (message, attributes) = Message::read_from_prefix(payload).ok()?;
    let state = State::from_raw(message.state)?;
    let timer_kind = TIMERS.get(usize::from(message.timer).wrapping_sub(1)).copied();
    let info = tcp_info(attributes)?;
    let kind = match (timer_kind, state, &info) {
        (Some(TimerKind::TimeWait), ..) => Kind::Mini,
        // `inet_req_diag_fill` gives no facts.
        (_, State::SynRecv, None) => Kind::Request,
        _ => Kind::Full,
    };
    let retransmits = if timer_kind == Some(TimerKind::Retransmit) { message.retrans } else { 0 };
    let cookie = u64::from(message.cookie[1]) << 32 | u64::from(message.cookie[0]);
    Some(ListedSocket {
        sk: None,
        cookie: (cookie != 0).then_some(cookie),
        handle: message.inode.into(),
        netns,
        ipv6: event::is_ipv6(message.family.into()),
        state,
        kind,
        local: address(message.family, message.local, message.local_port)?,
        remote: address(message.family, message.remote, message.remote_port)?,
        receive_queue: message.receive_queue,
        send_queue: message.send_queue,
        timer: timer_kind.map(|kind| Timer { kind, left_ns: u64::from(message.expires_ms) * NS_PER_MS }),
        // With other timers the message has the number of probes there.
        timeouts: info.as_ref().map_or(retransmits, |info| info.retransmits),
        probes: info.as_ref().map_or(0, |info| info.probes),
        uid: (message.inode != 0).then_some(message.uid),
        entered_ns: None,
        owner: None,
        connection: info.filter(|_| kind == Kind::Full && state != State::Listen).map(|info| info.connection()),
    })
}

fn address(family: u8, [a, b, c, d, rest @ ..]: [u8; 16], port: [u8; 2]) -> Option<SocketAddr> {
    let address = match u16::from(family) {
        AF_INET => Ipv4Addr::new(a, b, c, d).into(),
        AF_INET6 => event::address([a, b, c, d, rest]),
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_be_bytes(port)))
}

const NS_PER_MS: u64 = 1_000_000;

/// The beginning of `struct tcp_info` (`include/uapi/linux/tcp.h`), which has grown and may grow further.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Info {
    state: u8,
    ca_state: u8,
    retransmits: u8,
    probes: u8,
    to_unacked: [u32; 10],
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
}

impl Info {
    fn connection(&self) -> ConnectionInfo {
        ConnectionInfo {
            last_sent_ns: u64::from(self.last_data_sent_ms) * NS_PER_MS,
            last_received_ns: u64::from(self.last_data_received_ms) * NS_PER_MS,
            last_ack_ns: u64::from(self.last_ack_received_ms) * NS_PER_MS,
            srtt_us: (self.rtt_us != 0).then_some(self.rtt_us),
            total_retrans: self.total_retrans,
            bytes_acked: self.bytes_acked,
            bytes_received: self.bytes_received,
        }
    }
}

/// The `struct tcp_info` among attributes, if there is one; `None` where they cannot be understood.
fn tcp_info(mut attributes: &[u8]) -> Option<Option<Info>> {
    /// Bits of `nla_type` that are no flags (`NLA_TYPE_MASK`).
    const TYPE: u16 = 0x3fff;
    while !attributes.is_empty() {
        let ([length, kind], _) = <[u16; 2]>::read_from_prefix(attributes).ok()?;
        let value = attributes.get(4..length.into())?;
        if kind & TYPE == INET_DIAG_INFO {
            return Info::read_from_prefix(value).ok().map(|(info, _)| Some(info));
        }
        attributes = aligned_rest(attributes, length.into());
    }
    Some(None)
}
