//! Compact representations of parts of a socket.

use std::{
    fmt,
    hash::{BuildHasher as _, Hasher as _},
    net::{IpAddr, SocketAddr},
};

use crate::model::{event::address, keyed::Keyed};

/// An optional number in 8 bytes: `u64::MAX`, which is no valid time, cookie or kernel address, stands for `None`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct NicheU64(pub(super) u64);

impl NicheU64 {
    pub(super) const NONE: Self = Self(u64::MAX);

    pub(super) fn new(number: Option<u64>) -> Self {
        number.map_or(Self::NONE, Self)
    }

    pub(super) fn get(self) -> Option<u64> {
        (self != Self::NONE).then_some(self.0)
    }
}

impl fmt::Debug for NicheU64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// A socket address in 18 bytes instead of 32; IPv4 is IPv4-mapped, as in records.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct PackedAddr {
    address: [u8; 16],
    port: u16,
}

impl PackedAddr {
    pub(super) fn new(end: SocketAddr) -> Self {
        let address = match end.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        Self { address: address.octets(), port: end.port() }
    }

    pub(super) fn get(self) -> SocketAddr {
        SocketAddr::new(address(self.address), self.port)
    }

    fn is_loopback(&self) -> bool {
        const MAPPED_127: [u8; 13] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127];
        self.address.starts_with(&MAPPED_127) || u128::from_be_bytes(self.address) == 1
    }
}

/// The two ends of a socket, and its network namespace if they are unique only there: each has a loopback device of its
/// own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    netns: u32,
    local: PackedAddr,
    remote: PackedAddr,
}

impl Ends {
    pub(super) fn new(netns: Option<u32>, local: PackedAddr, remote: PackedAddr) -> Self {
        let is_loopback = local.is_loopback() || remote.is_loopback();
        Self { netns: netns.filter(|_| is_loopback).unwrap_or(0), local, remote }
    }

    /// The ends of the socket at the other end.
    pub(super) const fn swapped(self) -> Self {
        Self { netns: self.netns, local: self.remote, remote: self.local }
    }

    /// False for listeners, and while no local port is chosen.
    pub(super) const fn are_both_known(&self) -> bool {
        self.local.port != 0 && self.remote.port != 0
    }

    /// Peers choose addresses and ports, so the key of the run is in it.
    pub(super) fn hash(&self) -> u64 {
        let mut bytes = [0; 40];
        bytes[..4].copy_from_slice(&self.netns.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.local.port.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.remote.port.to_ne_bytes());
        bytes[8..24].copy_from_slice(&self.local.address);
        bytes[24..].copy_from_slice(&self.remote.address);
        let mut hasher = Keyed.build_hasher();
        hasher.write(&bytes);
        hasher.finish()
    }
}

impl fmt::Debug for PackedAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_unique_in_a_namespace_or_on_the_host() {
        let ends = |netns, local: &str, remote: &str| {
            let packed = |end: &str| PackedAddr::new(end.parse().unwrap());
            Ends::new(netns, packed(local), packed(remote))
        };
        let (one, other) = ("10.0.0.1:1", "10.0.0.2:2");
        assert!(ends(Some(1), one, other) == ends(Some(2), one, other));
        assert!(ends(Some(1), one, other).swapped() == ends(None, other, one));
        for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
            assert!(ends(Some(1), loopback, loopback) != ends(Some(2), loopback, loopback));
            assert_ne!(ends(Some(1), loopback, loopback).hash(), ends(Some(2), loopback, loopback).hash());
        }
        assert!(ends(Some(1), "[::2]:1", "[::127]:1") == ends(Some(2), "[::2]:1", "[::127]:1"));
        assert!(!ends(None, "10.0.0.1:80", "0.0.0.0:0").are_both_known());
    }
}
