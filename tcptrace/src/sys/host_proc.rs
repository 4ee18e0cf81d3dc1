//! A container with a PID namespace of its own may still have the host's `/proc`, mounted elsewhere: with
//! `docker run -v /proc:/host/proc`, or below a mount of the host's root. `/proc` of this process then becomes that one,
//! so that holders of sockets, executables and containers are found as on the host.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use rustix::{
    mount::{MountPropagationFlags, mount_bind, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

use crate::sys::{mountinfo, pids};

/// The mount namespace from before, if this process has one of its own.
static ORIGINAL: OnceLock<File> = OnceLock::new();

/// Puts the host's `/proc`, if it is mounted elsewhere, in the place of that of an own PID namespace, for this process
/// alone. Returns where it was mounted. Call it before other threads start, and before [`pids::view`].
///
/// # Errors
/// If it is there but cannot be used: that takes CAP_SYS_ADMIN. The path names it.
pub fn adopt() -> Result<Option<PathBuf>, (PathBuf, io::Error)> {
    if pids::is_host_proc(Path::new("/proc")) {
        return Ok(None);
    }
    let Ok(mountinfo) = mountinfo::read() else { return Ok(None) };
    let mut mounts = mountinfo::mounts(&mountinfo).filter(|mount| mount.kind == b"proc");
    let Some(found) = mounts.find(|mount| pids::is_host_proc(&mount.point)) else { return Ok(None) };
    let point = found.point;
    match bind(&point) {
        Ok(()) => Ok(Some(point)),
        Err(error) => Err((point, error)),
    }
}

/// In a mount namespace of its own, which still receives the mounts of the old one: network namespaces are found by
/// mounts, too.
fn bind(point: &Path) -> io::Result<()> {
    let original = File::open("/proc/self/ns/mnt")?;
    // SAFETY: only flags that unshare descriptors are unsafe.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    mount_bind(point, "/proc")?;
    _ = ORIGINAL.set(original);
    Ok(())
}

/// Returns to the mount namespace from before: a program that tcptrace starts sees the `/proc` of its own PIDs. It stays in
/// this one if it may not, which takes CAP_SYS_CHROOT. For a new process before its program starts: makes only a system call.
pub fn leave() {
    if let Some(original) = ORIGINAL.get() {
        // SAFETY: takes numbers only.
        unsafe { libc::setns(original.as_raw_fd(), libc::CLONE_NEWNS) };
    }
}
