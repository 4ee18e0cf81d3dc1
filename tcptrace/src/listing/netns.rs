//! Finds the network namespaces of this host, and enters them.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io,
    net::UdpSocket,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustc_hash::FxHashSet;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use thiserror::Error;

use super::procfs::{self, Directory, descriptor, is_denied, is_gone, joined};
use crate::{
    model::{netns_choice::NetnsChoice, skipped::Skipped},
    sys::{capabilities::Capabilities, pids},
};

/// Where ip-netns(8) keeps named namespaces.
pub(super) const NAMES: &str = "/run/netns";
/// The namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace, and how to enter it.
#[derive(Debug)]
pub struct Netns {
    /// Inode number of its nsfs file.
    pub inode: u32,
    /// Its name in `/run/netns`; the first if there are several.
    pub name: Option<String>,
    /// Its cookie ([`cookie`]) if it must be exactly this namespace: names and inode numbers are reused.
    pub cookie: Option<u64>,
    pub(super) entrance: NetnsHandle,
}

/// Whether the namespace has this name now. The name keeps it alive, so that its inode number is not reused in the
/// meantime.
#[must_use]
pub fn is_called(name: &str, inode: u32) -> bool {
    let is_it = |found: &Netns| found.inode == inode && found.name.as_deref() == Some(name);
    // After lossy conversion the name is not a file name.
    let is_inexact = name.contains(char::REPLACEMENT_CHARACTER);
    named(OsStr::new(name)).is_ok_and(|found| is_it(&found)) || is_inexact && names().iter().any(is_it)
}

/// Cookie of the calling thread's namespace, unique until reboot; `None` before Linux 5.14 (`net/core/sock.c`,
/// `SO_NETNS_COOKIE`).
#[must_use]
pub fn cookie() -> Option<u64> {
    const SO_NETNS_COOKIE: i32 = 71;
    let socket = UdpSocket::from(
        descriptor(
            // SAFETY: takes only numbers.
            unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) },
        )
        .ok()?,
    );
    let (mut cookie, mut len) = (0_u64, size_of::<u64>() as libc::socklen_t);
    let place = (&raw mut cookie).cast();
    // SAFETY: the kernel writes at most `len` bytes to `cookie`.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, place, &raw mut len) };
    (result == 0 && len as usize == size_of::<u64>()).then_some(cookie)
}

/// How to open a namespace. An open file keeps its namespace alive, so most are opened only to be entered.
#[derive(Debug)]
pub(super) enum NetnsHandle {
    Open(File),
    Path(PathBuf),
}

/// Why namespaces were not found.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("the network namespace of this process is unknown: {OWN}: {0}; /proc must be mounted")]
    Own(io::Error),
    #[error("the network namespaces of this host are unknown: /proc: {0}; --netns self lists only the current one")]
    Proc(io::Error),
    #[error("no network namespace is called `{0}`: `ip netns` lists the names; an inode number works too")]
    NoName(String),
    #[error(
        "the network namespace `{name}` cannot be used: {NAMES}/{name}: {source}; `ip netns delete {name}` removes a \
         name that is left over"
    )]
    Name { name: String, source: io::Error },
    #[error("{}: {source}", place(.path))]
    Path { path: PathBuf, source: io::Error },
    #[error("no network namespace has the inode number {inode}: `lsns -t net` lists them{}", unread(*denied))]
    NoInode { inode: u32, denied: u64 },
}

impl Error {
    /// Whether the namespace no longer exists. Without CAP_SYS_PTRACE, it may still belong to a process that may not be
    /// read.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let sees_all = || Capabilities::own().is_some_and(|has| has.has(Capabilities::SYS_PTRACE));
        matches!(self, Self::NoInode { denied, .. } if *denied == 0 || sees_all())
    }
}

/// What a path that could not be used stands for.
fn place(path: &Path) -> String {
    let pid = path.strip_prefix("/proc").ok().and_then(|rest| rest.to_str()?.strip_suffix("/ns/net"));
    match pid {
        Some(pid) if !Path::new("/proc").join(pid).exists() => {
            format!("there is no process {pid} whose network namespace could be chosen ({})", path.display())
        }
        _ => format!("the network namespace {} cannot be used", path.display()),
    }
}

fn unread(denied: u64) -> String {
    if denied == 0 {
        String::new()
    } else {
        format!("; {denied} processes could not be read: run it as root to read all")
    }
}

/// Why a namespace was not entered.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum EnterError {
    #[error("the network namespace {0} is gone")]
    Gone(u32),
    #[error("the network namespace {0} may not be entered: {1}")]
    Denied(u32, &'static str),
    #[error("the network namespace {0} was not entered: {1}")]
    Failed(u32, io::Error),
}

