//! The namespaces of processes that tcptrace is in: events name processes by their PIDs in the initial one, while `/proc` and BPF
//! iterators show those of another one only its own processes.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path, sync::LazyLock};

use crate::sys::mountinfo;

/// Which processes tcptrace sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// All: it is in the initial PID namespace.
    #[default]
    Host,
    /// It is in another one, but `/proc` is that of the host.
    HostProc,
    /// Those of its own PID namespace only.
    Own,
}

/// A PID namespace, as `bpf_get_ns_current_pid_tgid` wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Device of its file, as the kernel numbers it within itself.
    pub device: u32,
    /// Its inode number; 0: the initial one, or not known.
    pub inode: u32,
}

/// What is lost where only those of its own PID namespace are seen, and what helps.
pub const OWN: (&str, &str) = (
    "tcptrace is in a PID namespace of its own: processes outside it are known once they connect, listen, read or close, \
     and not as holders of sockets",
    "run it in the host's PID namespace: `docker run --pid=host`, `hostPID: true` in a pod",
);

/// The same in one line; `None` where all are seen.
#[must_use]
pub fn warning() -> Option<String> {
    (view() == View::Own).then(|| format!("{}; {}", OWN.0, OWN.1))
}

/// Looks these PIDs up, which a user has named. Gives what is to be said of them.
///
/// # Errors
/// Why there is nothing to be seen of any of them.
pub fn check(pids: &[u32]) -> Result<Vec<String>, String> {
    if view() == View::Own && !pids.is_empty() {
        return Ok(vec![
            "--pid names processes by their PIDs on the host, not by those in this PID namespace".to_owned(),
        ]);
    }
    let wrong: Vec<_> = pids.iter().filter_map(|pid| objection(*pid, find(*pid))).collect();
    if wrong.is_empty() || wrong.len() < pids.len() { Ok(wrong) } else { Err(wrong.join("; ")) }
}

fn objection(pid: u32, found: PidKind) -> Option<String> {
    match found {
        PidKind::Process => None,
        PidKind::ThreadOf(process) => {
            Some(format!("--pid {pid}: this is a thread of process {process}: take --pid {process}"))
        }
        PidKind::Nothing => Some(format!("--pid {pid}: there is no such process")),
    }
}

/// `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`.
const INITIAL: u64 = 0xefff_fffc;

/// What tcptrace sees; found once.
#[must_use]
pub fn view() -> View {
    FOUND.0
}

/// Its PID namespace, where that is not the initial one.
#[must_use]
pub fn namespace() -> Namespace {
    FOUND.1
}

/// Is a process of the events the one that `/proc` shows under the same PID?
#[must_use]
pub fn are_those_of_proc() -> bool {
    view() != View::Own
}

static FOUND: LazyLock<(View, Namespace)> = LazyLock::new(|| {
    // Without `/proc` nothing is traced at all.
    let Some(file) = fs::metadata("/proc/self/ns/pid").ok().filter(|file| file.ino() != INITIAL) else {
        return (View::Host, Namespace::default());
    };
    // `kthreadd`, which no other PID namespace has, is the second process of the kernel (`init/main.c`, `rest_init`).
    let is_host = fs::read_to_string("/proc/2/stat").is_ok_and(|stat| is_kernel_thread(&stat));
    let (major, minor) = (libc::major(file.dev()), libc::minor(file.dev()));
    let namespace = Namespace { device: major << 20 | minor, inode: file.ino() as u32 };
    (if is_host { View::HostProc } else { View::Own }, namespace)
});

/// Is it a kernel thread (PF_KTHREAD among the flags, field 9 of `/proc/PID/stat`)?
fn is_kernel_thread(stat: &str) -> bool {
    let after = stat.rsplit_once(')').map(|(_, after)| after);
    let flags = after.and_then(|after| after.split_ascii_whitespace().nth(6)?.parse::<u32>().ok());
    flags.is_some_and(|flags| flags & 0x0020_0000 != 0)
}

/// Is this process in a user namespace of its own, in which alone its capabilities count (`kernel/capability.c`, `capable`)?
#[must_use]
pub fn has_own_users() -> bool {
    /// `PROC_USER_INIT_INO` of `include/linux/proc_ns.h`.
    const INITIAL_USERS: u64 = 0xefff_fffd;
    fs::metadata("/proc/self/ns/user").is_ok_and(|file| file.ino() != INITIAL_USERS)
}

/// What there is by a PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PidKind {
    /// A process, or it cannot be told.
    Process,
    /// A thread of this process.
    ThreadOf(u32),
    /// Nothing.
    Nothing,
}

