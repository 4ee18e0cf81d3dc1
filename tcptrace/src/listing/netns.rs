//! The network namespaces of this host: which there are, and how to enter them.

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
    thread,
    time::{Duration, SystemTime},
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

/// Where ip-netns(8) keeps the names.
const NAMES: &str = "/run/netns";
/// The namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace that was found.
#[derive(Debug)]
pub struct Netns {
    /// Its inode number.
    pub inode: u32,
    /// Its name in `/run/netns`; the first where there are several.
    pub name: Option<String>,
    /// Its cookie ([`cookie`]), where it must be this very one: names and inode numbers are used again.
    pub cookie: Option<u64>,
    entrance: NetnsHandle,
}

/// The namespace that a user has chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenNetns {
    /// Its inode number.
    pub inode: u32,
    /// Its name when it was found.
    pub name: Option<String>,
    /// Its cookie, as far as that is known.
    pub cookie: Option<u64>,
}

impl ChosenNetns {
    /// Finds it, and enters it for its cookie, where that is allowed.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn find(choice: &NetnsChoice) -> Result<Option<Self>, Error> {
        let found = find(Some(choice))?.0.into_iter().next();
        Ok(found.map(|found| {
            let entered = || found.enter().ok().and_then(|()| cookie());
            // In a thread of its own, which leaves the namespace by ending.
            let cookie = thread::scope(|scope| scope.spawn(entered).join().unwrap_or_default());
            Self { inode: found.inode, name: found.name, cookie }
        }))
    }

    /// Is it there for sure, since it has its name, or is one's own?
    #[must_use]
    pub fn has_its_name(&self) -> bool {
        self.name.as_deref().is_some_and(|name| is_called(name, self.inode))
            || own().is_ok_and(|own| own.inode == self.inode)
    }

    /// Is it no more? Looked for among all threads where it has lost its name.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        !self.has_its_name()
            && match find(Some(&NetnsChoice::Inode(self.inode))) {
                Err(error) => error.is_gone(),
                Ok((found, _)) => {
                    let mut found = found.into_iter().map(|found| Netns { cookie: self.cookie, ..found });
                    let enters = || found.all(|found| matches!(found.enter(), Err(EnterError::Gone(_))));
                    thread::scope(|scope| scope.spawn(enters).join().unwrap_or(false))
                }
            }
    }

    /// What became of it, for people, once it is not found any more.
    #[must_use]
    pub fn epitaph(&self) -> String {
        let Self { inode, name, .. } = self;
        match name {
            Some(name) if named(OsStr::new(name)).is_ok() => {
                format!("the network namespace {name} ({inode}) is gone, and another one is called {name} now")
            }
            Some(name) => format!("the network namespace {name} ({inode}) is gone"),
            None => format!("the network namespace {inode} is gone"),
        }
    }
}

/// Has this namespace this name now? While it has, nobody else has its number: the name keeps it alive.
#[must_use]
pub fn is_called(name: &str, inode: u32) -> bool {
    let is_it = |found: &Netns| found.inode == inode && found.name.as_deref() == Some(name);
    // A name that is no UTF-8 is not the one of its file.
    let is_inexact = name.contains(char::REPLACEMENT_CHARACTER);
    named(OsStr::new(name)).is_ok_and(|found| is_it(&found)) || is_inexact && names().iter().any(is_it)
}

