//! Names of addresses, from the system's resolver.

use std::{
    ffi::{CStr, c_char},
    net::{IpAddr, SocketAddr},
    ptr,
};

use socket2::SockAddr;

/// `NI_MAXHOST` of `netdb.h`.
const MAX_NAME: usize = 1025;

/// The name of an address as the resolver gives it (getnameinfo(3)): from `/etc/hosts`, DNS, or what `/etc/nsswitch.conf`
/// says. Takes as long as the slowest of these.
#[must_use]
pub fn name(address: IpAddr) -> Option<String> {
    let socket = SockAddr::from(SocketAddr::new(address, 0));
    let mut host = [0 as c_char; MAX_NAME];
    // SAFETY: both pointers are valid for the lengths given; no service is asked for.
    let result = unsafe {
        let (room, none) = (host.len() as libc::socklen_t, ptr::null_mut());
        libc::getnameinfo(socket.as_ptr().cast(), socket.len(), host.as_mut_ptr(), room, none, 0, libc::NI_NAMEREQD)
    };
    let bytes = host.map(|byte| byte as u8);
    let name = CStr::from_bytes_until_nul(&bytes).ok().filter(|name| result == 0 && !name.is_empty())?;
    Some(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_knows_this_host_and_not_every_address() {
        let listed = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let names = listed.lines().find(|line| line.split_ascii_whitespace().next() == Some("127.0.0.1"));
        match names.and_then(|line| line.split_ascii_whitespace().nth(1)) {
            Some(first) => assert_eq!(name(IpAddr::from([127, 0, 0, 1])).as_deref(), Some(first)),
            None => eprintln!("skipped: /etc/hosts has no name for 127.0.0.1"),
        }
        assert_eq!(name(IpAddr::from([0, 0, 0, 0])), None);
    }
}
