//! Looks up and ends single sockets by sock_diag(7): `SOCK_DESTROY` (`net/ipv4/tcp_diag.c`, `tcp_diag_destroy`), which
//! kernels have since 4.5 if built with CONFIG_INET_DIAG_DESTROY.
//!
//! The kernel finds the socket by its two ends and device, and compares the cookie of the request with that of the
//! socket, which no other socket has until reboot (`net/core/sock_diag.c`, `sock_diag_check_cookie`). So a socket that
//! took over the two ends is never ended in place of the one that was meant.
//!
//! What ending does (`net/ipv4/tcp.c`, `tcp_abort`): the peer gets a RST if the state is one of ESTABLISHED, SYN_RECV,
//! FIN_WAIT1, FIN_WAIT2 and CLOSE_WAIT, and the error of the socket is ECONNABORTED. A timewait socket and a half-open
//! request just go. A listener stops listening, and the connections that wait to be accepted are reset. The process
//! keeps its descriptor until it closes it.

use std::{io, net::IpAddr, os::fd::OwnedFd};

use tcptrace_common::record::{AF_INET, AF_INET6};
use zerocopy::FromBytes as _;

use super::{
    inet_diag::socket,
    sock_diag::{self, Header, Request, SOCK_DIAG_BY_FAMILY},
};
use crate::model::{
    socket::{Kind, ListedSocket},
    state::State,
};

/// `SOCK_DESTROY` of `include/uapi/linux/sock_diag.h`.
const SOCK_DESTROY: u16 = 21;
/// Buffer size in bytes for a reply, which is about one socket.
const ANSWER_BYTES: usize = 16 << 10;
/// Most replies that are skipped because they belong to an earlier request.
const MAX_LATE: usize = 64;

/// Looks up and ends sockets of one network namespace.
#[derive(Debug)]
pub struct Destroyer {
    netlink: OwnedFd,
    sequence: u32,
}

