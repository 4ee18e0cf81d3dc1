//! The kernels of the matrix.

use crate::arch::Arch;

/// A kernel of Debian, and how it is started.
pub(super) struct Kernel {
    /// How it is called here.
    pub(super) name: &'static str,
    pub(super) arch: Arch,
    /// The release of Debian that has it, and the beginning of its package's name.
    pub(super) suite: &'static str,
    pub(super) package: &'static str,
    /// What is different from a usual system.
    pub(super) variant: Variant,
}

/// What is missing in a system.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    Usual,
    /// `/sys/kernel/btf` is empty.
    NoBtf,
    /// The hierarchy of cgroup v2 is not mounted.
    NoCgroup,
    /// `lockdown=confidentiality`.
    Lockdown,
    /// tcptrace has a PID namespace of its own.
    PidNamespace,
    /// Without CAP_SYS_ADMIN.
    NoSysAdmin,
}

const fn usual(name: &'static str, arch: Arch, suite: &'static str, package: &'static str) -> Kernel {
    Kernel { name, arch, suite, package, variant: Variant::Usual }
}

const fn variant(name: &'static str, variant: Variant) -> Kernel {
    Kernel { variant, ..usual(name, Arch::X86_64, "bookworm", "linux-image-6.1.") }
}

/// The kernels of the matrix.
pub(super) const KERNELS: [Kernel; 10] = [
    usual("5.10", Arch::X86_64, "bullseye", "linux-image-5.10."),
    usual("6.1", Arch::X86_64, "bookworm", "linux-image-6.1."),
    usual("6.12", Arch::X86_64, "trixie", "linux-image-6.12."),
    usual("7.2", Arch::X86_64, "trixie-backports", "linux-image-7.2."),
    usual("6.1-aarch64", Arch::Aarch64, "bookworm", "linux-image-6.1."),
    variant("6.1-no-btf", Variant::NoBtf),
    variant("6.1-no-cgroup2", Variant::NoCgroup),
    variant("6.1-lockdown", Variant::Lockdown),
    variant("6.1-pid-namespace", Variant::PidNamespace),
    variant("6.1-no-sys-admin", Variant::NoSysAdmin),
];