/// The namespaces of this host, or the selected one, without duplicates: first the calling thread's own, then named
/// ones in the order of their names, then those of other threads.
///
/// All threads are searched, since each may be in a namespace of its own. A process that may not be read, or that ended
/// in the meantime, is counted once. Namespaces kept alive only by a socket or an open file are not found: see
/// [`by_socket`].
///
/// # Errors
/// If `/proc` cannot be read, or nothing matches the selection.
pub fn find(choice: Option<&NetnsChoice>) -> Result<(Vec<Netns>, Skipped), Error> {
    let mut skipped = Skipped::default();
    if let Some(NetnsChoice::Name(name)) = choice {
        return Ok((vec![named(OsStr::new(name))?], skipped));
    }
    if let Some(NetnsChoice::Path(path)) = choice {
        return Ok((vec![at(path)?], skipped));
    }
    let mut own = own().map_err(Error::Own)?;
    let names = names();
    own.name = names.iter().find(|found| found.inode == own.inode).and_then(|found| found.name.clone());
    let mut found = vec![own];
    if choice == Some(&NetnsChoice::Own) {
        return Ok((found, skipped));
    }
    found.extend(names);
    if let Some(&NetnsChoice::Inode(inode)) = choice
        && let Some(place) = found.iter().position(|found| found.inode == inode)
    {
        return Ok((vec![found.swap_remove(place)], skipped)); // no need to search processes
    }
    let threads = threads(&mut skipped).map_err(Error::Proc)?;
    let of_thread = |(inode, path)| Netns { inode, name: None, cookie: None, entrance: NetnsHandle::Path(path) };
    found.extend(threads.into_iter().map(of_thread));
    let mut seen = FxHashSet::default();
    found.retain(|found| seen.insert(found.inode));
    if let Some(&NetnsChoice::Inode(inode)) = choice {
        found.retain(|found| found.inode == inode);
        if found.is_empty() {
            return Err(Error::NoInode { inode, denied: skipped.processes_denied });
        }
        skipped = Skipped::default(); // it was found, so it does not matter what could not be read
    }
    Ok((found, skipped))
}

/// The namespace of a socket, through a descriptor of a process. A socket may be in another namespace than its process,
/// and may be the only thing that keeps that namespace alive.
///
/// # Errors
/// If there is no such process or descriptor (ESRCH, EBADF), if the descriptor is not a socket (ENOTTY), or if
/// CAP_SYS_PTRACE or CAP_NET_ADMIN is missing (EPERM).
pub fn by_socket(pid: u32, fd: u32) -> io::Result<Netns> {
    /// `SIOCGSKNS` of `include/uapi/linux/sockios.h`.
    const SIOCGSKNS: libc::Ioctl = 0x894c;
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let socket = pidfd_getfd(pidfd_open(pid, PidfdFlags::empty())?, fd as i32, PidfdGetfdFlags::empty())?;
    // SAFETY: the request takes no argument, and makes a descriptor.
    let file = File::from(descriptor(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) })?);
    Ok(Netns { inode: inode(&file)?, name: None, cookie: None, entrance: NetnsHandle::Open(file) })
}

impl Netns {
    /// Moves the calling thread into the namespace. If it is there already, nothing is done, and no privilege is
    /// needed.
    ///
    /// # Errors
    /// If the namespace no longer exists, or may not be entered.
    pub fn enter(&self) -> Result<(), EnterError> {
        self.enter_from(&mut None)
    }

    /// As [`Netns::enter`], for a thread that visits several namespaces: `here` is its current namespace, if known.
    ///
    /// # Errors
    /// See [`Netns::enter`].
    pub fn enter_from(&self, here: &mut Option<u32>) -> Result<(), EnterError> {
        *here = here.or_else(|| own().ok().map(|own| own.inode));
        if *here == Some(self.inode) {
            return Ok(());
        }
        *here = None;
        let entered = match self.set() {
            // The thread or the name is gone; the namespace may have others.
            Err(error) if is_gone(&error) => match find(Some(&NetnsChoice::Inode(self.inode))) {
                Ok((others, _)) => others.iter().try_for_each(Self::set),
                Err(_) => Err(error),
            },
            entered => entered,
        };
        let entered = entered.and_then(|()| match self.cookie {
            Some(wanted) if cookie() != Some(wanted) => Err(io::Error::from_raw_os_error(libc::ENOENT)),
            _ => Ok(()),
        });
        if entered.is_ok() {
            *here = Some(self.inode);
        }
        entered.map_err(|error| match error {
            error if is_gone(&error) => EnterError::Gone(self.inode),
            error if is_denied(&error) => EnterError::Denied(self.inode, why_denied(Capabilities::own())),
            error => EnterError::Failed(self.inode, error),
        })
    }

