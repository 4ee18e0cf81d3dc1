//! The disk of a virtual machine: a minimal Debian with the kernel's modules, the program and its tests.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use xtask::programs;

use super::{
    kernel::{Kernel, Variant},
    packages::{self, Apt},
};
use crate::arch::Arch;

/// What tests call besides the minimal system.
const PACKAGES: &str = "--include=iproute2,nftables,procps,kmod,util-linux,busybox-static";
/// The modules that lead to the disk, in the order of loading.
const MODULES: [&str; 6] =
    ["virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk"];
/// Size of the disk; it takes up what is in it.
const SIZE: &str = "1200M";

/// What a virtual machine boots.
pub(super) struct Disk {
    pub(super) kernel: PathBuf,
    pub(super) initrd: PathBuf,
    pub(super) disk: PathBuf,
}

impl Disk {
    /// Makes the disk for a kernel, with these programs.
    pub(super) fn make(kernel: &Kernel, cache: &Path, programs: &[PathBuf]) -> Result<Self> {
        let unpacked = kernel_files(kernel, cache)?;
        let tree = tree(kernel.arch, cache)?;
        let work = cache.join("work");
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| work.display().to_string())?;
        }
        fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
        let root = work.join("root");
        programs::succeed(Command::new("cp").arg("--archive").arg(&tree).arg(&root))?;
        let modules =
            only_entry(&unpacked.join("lib/modules")).or_else(|_| only_entry(&unpacked.join("usr/lib/modules")))?;
        let release = modules.file_name().map(|name| name.to_string_lossy().into_owned()).context("no release")?;
        let to = root.join("usr/lib/modules");
        fs::create_dir_all(&to).with_context(|| to.display().to_string())?;
        programs::succeed(Command::new("cp").arg("--archive").arg(&modules).arg(&to))?;
        programs::succeed(Command::new("depmod").arg("--basedir").arg(&root).arg(&release))?;
        let guest = root.join("guest");
        fs::create_dir_all(&guest).with_context(|| guest.display().to_string())?;
        for (from, name) in programs.iter().zip(["tcptrace", "live"]) {
            fs::copy(from, guest.join(name)).with_context(|| from.display().to_string())?;
        }
        script(&guest.join("init"), &init(kernel.variant))?;
        let disk = work.join("disk");
        let mut make = Command::new("mke2fs");
        make.args(["-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d"])
            .arg(&root)
            .arg(&disk)
            .arg(SIZE);
        programs::succeed(make.stdout(Stdio::null()))?;
        fs::remove_dir_all(&root).with_context(|| root.display().to_string())?;
        let initrd = initrd(&tree, &modules, &work)?;
        let kernel = unpacked.join("boot").join(format!("vmlinuz-{release}"));
        Ok(Self { kernel, initrd, disk })
    }
}

fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .with_context(|| path.display().to_string())
}

fn only_entry(folder: &Path) -> Result<PathBuf> {
    let first = fs::read_dir(folder).with_context(|| folder.display().to_string())?.next();
    Ok(first.with_context(|| format!("{} is empty", folder.display()))?.context("cannot be read")?.path())
}

