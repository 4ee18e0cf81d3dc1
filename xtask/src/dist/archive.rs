//! Archives of the static binaries, and tar files with the same bytes each time.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use xtask::programs;

use super::{Source, VERSION, binaries::Binary, papers::Papers};

/// Writes `tcptrace-VERSION-ARCH-linux.tar.gz`, and its line tables beside it.
pub(super) fn write(source: &Source, binary: &Binary, papers: &Papers, to: &Path) -> Result<()> {
    let name = format!("tcptrace-{VERSION}-{}-linux", binary.arch.name());
    let mut files = vec![
        (binary.program.clone(), "tcptrace".to_owned(), 0o755),
        (papers.third_party.clone(), "THIRD-PARTY-LICENSES.txt".to_owned(), 0o644),
    ];
    files.extend(papers.pages.iter().map(|(path, place)| (path.clone(), place.clone(), 0o644)));
    let tree = binary.program.with_file_name(&name);
    layout(&tree, &files)?;
    let parent = tree.parent().context("no parent folder")?;
    tar(source, parent, &name, &to.join(format!("{name}.tar.gz")))?;
    programs::succeed(
        Command::new("install").arg("--mode=644").arg(&binary.debug).arg(to.join(format!("{name}.debug"))),
    )
}

/// Copies files to their places below `tree`, with their modes.
pub(super) fn layout(tree: &Path, files: &[(PathBuf, String, u32)]) -> Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree).with_context(|| tree.display().to_string())?;
    }
    for (from, place, mode) in files {
        programs::succeed(
            Command::new("install").arg("-D").arg(format!("--mode={mode:o}")).arg(from).arg(tree.join(place)),
        )?;
    }
    Ok(())
}

/// Packs the folder `name` of `parent`, compressed if `to` ends with `.gz`: sorted, owned by root, and as old as the commit.
pub(super) fn tar(source: &Source, parent: &Path, name: &str, to: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("--directory").arg(parent).args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{}", source.time)).arg("--format=gnu");
    if to.extension().is_some_and(|end| end == "gz") {
        tar.arg("--use-compress-program=gzip -9n");
    }
    programs::succeed(tar.arg("--create").arg("--file").arg(to).arg(name))
}
