//! Root folders that programs run in.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use xtask::programs;

/// A root folder with this machine's /proc and /sys in it, until it goes.
pub(super) struct Mounted(pub(super) PathBuf);

impl Mounted {
    pub(super) fn new(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| root.display().to_string())?;
        let mounted = Self(root.to_owned());
        mounted.mount("proc")?;
        mounted.mount("sys")?;
        Ok(mounted)
    }

    /// A tree of files that stays as it is: changes go to a folder of their own.
    pub(super) fn over(tree: &Path, work: &Path) -> Result<Self> {
        let [upper, temporary, root] = ["upper", "temporary", "root"].map(|name| work.join(name));
        for folder in [&upper, &temporary, &root] {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let options =
            format!("lowerdir={},upperdir={},workdir={}", tree.display(), upper.display(), temporary.display());
        programs::succeed(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&root))?;
        Self::new(&root)
    }

    fn mount(&self, name: &str) -> Result<()> {
        let point = self.0.join(name);
        fs::create_dir_all(&point).with_context(|| point.display().to_string())?;
        programs::succeed(Command::new("mount").arg("--rbind").arg(format!("/{name}")).arg(&point))?;
        programs::succeed(Command::new("mount").arg("--make-rslave").arg(&point))
    }

    pub(super) fn chroot(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.0).arg(program);
        command
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for name in ["proc", "sys", ""] {
            // Lazily: it is only left when nothing below is used any more.
            let _ = Command::new("umount")
                .args(["--lazy", "--recursive"])
                .arg(self.0.join(name))
                .stderr(Stdio::null())
                .status();
        }
    }
}