/// The kernel's package, unpacked once.
fn kernel_files(kernel: &Kernel, cache: &Path) -> Result<PathBuf> {
    let folder =
        cache.join(format!("linux-{}-{}", kernel.package.trim_start_matches("linux-image-"), kernel.arch.debian()));
    if folder.exists() {
        return Ok(folder);
    }
    let apt = Apt::update(cache, kernel.suite, kernel.arch)?;
    let package = apt.newest(kernel.package)?;
    let part = folder.with_extension("part");
    fs::create_dir_all(&part).with_context(|| part.display().to_string())?;
    apt.unpack(&package, &part)?;
    fs::rename(&part, &folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// A minimal Debian. Its packages are unpacked, not configured: that takes no program of another architecture.
fn tree(arch: Arch, cache: &Path) -> Result<PathBuf> {
    let tree = cache.join(format!("tree-{}", arch.debian()));
    if tree.exists() {
        return Ok(tree);
    }
    let part = tree.with_extension("part");
    let arch = format!("--arch={}", arch.debian());
    let mut command = Command::new("debootstrap");
    command.args([&arch, "--foreign", "--variant=minbase", PACKAGES, "bookworm"]).arg(&part).arg(packages::mirror()?);
    programs::succeed(command.stdout(Stdio::null()))?;
    let archives = part.join("var/cache/apt/archives");
    for file in fs::read_dir(&archives).with_context(|| archives.display().to_string())?.filter_map(Result::ok) {
        if file.path().extension().is_some_and(|end| end == "deb") {
            let mut unpack =
                Command::new("dpkg-deb").arg("--fsys-tarfile").arg(file.path()).stdout(Stdio::piped()).spawn()?;
            let tar = unpack.stdout.take().context("dpkg-deb has no output")?;
            programs::succeed(
                Command::new("tar")
                    .arg("--directory")
                    .arg(&part)
                    .args(["--extract", "--keep-directory-symlink"])
                    .stdin(tar),
            )?;
            unpack.wait().context("dpkg-deb")?;
        }
    }
    for unused in ["var/cache/apt/archives", "debootstrap", "usr/share/doc", "usr/share/locale", "usr/share/man"] {
        fs::remove_dir_all(part.join(unused)).with_context(|| unused.to_owned())?;
    }
    // In a container debootstrap makes links to the host's of them.
    for point in ["proc", "sys", "dev"] {
        let path = part.join(point);
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    }
    fs::rename(&part, &tree).with_context(|| tree.display().to_string())?;
    Ok(tree)
}

/// What finds the disk and passes on to it.
fn initrd(tree: &Path, modules: &Path, work: &Path) -> Result<PathBuf> {
    let root = work.join("initrd");
    for folder in ["bin", "modules", "proc", "dev", "root"] {
        fs::create_dir_all(root.join(folder)).context("initrd")?;
    }
    fs::copy(tree.join("usr/bin/busybox"), root.join("bin/busybox")).context("busybox")?;
    let all = programs::stdout_of(Command::new("find").arg(modules).args(["-name", "virtio*.ko*"]))?;
    for module in MODULES {
        let is_it = |path: &&str| path.rsplit('/').next().is_some_and(|name| name.split(".ko").next() == Some(module));
        let Some(path) = all.lines().find(is_it) else { continue }; // built in
        let to = root.join("modules").join(format!("{module}.ko"));
        match path.rsplit('.').next() {
            Some("xz") => {
                fs::write(&to, output(Command::new("xz").args(["--decompress", "--stdout", path]))?).context("xz")?
            }
            _ => _ = fs::copy(path, &to).with_context(|| path.to_owned())?,
        }
    }
    script(&root.join("init"), &INITRD_INIT.replace("MODULES", &MODULES.join(" ")))?;
    let to = work.join("initrd.img");
    let pack = format!("find . | cpio --create --format=newc --quiet > '{}'", to.display());
    programs::succeed(Command::new("sh").current_dir(&root).args(["-c", &pack]))?;
    Ok(to)
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    Ok(command.stdin(Stdio::null()).output().with_context(|| programs::line(command))?.stdout)
}

const INITRD_INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t devtmpfs none /dev
for module in MODULES; do
    [ ! -f /modules/$module.ko ] || /bin/busybox insmod /modules/$module.ko
done
until [ -b /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /guest/init
"#;

/// The first program of the guest's system. It says on the console what it does, and switches the machine off.
fn init(variant: Variant) -> String {
    let cgroup = if variant == Variant::NoCgroup { "true" } else { "mount -t cgroup2 cgroup /sys/fs/cgroup" };
    let btf = if variant == Variant::NoBtf { "mount -t tmpfs none /sys/kernel/btf" } else { "true" };
    let run = match variant {
        Variant::PidNamespace => "unshare --pid --fork --mount-proc",
        Variant::NoSysAdmin => "setpriv --inh-caps -sys_admin --bounding-set -sys_admin",
        _ => "env",
    };
    format!(
        r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin HOME=/root TRACER_BIN=/guest/tcptrace
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2> /dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t securityfs security /sys/kernel/security
mount -t tracefs tracing /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
{cgroup}
{btf}
ip link set lo up
cd /guest
echo "guest: kernel $(uname -r)"
echo "guest: doctor"
{run} /guest/tcptrace doctor --json 2>&1
for suite in $(sed 's/.*suites=\([^ ]*\).*/\1/; s/,/ /g' /proc/cmdline); do
    echo "guest: suite $suite"
    {run} /guest/live --test-threads=1 --color=never "$suite::" 2>&1
done
echo "guest: end"
sync
echo o > /proc/sysrq-trigger
sleep 60
"#
    )
}
