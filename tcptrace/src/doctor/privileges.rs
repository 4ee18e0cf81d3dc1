//! What each capability is for, and what is lost without it.

use super::{Check, Verdict, machine::subject};

/// The capabilities that a process has in effect (capabilities(7)).
#[derive(Clone, Copy, Debug)]
pub struct Capabilities(u64);

#[allow(missing_docs, reason = "the names are the kernel's")]
impl Capabilities {
    pub const NET_ADMIN: u32 = 12;
    pub const SYS_PTRACE: u32 = 19;
    pub const SYS_ADMIN: u32 = 21;
    pub const SYS_RESOURCE: u32 = 24;
    pub const PERFMON: u32 = 38;
    pub const BPF: u32 = 39;

    /// From `/proc/PID/status`.
    #[must_use]
    pub fn from_status(status: &str) -> Option<Self> {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok().map(Self)
    }

    #[must_use]
    pub const fn has(self, capability: u32) -> bool {
        self.0 >> capability & 1 != 0
    }

    /// May the process load programs that trace (`kernel/bpf/syscall.c`, `bpf_prog_load`)?
    #[must_use]
    pub const fn can_trace(self) -> bool {
        self.has(Self::SYS_ADMIN) || self.has(Self::BPF) && self.has(Self::PERFMON)
    }
}

/// Capabilities that something needs.
struct Privilege {
    id: &'static str,
    title: &'static str,
    all_of: &'static [u32],
    meaning: &'static str,
    source: &'static str,
    /// What is lost without them.
    lost: &'static str,
    /// For setcap(8).
    grant: &'static str,
    /// Can nothing be traced without them?
    needed: bool,
}

const PRIVILEGES: &[Privilege] = &[
    Privilege {
        id: "cap_bpf",
        title: "CAP_BPF, CAP_PERFMON",
        all_of: &[Capabilities::BPF, Capabilities::PERFMON],
        meaning: "to load and attach the programs; CAP_SYS_ADMIN does as well",
        source: "kernel/bpf/syscall.c, bpf_prog_load",
        lost: "nothing can be traced; sockets are listed by sock_diag and /proc",
        grant: "cap_bpf,cap_perfmon",
        needed: true,
    },
    Privilege {
        id: "cap_sys_admin",
        title: "CAP_SYS_ADMIN",
        all_of: &[Capabilities::SYS_ADMIN],
        meaning: "to enter other network namespaces",
        source: "net/core/net_namespace.c, netns_install",
        lost: "only sockets of this network namespace are listed: of others, sockets from before the start, TIME_WAIT's end, \
               half-open connections and rates are not known",
        grant: "cap_bpf,cap_perfmon,cap_sys_admin,cap_sys_ptrace",
        needed: false,
    },
    Privilege {
        id: "cap_sys_ptrace",
        title: "CAP_SYS_PTRACE",
        all_of: &[Capabilities::SYS_PTRACE],
        meaning: "to see the network namespaces of other users' processes, and by /proc what these hold",
        source: "fs/proc/namespaces.c, proc_ns_readlink; fs/proc/base.c, proc_fd_access_allowed",
        lost: "network namespaces without a name are not found; without BPF iterators holders of other users are not known",
        grant: "cap_bpf,cap_perfmon,cap_sys_admin,cap_sys_ptrace",
        needed: false,
    },
    Privilege {
        id: "cap_net_admin",
        title: "CAP_NET_ADMIN",
        all_of: &[Capabilities::NET_ADMIN],
        meaning: "to find a network namespace by a socket that is in it",
        source: "net/socket.c, sock_ioctl (SIOCGSKNS)",
        lost: "network namespaces that only a socket keeps are not found",
        grant: "cap_bpf,cap_perfmon,cap_sys_admin,cap_sys_ptrace,cap_net_admin",
        needed: false,
    },
];

/// Judges what a process may do; `program` is its path.
pub(super) fn checks(capabilities: Option<Capabilities>, program: &str) -> impl Iterator<Item = Check> {
    PRIVILEGES.iter().map(move |privilege| privilege.check(capabilities, program))
}

impl Privilege {
    fn check(&self, capabilities: Option<Capabilities>, program: &str) -> Check {
        let (value, verdict) = match capabilities {
            None => (None, Verdict::unknown("/proc/self/status does not tell")),
            Some(has) if self.all_of.iter().all(|one| has.has(*one)) || self.needed && has.can_trace() => {
                (Some("in effect"), Verdict::ok(self.meaning))
            }
            Some(_) => {
                let remedy = format!("run it with sudo, or once: sudo setcap {}+ep {program}", self.grant);
                let verdict = if self.needed { Verdict::failed } else { Verdict::warning }(self.lost, remedy);
                (Some("missing"), verdict)
            }
        };
        subject(self.id, self.meaning, self.source).check(self.title, value.map(str::to_owned), verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    fn found(status: &str) -> Vec<(&'static str, Status)> {
        let checks = checks(Capabilities::from_status(status), "/usr/bin/tcptrace");
        checks.filter(|check| check.status != Status::Ok).map(|check| (check.id, check.status)).collect()
    }

    fn status(bits: &[u32]) -> String {
        format!("Name:\tx\nCapEff:\t{:016x}\n", bits.iter().fold(0_u64, |bits, bit| bits | 1 << bit))
    }

    #[test]
    fn capabilities_are_judged_by_what_they_are_for() {
        use Capabilities as C;
        let (bpf, admin, ptrace, net) = ("cap_bpf", "cap_sys_admin", "cap_sys_ptrace", "cap_net_admin");
        let ids = |bits: &[u32]| found(&status(bits)).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(ids(&[]), [bpf, admin, ptrace, net]);
        assert_eq!(ids(&[C::BPF]), [bpf, admin, ptrace, net]);
        assert_eq!(ids(&[C::BPF, C::PERFMON]), [admin, ptrace, net]);
        assert_eq!(ids(&[C::SYS_ADMIN]), [ptrace, net]);
        assert_eq!(ids(&[C::SYS_ADMIN, C::SYS_PTRACE, C::NET_ADMIN]), [""; 0]);
        assert_eq!(found(&status(&[]))[0].1, Status::Failed);
        let unknown = found("CapEff:\tx\n");
        assert!(unknown.len() == 4 && unknown.iter().all(|(_, status)| *status == Status::Unknown));
        let first = checks(Capabilities::from_status(&status(&[])), "/usr/bin/tcptrace").next().unwrap();
        let remedy = first.remedy.unwrap();
        assert!(remedy.ends_with("sudo setcap cap_bpf,cap_perfmon+ep /usr/bin/tcptrace"), "{remedy}");
    }
}
