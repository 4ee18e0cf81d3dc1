//! Processes that hold sockets, from `/proc` (proc(5)).

use std::{
    ffi::{CStr, OsStr},
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use super::procfs::{self, Directory, is_gone, joined};
use crate::{
    model::{holders::Holder, keyed::KeyedMap, skipped::Skipped},
    sys::{
        cgroup,
        pids::hides_processes,
        processes::{Stat, command, parse_status},
    },
};

/// Whether the descriptor of this holder still refers to the socket, whose handle is its inode number, and the process is
/// still the same. False where that cannot be read.
#[must_use]
pub fn still_holds(holder: &Holder) -> bool {
    let Holder { pid, fd, handle, start, .. } = *holder;
    let refers = fs::read_link(format!("/proc/{pid}/fd/{fd}"))
        .is_ok_and(|link| link.as_os_str().as_bytes() == format!("socket:[{handle}]").as_bytes());
    // Read last: a process that reused the PID would have started later.
    refers && Stat::read(pid).is_some_and(|stat| start.is_none() || start == stat.start)
}

/// The processes that hold the sockets whose inode numbers are `wanted`, once per descriptor.
///
/// Threads share the descriptors of their process. Descriptors of a thread with a table of its own (unshare(2) with
/// CLONE_FILES) are not found.
///
/// # Errors
/// If `/proc` cannot be read at all. Processes that cannot be read, or that ended in the meantime, are counted; all
/// hidden processes count as one.
pub fn holders(wanted: impl Fn(u64) -> bool) -> io::Result<(Vec<Holder>, Skipped)> {
    let mut holders = Vec::new();
    let mut skipped = Skipped::default();
    let mut cgroups = Cgroups::default();
    let mut path = Vec::new();
    let proc = Directory::open(c"/proc")?;
    proc.numbers(|name, pid| {
        let start = holders.len();
        let path = joined(&mut path, name, c"/fd");
        if let Err(error) = of_process(&proc, path, pid, &wanted, &mut cgroups, &mut holders) {
            holders.truncate(start);
            procfs::count(&mut skipped, pid, &error);
        }
    })?;
    skipped.processes_denied += u64::from(hides_processes());
    Ok((holders, skipped))
}

/// Ids of cgroups by path.
type Cgroups = KeyedMap<Vec<u8>, Option<u64>>;

fn of_process(
    proc: &Directory,
    path: &CStr,
    pid: u32,
    wanted: &impl Fn(u64) -> bool,
    cgroups: &mut Cgroups,
    holders: &mut Vec<Holder>,
) -> io::Result<()> {
    let descriptors = proc.directory(path)?;
    let mut who = None;
    let mut failed = None;
    descriptors.numbers(|name, fd| match descriptors.link(name, "socket") {
        Ok(Some(handle)) if wanted(handle) => {
            let known = who.get_or_insert_with(|| identity(&descriptors, pid, cgroups));
            if let Ok(holder) = known {
                holders.push(Holder { handle, fd, ..*holder });
            }
        }
        Ok(_) => {}
        // Closed in the meantime.
        Err(error) if is_gone(&error) => {}
        Err(error) => failed = Some(error),
    })?;
    match who {
        Some(Err(error)) => Err(error),
        _ => failed.map_or(Ok(()), Err),
    }
}

/// Identifies a process. All files are opened relative to its descriptor directory, which keeps referring to the same
/// process even if the PID is reused.
fn identity(descriptors: &Directory, pid: u32, cgroups: &mut Cgroups) -> io::Result<Holder> {
    let status = descriptors.read(c"../status")?;
    let (uid, ns_pid) = parse_status(&String::from_utf8_lossy(&status));
    let uid = uid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    // One line; the name may contain any bytes.
    let line = descriptors.read(c"../comm")?;
    let name = line.strip_suffix(b"\n").unwrap_or(&line);
    let command = command(name);
    let text = descriptors.read(c"../cgroup").ok();
    let cgroup = text.as_deref().and_then(v2_path).and_then(|path| match cgroups.get(path) {
        Some(&known) => known,
        None => {
            let id = cgroup::find(Path::new(OsStr::from_bytes(path))).ok().map(|cgroup| cgroup.id);
            cgroups.insert(path.to_owned(), id);
            id
        }
    });
    let start = descriptors.read(c"../stat").ok().and_then(|stat| Stat::parse(&stat)?.start);
    Ok(Holder { handle: 0, pid, ns_pid: ns_pid.unwrap_or(pid), fd: 0, uid, cgroup, start, command })
}

/// Path in the v2 hierarchy in `/proc/PID/cgroup` (cgroups(7)).
fn v2_path(text: &[u8]) -> Option<&[u8]> {
    text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
        process, thread,
    };

    use super::*;

    fn inode(socket: &impl std::os::fd::AsRawFd) -> u64 {
        fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap().ino()
    }

    #[test]
    fn each_descriptor_of_a_wanted_socket_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let copy = listener.try_clone().unwrap();
        let (wanted, unwanted) = (inode(&listener), inode(&other));
        assert_ne!(wanted, unwanted);
        let (holders, _) = holders(|inode| inode == wanted).unwrap();
        // Other tests may be forking a child at the same time.
        let mut own: Vec<_> = holders.iter().filter(|holder| holder.pid == process::id()).collect();
        own.sort_unstable_by_key(|holder| holder.fd);
        let mut fds = [listener.as_raw_fd() as u32, copy.as_raw_fd() as u32];
        fds.sort_unstable();
        assert_eq!(own.iter().map(|holder| holder.fd).collect::<Vec<_>>(), fds);
        for holder in own {
            assert_eq!(holder.handle, wanted);
            // SAFETY: getuid(2) takes no arguments and cannot fail.
            assert_eq!(holder.uid, unsafe { libc::getuid() });
            let comm = fs::read_to_string("/proc/self/comm").unwrap();
            assert_eq!(holder.command.to_text(), comm.trim_end());
            assert!(holder.ns_pid == holder.pid || process::id() == holder.pid);
        }
    }

    #[test]
    fn the_cgroup_is_the_directory_of_the_v2_hierarchy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = inode(&listener);
        let (holders, _) = holders(|inode| inode == wanted).unwrap();
        let own = holders.iter().find(|holder| holder.pid == process::id()).unwrap();
        let text = fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = v2_path(text.as_bytes()).map(OsStr::from_bytes);
        let expected = path.and_then(|path| cgroup::find(Path::new(path)).ok());
        assert_eq!(own.cgroup, expected.map(|cgroup| cgroup.id));
        assert!(cgroup::of_process(process::id()).unwrap().starts_with('/'));
        assert_eq!(cgroup::of_process(0), None);
    }

    /// Children that hold a socket come and go: that is never fatal, and a holder is reported completely or not at all.
    #[test]
    fn processes_that_end_during_the_walk_are_passed_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let wanted = inode(&stream);
        thread::scope(|scope| {
            let churn = scope.spawn(|| {
                for _ in 0..200 {
                    let stdin = process::Stdio::from(std::os::fd::OwnedFd::from(stream.try_clone().unwrap()));
                    process::Command::new("/bin/true").stdin(stdin).status().unwrap();
                }
            });
            while !churn.is_finished() {
                let (holders, _) = holders(|inode| inode == wanted).unwrap();
                assert!(holders.iter().all(|holder| holder.handle == wanted && holder.pid != 0 && holder.ns_pid != 0));
                assert!(holders.iter().any(|holder| holder.pid == process::id()));
            }
        });
    }

    /// How a directory in `/proc` responds when its process has just ended.
    #[test]
    fn a_process_that_ended_is_gone_at_every_step() {
        let mut child = process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let path = std::ffi::CString::new(format!("/proc/{}/fd", child.id())).unwrap();
        let descriptors = Directory::open(&path).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let errors = [
            Directory::open(&path).err(),
            descriptors.numbers(|_, _| ()).err(),
            descriptors.link(c"0", "socket").err(),
            identity(&descriptors, child.id(), &mut Cgroups::default()).err(),
        ];
        for error in errors {
            let error = error.unwrap();
            let mut skipped = Skipped::default();
            procfs::count(&mut skipped, child.id(), &error);
            assert_eq!(skipped, Skipped { processes_gone: 1, ..Skipped::default() }, "{error}");
        }
    }

    #[test]
    fn what_hidepid_hides_is_told() {
        let test = || {
            let call = |ok: bool| ok.then_some(()).ok_or_else(io::Error::last_os_error);
            // SAFETY: numbers, and NUL-terminated strings; the mounts and the user ids are this thread's alone.
            let prepared = unsafe {
                call(libc::unshare(libc::CLONE_NEWNS) == 0)
                    .and_then(|()| {
                        let flags = libc::MS_REC | libc::MS_PRIVATE;
                        call(libc::mount(c"".as_ptr(), c"/".as_ptr(), c"".as_ptr(), flags, c"".as_ptr().cast()) == 0)
                    })
                    .and_then(|()| {
                        let proc = c"proc".as_ptr();
                        call(libc::mount(proc, c"/proc".as_ptr(), proc, 0, c"hidepid=2".as_ptr().cast()) == 0)
                    })
            };
            if let Err(error) = prepared {
                return eprintln!("skipped: /proc cannot be mounted: {error}");
            }
            assert!(!hides_processes(), "root sees all");
            // SAFETY: the system calls take only numbers (no groups are read), and change this thread alone.
            let dropped = unsafe {
                let none = std::ptr::null::<libc::gid_t>();
                libc::syscall(libc::SYS_setgroups, 0, none) == 0
                    && libc::syscall(libc::SYS_setresgid, 65534, 65534, 65534) == 0
                    && libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) == 0
            };
            assert!(dropped, "{}", io::Error::last_os_error());
            assert!(hides_processes());
            assert_eq!(holders(|_| true).unwrap().1.processes_denied, 1, "how many they are is not known");
        };
        thread::spawn(test).join().unwrap();
    }

    #[test]
    fn without_the_privilege_others_are_denied() {
        let test = || {
            // SAFETY: the system call takes only numbers, and changes this thread alone.
            if unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) } != 0 {
                return eprintln!("skipped: not root");
            }
            let skipped = holders(|_| true).unwrap().1;
            assert!(skipped.processes_denied > 0, "PID 1 is root's");
            assert!(!hides_processes());
        };
        thread::spawn(test).join().unwrap();
    }
}