/// The cookie of the calling thread's namespace, which no other one has until the host boots; `None` before Linux 5.14
/// (`net/core/sock.c`, `SO_NETNS_COOKIE`).
#[must_use]
pub fn cookie() -> Option<u64> {
    const SO_NETNS_COOKIE: i32 = 71;
    let socket = UdpSocket::from(
        descriptor(
            // SAFETY: takes numbers only.
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

/// The names of namespaces by inode number, read again whenever there may be others.
#[derive(Debug, Default)]
pub struct NameWatch {
    /// When names came or went last, as far as nothing can have changed since without a later time.
    changed: Option<SystemTime>,
}

/// Times of files have this precision at worst (a jiffy).
const FILE_TIME: Duration = Duration::from_millis(20);

impl NameWatch {
    /// The names, where some may have come or gone since this was asked last.
    pub fn changed(&mut self) -> Option<Vec<(u32, String)>> {
        let changed = fs::metadata(NAMES).and_then(|folder| folder.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        if self.changed == Some(changed) {
            return None;
        }
        let is_settled = changed.elapsed().is_ok_and(|since| since > FILE_TIME);
        self.changed = is_settled.then_some(changed);
        Some(names().into_iter().filter_map(|found| Some((found.inode, found.name?))).collect())
    }

    /// Makes [`NameWatch::changed`] give all names next time.
    pub const fn forget(&mut self) {
        self.changed = None;
    }
}

/// How to come in. An open file keeps its namespace alive, so most are opened only to be entered.
#[derive(Debug)]
enum NetnsHandle {
    Open(File),
    Path(PathBuf),
}

/// Why namespaces were not found.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("the network namespace of this process is unknown: {OWN}: {0}; /proc must be mounted")]
    Own(io::Error),
    #[error("the network namespaces of this host are unknown: /proc: {0}; --netns self lists one's own alone")]
    Proc(io::Error),
    #[error("no network namespace is called `{0}`: `ip netns` shows those that have names, an inode number also does")]
    NoName(String),
    #[error(
        "the network namespace `{name}` cannot be used: {NAMES}/{name}: {source}; `ip netns delete {name}` removes a \
         name that is left over"
    )]
    Name { name: String, source: io::Error },
    #[error("no network namespace has the inode number {inode}: `lsns -t net` shows those there are{}", unread(*denied))]
    NoInode { inode: u32, denied: u64 },
}

impl Error {
    /// Is the namespace no more? Without CAP_SYS_PTRACE a process that may not be looked at may be in it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let sees_all = || Capabilities::own().is_some_and(|has| has.has(Capabilities::SYS_PTRACE));
        matches!(self, Self::NoInode { denied, .. } if *denied == 0 || sees_all())
    }
}

fn unread(denied: u64) -> String {
    if denied == 0 { String::new() } else { format!("; {denied} processes may not be read, root may read all") }
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

/// The namespaces of this host, or the one that is chosen, each once. The calling thread's own comes first, then those
/// with names, in their order, then those of other threads.
///
/// All threads are looked at, as each may have a namespace of its own. A process that may not be read, or ended
/// meanwhile, is counted once. A namespace that neither a name nor a thread but only a socket or an open file keeps is
/// not found: see [`by_socket`].
///
/// # Errors
/// Where `/proc` cannot be read, or there is nothing like what is chosen.
pub fn find(choice: Option<&NetnsChoice>) -> Result<(Vec<Netns>, Skipped), Error> {
    let mut skipped = Skipped::default();
    if let Some(NetnsChoice::Name(name)) = choice {
        return Ok((vec![named(OsStr::new(name))?], skipped));
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
        return Ok((vec![found.swap_remove(place)], skipped)); // processes need not be looked at for it
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
        skipped = Skipped::default(); // what was not looked at does not matter, as it is found
    }
    Ok((found, skipped))
}

/// The namespace of a socket, by a descriptor of a process. A socket may be in another namespace than its process, and
/// may be all that keeps it.
///
/// # Errors
/// Where there is no such process or descriptor (ESRCH, EBADF), where the descriptor is no socket (ENOTTY), and where
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
    /// Moves the calling thread into the namespace. Where it is there already nothing is done, and no privilege needed.
    ///
    /// # Errors
    /// Where the namespace is no more, or may not be entered.
    pub fn enter(&self) -> Result<(), EnterError> {
        self.enter_from(&mut None)
    }

    /// The same for a thread that goes from one namespace to another: `here` is the one that it is in, where that is known.
    ///
    /// # Errors
    /// As [`Netns::enter`].
    pub fn enter_from(&self, here: &mut Option<u32>) -> Result<(), EnterError> {
        *here = here.or_else(|| own().ok().map(|own| own.inode));
        if *here == Some(self.inode) {
            return Ok(());
        }
        *here = None;
        let entered = match self.set() {
            // The thread or the name is gone. The namespace may have others.
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
        // Names, and numbers of threads, are used again.
        if inode(file)? != self.inode {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
    }
}

/// What it takes to enter a namespace (`net/core/net_namespace.c`, `netns_install`; `fs/proc/namespaces.c`).
fn why_denied(has: Option<Capabilities>) -> &'static str {
    let lacks = |capability| has.is_some_and(|has| !has.has(capability));
    if lacks(Capabilities::SYS_ADMIN) {
        "CAP_SYS_ADMIN is missing: run it with sudo"
    } else if lacks(Capabilities::SYS_PTRACE) {
        "CAP_SYS_PTRACE is missing: run it with sudo"
    } else {
        "CAP_SYS_ADMIN and CAP_SYS_PTRACE are in effect: a security module, a sandbox or another user namespace refuses"
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| procfs::gone_or_denied(error, || fs::symlink_metadata(path).map(drop)))
}

/// The inode number of a network namespace, from its file.
fn inode(file: &File) -> io::Result<u32> {
    /// `NS_GET_NSTYPE` of `include/uapi/linux/nsfs.h`.
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the request takes no argument.
    if unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) } != libc::CLONE_NEWNET {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file of a network namespace"));
    }
    Ok(file.metadata()?.ino() as u32)
}

