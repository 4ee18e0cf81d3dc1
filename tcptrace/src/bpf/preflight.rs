//! Explains refusals of the kernel, with the remedy.

use std::io;

use crate::sys::{
    capabilities::Capabilities,
    descriptors,
    kernel::{self, version},
};

/// Explains an error of the kernel whose errno alone says too little, with the remedy; empty if it has no explanation.
pub(super) fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(errno) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return meaning(errno, &kernel::release(), kernel::memlock_bytes(), Capabilities::own())
                .unwrap_or_default();
        }
        next = error.source();
    }
    String::new()
}

/// Up to this kernel, BPF memory counts against RLIMIT_MEMLOCK (`kernel/bpf/syscall.c`, `bpf_charge_memlock`).
const MEMLOCK_UNTIL: (u32, u32) = (5, 10);

fn meaning(errno: i32, release: &str, memlock: Option<u64>, has: Option<Capabilities>) -> Option<String> {
    let counts_memlock = version(release).is_some_and(|version| version <= MEMLOCK_UNTIL);
    match errno {
        libc::EPERM if !has?.can_trace() => None,
        libc::EPERM if counts_memlock => {
            let limit = memlock.map_or_else(|| "too little".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
            Some(format!(
                "; before Linux 5.11 BPF maps count as locked memory, and this process may lock only {limit} \
                 (RLIMIT_MEMLOCK): run it with sudo, raise the hard limit (LimitMEMLOCK=infinity), or use less with \
                 --ring-size and --kernel-sockets"
            ))
        }
        libc::EPERM => Some(
            "; the required capabilities are in effect, so a seccomp filter (as in containers) or a security module refuses it"
                .to_owned(),
        ),
        libc::EMFILE => Some(format!(
            "; this process may open only {} descriptors (RLIMIT_NOFILE): raise the limit with `ulimit -n 1024`, or \
             LimitNOFILE=1024 in the unit",
            descriptors::allowed().unwrap_or(0)
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_explained_where_its_cause_is_known() {
        let two = Some(Capabilities::of(&[Capabilities::BPF, Capabilities::PERFMON]));
        let old = meaning(libc::EPERM, "5.10.223", Some(65536), two).unwrap();
        assert!(old.contains("64 KiB (RLIMIT_MEMLOCK)") && old.contains("LimitMEMLOCK=infinity"), "{old}");
        let new = meaning(libc::EPERM, "5.11.0", Some(65536), two).unwrap();
        assert!(new.contains("seccomp") && !new.contains("MEMLOCK"), "it is no longer counted: {new}");
        assert_eq!(meaning(libc::EPERM, "5.10.223", Some(65536), Some(Capabilities::of(&[]))), None);
        assert!(meaning(libc::EMFILE, "6.18", None, two).unwrap().contains("RLIMIT_NOFILE"));
        assert_eq!(meaning(libc::ENOMEM, "6.18", None, two), None);
        let nested = aya::EbpfError::FileError { path: "x".into(), error: io::Error::from_raw_os_error(libc::EMFILE) };
        assert!(cause(&nested).contains("ulimit -n"), "through all causes");
    }
}
