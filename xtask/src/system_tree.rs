//! A minimal Debian with systemd, which the tests of the service boot in a container.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result};
use xtask::{privilege::Root, programs};

/// The packages that a minimal system lacks.
const PACKAGES: &str = "--include=systemd,systemd-sysv,dbus";

/// Where the tree is.
pub(crate) fn path() -> Result<PathBuf> {
    Ok(PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache/tcptrace/root"))
}

/// Where the tree goes, unless it is there.
pub(crate) fn missing() -> Result<Option<PathBuf>> {
    let tree = path()?;
    Ok((!tree.exists()).then_some(tree))
}

/// Makes the tree.
pub(crate) fn make(tree: &Path) -> Result<()> {
    let debootstrap = programs::find("debootstrap").context("debootstrap is missing")?;
    // The tests' programs are built here, so they run there only if it is the same release.
    let release = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release has no VERSION_CODENAME, which debootstrap needs")?
        .trim_matches('"');
    let root = Root::find_usable();
    let part = tree.with_extension("part");
    programs::succeed(root.command("rm", &[])?.arg("-rf").arg(&part))?; // an attempt that was interrupted
    fs::create_dir_all(&part).with_context(|| part.display().to_string())?;
    let mut command = root.command(debootstrap, &[])?;
    command.args(["--variant=minbase", PACKAGES, suite]).arg(&part).stdin(Stdio::null()).stdout(io::stderr());
    programs::succeed(&mut command)?;
    // Only a complete tree gets the name.
    programs::succeed(root.command("mv", &[])?.arg(&part).arg(tree))
}