    fn set(&self) -> io::Result<()> {
        let opened;
        let file = match &self.entrance {
            NetnsHandle::Open(file) => file,
            NetnsHandle::Path(path) => {
                opened = open(path)?;
                &opened
            }
        };
        // Names and thread ids are reused, and `ip netns delete` unmounts the namespace before it removes the name's file.
        match inode(file) {
            Ok(inode) if inode == self.inode => {}
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => return Err(error),
            _ => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
        Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
    }
}

/// What is required to enter a namespace (`net/core/net_namespace.c`, `netns_install`; `fs/proc/namespaces.c`).
fn why_denied(has: Option<Capabilities>) -> &'static str {
    let lacks = |capability| has.is_some_and(|has| !has.has(capability));
    if lacks(Capabilities::SYS_ADMIN) {
        "CAP_SYS_ADMIN is missing: run it with sudo"
    } else if lacks(Capabilities::SYS_PTRACE) {
        "CAP_SYS_PTRACE is missing: run it with sudo"
    } else {
        "CAP_SYS_ADMIN and CAP_SYS_PTRACE are in effect, so a security module, a sandbox or another user namespace refuses it"
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| procfs::gone_or_denied(error, || fs::symlink_metadata(path).map(drop)))
}

/// Inode number of a network namespace's file.
fn inode(file: &File) -> io::Result<u32> {
    /// `NS_GET_NSTYPE` of `include/uapi/linux/nsfs.h`.
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the request takes no argument.
    if unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) } != libc::CLONE_NEWNET {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a network namespace file"));
    }
    Ok(file.metadata()?.ino() as u32)
}

/// Namespace of the calling thread. Its file stays open, so that the thread can return.
pub(super) fn own() -> io::Result<Netns> {
    let file = open(Path::new(OWN))?;
    Ok(Netns { inode: inode(&file)?, name: None, cookie: None, entrance: NetnsHandle::Open(file) })
}

pub(super) fn named(name: &OsStr) -> Result<Netns, Error> {
    let path = Path::new(NAMES).join(name);
    let name = name.to_string_lossy().into_owned();
    match open(&path).and_then(|file| inode(&file)) {
        Ok(inode) => Ok(Netns { inode, name: Some(name), cookie: None, entrance: NetnsHandle::Path(path) }),
        Err(error) if is_gone(&error) => Err(Error::NoName(name)),
        Err(source) => Err(Error::Name { name, source }),
    }
}

/// The namespace of this file. It stays open: the process that the path names may end.
fn at(path: &Path) -> Result<Netns, Error> {
    let failed = |source| Error::Path { path: path.to_owned(), source };
    let file = open(path).map_err(failed)?;
    let inode = inode(&file).map_err(failed)?;
    let name = names().into_iter().find(|named| named.inode == inode).and_then(|named| named.name);
    Ok(Netns { inode, name, cookie: None, entrance: NetnsHandle::Open(file) })
}

/// Named namespaces. Stale names, which are plain files, are skipped.
pub(super) fn names() -> Vec<Netns> {
    let entries = fs::read_dir(NAMES).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.filter_map(|entry| named(&entry.file_name()).ok()).collect();
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Namespaces of all threads, each with a path to its file. A thread that has ended has none.
fn threads(skipped: &mut Skipped) -> io::Result<BTreeMap<u32, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut path = Vec::new();
    let proc = Directory::open(c"/proc")?;
    proc.numbers(|name, pid| {
        let mut failed = None;
        let walked = proc.directory(joined(&mut path, name, c"/task")).and_then(|tasks| {
            tasks.numbers(|name, tid| match tasks.link(joined(&mut path, name, c"/ns/net"), "net") {
                Ok(Some(inode)) => {
                    let path = || PathBuf::from(format!("/proc/{pid}/task/{tid}/ns/net"));
                    found.entry(inode as u32).or_insert_with(path);
                }
                Ok(None) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => failed = Some(error),
            })
        });
        if let Some(error) = walked.err().or(failed) {
            procfs::count(skipped, pid, &error);
        }
    })?;
    skipped.processes_denied += u64::from(pids::hides_processes());
    Ok(found)
}

/// Runs `test` in a thread with its own network namespace, in which `lo` is up; skipped without the privilege.
#[cfg(test)]
pub(super) fn in_fresh_netns<T: Send>(test: impl FnOnce() -> T + Send) -> Option<T> {
    let run = || {
        // SAFETY: unshare(2) takes only numbers.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            eprintln!("skipped: no network namespace can be made: {}", io::Error::last_os_error());
            return None;
        }
        let status = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(status.is_ok_and(|status| status.success()), "ip link set lo up");
        Some(test())
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests;