/// Looks a PID of the initial PID namespace up.
#[must_use]
pub fn find(pid: u32) -> PidKind {
    if !are_those_of_proc() || !Path::new("/proc/self").exists() {
        return PidKind::Process;
    }
    match fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => match thread_group(&status) {
            Some(process) if process != pid => PidKind::ThreadOf(process),
            _ => PidKind::Process,
        },
        // What hidepid hides may be there.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !hides_processes() => PidKind::Nothing,
        Err(_) => PidKind::Process,
    }
}

fn thread_group(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// Are the processes of others not even shown in `/proc` (hidepid, proc(5))? Where they are shown but not readable,
/// listings count them.
#[must_use]
pub fn hides_processes() -> bool {
    let hides = mountinfo::read().is_ok_and(|mounts| has_hidepid(&mounts));
    // There always is a process 1. Those with CAP_SYS_PTRACE, and the group of `gid=`, see it.
    hides && !Path::new("/proc/1").exists()
}

/// Does the mount on `/proc` hide processes (`fs/proc/root.c`; numbers up to 5.7, then names)?
fn has_hidepid(mountinfo: &[u8]) -> bool {
    // The last covers the others.
    let last = mountinfo::mounts(mountinfo).rfind(|mount| mount.point == Path::new("/proc"));
    last.is_some_and(|mount| {
        let options = mount.options.split(|byte| *byte == b',');
        let mut values = options.filter_map(|option| option.strip_prefix(b"hidepid="));
        values.any(|value| matches!(value, b"2" | b"invisible" | b"4" | b"ptraceable"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_told_from_processes() {
        assert_eq!(find(std::process::id()), PidKind::Process);
        assert_eq!(find(u32::MAX), PidKind::Nothing);
        std::thread::spawn(|| {
            let thread = rustix::thread::gettid().as_raw_pid() as u32;
            assert_eq!(find(thread), PidKind::ThreadOf(std::process::id()));
        })
        .join()
        .unwrap();
        assert_eq!(thread_group("Name:\tTgid: 7\nTgid:\t12\nPid:\t13\n"), Some(12));
        assert_eq!(thread_group("Tgid:\tx\n"), None);
    }

    #[test]
    fn a_user_hears_of_pids_that_are_none() {
        let own = std::process::id();
        assert_eq!(check(&[]), Ok(vec![]));
        assert_eq!(check(&[own]), Ok(vec![]));
        let none = format!("--pid {}: there is no such process", u32::MAX);
        assert_eq!(check(&[u32::MAX]), Err(none.clone()));
        assert_eq!(check(&[own, u32::MAX]), Ok(vec![none]), "the other one is there");
        assert_eq!(objection(9, PidKind::ThreadOf(7)).unwrap(), "--pid 9: this is a thread of process 7: take --pid 7");
    }

    #[test]
    fn kernel_threads_have_a_flag() {
        assert!(is_kernel_thread("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0"));
        assert!(!is_kernel_thread("2 (kthreadd) S 1 2 2 0 -1 4194560 0 0"), "a process of that name");
        for broken in ["", "2 (a", "2 (a) S", "2 (a) S 0 0 0 0 -1 x"] {
            assert!(!is_kernel_thread(broken), "{broken}");
        }
    }

    #[test]
    fn hidepid_is_read_from_the_mount_on_top() {
        let mount =
            |path: &str, options: &str| format!("22 1 0:21 / {path} rw,nosuid shared:5 - proc proc {options}\n");
        for hiding in ["rw,hidepid=2", "rw,gid=4,hidepid=invisible", "rw,hidepid=ptraceable,subset=pid", "hidepid=4"] {
            assert!(has_hidepid(mount("/proc", hiding).as_bytes()), "{hiding}");
        }
        for open in ["rw", "rw,hidepid=0", "rw,hidepid=off", "rw,hidepid=1", "rw,hidepid=noaccess", "rw,gid=2", ""] {
            assert!(!has_hidepid(mount("/proc", open).as_bytes()), "{open}");
        }
        assert!(!has_hidepid(mount("/jail/proc", "rw,hidepid=2").as_bytes()));
        assert!(!has_hidepid((mount("/proc", "rw,hidepid=2") + &mount("/proc", "rw")).as_bytes()));
        assert!(has_hidepid((mount("/proc", "rw") + &mount("/proc", "rw,hidepid=2")).as_bytes()));
        for bad in ["", "x", " - ", "1 2 3 4 /proc - proc"] {
            assert!(!has_hidepid(bad.as_bytes()), "{bad}");
        }
    }
}
