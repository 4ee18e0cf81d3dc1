//! What tcptrace needs from the machine, and what does not work without it.

use tcptrace_common::config::feature;

use super::privileges::{self};
use crate::{
    commands::doctor::{
        check::{Check, Verdict, subject},
        sysctl::Sysctls,
    },
    sys::{
        capabilities::Capabilities,
        descriptors::NEEDED,
        kernel::version,
        pids::{self, View},
    },
};

/// The oldest supported kernel.
const OLDEST_KERNEL: (u32, u32) = (5, 10);
/// Since this kernel BPF's memory is charged to cgroups, not to RLIMIT_MEMLOCK (before: `kernel/bpf/syscall.c`,
/// `bpf_map_charge_init`).
const NO_MEMLOCK: (u32, u32) = (5, 11);
/// Size of tcptrace's maps with default settings: 8 MiB of rings, 16 MiB of tracked sockets, and small maps.
const MAPS_BYTES: u64 = 32 << 20;

/// Facts about the machine and this process.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// `/proc/sys/kernel/osrelease`.
    pub release: String,
    /// The kernel's BTF.
    pub types: Types,
    /// Effective capabilities; `None` if not known.
    pub capabilities: Option<Capabilities>,
    /// True if `/proc` is mounted.
    pub has_proc: bool,
    /// True if this process is not in the initial user namespace.
    pub has_own_users: bool,
    /// Which processes tcptrace sees, by PID namespace.
    pub view: View,
    /// RLIMIT_NOFILE, if known.
    pub descriptors: Option<u64>,
    /// Content of `/sys/kernel/security/lockdown`, if it exists.
    pub lockdown: Option<String>,
    /// True if `/proc` hides processes of other users.
    pub hides_processes: bool,
    /// True if a cgroup v2 hierarchy is mounted.
    pub has_cgroup2: bool,
    /// Hard limit of RLIMIT_MEMLOCK in bytes, if known.
    pub memlock_bytes: Option<u64>,
    /// Path of this program, for the remedy with setcap(8).
    pub program: String,
    /// True if the kernel takes seccomp filters.
    pub has_seccomp: bool,
    /// The version of Landlock's interface, if the kernel has it.
    pub landlock: Option<u32>,
}

/// The kernel's types (BTF).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Types {
    /// The kernel was built without BTF.
    #[default]
    Missing,
    /// BTF cannot be read or used, for this reason.
    Unusable(String),
    /// BTF is usable.
    Known {
        /// Optional features of the kernel: bits of [`feature`].
        abilities: u32,
        /// Why BPF iterators do not work, if they do not.
        no_listing: Option<String>,
    },
}

/// Checks the machine.
pub(super) fn checks(machine: &Machine, sysctls: &Sysctls) -> Vec<Check> {
    let mut checks = vec![release(&machine.release), proc(machine.has_proc), types(&machine.types)];
    let capabilities = machine.capabilities;
    checks.push(user_namespace(machine.has_own_users));
    checks.extend(privileges::checks(capabilities, &machine.program));
    checks.push(lockdown(machine.lockdown.as_deref()));
    checks.extend(SWITCHES.iter().filter_map(|switch| switch.check(sysctls)));
    checks.extend(memlock(machine, capabilities));
    checks.push(descriptors(machine.descriptors));
    checks.push(pid_namespace(machine.view));
    checks.push(processes(machine.hides_processes));
    checks.push(cgroup2(machine.has_cgroup2));
    checks.extend(sandbox(machine));
    checks
}

fn release(release: &str) -> Check {
    let needs = format!("tcptrace needs {}.{} or later", OLDEST_KERNEL.0, OLDEST_KERNEL.1);
    let verdict = match version(release) {
        None => Verdict::unknown(needs),
        Some(version) if version < OLDEST_KERNEL => Verdict::failed(format!("too old: {needs}"), "use a later kernel"),
        Some(_) => Verdict::ok(needs),
    };
    let value = Some(release.trim().to_owned()).filter(|release| !release.is_empty());
    subject("kernel", "release of the running kernel", "/proc/sys/kernel/osrelease").check("kernel", value, verdict)
}

