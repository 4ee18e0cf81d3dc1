//! A network namespace for the demo. It is this process's and its children's, has no name, and is gone with the last
//! of them, however they end: nothing is left to clean up.

use std::{io, mem};

use anyhow::{Context as _, Result, bail};

/// Moves this process into a new network namespace with a working loopback device.
pub(crate) fn enter_new() -> Result<()> {
    // SAFETY: unshare takes flags alone. This process has one thread, which is the one that moves.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        bail!(
            "no new network namespace: {}: needs CAP_SYS_ADMIN, so run it as root and outside of a container that drops it",
            io::Error::last_os_error()
        );
    }
    loopback_up().context("lo: cannot be brought up in the new network namespace")
}

fn loopback_up() -> io::Result<()> {
    // SAFETY: socket takes integers alone.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    let result = set_up(socket);
    // SAFETY: the descriptor was opened above and nobody else has it.
    unsafe { libc::close(socket) };
    result
}

fn set_up(socket: libc::c_int) -> io::Result<()> {
    // SAFETY: ifreq is integers, arrays and a union of such; all zeroes is a valid value of it.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // SAFETY: the request is a valid ifreq with a terminated name, and lives through the call.
    if unsafe { libc::ioctl(socket, libc::SIOCGIFFLAGS, &mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: SIOCGIFFLAGS filled this field of the union, and any bits are a valid integer.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    // IFF_UP is 1, so the narrower type of the field loses nothing.
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    // SAFETY: as above.
    if unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
