//! Finds the next hop toward an address, and whether that neighbour answers ARP (RFC 826) or neighbour discovery (RFC
//! 4861), by rtnetlink(7). No privilege is needed.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd as _, OwnedFd},
};

use tcptrace_common::record::{AF_INET, AF_INET6};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{inet_diag::attributes, procfs::descriptor, sock_diag::Header};
use crate::{model::snapshot::NextHop, sys::clock::now_ns};

/// Maximum number of destinations per listing.
const MAX_ASKED: usize = 64;
/// Buffer size in bytes for one reply: one route or one neighbour.
const ANSWER_BYTES: usize = 8 << 10;

/// Types of messages and attributes (`include/uapi/linux/rtnetlink.h`, `neighbour.h`).
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_VIA: u16 = 18;
const NDA_DST: u16 = 1;

const NUD_INCOMPLETE: u16 = 0x01;
const NUD_REACHABLE: u16 = 0x02;
const NUD_FAILED: u16 = 0x20;

/// Length of `struct rtmsg` and of `struct ndmsg`.
const BODY_BYTES: usize = 12;

/// Next hops toward the destinations in namespace `netns`, which the calling thread must be in.
pub(super) fn next_hops(asked: &[(u32, IpAddr)], netns: u32) -> Vec<NextHop> {
    let here = asked.iter().filter(|(other, _)| *other == netns).take(MAX_ASKED);
    here.filter_map(|(_, remote)| next_hop(netns, *remote).ok().flatten()).collect()
}

/// `None` if the kernel has no route, or none through a link.
fn next_hop(netns: u32, remote: IpAddr) -> io::Result<Option<NextHop>> {
    // SAFETY: socket(2) takes only numbers.
    let socket = descriptor(unsafe {
        libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE)
    })?;
    let (family, address) = bytes_of(remote);
    let mut body = [0; BODY_BYTES];
    (body[0], body[1]) = (family, 8 * address.len() as u8);
    let Some(route) = request(&socket, RTM_GETROUTE, RTM_NEWROUTE, body, (RTA_DST, &address))? else { return Ok(None) };
    let (mut hop, mut link) = (remote, None);
    for (kind, value) in attributes(route.get(BODY_BYTES..).unwrap_or_default()).flatten() {
        match kind {
            RTA_OIF => link = i32::read_from_bytes(value).ok(),
            RTA_GATEWAY => hop = address_of(value).unwrap_or(hop),
            // A gateway of the other address family, preceded by the number of its family.
            RTA_VIA => hop = value.get(2..).and_then(address_of).unwrap_or(hop),
            _ => {}
        }
    }
    let Some(link) = link else { return Ok(None) };
    let (family, address) = bytes_of(hop);
    let mut body = [0; BODY_BYTES];
    body[0] = family;
    body[4..8].copy_from_slice(&link.to_ne_bytes());
    let neighbour = request(&socket, RTM_GETNEIGH, RTM_NEWNEIGH, body, (NDA_DST, &address))?;
    let state = neighbour.as_ref().and_then(|neighbour| u16::read_from_bytes(neighbour.get(8..10)?).ok());
    let answers = match state {
        Some(NUD_REACHABLE) => Some(true),
        // A lookup right after a failure finds it incomplete.
        Some(NUD_FAILED | NUD_INCOMPLETE) => Some(false),
        _ => None,
    };
    Ok(Some(NextHop { netns, remote, hop, answers, read_ns: now_ns() }))
}

/// Sends a request with one attribute. Returns the payload of the reply after its header; `None` if the kernel has no
/// such entry.
fn request(
    socket: &OwnedFd,
    kind: u16,
    answer: u16,
    body: [u8; BODY_BYTES],
    (attribute, value): (u16, &[u8]),
) -> io::Result<Option<Vec<u8>>> {
    let attribute = [4 + value.len() as u16, attribute];
    let header = Header {
        length: (size_of::<Header>() + BODY_BYTES + attribute.as_bytes().len() + value.len()) as u32,
        kind,
        flags: libc::NLM_F_REQUEST as u16,
        sequence: 0,
        port: 0,
    };
    let request = [header.as_bytes(), &body, attribute.as_bytes(), value].concat();
    let mut buffer = vec![0; ANSWER_BYTES];
    // SAFETY: the kernel reads and writes within these buffers. The reply is there when send(2) returns
    // (`net/netlink/af_netlink.c`, `netlink_unicast_kernel`).
    let length = unsafe {
        if libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    };
    buffer.truncate(usize::try_from(length).map_err(|_| io::Error::last_os_error())?);
    let Ok((header, _)) = Header::read_from_prefix(&buffer) else { return Ok(None) };
    let end = buffer.len().min(header.length as usize);
    Ok(buffer.get(size_of::<Header>()..end).filter(|_| header.kind == answer).map(<[u8]>::to_vec))
}

fn bytes_of(address: IpAddr) -> (u8, Vec<u8>) {
    match address.to_canonical() {
        IpAddr::V4(address) => (AF_INET as u8, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6 as u8, address.octets().to_vec()),
    }
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into())).ok()
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, process::Command};

    use super::*;
    use crate::listing::netns::in_fresh_netns;

    fn ip(arguments: &str) {
        let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
        assert!(status.success(), "ip {arguments}");
    }

    fn hop(remote: &str) -> Option<(String, Option<bool>)> {
        let hops = next_hops(&[(1, remote.parse().unwrap()), (2, remote.parse().unwrap())], 1);
        assert!(hops.len() <= 1);
        hops.first().map(|hop| (hop.hop.to_string(), hop.answers))
    }

    #[test]
    fn the_next_hop_is_a_neighbour_or_a_gateway_that_answers_or_not() {
        in_fresh_netns(|| {
            assert_eq!(hop("10.9.0.2"), None, "no route");
            ip("link set lo up");
            ip("link add near type veth peer name other");
            ip("addr add 10.9.0.1/24 dev near");
            ip("addr add fd00:9::1/64 dev near nodad");
            ip("link set near up");
            ip("link set other up");
            ip("route add 10.10.0.0/16 via 10.9.0.9");
            let silent = |hop: &str| Some((hop.to_owned(), Some(false)));
            for (remote, via) in [("10.9.0.2", "10.9.0.2"), ("10.10.0.7", "10.9.0.9"), ("fd00:9::2", "fd00:9::2")] {
                assert_eq!(hop(remote), Some((via.to_owned(), None)), "nobody has asked");
                let target: IpAddr = remote.parse().unwrap();
                let socket = UdpSocket::bind(if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
                socket.send_to(b"?", (target, 9)).unwrap();
                // In progress, or failed by now.
                assert_eq!(hop(remote), silent(via));
            }
            ip("neigh replace 10.9.0.3 lladdr 02:00:00:00:00:03 dev near nud reachable");
            assert_eq!(hop("10.9.0.3"), Some(("10.9.0.3".to_owned(), Some(true))));
            ip("neigh replace 10.9.0.3 lladdr 02:00:00:00:00:03 dev near nud stale");
            assert_eq!(hop("10.9.0.3"), Some(("10.9.0.3".to_owned(), None)));
        });
    }
}