/// Data that only newer kernels provide.
const ABILITIES: [(u32, &str); 3] = [
    (feature::SOCKET_COOKIE, "cookies of new sockets"),
    (feature::RESET_REASON, "reasons of RSTs"),
    (feature::RETRANSMIT_ERR, "errors of retransmits that fail"),
];

fn types(types: &Types) -> Check {
    let (value, verdict) = match types {
        Types::Missing => (
            Some("missing".to_owned()),
            Verdict::failed(
                "nothing can be traced: tcptrace needs it to find fields in the kernel's structs",
                "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as those of Debian 11, Ubuntu 22.04, Fedora 34, RHEL 9 \
                 and later are",
            ),
        ),
        Types::Unusable(error) => (
            None,
            Verdict::failed(
                format!("nothing can be traced: {error}"),
                "read /sys/kernel/btf/vmlinux as root, or report this",
            ),
        ),
        Types::Known { abilities, no_listing } => {
            let lacks = ABILITIES.iter().filter(|(bit, _)| abilities & bit == 0).map(|(_, what)| *what);
            let lacks: Vec<_> = no_listing.iter().map(|_| "listings by BPF iterators").chain(lacks).collect();
            let consequence = match lacks[..] {
                [] => "the kernel has every feature that tcptrace can use".to_owned(),
                _ => format!("tcptrace works, but this kernel does not provide {}", lacks.join(", ")),
            };
            (Some("present".to_owned()), Verdict::ok(consequence))
        }
    };
    subject("btf", "the kernel's description of its own types", "/sys/kernel/btf/vmlinux").check("BTF", value, verdict)
}

fn lockdown(text: Option<&str>) -> Check {
    let chosen = text.and_then(|text| text.split_once('[')?.1.split_once(']')).map(|(chosen, _)| chosen.to_owned());
    let verdict = match chosen.as_deref() {
        None => Verdict::unknown("the kernel has no lockdown, or securityfs is not mounted"),
        Some("confidentiality") => Verdict::failed(
            "BPF may not read kernel memory: nothing can be traced",
            "boot with lockdown=integrity or without lockdown",
        ),
        Some(_) => Verdict::ok("BPF may read kernel memory"),
    };
    subject("lockdown", "kernel lockdown", "security/lockdown/lockdown.c; kernel_lockdown(7)")
        .check("lockdown", chosen, verdict)
}

/// A setting of the kernel's BPF.
struct Switch {
    name: &'static str,
    meaning: &'static str,
    source: &'static str,
    judge: fn(u64) -> Verdict,
}

/// `kernel.perf_event_paranoid` does not matter: tcptrace's programs are not attached through perf events.
const SWITCHES: &[Switch] = &[
    Switch {
        name: "kernel.unprivileged_bpf_disabled",
        meaning: "who may use BPF: 0 everybody (except for tracing programs), 1 and 2 only processes with CAP_BPF",
        source: "Documentation/admin-guide/sysctl/kernel.rst; kernel/bpf/syscall.c, __sys_bpf",
        judge: |value| {
            Verdict::ok(match value {
                0 => "does not matter: tracing programs need CAP_BPF anyway",
                _ => "without CAP_BPF not even maps can be created",
            })
        },
    },
    Switch {
        name: "kernel.bpf_stats_enabled",
        meaning: "whether the kernel times each run of each BPF program",
        source: "Documentation/admin-guide/sysctl/kernel.rst; include/linux/filter.h, __bpf_prog_run",
        judge: |value| match value {
            0 => Verdict::ok("programs run at full speed"),
            _ => Verdict::warning(
                "each run of each BPF program on this host reads the clock twice more",
                "set kernel.bpf_stats_enabled=0 when you have finished measuring",
            ),
        },
    },
    Switch {
        name: "net.core.bpf_jit_enable",
        meaning: "whether BPF programs are compiled to machine code",
        source: "Documentation/admin-guide/sysctl/net.rst; kernel/bpf/trampoline.c",
        judge: |value| match value {
            0 => Verdict::warning(
                "programs are interpreted, which is several times slower, and accepting processes are not seen",
                "set net.core.bpf_jit_enable=1",
            ),
            _ => Verdict::ok("programs run at full speed"),
        },
    },
];

