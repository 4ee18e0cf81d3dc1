//! Socket options that make a socket drop what arrives: packet loss without nftables or netem.

use std::{io, os::fd::AsRawFd};

/// Drops every segment that arrives for this socket, by a socket filter that keeps none of its bytes. The peer sees a
/// network that loses packets.
pub fn drop_input(socket: &impl AsRawFd) -> io::Result<()> {
    let mut instruction = libc::sock_filter {
        // BPF_RET | BPF_K: return the constant, which is how many bytes to keep.
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let program = libc::sock_fprog { len: 1, filter: &mut instruction };
    set(socket, libc::SO_ATTACH_FILTER, &program)
}

/// Undoes [`drop_input`].
pub fn pass_input(socket: &impl AsRawFd) -> io::Result<()> {
    set(socket, libc::SO_DETACH_FILTER, &0_i32)
}

/// Sets an option of the level SOL_SOCKET.
pub fn set<T>(socket: &impl AsRawFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: value points to `size` bytes that live through the call, and the kernel only reads them. What a
    // sock_fprog points to lives as long as its caller's frame.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, std::ptr::from_ref(value).cast(), size)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
