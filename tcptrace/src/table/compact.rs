//! Parts of a socket in fewer bytes than their own types take.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use crate::model::event::address;

/// A number that may be missing, in 8 bytes: then it is the greatest, which no time, cookie or address of the kernel is.
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

/// An end, in 18 bytes instead of 32; IPv4 in IPv6, as records have it.
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
