//! Lists the TCP sockets of a network namespace by sock_diag(7). No privilege is needed.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use tcptrace_common::{
    record::{AF_INET, AF_INET6},
    state::{NEW_SYN_RECV, bit},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{
    inet_diag::{INET_DIAG_INFO, aligned_rest, socket},
    procfs::descriptor,
};
use crate::model::{
    skipped::Skipped,
    socket::ListedSocket,
    state::{State, StateSet},
};

/// Buffer size in bytes for one reply. The kernel fills at most 32 KiB (`net/netlink/af_netlink.c`, `netlink_dump`).
const ANSWER_BYTES: usize = 256 << 10;
/// Maximum number of replies in a dump: enough for a hundred million sockets.
const MAX_ANSWERS: usize = 1 << 20;
/// Receive timeout. The kernel replies at once; a dump whose end was lost is abandoned after this.
static PATIENCE: libc::timeval = libc::timeval { tv_sec: 5, tv_usec: 0 };

/// Lists the TCP sockets of the calling thread's namespace, IPv4 and IPv6, in `states` (empty: in any).
///
/// A socket that moves while the kernel walks its table may be missing. A full socket that becomes a timewait socket
/// may be listed as both, the latter one later.
///
/// # Errors
/// If the kernel lists nothing at all, for example because its modules are not loaded. Later errors are counted.
pub fn list(netns: u32, states: StateSet) -> io::Result<(Vec<ListedSocket>, Skipped)> {
    let mut sockets = Vec::new();
    let mut skipped = Skipped::default();
    for family in [AF_INET, AF_INET6] {
        let dump = with_retry(|| {
            let socket = request_dump(family as u8, states)?;
            receive(netns, |buffer| receive_one(&socket, buffer))
        })?;
        skipped.cut_short += dump.cut_short;
        sockets.extend(dump.sockets);
    }
    Ok((sockets, skipped))
}

/// `struct nlmsghdr`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    pub(super) length: u32,
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) port: u32,
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Request {
    header: Header,
    family: u8,
    protocol: u8,
    extensions: u8,
    padding: u8,
    states: u32,
    /// `struct inet_diag_sockid`.
    id: [u8; 48],
}

impl Request {
    /// A request with these flags about TCP sockets of a family (`AF_INET`, `AF_INET6`) in these states, by bit, or about
    /// the one socket `id`.
    pub(super) fn new(kind: u16, flags: i32, family: u8, states: u32, id: [u8; 48]) -> Self {
        Self {
            header: Header {
                length: size_of::<Self>() as u32,
                kind,
                flags: (libc::NLM_F_REQUEST | flags) as u16,
                sequence: 0,
                port: 0,
            },
            family,
            protocol: libc::IPPROTO_TCP as u8,
            extensions: 1 << (INET_DIAG_INFO - 1),
            padding: 0,
            states,
            id,
        }
    }

    /// Numbers it, so that its reply is recognized.
    pub(super) fn numbered(mut self, sequence: u32) -> Self {
        self.header.sequence = sequence;
        self
    }
}

/// `SOCK_DIAG_BY_FAMILY` of `include/uapi/linux/sock_diag.h`.
pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// A netlink socket for sock_diag in the calling thread's network namespace.
pub(super) fn open() -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes only numbers.
    let socket = descriptor(unsafe {
        libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG)
    })
    .map_err(explained)?;
    // SAFETY: the kernel reads a `timeval`, which exists.
    unsafe {
        let size = size_of_val(&PATIENCE) as u32;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const PATIENCE).cast(), size);
    }
    Ok(socket)
}

/// Sends a request to the kernel.
pub(super) fn send(socket: &OwnedFd, request: &Request) -> io::Result<()> {
    let bytes = request.as_bytes();
    // SAFETY: the kernel reads `bytes.len()` bytes from `bytes`. A netlink socket without a peer sends to the kernel.
    match unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) } {
        -1 => Err(explained(io::Error::last_os_error())),
        _ => Ok(()),
    }
}

/// Receives a message; returns its length, which may be more than the buffer's.
pub(super) fn receive_one(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    let length = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_TRUNC) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

/// Requests a dump; the replies arrive at the returned socket.
fn request_dump(family: u8, states: StateSet) -> io::Result<OwnedFd> {
    let socket = open()?;
    let states = if states.is_empty() { State::ALL.into_iter().collect() } else { states };
    let requests = if states.contains(State::SynRecv) { bit(NEW_SYN_RECV) } else { 0 };
    let states = u32::from(states.bits() | requests);
    send(&socket, &Request::new(SOCK_DIAG_BY_FAMILY, libc::NLM_F_DUMP, family, states, [0; 48]))?;
    Ok(socket)
}

/// Explains the error of a kernel without sock_diag, or without TCP in it.
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

/// The result of a dump so far.
#[derive(Default)]
struct Dump {
    sockets: Vec<ListedSocket>,
    cut_short: u64,
    /// The table changed during the dump, or replies were lost: the kernel itself reports that the dump is incomplete.
    interrupted: bool,
}

/// Repeats a dump that was interrupted. If the second one is incomplete too, that is counted.
fn with_retry(mut dump: impl FnMut() -> io::Result<Dump>) -> io::Result<Dump> {
    let mut last = dump()?;
    if last.interrupted {
        last = dump().unwrap_or(last);
        last.cut_short += u64::from(last.interrupted);
    }
    Ok(last)
}

/// Receives replies to the end of the dump. `next` writes one reply into the buffer and returns its length, as recv(2)
/// with MSG_TRUNC does.
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
    // The end of the dump is missing.
    dump.cut_short += 1;
    Ok(dump)
}

impl Dump {
    /// Parses the messages of a reply (RFC 3549 section 2.3.2). Returns the result of the dump if it ended.
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
                // Both begin with a negative errno, or with 0.
                libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                    return Some(match i32::read_from_prefix(payload) {
                        Ok((errno @ ..0, _)) => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
                        _ => Ok(()),
                    });
                }
                libc::NLMSG_NOOP => {}
                libc::NLMSG_OVERRUN => self.interrupted = true,
                kind => match socket(payload, netns).filter(|_| kind == i32::from(SOCK_DIAG_BY_FAMILY)) {
                    Some(socket) => self.sockets.push(socket),
                    None => self.cut_short += 1,
                },
            }
            answer = aligned_rest(answer, header.length as usize);
        }
        None
    }
}

#[cfg(test)]
mod tests;
