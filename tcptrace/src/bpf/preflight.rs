//! Looks for the usual reasons why tracing cannot work, before and after the kernel says no, and says what to do.

use std::{fs, path::Path};

use super::btf::VMLINUX;
use crate::doctor::{Capabilities, OLDEST_KERNEL, version};

/// What keeps tracing from working here, with the way out; `None` if nothing is known to.
#[must_use]
pub fn obstacle() -> Option<String> {
    // The name in `status` is that of the program's file, in any bytes.
    let read =
        |path: &str| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let host = Host {
        release: read("/proc/sys/kernel/osrelease"),
        has_btf: Path::new(VMLINUX).exists(),
        lockdown: read("/sys/kernel/security/lockdown"),
        status: read("/proc/self/status"),
        program: std::env::current_exe().map_or_else(|_| "tcptrace".to_owned(), |path| path.display().to_string()),
    };
    host.obstacle()
}

/// What was found on this machine.
struct Host {
    release: String,
    has_btf: bool,
    lockdown: String,
    status: String,
    program: String,
}

impl Host {
    fn obstacle(&self) -> Option<String> {
        let release = self.release.trim();
        if version(release).is_some_and(|version| version < OLDEST_KERNEL) {
            return Some(format!(
                "kernel {release} is too old: tcptrace needs {}.{} or later",
                OLDEST_KERNEL.0, OLDEST_KERNEL.1
            ));
        }
        if !self.has_btf {
            return Some(format!(
                "this kernel shows no type information ({VMLINUX} is missing): tcptrace needs a kernel built with \
                 CONFIG_DEBUG_INFO_BTF=y, as those of Debian 11, Ubuntu 22.04, Fedora 34, RHEL 9 and later are"
            ));
        }
        if self.lockdown.contains("[confidentiality]") {
            return Some(
                "kernel lockdown is set to confidentiality, which forbids BPF to read kernel memory: boot with \
                 lockdown=integrity or without lockdown"
                    .to_owned(),
            );
        }
        if Capabilities::from_status(&self.status)?.can_trace() {
            return None;
        }
        Some(format!(
            "tracing needs the capabilities CAP_BPF and CAP_PERFMON: run it with sudo, or give them to the program \
             once:\n  sudo setcap cap_bpf,cap_perfmon+ep {}",
            self.program
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit() -> Host {
        Host {
            release: "6.18.44-cloud\n".into(),
            has_btf: true,
            lockdown: "[none] integrity confidentiality\n".into(),
            status: "Name:\tx\nCapEff:\t000001ffffffffff\n".into(),
            program: "/usr/bin/tcptrace".into(),
        }
    }

    #[test]
    fn each_obstacle_is_named_with_the_way_out() {
        assert_eq!(fit().obstacle(), None);
        let says = |host: Host, words: &[&str]| {
            let message = host.obstacle().unwrap();
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
        };
        says(Host { release: "5.4.0-150-generic".into(), ..fit() }, &["5.4.0-150-generic", "5.10"]);
        says(Host { has_btf: false, ..fit() }, &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"]);
        says(Host { lockdown: "none integrity [confidentiality]".into(), ..fit() }, &["lockdown=integrity"]);
        says(
            Host { status: "CapEff:\t0000000000000000\n".into(), ..fit() },
            &["CAP_BPF", "CAP_PERFMON", "sudo setcap cap_bpf,cap_perfmon+ep /usr/bin/tcptrace"],
        );
    }

    #[test]
    fn two_capabilities_are_enough() {
        let only = |bits: u64| Host { status: format!("CapEff:\t{bits:016x}\n"), ..fit() };
        assert_eq!(only(1 << Capabilities::BPF | 1 << Capabilities::PERFMON).obstacle(), None);
        assert_eq!(only(1 << Capabilities::SYS_ADMIN).obstacle(), None);
        assert!(only(1 << Capabilities::BPF).obstacle().is_some());
    }

    #[test]
    fn what_cannot_be_read_is_no_obstacle() {
        let host = Host { release: "x".into(), status: String::new(), lockdown: String::new(), ..fit() };
        assert_eq!(host.obstacle(), None);
    }
}