impl Destroyer {
    /// Opens it for the calling thread's network namespace.
    ///
    /// # Errors
    /// If the kernel has no sock_diag.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: sock_diag::open()?, sequence: 0 })
    }

    /// The socket as it is now, found by its ends and cookie.
    ///
    /// # Errors
    /// ENOENT if it is gone.
    pub fn look_up(&mut self, wanted: &ListedSocket) -> io::Result<ListedSocket> {
        let answer = self.exchange(SOCK_DIAG_BY_FAMILY, 0, wanted)?;
        answer.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the kernel's reply has no socket"))
    }

    /// Ends it.
    ///
    /// # Errors
    /// ENOENT if it is gone, EPERM without CAP_NET_ADMIN in the user namespace of the network namespace, EOPNOTSUPP if the
    /// kernel cannot do it.
    pub fn destroy(&mut self, wanted: &ListedSocket) -> io::Result<()> {
        self.exchange(SOCK_DESTROY, libc::NLM_F_ACK, wanted).map(drop)
    }

    /// Whether the kernel can end sockets. Asks it to end one that cannot exist, between two ends without a port: where
    /// it can, it does not find it.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn is_possible(&mut self) -> io::Result<bool> {
        let nowhere = ([0, 0, 0, 0], 0).into();
        // `u64::MAX` would stand for any (`INET_DIAG_NOCOOKIE`).
        let none = ListedSocket::new(Kind::Full, State::Established, 0, nowhere, nowhere);
        let none = ListedSocket { cookie: Some(u64::MAX - 1), ..none };
        match self.destroy(&none).map_err(|error| error.raw_os_error()) {
            // EINVAL before 4.5 (`net/core/sock_diag.c`, `sock_diag_rcv_msg`).
            Err(Some(libc::EOPNOTSUPP | libc::EINVAL)) => Ok(false),
            Err(Some(libc::ENOENT)) | Ok(()) => Ok(true),
            Err(errno) => Err(errno.map_or_else(|| io::ErrorKind::Other.into(), io::Error::from_raw_os_error)),
        }
    }

    /// Sends a request about one socket; returns the socket in the reply, if there is one.
    fn exchange(&mut self, kind: u16, flags: i32, wanted: &ListedSocket) -> io::Result<Option<ListedSocket>> {
        let Some(id) = id(wanted) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has no cookie"));
        };
        self.sequence = self.sequence.wrapping_add(1);
        let request = Request::new(kind, flags, family(wanted), u32::MAX, id).numbered(self.sequence);
        sock_diag::send(&self.netlink, &request)?;
        let mut buffer = vec![0; ANSWER_BYTES];
        for _ in 0..MAX_LATE {
            let length = match sock_diag::receive_one(&self.netlink, &mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                length => length?.min(buffer.len()),
            };
            if let Some(answer) = answer(buffer.get(..length).unwrap_or_default(), self.sequence, wanted.netns) {
                return answer;
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// Reads a reply; `None` if it belongs to another request.
fn answer(bytes: &[u8], sequence: u32, netns: u32) -> Option<io::Result<Option<ListedSocket>>> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's reply is malformed");
    let Ok((header, _)) = Header::read_from_prefix(bytes) else { return Some(Err(broken())) };
    if header.sequence != sequence {
        return None;
    }
    let payload = bytes.get(size_of::<Header>()..header.length as usize);
    let Some(payload) = payload else { return Some(Err(broken())) };
    Some(match i32::from(header.kind) {
        libc::NLMSG_ERROR => match i32::read_from_prefix(payload) {
            Ok((0, _)) => Ok(None),
            Ok((errno, _)) => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
            Err(_) => Err(broken()),
        },
        kind if kind == i32::from(SOCK_DIAG_BY_FAMILY) => socket(payload, netns).map(Some).ok_or_else(broken),
        _ => Err(broken()),
    })
}

/// IPv4 also for a connection over IPv4 of an IPv6 socket; but not for a listener, whose addresses are `[::]`.
fn family(socket: &ListedSocket) -> u8 {
    (if socket.local.is_ipv4() && socket.remote.is_ipv4() { AF_INET } else { AF_INET6 }) as u8
}

/// `struct inet_diag_sockid`: ports and addresses in network byte order, device, and the halves of the cookie; `None`
/// without a cookie.
fn id(socket: &ListedSocket) -> Option<[u8; 48]> {
    let cookie = socket.cookie?;
    let is_v4 = family(socket) == AF_INET as u8;
    let address = |address: IpAddr| {
        let mut bytes = [0; 16];
        match address {
            IpAddr::V4(v4) if is_v4 => bytes[..4].copy_from_slice(&v4.octets()),
            IpAddr::V4(v4) => bytes = v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => bytes = v6.octets(),
        }
        bytes
    };
    let mut id = [0; 48];
    id[..2].copy_from_slice(&socket.local.port().to_be_bytes());
    id[2..4].copy_from_slice(&socket.remote.port().to_be_bytes());
    id[4..20].copy_from_slice(&address(socket.local.ip()));
    id[20..36].copy_from_slice(&address(socket.remote.ip()));
    id[36..40].copy_from_slice(&socket.interface.to_ne_bytes());
    id[40..44].copy_from_slice(&(cookie as u32).to_ne_bytes());
    id[44..48].copy_from_slice(&((cookie >> 32) as u32).to_ne_bytes());
    Some(id)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    };

    use super::*;
    use crate::{listing::netns::in_fresh_netns, model::state::StateSet};

    fn pair(at: &str) -> (TcpListener, TcpStream, TcpStream) {
        let listener = TcpListener::bind(at).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (listener, client, server)
    }

    fn listed(local: SocketAddr, state: State) -> ListedSocket {
        let (sockets, _) = sock_diag::list(7, StateSet::default()).unwrap();
        let is_it = |socket: &&ListedSocket| socket.local.port() == local.port() && socket.state == state;
        *sockets.iter().find(is_it).unwrap()
    }

    #[test]
    fn the_socket_with_the_cookie_is_ended_and_no_other() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            in_fresh_netns(|| {
                let (_listener, client, mut server) = pair(at);
                client.shutdown(Shutdown::Write).unwrap();
                assert_eq!(server.read(&mut [0]).unwrap(), 0);
                let mut destroyer = Destroyer::open().unwrap();
                let leaked = listed(server.local_addr().unwrap(), State::CloseWait);
                assert_eq!(destroyer.look_up(&leaked).unwrap().cookie, leaked.cookie);
                let other = ListedSocket { cookie: leaked.cookie.map(|cookie| cookie + 1), ..leaked };
                let errno = |result: io::Result<()>| result.unwrap_err().raw_os_error();
                assert_eq!(errno(destroyer.destroy(&other)), Some(libc::ENOENT));
                assert_eq!(destroyer.look_up(&leaked).unwrap().state, State::CloseWait);
                if !destroyer.is_possible().unwrap() {
                    return eprintln!("skipped: the kernel has no CONFIG_INET_DIAG_DESTROY");
                }
                destroyer.destroy(&leaked).unwrap();
                assert_eq!(server.write(b"x").unwrap_err().raw_os_error(), Some(libc::ECONNABORTED));
                assert_eq!(errno(destroyer.destroy(&leaked)), Some(libc::ENOENT), "{at}");
                assert_eq!(destroyer.look_up(&leaked).unwrap_err().raw_os_error(), Some(libc::ENOENT));
            });
        }
    }

    #[test]
    fn a_connection_over_ipv4_of_an_ipv6_socket_is_found() {
        in_fresh_netns(|| {
            let listener = TcpListener::bind("[::]:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (server, _) = listener.accept().unwrap();
            let mut destroyer = Destroyer::open().unwrap();
            for socket in [
                listed(server.local_addr().unwrap(), State::Established),
                listed(client.local_addr().unwrap(), State::Established),
                listed(listener.local_addr().unwrap(), State::Listen),
            ] {
                assert_eq!(destroyer.look_up(&socket).unwrap().cookie, socket.cookie);
            }
        });
    }

    #[test]
    fn replies_to_other_requests_are_skipped_and_broken_ones_refused() {
        let header = |length: u32, kind: i32, sequence: u32| {
            [&length.to_ne_bytes()[..], &(kind as u16).to_ne_bytes(), &[0; 2], &sequence.to_ne_bytes(), &[0; 4]]
                .concat()
        };
        let error =
            |errno: i32, sequence| [header(20, libc::NLMSG_ERROR, sequence), errno.to_ne_bytes().to_vec()].concat();
        assert!(answer(&error(0, 3), 4, 7).is_none());
        assert!(matches!(answer(&error(0, 4), 4, 7), Some(Ok(None))));
        let errno = |bytes: &[u8]| answer(bytes, 4, 7).unwrap().unwrap_err().raw_os_error();
        assert_eq!(errno(&error(-libc::ENOENT, 4)), Some(libc::ENOENT));
        assert_eq!(errno(&error(i32::MIN, 4)), Some(i32::MAX));
        for broken in [
            vec![],
            vec![0; 15],
            header(99, libc::NLMSG_ERROR, 4),
            header(16, libc::NLMSG_ERROR, 4),
            header(16, 20, 4),
            header(16, 77, 4),
        ] {
            assert_eq!(answer(&broken, 4, 7).unwrap().unwrap_err().kind(), io::ErrorKind::InvalidData, "{broken:?}");
        }
    }
}
