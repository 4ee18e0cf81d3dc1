//! System calls that tcptrace never makes once it runs, refused with EPERM (seccomp(2)).
//!
//! It is a list of what is refused, not of what is allowed: the C library, the modules of its resolver and TLS make other
//! calls on each host and in each version, and an event that is lost to a sandbox is worse than a call that does no harm.
//! The systemd unit has a list of what is allowed besides.

use std::{collections::BTreeMap, io};

use libc::c_long;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter, apply_filter_all_threads, sock_filter,
};

use crate::sys::places::root::HOW;

/// What a run still does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// It enters other network namespaces.
    pub setns: bool,
    /// It takes descriptors of other processes, to find the network namespace of a socket.
    pub pidfd_getfd: bool,
}

#[cfg(target_arch = "x86_64")]
const KEXEC_FILE_LOAD: c_long = libc::SYS_kexec_file_load;
/// `include/uapi/asm-generic/unistd.h`; libc lacks it for musl.
#[cfg(not(target_arch = "x86_64"))]
const KEXEC_FILE_LOAD: c_long = 294;

/// Refused to all threads, whatever the arguments.
const NEVER: &[c_long] = &[
    // Other programs and processes: programs of `exec:` outputs are started by a process of its own.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    // The kernel: modules, kexec, clock, swap, accounting, tracing by other ways than the programs that are attached.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    KEXEC_FILE_LOAD,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_perf_event_open,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    // Its calls pass no filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    // What this process may do.
    libc::SYS_capset,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_personality,
    // Access to files by their names, which Landlock does not cover. That of a new file is set by its descriptor.
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_utimensat,
    // The server of metrics listens already.
    libc::SYS_listen,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// Refused besides to threads that only read.
const NEVER_READING: &[c_long] = &[
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_renameat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
];

/// The commands of bpf(2) that a run needs: to read and write its maps, and to run its iterators (`enum bpf_cmd` of
/// `include/uapi/linux/bpf.h`). So none loads a program or makes a map, and none gets those of others.
const BPF_COMMANDS: [u64; 7] = {
    const MAP_LOOKUP_ELEM: u64 = 1;
    const MAP_UPDATE_ELEM: u64 = 2;
    const MAP_DELETE_ELEM: u64 = 3;
    const MAP_GET_NEXT_KEY: u64 = 4;
    const OBJ_GET_INFO_BY_FD: u64 = 15;
    const LINK_CREATE: u64 = 28;
    const ITER_CREATE: u64 = 33;
    [MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, MAP_DELETE_ELEM, MAP_GET_NEXT_KEY, OBJ_GET_INFO_BY_FD, LINK_CREATE, ITER_CREATE]
};

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Refuses what a run with these calls does not do, to all threads. Sets `no_new_privs`.
///
/// # Errors
/// If the kernel has no seccomp filters, or a filter that is in force refuses.
pub(super) fn confine(calls: Calls) -> io::Result<()> {
    for program in [filter(rules(calls)), other_numbers()] {
        apply_filter_all_threads(&program.map_err(io::Error::other)?).map_err(reason)?;
    }
    Ok(())
}

/// Refuses to change any file, to the calling thread and those that it starts.
///
/// # Errors
/// See [`confine`].
pub(super) fn confine_to_reading() -> io::Result<()> {
    apply_filter(&filter(rules_of_reading()).map_err(io::Error::other)?).map_err(reason)
}

/// True if the kernel takes filters that refuse with an errno.
#[must_use]
pub fn is_available() -> bool {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads four bytes, which live as long as the call.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

fn reason(error: Error) -> io::Error {
    match error {
        Error::Prctl(error) | Error::Seccomp(error) => error,
        error => io::Error::other(error),
    }
}

fn filter(rules: Result<Rules, seccompiler::BackendError>) -> Result<BpfProgram, seccompiler::BackendError> {
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules?, SeccompAction::Allow, refused, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// Where an argument is, and what it is compared with.
fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
}

fn rules(calls: Calls) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = NEVER.iter().map(|number| (*number, Vec::new())).collect();
    let others = BPF_COMMANDS.iter().map(|command| argument(0, SeccompCmpOp::Ne, *command));
    rules.insert(libc::SYS_bpf, vec![SeccompRule::new(others.collect::<Result<_, _>>()?)?]);
    let not_netns = argument(1, SeccompCmpOp::Ne, libc::CLONE_NEWNET as u64)?;
    let setns = if calls.setns { vec![SeccompRule::new(vec![not_netns])?] } else { Vec::new() };
    rules.insert(libc::SYS_setns, setns);
    if !calls.pidfd_getfd {
        rules.insert(libc::SYS_pidfd_getfd, Vec::new());
    }
    let not_own = argument(0, SeccompCmpOp::Ne, u64::from(std::process::id()))?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![not_own])?]);
    // Ctrl-Z on a screen stops the process group of tcptrace.
    let not_group = argument(0, SeccompCmpOp::Ne, 0)?;
    rules.insert(libc::SYS_kill, vec![SeccompRule::new(vec![not_group])?]);
    // No file gets a bit by which it runs as its owner.
    let has = |bit: u32| SeccompRule::new(vec![argument(1, SeccompCmpOp::MaskedEq(bit.into()), bit.into())?]);
    rules.insert(libc::SYS_fchmod, vec![has(libc::S_ISUID)?, has(libc::S_ISGID)?]);
    Ok(rules)
}

