//! Addresses that stand for others in an anonymous recording. They are taken from ranges that no host has: 240.0.0.0/4
//! (RFC 1112 section 4, reserved) and 100::/64 (RFC 6666, discard only).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Number of addresses.
pub const HOSTS: u32 = 1 << 24;

/// The address that stands for the host with this number, from 0.
#[must_use]
pub fn address(number: u32, is_v4: bool) -> IpAddr {
    let number = number % HOSTS;
    if is_v4 {
        Ipv4Addr::from(0xf000_0000 | number).into()
    } else {
        Ipv6Addr::from((0x0100_u128 << 112) | u128::from(number)).into()
    }
}

/// The name of the host that an address stands for, e.g. `host-3`; `None` if it stands for itself.
#[must_use]
pub fn host(address: IpAddr) -> Option<String> {
    let number = match address {
        IpAddr::V4(v4) if u32::from(v4) >> 24 == 0xf0 => u32::from(v4) & (HOSTS - 1),
        IpAddr::V6(v6) if u128::from(v6) >> 64 == 0x0100 << 48 => u128::from(v6) as u32 & (HOSTS - 1),
        _ => return None,
    };
    Some(format!("host-{}", number + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_the_number_of_their_host() {
        for is_v4 in [true, false] {
            assert_eq!(host(address(0, is_v4)).as_deref(), Some("host-1"));
            assert_eq!(host(address(HOSTS - 1, is_v4)), Some(format!("host-{HOSTS}")));
            assert_eq!(address(7, is_v4).is_ipv4(), is_v4);
        }
        assert_eq!([host([127, 0, 0, 1].into()), host([10, 0, 0, 1].into())], [None, None]);
        assert_eq!(host(Ipv6Addr::LOCALHOST.into()), None);
    }
}
