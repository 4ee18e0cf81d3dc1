//! Compact representations of parts of a socket.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use crate::model::event::address;

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
#[derive(Clone, Copy)]
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
}

impl fmt::Debug for PackedAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
