//! Addresses and ports of a connection.

use tcptrace_common::record::{AF_INET, AF_INET6, Socket};

use super::ptr::{KernelPtr, probe_read};
use crate::config::{config, member};

/// Addresses and ports as [`Socket`] has them, each address as two native words.
#[derive(Clone, Copy)]
pub(crate) struct Tuple {
    pub(crate) family: u16,
    pub(crate) local: [u64; 2],
    pub(crate) remote: [u64; 2],
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    /// Inode number of the network namespace.
    pub(crate) netns: u32,
}

/// `::ffff:a.b.c.d` for an IPv4 address in network order, as two little-endian words.
#[inline(always)]
pub(crate) const fn v4_mapped(address: u32) -> [u64; 2] {
    [0, (address as u64) << 32 | 0xffff_0000]
}

/// The bytes of two native words.
#[inline(always)]
pub(crate) const fn bytes_of([low, high]: [u64; 2]) -> [u8; 16] {
    (low as u128 | (high as u128) << 64).to_le_bytes()
}

impl Tuple {
    /// The family of the addresses: [`AF_INET`] for an IPv6 socket that uses IPv4.
    #[inline(always)]
    pub(crate) fn effective_family(&self) -> u16 {
        let is_mapped = |[first, second]: [u64; 2]| first == 0 && second as u32 == 0xffff_0000;
        if is_mapped(self.remote) || is_mapped(self.local) { AF_INET } else { self.family }
    }

    /// Writes all of `to`.
    #[inline(always)]
    pub(crate) fn write(&self, to: *mut Socket, state: u8, flags: u16) {
        // SAFETY: `to` points into a reserved record and is aligned to 4 bytes; the words cover the two addresses.
        unsafe {
            let local = (&raw mut (*to).local).cast::<u64>();
            local.write_unaligned(self.local[0]);
            local.add(1).write_unaligned(self.local[1]);
            let remote = (&raw mut (*to).remote).cast::<u64>();
            remote.write_unaligned(self.remote[0]);
            remote.add(1).write_unaligned(self.remote[1]);
            (*to).local_port = self.local_port;
            (*to).remote_port = self.remote_port;
            (*to).family = self.family;
            (*to).flags = flags;
            (*to).netns = self.netns;
            // The state and its padding as one word, see `mem`.
            (&raw mut (*to).state).cast::<u32>().write(u32::from(state).to_le());
        }
    }

    /// The connection of a received packet, as seen from this host: the packet's destination is local.
    #[inline(always)]
    pub(crate) fn of_received_packet(skb: KernelPtr) -> Option<Self> {
        let head: u64 = skb.load(member!(sk_buff_head));
        let network: u16 = skb.load(member!(sk_buff_network_header));
        let transport: u16 = skb.load(member!(sk_buff_transport_header));
        // The version, then the addresses: 8 bytes at offset 12 for IPv4, 32 bytes at offset 8 for IPv6.
        let first: u8 = probe_read(head + u64::from(network))?;
        let (family, remote, local) = match first >> 4 {
            4 => {
                let [source, destination]: [u32; 2] = probe_read(head + u64::from(network) + 12)?;
                (AF_INET, v4_mapped(source), v4_mapped(destination))
            }
            6 => {
                let [a, b, c, d]: [u64; 4] = probe_read(head + u64::from(network) + 8)?;
                (AF_INET6, [a, b], [c, d])
            }
            _ => return None,
        };
        let [remote_port, local_port]: [u16; 2] = probe_read(head + u64::from(transport))?;
        Some(Self {
            family,
            local,
            remote,
            local_port: u16::from_be(local_port),
            remote_port: u16::from_be(remote_port),
            netns: netns_of_packet(skb.address()).unwrap_or(0),
        })
    }
}

/// The network namespace of the device that received the packet (`struct net_device`).
#[inline(always)]
fn netns_of_packet(skb: u64) -> Option<u32> {
    let device: u64 = probe_read(skb + u64::from(config!(layout.sk_buff_dev)))?;
    let net: u64 = probe_read(device + u64::from(config!(layout.net_device_nd_net)))?;
    probe_read(net + u64::from(config!(layout.net_ns_inum)))
}
