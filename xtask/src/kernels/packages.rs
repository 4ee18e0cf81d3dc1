//! Packages of other releases and architectures, fetched by apt apart from the system's own lists.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use xtask::programs;

use crate::arch::Arch;

/// The packages of one release for one architecture.
pub(super) struct Apt {
    folder: PathBuf,
    arch: Arch,
}

impl Apt {
    /// Fetches the lists, from where this system has its own packages.
    pub(super) fn update(cache: &Path, suite: &str, arch: Arch) -> Result<Self> {
        let folder = cache.join(format!("apt-{suite}-{}", arch.debian()));
        fs::create_dir_all(folder.join("lists/partial")).with_context(|| folder.display().to_string())?;
        let apt = Self { folder, arch };
        fs::write(apt.folder.join("sources.list"), format!("deb {} {suite} main\n", mirror()?))
            .context("sources.list")?;
        programs::succeed(apt.command("apt-get").args(["update", "-qq"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |name: &str| self.folder.join(name).display().to_string();
        for option in [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            format!("Dir::State::lists={}", at("lists")),
            format!("Dir::Cache={}", self.folder.display()),
            format!("APT::Architecture={}", self.arch.debian()),
            format!("APT::Architectures={}", self.arch.debian()),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }

    /// The newest cloud kernel whose package begins like this.
    pub(super) fn newest(&self, start: &str) -> Result<String> {
        let names = programs::stdout_of(self.command("apt-cache").args(["pkgnames", start]))?;
        let end = format!("-cloud-{}", self.arch.debian());
        let mut found: Vec<_> = names.lines().filter(|name| name.ends_with(&end)).collect();
        // 6.1.0-9 is older than 6.1.0-10.
        found.sort_by_key(|name| {
            let numbers = name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse::<u64>().ok());
            numbers.collect::<Vec<_>>()
        });
        found.last().map(|name| (*name).to_owned()).with_context(|| format!("no package {start}…{end}"))
    }

    /// Unpacks a package into `to`.
    pub(super) fn unpack(&self, package: &str, to: &Path) -> Result<()> {
        let folder = self.folder.join("packages").join(package);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        programs::succeed(self.command("apt-get").current_dir(&folder).args(["download", "-qq", package]))?;
        let file = fs::read_dir(&folder)
            .ok()
            .and_then(|mut files| files.next()?.ok())
            .context("apt-get download left no file")?;
        programs::succeed(Command::new("dpkg-deb").arg("--extract").arg(file.path()).arg(to))?;
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())
    }
}

/// Where this system has its packages from.
pub(super) fn mirror() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages", "Origin: Debian"]);
    let known = programs::stdout_of(&mut command)?;
    // The archive itself has no suffix, unlike security and updates.
    let archive = known.lines().filter_map(|line| line.split_once(' ')).find(|(_, release)| !release.contains('-'));
    archive.map(|(mirror, _)| mirror.to_owned()).context("apt knows no mirror of Debian")
}
