//! The tree of a small system with systemd, which the tests of the service boot in a container.

use std::{fs, path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result};

use crate::{
    privilege::{self, Root},
    programs,
};

/// What the tree has beside a minimal system.
const PACKAGES: &str = "--include=systemd,systemd-sysv,dbus";

/// Makes the tree unless it is there: it is downloaded once, and takes 240 MB.
pub(crate) fn make() -> Result<()> {
    let home = PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?);
    let tree = home.join(".cache/tcptrace/root");
    if tree.exists() {
        println!("setup: a system for tests is at {}", tree.display());
        return Ok(());
    }
    let debootstrap = programs::find("debootstrap").context("debootstrap is missing")?;
    // The tests' programs are built here, so they run there only if it is the same release.
    let release = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let suite = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release has no VERSION_CODENAME, which debootstrap needs")?
        .trim_matches('"');
    let root = Root::find_usable();
    let as_root = |program: PathBuf| root.command(program, &[]).with_context(privilege::way_out);
    println!("setup: making a system for tests at {}", tree.display());
    let part = tree.with_extension("part");
    programs::succeed(as_root("rm".into())?.arg("-rf").arg(&part))?; // an attempt that was interrupted
    fs::create_dir_all(&part).with_context(|| part.display().to_string())?;
    let mut command = as_root(debootstrap)?;
    command.args(["--variant=minbase", PACKAGES, suite]).arg(&part).stdin(Stdio::null()).stdout(Stdio::null());
    programs::succeed(&mut command)?;
    // Only a whole one has its name.
    programs::succeed(as_root("mv".into())?.arg(&part).arg(&tree))
}