fn rules_of_reading() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = NEVER_READING.iter().map(|number| (*number, Vec::new())).collect();
    let flags = |index: u8| -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
        let has = |mask: i32, value: i32| {
            SeccompRule::new(vec![argument(index, SeccompCmpOp::MaskedEq(mask as u64), value as u64)?])
        };
        let modes = [libc::O_WRONLY, libc::O_RDWR, libc::O_ACCMODE].map(|mode| has(libc::O_ACCMODE, mode));
        modes.into_iter().chain([libc::O_CREAT, libc::O_TRUNC].map(|flag| has(flag, flag))).collect()
    };
    rules.insert(libc::SYS_openat, flags(2)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, flags(1)?);
    // A filter does not see the flags that openat2(2) takes, but it sees where they are: in constants of this program.
    let elsewhere = HOW
        .iter()
        .map(|how| SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, std::ptr::from_ref(how) as u64));
    rules.insert(libc::SYS_openat2, vec![SeccompRule::new(elsewhere.collect::<Result<_, _>>()?)?]);
    Ok(rules)
}

/// Refuses the numbers of x32, by which the same calls have other numbers on x86-64 (`arch/x86/include/asm/unistd.h`).
fn other_numbers() -> Result<BpfProgram, seccompiler::BackendError> {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const X32: u32 = 0x4000_0000;
    let statement = |code, jt, k| sock_filter { code, jt, jf: 0, k };
    Ok(vec![
        statement(LOAD_NUMBER, 0, 0),
        statement(JUMP_IF_AT_LEAST, 1, X32),
        statement(RETURN, 0, libc::SECCOMP_RET_ALLOW),
        statement(RETURN, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    ])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{fs, thread};

    use super::*;

    /// The errno of a system call without arguments that matter.
    fn errno(number: c_long, arguments: [u64; 3]) -> i32 {
        // SAFETY: none of the calls that tests make writes anything with these arguments.
        let result = unsafe { libc::syscall(number, arguments[0], arguments[1], arguments[2]) };
        if result < 0 { io::Error::last_os_error().raw_os_error().unwrap() } else { 0 }
    }

    /// In a thread of its own, which alone is confined.
    fn confined(calls: Calls, test: impl FnOnce() + Send + 'static) {
        let run = move || {
            apply_filter(&filter(rules(calls)).unwrap()).unwrap();
            apply_filter(&other_numbers().unwrap()).unwrap();
            test();
        };
        thread::spawn(run).join().unwrap();
    }

    #[test]
    fn what_a_run_never_does_is_refused() {
        confined(Calls::default(), || {
            for number in NEVER.iter().copied().filter(|number| *number != libc::SYS_execve) {
                assert_eq!(errno(number, [u64::MAX; 3]), libc::EPERM, "{number}");
            }
            assert_eq!(std::process::Command::new("/bin/true").spawn().unwrap_err().raw_os_error(), Some(libc::EPERM));
            assert_eq!(errno(libc::SYS_setns, [u64::MAX, libc::CLONE_NEWNET as u64, 0]), libc::EPERM);
            assert_eq!(errno(libc::SYS_pidfd_getfd, [u64::MAX, 0, 0]), libc::EPERM);
            assert_eq!(errno(libc::SYS_tgkill, [1, 1, 0]), libc::EPERM);
            assert_eq!(errno(libc::SYS_kill, [1, 0, 0]), libc::EPERM);
            assert_eq!(errno(libc::SYS_fchmod, [u64::MAX, 0o4755, 0]), libc::EPERM);
            assert_eq!(errno(0x4000_0000 | libc::SYS_getpid, [0; 3]), libc::EPERM);
            const PROG_LOAD: u64 = 5;
            assert_eq!(errno(libc::SYS_bpf, [PROG_LOAD, 0, 0]), libc::EPERM);
        });
    }

    #[test]
    fn what_a_run_does_reaches_the_kernel() {
        confined(Calls { setns: true, pidfd_getfd: true }, || {
            assert_eq!(errno(libc::SYS_setns, [u64::MAX, libc::CLONE_NEWNET as u64, 0]), libc::EBADF);
            assert_eq!(errno(libc::SYS_setns, [u64::MAX, libc::CLONE_NEWNS as u64, 0]), libc::EPERM);
            assert_eq!(errno(libc::SYS_pidfd_getfd, [u64::MAX, 0, 0]), libc::EBADF);
            assert_eq!(errno(libc::SYS_fchmod, [u64::MAX, 0o600, 0]), libc::EBADF);
            assert_eq!(errno(libc::SYS_tgkill, [std::process::id().into(), 1, 0]), libc::ESRCH);
            assert_eq!(errno(libc::SYS_kill, [0, 0, 0]), 0, "its own group");
            // Lookups fail for other reasons than the filter: EINVAL without attributes.
            let reached = BPF_COMMANDS.map(|command| errno(libc::SYS_bpf, [command, 0, 0]));
            assert!(reached.iter().all(|errno| *errno != libc::EPERM), "{reached:?}");
            fs::read_to_string("/proc/self/status").unwrap();
        });
    }

    #[test]
    fn a_thread_that_reads_changes_no_file() {
        let path = std::env::temp_dir().join(format!("tcptrace-reading-{}", std::process::id()));
        fs::write(&path, "some").unwrap();
        let its = path.clone();
        let test = move || {
            confine_to_reading().unwrap();
            let refused = |result: io::Result<()>| assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
            refused(fs::write(&its, "other"));
            refused(fs::write(its.with_extension("new"), "other"));
            refused(fs::OpenOptions::new().append(true).open(&its).map(drop));
            refused(fs::remove_file(&its));
            refused(fs::rename(&its, its.with_extension("new")));
            refused(fs::hard_link(&its, its.with_extension("new")));
            refused(fs::create_dir(its.with_extension("new")));
            refused(fs::File::open(&its).and_then(|file| file.set_len(0)));
            let how = [libc::O_WRONLY as u64, 0, 0];
            assert_eq!(errno(libc::SYS_openat2, [0, 0, how.as_ptr() as u64]), libc::EPERM, "flags of its own");
            assert_eq!(fs::read_to_string(&its).unwrap(), "some");
        };
        thread::spawn(test).join().unwrap();
        fs::remove_file(&path).unwrap();
    }
}