/// That of the calling thread. It stays open, to come back to.
fn own() -> io::Result<Netns> {
    let file = open(Path::new(OWN))?;
    Ok(Netns { inode: inode(&file)?, name: None, cookie: None, entrance: NetnsHandle::Open(file) })
}

fn named(name: &OsStr) -> Result<Netns, Error> {
    let path = Path::new(NAMES).join(name);
    let name = name.to_string_lossy().into_owned();
    match open(&path).and_then(|file| inode(&file)) {
        Ok(inode) => Ok(Netns { inode, name: Some(name), cookie: None, entrance: NetnsHandle::Path(path) }),
        Err(error) if is_gone(&error) => Err(Error::NoName(name)),
        Err(source) => Err(Error::Name { name, source }),
    }
}

/// Those with names. A name that is left over when its namespace is gone (a plain file) is passed over.
fn names() -> Vec<Netns> {
    let entries = fs::read_dir(NAMES).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.filter_map(|entry| named(&entry.file_name()).ok()).collect();
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Those of all threads, with a file of each. A thread that ended is in none.
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

/// How many full and mini-sockets of TCP the calling thread's namespace has, `None` where that is not known. With none
/// there are no requests either: these have a listener.
#[must_use]
pub fn tcp_sockets() -> Option<usize> {
    let count = |file: &str| count(&fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok()?);
    Some(count("sockstat")? + count("sockstat6")?)
}

/// What `/proc/net/sockstat` or `sockstat6` says of these (`net/ipv4/proc.c`, `sockstat_seq_show`).
fn count(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP: ").or_else(|| line.strip_prefix("TCP6: ")))?;
    let words: Vec<_> = line.split(' ').collect();
    let number = |name: &str| Some(words.windows(2).find(|pair| pair[0] == name)?[1].parse::<usize>());
    number("inuse")?.ok()?.checked_add(number("tw").unwrap_or(Ok(0)).ok()?)
}

/// Runs `test` in a thread with a network namespace of its own, in which `lo` is up; not without the privilege.
#[cfg(test)]
pub(super) fn in_fresh_netns<T: Send>(test: impl FnOnce() -> T + Send) -> Option<T> {
    let run = || {
        // SAFETY: unshare(2) takes numbers only.
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
mod tests {
    use std::{net::TcpListener, os::fd::AsRawFd as _, process::Command, sync::mpsc, thread};

    use super::*;

    fn own_inode() -> u32 {
        own().unwrap().inode
    }

    fn inodes(choice: Option<NetnsChoice>) -> Vec<u32> {
        find(choice.as_ref()).unwrap().0.iter().map(|found| found.inode).collect()
    }

    #[test]
    fn ones_own_is_first_and_needs_no_privilege() {
        let found = find(None).unwrap().0;
        assert_eq!(found[0].inode, own_inode());
        found[0].enter().unwrap();
        assert_eq!(inodes(Some(NetnsChoice::Own)), [own_inode()]);
        let mut seen = FxHashSet::default();
        assert!(found.iter().all(|found| seen.insert(found.inode)), "each once");
    }

    #[test]
    fn a_thread_of_its_own_is_found_entered_left_and_gone() {
        let here = find(Some(&NetnsChoice::Own)).unwrap().0.remove(0);
        let (to_test, inode) = mpsc::channel();
        let (end, to_thread) = mpsc::channel::<()>();
        let other = thread::spawn(move || {
            in_fresh_netns(move || {
                to_test.send(own_inode()).unwrap();
                to_thread.recv().unwrap_err();
            })
        });
        let Ok(inode) = inode.recv() else { return };
        assert!(inodes(None).contains(&inode));
        let there = find(Some(&NetnsChoice::Inode(inode))).unwrap().0.remove(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                there.enter().unwrap();
                assert_eq!(own_inode(), inode);
                here.enter().unwrap();
                assert_eq!(own_inode(), here.inode);
            });
        });
        // The namespace may have to go with its thread: a thread that ended is not yet reaped for a moment.
        drop(end);
        other.join().unwrap().unwrap();
        assert!(matches!(there.enter(), Err(EnterError::Gone(gone)) if gone == inode));
        let error = find(Some(&NetnsChoice::Inode(inode))).unwrap_err().to_string();
        assert!(error.contains(&inode.to_string()) && error.contains("lsns"), "{error}");
    }

    #[test]
    fn another_thread_of_the_namespace_is_an_entrance_too() {
        in_fresh_netns(|| {
            let entrance = NetnsHandle::Path(PathBuf::from("/proc/0/ns/net"));
            let found = Netns { inode: own_inode(), name: None, cookie: None, entrance };
            in_fresh_netns(|| {
                found.enter().unwrap();
                assert_eq!(own_inode(), found.inode);
            });
        });
    }

    #[test]
    fn a_namespace_is_found_by_its_socket() {
        in_fresh_netns(|| {
            let there = own_inode();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let fd = listener.as_raw_fd() as u32;
            in_fresh_netns(|| {
                let found = by_socket(std::process::id(), fd).unwrap();
                assert_eq!(found.inode, there);
                found.enter().unwrap();
                assert_eq!(own_inode(), there);
            });
        });
        let file = File::open("/dev/null").unwrap();
        let error = by_socket(std::process::id(), file.as_raw_fd() as u32).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
        assert!(by_socket(u32::MAX, 0).is_err());
    }

    #[test]
    fn names_are_found_and_those_left_over_are_not() {
        if Command::new("ip").args(["netns", "add", "tcptrace-find"]).status().is_ok_and(|status| !status.success()) {
            return eprintln!("skipped: `ip netns add` failed");
        }
        let choice = NetnsChoice::Name("tcptrace-find".to_owned());
        let named = find(Some(&choice)).unwrap().0.remove(0);
        let all = find(None).unwrap().0;
        let entered = thread::scope(|scope| scope.spawn(|| named.enter().map(|()| own_inode())).join()).unwrap();
        let left_over = Path::new(NAMES).join("tcptrace-left-over");
        fs::write(&left_over, "").unwrap();
        let passed_over = find(None).unwrap().0;
        let refused = find(Some(&NetnsChoice::Name("tcptrace-left-over".to_owned()))).unwrap_err().to_string();
        fs::remove_file(left_over).unwrap();
        Command::new("ip").args(["netns", "delete", "tcptrace-find"]).status().unwrap();

        assert!(all.iter().any(|found| found.inode == named.inode && found.name == named.name));
        assert_eq!(entered.unwrap(), named.inode);
        assert!(passed_over.iter().all(|found| found.name.as_deref() != Some("tcptrace-left-over")));
        assert!(refused.contains("`ip netns delete tcptrace-left-over`"), "{refused}");
        assert!(matches!(named.enter(), Err(EnterError::Gone(_))));
        let error = find(Some(&choice)).unwrap_err().to_string();
        assert!(error.starts_with("no network namespace is called `tcptrace-find`: `ip netns` shows"), "{error}");
    }

    #[test]
    fn without_the_privilege_others_are_denied() {
        in_fresh_netns(|| {
            let there = find(Some(&NetnsChoice::Own)).unwrap().0.remove(0);
            in_fresh_netns(|| {
                // SAFETY: the system call takes numbers only, and changes this thread alone.
                assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
                assert!(matches!(there.enter(), Err(EnterError::Denied(..))));
                let (found, skipped) = find(None).unwrap();
                found[0].enter().unwrap();
                assert!(skipped.processes_denied > 0, "PID 1 is root's");
                let error = find(Some(&NetnsChoice::Inode(1))).unwrap_err().to_string();
                assert!(error.contains("processes may not be read"), "{error}");
            });
        });
    }

    /// The kernel gives the number of a namespace that is gone to the next one at once (`fs/nsfs.c`, `ns_alloc_inum`).
    #[test]
    fn a_number_that_is_used_again_is_not_entered() {
        in_fresh_netns(|| {
            let Some(cookie) = cookie() else { return eprintln!("skipped: no cookies before Linux 5.14") };
            let entrance = NetnsHandle::Open(open(Path::new(OWN)).unwrap());
            let it = Netns { inode: own_inode(), name: None, cookie: Some(cookie), entrance };
            let entrance = NetnsHandle::Open(open(Path::new(OWN)).unwrap());
            let earlier = Netns { cookie: Some(cookie + 1), entrance, inode: it.inode, name: None };
            in_fresh_netns(|| {
                it.enter().unwrap();
                assert_eq!(super::cookie(), Some(cookie));
            });
            in_fresh_netns(|| {
                assert_ne!(super::cookie(), Some(cookie));
                assert!(matches!(earlier.enter(), Err(EnterError::Gone(inode)) if inode == earlier.inode));
            });
        });
    }

    #[test]
    fn what_became_of_the_chosen_one_is_said() {
        let gone = |name: Option<&str>| ChosenNetns { inode: 7, name: name.map(str::to_owned), cookie: None }.epitaph();
        assert_eq!(gone(None), "the network namespace 7 is gone");
        assert_eq!(gone(Some("tcptrace-none")), "the network namespace tcptrace-none (7) is gone");
        let own = ChosenNetns::find(&NetnsChoice::Own).unwrap().unwrap();
        assert!(own.has_its_name() && !own.is_gone(), "one's own is there");
    }

    #[test]
    fn the_capability_that_is_missing_is_named() {
        use Capabilities as C;
        let why = |has: &[u32]| why_denied(Some(C::of(has)));
        assert!(why(&[C::SYS_PTRACE]).starts_with("CAP_SYS_ADMIN is missing"));
        assert!(why(&[C::SYS_ADMIN]).starts_with("CAP_SYS_PTRACE is missing"));
        assert!(!why(&[C::SYS_ADMIN, C::SYS_PTRACE]).contains("missing"), "root is not told to be root");
    }

    #[test]
    fn the_sockets_of_a_namespace_are_counted() {
        let empty = "sockets: used 3\nTCP: inuse 0 orphan 7 tw 0 alloc 9 mem 1\nUDP: inuse 1 mem 0\n";
        assert_eq!((count(empty), count("TCP6: inuse 0\nUDP6: inuse 0\n")), (Some(0), Some(0)));
        assert_eq!((count("TCP: inuse 1 orphan 0 tw 2\n"), count("TCP6: inuse 1\n")), (Some(3), Some(1)));
        for text in ["", "TCP: x\n", "TCP: inuse\n", "TCP: inuse x tw 0\n", "TCP: inuse 0 orphan 0 tw x\n"] {
            assert_eq!(count(text), None, "{text:?}");
        }
        in_fresh_netns(|| {
            assert_eq!(tcp_sockets(), Some(0));
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            assert_eq!(tcp_sockets(), Some(1));
            drop(listener);
        });
    }
}
