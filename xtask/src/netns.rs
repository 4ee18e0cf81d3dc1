//! A network namespace without a name: it belongs to this process and its children, and ends with the last of them.

use std::{io, mem, net::UdpSocket, os::fd::AsRawFd as _};

use anyhow::{Context as _, Result, bail};

/// Moves this process, which must have one thread, into a new network namespace with a working loopback device.
pub fn enter_new() -> Result<()> {
    // SAFETY: unshare only takes flags.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        bail!(
            "no new network namespace: {}: needs CAP_SYS_ADMIN, so run it as root and outside of a container that drops it",
            io::Error::last_os_error()
        );
    }
    loopback_up().context("lo: cannot be brought up in the new network namespace")
}

fn loopback_up() -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: ifreq is integers, arrays and a union of such; all zeroes is a valid value of it.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // A new loopback device has no other flag that can be set. IFF_UP is 1, so the narrower type loses nothing.
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request is a valid ifreq with a terminated name, and lives through the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