impl Switch {
    /// `None` if the kernel or this network namespace does not have the setting.
    fn check(&self, sysctls: &Sysctls) -> Option<Check> {
        let value = sysctls.text(self.name)?;
        let verdict = value.parse().map_or_else(|_| Verdict::unknown("not understood"), self.judge);
        Some(subject(self.name, self.meaning, self.source).check(self.name, Some(value), verdict))
    }
}

/// `None` on kernels where the limit does not apply.
fn memlock(machine: &Machine, capabilities: Option<Capabilities>) -> Option<Check> {
    version(&machine.release).filter(|version| *version < NO_MEMLOCK)?;
    let raised = capabilities.is_some_and(|has| has.has(Capabilities::SYS_RESOURCE));
    let verdict = match machine.memlock_bytes {
        _ if raised => Verdict::ok("tcptrace raises it"),
        None => Verdict::unknown("cannot be read"),
        Some(bytes) if bytes < MAPS_BYTES => Verdict::warning(
            "less than the BPF maps need by default",
            "run tcptrace with sudo, raise the hard limit (`ulimit -H -l`), or lower --ring-size and --kernel-sockets",
        ),
        Some(_) => Verdict::ok("enough for the BPF maps"),
    };
    let value = machine.memlock_bytes.map(|bytes| format!("{bytes} bytes"));
    let meaning = "memory limit of BPF maps before Linux 5.11";
    Some(subject("memlock", meaning, "setrlimit(2), RLIMIT_MEMLOCK").check("RLIMIT_MEMLOCK", value, verdict))
}

fn proc(mounted: bool) -> Check {
    let (value, verdict) = if mounted {
        ("mounted", Verdict::ok("tcptrace finds processes, namespaces and settings there"))
    } else {
        (
            "not mounted",
            Verdict::failed(
                "nothing can be traced: tcptrace needs it to find processes, namespaces and settings",
                "mount it: `mount -t proc proc /proc`",
            ),
        )
    };
    subject("proc", "the kernel's files about processes and settings", "proc(5)").check(
        "/proc",
        Some(value.to_owned()),
        verdict,
    )
}

fn descriptors(limit: Option<u64>) -> Check {
    let verdict = match limit {
        None => Verdict::unknown("cannot be read"),
        Some(limit) if limit < NEEDED => Verdict::failed(
            format!("too few: a trace needs at least {NEEDED}"),
            "raise the limit: `ulimit -n 1024` in the shell, or LimitNOFILE=1024 in the unit",
        ),
        Some(_) => Verdict::ok("enough for the programs, their maps and the outputs"),
    };
    let meaning = "how many files, maps, programs and sockets tcptrace may have open";
    let subject = subject("descriptors", meaning, "setrlimit(2), RLIMIT_NOFILE");
    subject.check("RLIMIT_NOFILE", limit.map(|limit| limit.to_string()), verdict)
}

fn user_namespace(is_own: bool) -> Check {
    let (value, verdict) = if is_own {
        (
            "another",
            Verdict::failed(
                "nothing can be traced: capabilities in a user namespace apply only to that namespace",
                "run tcptrace in the host's user namespace: with sudo outside the rootless container, or with `docker run \
                 --userns=host`",
            ),
        )
    } else {
        ("of the host", Verdict::ok("capabilities apply to the whole host"))
    };
    let subject = subject("user_namespace", "where capabilities apply", "kernel/capability.c, capable");
    subject.check("user namespace", Some(value.to_owned()), verdict)
}

fn pid_namespace(view: View) -> Check {
    let (value, verdict) = match view {
        View::Host => ("of the host", Verdict::ok("processes of all PID namespaces are seen")),
        View::HostProc => (
            "another, with the host's /proc",
            Verdict::ok(
                "sockets and their holders are listed through sock_diag and /proc, which is slower than BPF iterators",
            ),
        ),
        View::Own => ("another", Verdict::warning(pids::OWN_NAMESPACE_ONLY.0, pids::OWN_NAMESPACE_ONLY.1)),
    };
    let subject = subject("pid_namespace", "which processes tcptrace sees", "kernel/bpf/task_iter.c, init_seq_pidns");
    subject.check("PID namespace", Some(value.to_owned()), verdict)
}

