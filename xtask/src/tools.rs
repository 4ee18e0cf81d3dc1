//! Programs that tests and the benchmark call, and the Debian packages that contain them.

use std::collections::BTreeSet;

use xtask::programs;

/// An executable and its Debian package.
pub(crate) type Tool = (&'static str, &'static str);

/// What most live tests call: without these `cargo xtask setup --tests` fails.
pub(crate) const LIVE: [Tool; 8] = [
    ("tcpstates", "libbpf-tools"),
    ("nft", "nftables"),
    ("ss", "iproute2"),
    ("sysctl", "procps"),
    ("valgrind", "valgrind"),
    ("systemd-nspawn", "systemd-container"),
    ("debootstrap", "debootstrap"),
    ("tmux", "tmux"),
];

/// The other ends of outputs, for `tests/peers`. Debian does not have them on every architecture; without one its
/// tests are skipped.
pub(crate) const PEERS: [Tool; 4] = [
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("rsyslogd", "rsyslog"),
];

/// The servers and clients that `tests/interop` traces. Without one these tests are skipped.
pub(crate) const INTEROP: [Tool; 13] = [
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("apache2", "apache2-bin"),
    ("ab", "apache2-utils"),
    ("redis-server", "redis-server"),
    ("redis-benchmark", "redis-tools"),
    ("pg_ctlcluster", "postgresql"),
    ("gunicorn", "gunicorn"),
    ("node", "nodejs"),
    ("curl", "curl"),
    ("wrk", "wrk"),
    ("nft", "nftables"),
    ("openssl", "openssl"),
];

/// The container runtimes that live tests start. Without one its tests are skipped.
pub(crate) const CONTAINERS: [Tool; 4] =
    [("podman", "podman"), ("dockerd", "docker.io"), ("containerd", "containerd"), ("runc", "runc")];

/// What makes packages: C compilers for both architectures, since a few crates contain C.
pub(crate) const DIST: [Tool; 5] = [
    ("musl-gcc", "musl-tools"),
    ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    ("aarch64-linux-gnu-objcopy", "binutils-aarch64-linux-gnu"),
    ("objcopy", "binutils"),
    ("git", "git"),
];

/// What installs packages, to try them.
pub(crate) const TRIAL: [Tool; 6] = [
    ("podman", "podman"),
    ("rpm", "rpm"),
    ("debootstrap", "debootstrap"),
    ("chroot", "coreutils"),
    ("man", "man-db"),
    ("qemu-aarch64-static", "qemu-user-static"),
];

/// What boots other kernels.
pub(crate) const KERNELS: [Tool; 5] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-system-aarch64", "qemu-system-arm"),
    ("debootstrap", "debootstrap"),
    ("depmod", "kmod"),
    ("cpio", "cpio"),
];

/// What the benchmark compares tcptrace with.
pub(crate) const BENCH: [Tool; 3] = [("tcpstates", "libbpf-tools"), ("bpftrace", "bpftrace"), ("ss", "iproute2")];

/// The tools that are not installed.
pub(crate) fn missing<'a>(tools: impl IntoIterator<Item = &'a Tool>) -> Vec<Tool> {
    tools.into_iter().filter(|(program, _)| programs::find(program).is_none()).copied().collect()
}

/// The packages that contain `tools`, each once.
pub(crate) fn packages(tools: &[Tool]) -> Vec<&'static str> {
    tools.iter().map(|(_, package)| *package).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The tools as an error names them.
pub(crate) fn names(tools: &[Tool]) -> String {
    let names: Vec<_> =
        tools.iter().map(|(program, package)| format!("{program} (Debian package {package})")).collect();
    names.join(", ")
}
