//! The PID namespace that tcptrace runs in. Events carry PIDs of the initial namespace, whereas `/proc` and BPF
//! iterators in another PID namespace show only the processes of that namespace.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path, sync::LazyLock};

use crate::sys::mountinfo;

/// Which processes tcptrace can see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// All: it runs in the initial PID namespace.
    #[default]
    Host,
    /// It runs in another PID namespace, but with the host's `/proc`.
    HostProc,
    /// Only those of its own PID namespace.
    Own,
}

/// A PID namespace in the form that `bpf_get_ns_current_pid_tgid` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Device number of its nsfs file, in the kernel's internal encoding.
    pub device: u32,
    /// Inode number of its nsfs file; 0 for the initial namespace, or if unknown.
    pub inode: u32,
}

/// What is lost if only the processes of our own PID namespace are visible, and the remedy.
pub const OWN_NAMESPACE_ONLY: (&str, &str) = (
    "tcptrace runs in a PID namespace of its own: it sees processes outside it only when they connect, listen, read or \
     close, not as holders of sockets",
    "run it in the host's PID namespace (`docker run --pid=host`, `hostPID: true` in a pod), or give it the host's /proc \
     (`docker run -v /proc:/host/proc`)",
);

/// [`OWN_NAMESPACE_ONLY`] in one line; `None` if all processes are visible.
#[must_use]
pub fn warning() -> Option<String> {
    (view() == View::Own).then(|| format!("{}; {}", OWN_NAMESPACE_ONLY.0, OWN_NAMESPACE_ONLY.1))
}

/// Checks the PIDs that a user named. Returns warnings.
///
/// # Errors
/// If none of the PIDs can ever match; the text says why.
pub fn check(pids: &[u32]) -> Result<Vec<String>, String> {
    if view() == View::Own && !pids.is_empty() {
        return Ok(vec!["--pid takes PIDs of the host, not of this PID namespace".to_owned()]);
    }
    let wrong: Vec<_> = pids.iter().filter_map(|pid| objection(*pid, find(*pid))).collect();
    if wrong.is_empty() || wrong.len() < pids.len() { Ok(wrong) } else { Err(wrong.join("; ")) }
}

fn objection(pid: u32, found: PidKind) -> Option<String> {
    match found {
        PidKind::Process => None,
        PidKind::ThreadOf(process) => {
            Some(format!("--pid {pid}: this is a thread of process {process}: use --pid {process}"))
        }
        PidKind::Nothing => Some(format!("--pid {pid}: there is no such process")),
    }
}

/// `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`.
const INITIAL: u64 = 0xefff_fffc;

/// Which processes tcptrace sees; determined once.
#[must_use]
pub fn view() -> View {
    FOUND.0
}

/// Its PID namespace, unless that is the initial one.
#[must_use]
pub fn namespace() -> Namespace {
    FOUND.1
}

/// Whether PIDs in events and in `/proc` agree.
#[must_use]
pub fn match_proc() -> bool {
    view() != View::Own
}

static FOUND: LazyLock<(View, Namespace)> = LazyLock::new(|| {
    // Without `/proc` nothing can be traced anyway.
    let Some(file) = fs::metadata("/proc/self/ns/pid").ok().filter(|file| file.ino() != INITIAL) else {
        return (View::Host, Namespace::default());
    };
    let is_host = is_host_proc(Path::new("/proc"));
    let (major, minor) = (libc::major(file.dev()), libc::minor(file.dev()));
    let namespace = Namespace { device: major << 20 | minor, inode: file.ino() as u32 };
    (if is_host { View::HostProc } else { View::Own }, namespace)
});

/// Whether a `/proc` mounted at `point` shows the processes of the initial PID namespace: only there the second process
/// is `kthreadd` (`init/main.c`, `rest_init`).
pub(super) fn is_host_proc(point: &Path) -> bool {
    fs::read_to_string(point.join("2/stat")).is_ok_and(|stat| is_kernel_thread(&stat))
}

/// Whether it is a kernel thread: PF_KTHREAD in the flags, field 9 of `/proc/PID/stat`.
fn is_kernel_thread(stat: &str) -> bool {
    let after = stat.rsplit_once(')').map(|(_, after)| after);
    let flags = after.and_then(|after| after.split_ascii_whitespace().nth(6)?.parse::<u32>().ok());
    flags.is_some_and(|flags| flags & 0x0020_0000 != 0)
}

/// Whether this process is in a user namespace other than the initial one: its capabilities then count only inside it
/// (`kernel/capability.c`, `capable`).
#[must_use]
pub fn in_user_namespace() -> bool {
    /// `PROC_USER_INIT_INO` of `include/linux/proc_ns.h`.
    const INITIAL_USERS: u64 = 0xefff_fffd;
    fs::metadata("/proc/self/ns/user").is_ok_and(|file| file.ino() != INITIAL_USERS)
}

/// What a PID refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PidKind {
    /// A process, or unknown.
    Process,
    /// A thread of this process.
    ThreadOf(u32),
    /// Neither a process nor a thread.
    Nothing,
}

/// Looks up a PID of the initial PID namespace.
#[must_use]
pub fn find(pid: u32) -> PidKind {
    if !match_proc() || !Path::new("/proc/self").exists() {
        return PidKind::Process;
    }
    match fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => match thread_group(&status) {
            Some(process) if process != pid => PidKind::ThreadOf(process),
            _ => PidKind::Process,
        },
        // With hidepid it may exist but be hidden.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !hides_processes() => PidKind::Nothing,
        Err(_) => PidKind::Process,
    }
}

fn thread_group(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// Whether `/proc` hides the processes of other users (hidepid, proc(5)). Processes that are visible but unreadable do
/// not count here: listings count them.
#[must_use]
pub fn hides_processes() -> bool {
    let hides = mountinfo::read().is_ok_and(|mounts| has_hidepid(&mounts));
    // Process 1 always exists. Processes with CAP_SYS_PTRACE, and members of the `gid=` group, see it.
    hides && !Path::new("/proc/1").exists()
}

/// Whether `/proc` is mounted with hidepid (`fs/proc/root.c`; numbers up to 5.7, names since).
fn has_hidepid(mountinfo: &[u8]) -> bool {
    // The last mount covers the earlier ones.
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
        assert_eq!(objection(9, PidKind::ThreadOf(7)).unwrap(), "--pid 9: this is a thread of process 7: use --pid 7");
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