fn processes(hidden: bool) -> Check {
    let (value, verdict) = if hidden {
        (
            "hidden",
            Verdict::warning(
                "network namespaces of hidden processes are not found, and without BPF iterators neither are hidden holders",
                "run tcptrace with sudo, or in the group of /proc's mount option gid=",
            ),
        )
    } else {
        ("shown", Verdict::ok("/proc shows processes of all users"))
    };
    let subject =
        subject("hidepid", "whether /proc hides other users' processes", "fs/proc/base.c, has_pid_permissions");
    subject.check("processes in /proc", Some(value.to_owned()), verdict)
}

fn cgroup2(mounted: bool) -> Check {
    let (value, verdict) = if mounted {
        ("mounted", Verdict::ok("cgroups are shown with their paths, and --cgroup works"))
    } else {
        (
            "not mounted",
            Verdict::warning(
                "cgroups are shown without paths, and --cgroup does not work",
                "mount the hierarchy: `mount -t cgroup2 none DIRECTORY`",
            ),
        )
    };
    let subject = subject("cgroup2", "the cgroup v2 hierarchy", "/proc/self/mountinfo");
    subject.check("cgroup v2", Some(value.to_owned()), verdict)
}

/// tcptrace runs without them, too.
fn sandbox(machine: &Machine) -> [Check; 2] {
    const MISSING: &str = "missing";
    let (seccomp, of_seccomp) = match machine.has_seccomp {
        true => ("available", "a run is refused the system calls that it never makes"),
        false => (MISSING, "a run is not refused the system calls that it never makes"),
    };
    let (landlock, of_landlock) = match machine.landlock {
        Some(version) => (format!("version {version}"), "a run writes only in the folders of its outputs"),
        None => (MISSING.to_owned(), "where a run writes is limited by the rights of its user alone"),
    };
    let subject_of_seccomp = subject("seccomp", "limits what tcptrace can still do once it runs", "seccomp(2)");
    let subject_of_landlock = subject("landlock", "limits where tcptrace writes once it runs", "landlock(7)");
    [
        subject_of_seccomp.check("seccomp", Some(seccomp.to_owned()), Verdict::ok(of_seccomp)),
        subject_of_landlock.check("Landlock", Some(landlock), Verdict::ok(of_landlock)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::check::Status;

    const ALL: [u32; 6] = {
        use Capabilities as C;
        [C::BPF, C::PERFMON, C::SYS_ADMIN, C::SYS_PTRACE, C::NET_ADMIN, C::SYS_RESOURCE]
    };

    fn fit() -> Machine {
        Machine {
            release: "6.18.44-cloud\n".into(),
            types: Types::Known { abilities: u32::MAX, no_listing: None },
            capabilities: Some(Capabilities::of(&ALL)),
            has_proc: true,
            has_own_users: false,
            view: View::Host,
            descriptors: Some(NEEDED),
            lockdown: Some("[none] integrity confidentiality\n".into()),
            hides_processes: false,
            has_cgroup2: true,
            memlock_bytes: Some(65536),
            program: "/usr/bin/tcptrace".into(),
            has_seccomp: true,
            landlock: Some(7),
        }
    }

    /// What is not fine.
    fn found(machine: &Machine) -> Vec<(&'static str, Status)> {
        let checks = checks(machine, &Sysctls::default());
        let found: Vec<_> = checks.iter().filter(|check| check.status != Status::Ok).collect();
        assert!(found.iter().all(|check| check.remedy.is_some() == check.status.is_finding()), "{found:?}");
        found.into_iter().map(|check| (check.id, check.status)).collect()
    }

    fn with_capabilities(bits: &[u32]) -> Machine {
        Machine { capabilities: Some(Capabilities::of(bits)), ..fit() }
    }

    #[test]
    fn each_lack_is_found_alone() {
        use Status::{Failed, Unknown, Warning};
        assert_eq!(found(&fit()), []);
        assert_eq!(found(&Machine { release: "5.9.16".into(), ..fit() }), [("kernel", Failed)]);
        assert_eq!(found(&Machine { release: "5.10.0".into(), ..fit() }), []);
        assert_eq!(found(&Machine { release: String::new(), ..fit() }), [("kernel", Unknown)]);
        assert_eq!(found(&Machine { types: Types::Missing, ..fit() }), [("btf", Failed)]);
        assert_eq!(found(&Machine { types: Types::Unusable("x".into()), ..fit() }), [("btf", Failed)]);
        assert_eq!(found(&Machine { lockdown: Some("none [integrity] confidentiality".into()), ..fit() }), []);
        assert_eq!(
            found(&Machine { lockdown: Some("none integrity [confidentiality]".into()), ..fit() }),
            [("lockdown", Failed)]
        );
        assert_eq!(found(&Machine { lockdown: None, ..fit() }), [("lockdown", Unknown)]);
        assert_eq!(found(&Machine { hides_processes: true, ..fit() }), [("hidepid", Warning)]);
        assert_eq!(found(&Machine { has_cgroup2: false, ..fit() }), [("cgroup2", Warning)]);
        assert_eq!(found(&Machine { has_proc: false, ..fit() }), [("proc", Failed)]);
        assert_eq!(found(&Machine { has_own_users: true, ..fit() }), [("user_namespace", Failed)]);
        assert_eq!(found(&Machine { descriptors: Some(NEEDED - 1), ..fit() }), [("descriptors", Failed)]);
        assert_eq!(found(&Machine { descriptors: None, ..fit() }), [("descriptors", Unknown)]);
        assert_eq!(found(&Machine { view: View::Own, ..fit() }), [("pid_namespace", Warning)]);
        assert_eq!(found(&Machine { view: View::HostProc, ..fit() }), []);
        assert_eq!(found(&Machine { has_seccomp: false, landlock: None, ..fit() }), [], "it does without them");
    }

    #[test]
    fn locked_memory_counts_on_old_kernels_alone() {
        let old = |bits: &[u32], memlock_bytes| {
            let all = [Capabilities::SYS_ADMIN, Capabilities::SYS_PTRACE, Capabilities::NET_ADMIN];
            found(&Machine { release: "5.10.223".into(), memlock_bytes, ..with_capabilities(&[&all, bits].concat()) })
        };
        assert_eq!(old(&[], Some(MAPS_BYTES - 1)), [("memlock", Status::Warning)]);
        assert_eq!(old(&[], Some(MAPS_BYTES)), []);
        assert_eq!(old(&[], None), [("memlock", Status::Unknown)]);
        assert_eq!(old(&[Capabilities::SYS_RESOURCE], Some(0)), []);
    }

    #[test]
    fn what_a_kernel_cannot_do_is_named() {
        let older = Types::Known { abilities: feature::SOCKET_COOKIE, no_listing: Some("x".into()) };
        let check = types(&older);
        assert_eq!(check.status, Status::Ok);
        assert!(
            check.consequence.contains("BPF iterators") && check.consequence.contains("reasons of RSTs"),
            "{check:?}"
        );
        assert!(!check.consequence.contains("cookies"), "{check:?}");
    }

    #[test]
    fn settings_of_bpf() {
        let sysctls =
            |jit, stats| Sysctls::of(&[("net.core.bpf_jit_enable", jit), ("kernel.bpf_stats_enabled", stats)]);
        let status =
            |sysctls: &Sysctls, id| checks(&fit(), sysctls).iter().find(|check| check.id == id).unwrap().status;
        assert_eq!(status(&sysctls("1", "0"), "net.core.bpf_jit_enable"), Status::Ok);
        assert_eq!(status(&sysctls("0", "0"), "net.core.bpf_jit_enable"), Status::Warning);
        assert_eq!(status(&sysctls("1", "1"), "kernel.bpf_stats_enabled"), Status::Warning);
        assert_eq!(status(&sysctls("x", "0"), "net.core.bpf_jit_enable"), Status::Unknown);
    }
}
