//! What each capability is for, and what does not work without it.

use crate::{
    commands::doctor::check::{Check, Verdict, subject},
    sys::capabilities::Capabilities,
};

/// Capabilities that a feature needs.
struct Privilege {
    id: &'static str,
    title: &'static str,
    all_of: &'static [u32],
    meaning: &'static str,
    source: &'static str,
    /// What does not work without them.
    lost: &'static str,
    /// The capabilities to grant with setcap(8).
    grant: &'static str,
    /// True if nothing can be traced without them.
    needed: bool,
}

const PRIVILEGES: &[Privilege] = &[
    Privilege {
        id: "cap_bpf",
        title: "CAP_BPF, CAP_PERFMON",
        all_of: &[Capabilities::BPF, Capabilities::PERFMON],
        meaning: "to load and attach the BPF programs; CAP_SYS_ADMIN is enough, too",
        source: "kernel/bpf/syscall.c, bpf_prog_load",
        lost: "nothing can be traced; sockets are listed through sock_diag and /proc",
        grant: "cap_bpf,cap_perfmon",
        needed: true,
    },
    Privilege {
        id: "cap_sys_admin",
        title: "CAP_SYS_ADMIN",
        all_of: &[Capabilities::SYS_ADMIN],
        meaning: "to enter other network namespaces",
        source: "net/core/net_namespace.c, netns_install",
        lost: "only sockets of this network namespace are listed; for others, sockets from before the start, the end of TIME_WAIT, \
               half-open connections and rates are unknown",
        grant: "cap_bpf,cap_perfmon,cap_sys_admin,cap_sys_ptrace",
        needed: false,
    },
    Privilege {
        id: "cap_sys_ptrace",
        title: "CAP_SYS_PTRACE",
        all_of: &[Capabilities::SYS_PTRACE],
        meaning: "to see the network namespaces of other users' processes, and their sockets in /proc",
        source: "fs/proc/namespaces.c, proc_ns_readlink; fs/proc/base.c, proc_fd_access_allowed",
        lost: "network namespaces without a name are not found, and without BPF iterators neither are other users' holders",
        grant: "cap_bpf,cap_perfmon,cap_sys_admin,cap_sys_ptrace",
        needed: false,
    },
    Privilege {
        id: "cap_net_admin",
        title: "CAP_NET_ADMIN",
        all_of: &[Capabilities::NET_ADMIN],
        meaning: "to find a network namespace through a socket in it",
        source: "net/socket.c, sock_ioctl (SIOCGSKNS)",
        lost: "network namespaces that exist only because of a socket are not found",
        grant: "cap_bpf,cap_perfmon,cap_sys_admin,cap_sys_ptrace,cap_net_admin",
        needed: false,
    },
];

/// Checks the capabilities of this process; `program` is its path.
pub(super) fn checks(capabilities: Option<Capabilities>, program: &str) -> impl Iterator<Item = Check> {
    PRIVILEGES.iter().map(move |privilege| privilege.check(capabilities, program))
}

impl Privilege {
    /// The missing one, if another one is present.
    fn missing(&self, has: Capabilities) -> Option<&'static str> {
        let mut names = self.title.split(", ").zip(self.all_of);
        let missing = names.find(|(_, number)| !has.has(**number))?.0;
        self.all_of.iter().any(|number| has.has(*number)).then_some(missing)
    }

    fn check(&self, capabilities: Option<Capabilities>, program: &str) -> Check {
        let (value, verdict) = match capabilities {
            None => (None, Verdict::unknown("cannot be read")),
            Some(has) if self.all_of.iter().all(|one| has.has(*one)) || self.needed && has.can_trace() => {
                (Some("in effect"), Verdict::ok(self.meaning))
            }
            Some(has) => {
                let remedy = format!("run tcptrace with sudo, or once: sudo setcap {}+ep {program}", self.grant);
                let lost = match self.missing(has) {
                    Some(name) => format!("only {name} is missing: {}", self.lost),
                    None => self.lost.to_owned(),
                };
                let verdict = if self.needed { Verdict::failed } else { Verdict::warning }(lost, remedy);
                (Some("missing"), verdict)
            }
        };
        subject(self.id, self.meaning, self.source).check(self.title, value.map(str::to_owned), verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::check::Status;

    fn found(capabilities: Option<Capabilities>) -> Vec<(&'static str, Status)> {
        let checks = checks(capabilities, "/usr/bin/tcptrace");
        checks.filter(|check| check.status != Status::Ok).map(|check| (check.id, check.status)).collect()
    }

    #[test]
    fn capabilities_are_judged_by_what_they_are_for() {
        use Capabilities as C;
        let (bpf, admin, ptrace, net) = ("cap_bpf", "cap_sys_admin", "cap_sys_ptrace", "cap_net_admin");
        let ids = |bits: &[u32]| found(Some(C::of(bits))).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(ids(&[]), [bpf, admin, ptrace, net]);
        assert_eq!(ids(&[C::BPF]), [bpf, admin, ptrace, net]);
        assert_eq!(ids(&[C::BPF, C::PERFMON]), [admin, ptrace, net]);
        assert_eq!(ids(&[C::SYS_ADMIN]), [ptrace, net]);
        assert_eq!(ids(&[C::SYS_ADMIN, C::SYS_PTRACE, C::NET_ADMIN]), [""; 0]);
        assert_eq!(found(Some(C::of(&[])))[0].1, Status::Failed);
        let unknown = found(None);
        assert!(unknown.len() == 4 && unknown.iter().all(|(_, status)| *status == Status::Unknown));
        let first = checks(Some(C::of(&[])), "/usr/bin/tcptrace").next().unwrap();
        assert!(first.consequence.starts_with("nothing can be traced"), "{}", first.consequence);
        let half = checks(Some(C::of(&[C::BPF])), "/usr/bin/tcptrace").next().unwrap();
        assert!(half.consequence.starts_with("only CAP_PERFMON is missing: "), "{}", half.consequence);
        let remedy = first.remedy.unwrap();
        assert!(remedy.ends_with("sudo setcap cap_bpf,cap_perfmon+ep /usr/bin/tcptrace"), "{remedy}");
    }
}
