//! `cargo xtask build-ebpf`: compiles the BPF object of the repository, or proves that it matches the sources.
//!
//! The object is committed so that building tcptrace needs no BPF compiler. Nobody can read it in a review, so CI
//! compiles the sources and compares the bytes (`--check`). If that is not possible the check fails: what a change
//! commits must not decide whether it is checked.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use xtask::workspace;

use crate::{
    bpf_object,
    bpf_pin::{self, Compilers},
    bpf_toolchain::Toolchain,
};

/// Options of `cargo xtask build-ebpf`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail unless the pinned compilers produce the committed object, byte for byte
    #[arg(long)]
    check: bool,
    /// Pin the compilers of this machine, and compile the object with them
    #[arg(long, conflicts_with = "check")]
    pin: bool,
}

/// The object of the repository.
fn committed(root: &Path) -> PathBuf {
    root.join("tcptrace/bpf/tcptrace.bpf.o")
}

/// Builds or checks the object.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = workspace::root()?;
    if args.check {
        check(&root)?;
    } else {
        build(&root, args.pin)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn build(root: &Path, pin: bool) -> Result<()> {
    let toolchain = if pin { Toolchain::find(None)? } else { pinned(root)? };
    let content = compiled(root, &toolchain)?;
    write(&committed(root), &content)?;
    if pin {
        write(&bpf_pin::path(root), toolchain.versions.render().as_bytes())?;
    }
    let Compilers { rustc, bpf_linker, .. } = &toolchain.versions;
    println!("{}: {} bytes, compiled by {rustc} and {bpf_linker}", committed(root).display(), content.len());
    Ok(())
}

/// Fails unless the pinned compilers are installed and produce the committed object from its sources, byte for byte.
pub(crate) fn check(root: &Path) -> Result<()> {
    let toolchain = pinned(root).with_context(|| format!("{}: not checked", committed(root).display()))?;
    compare(&committed(root), &compiled(root, &toolchain)?)?;
    println!("the BPF object matches its sources: {} produces the same bytes", toolchain.versions.rustc);
    Ok(())
}

/// The pinned compilers, as this machine has them.
fn pinned(root: &Path) -> Result<Toolchain> {
    let pinned = Compilers::pinned(root)?;
    let toolchain = Toolchain::find(Some(&pinned))?;
    require(&pinned, &toolchain.versions)?;
    Ok(toolchain)
}

fn require(pinned: &Compilers, here: &Compilers) -> Result<()> {
    let differences = pinned.differences(here);
    if !differences.is_empty() {
        bail!(
            "compilers other than those in tcptrace-ebpf/toolchain.toml produce other bytes: {}; `cargo xtask setup \
             --bpf` installs Debian's, `cargo xtask build-ebpf --pin` pins those of this machine",
            differences.join("; ")
        );
    }
    Ok(())
}

fn compiled(root: &Path, toolchain: &Toolchain) -> Result<Vec<u8>> {
    let fresh = bpf_object::compile(root, toolchain)?;
    fs::read(&fresh).with_context(|| format!("{}: cannot read it", fresh.display()))
}

/// Fails if the file has other bytes.
fn compare(committed: &Path, fresh: &[u8]) -> Result<()> {
    let content = fs::read(committed).with_context(|| format!("{}: cannot read it", committed.display()))?;
    if content == fresh {
        return Ok(());
    }
    let same = content.iter().zip(fresh).take_while(|(committed, fresh)| committed == fresh).count();
    bail!(
        "{}: differs from what the sources compile to, from byte {same} on; run `cargo xtask build-ebpf` and commit the \
         object with the sources",
        committed.display()
    )
}

/// Replaces `path` in one step, so that a build at the same time never embeds half an object. A file that has these
/// bytes already keeps its time, so that tcptrace is not compiled again.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("{}: cannot create it", folder.display()))?;
    }
    let new = path.with_extension("new");
    fs::write(&new, content).with_context(|| format!("{}: cannot write it", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("{}: cannot replace it", path.display()))
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::*;

    /// A folder that is removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = env::temp_dir().join(format!("xtask-{name}-{}", process::id()));
            fs::create_dir_all(folder.join("tcptrace-ebpf")).unwrap();
            fs::create_dir_all(folder.join("tcptrace/bpf")).unwrap();
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0); // leftovers are harmless
        }
    }

    fn repository() -> PathBuf {
        workspace::root().unwrap()
    }

    /// Every byte of the object counts: in its ELF header, its code and its end.
    #[test]
    fn a_planted_byte_fails() {
        let fresh = fs::read(committed(&repository())).unwrap();
        let folder = Folder::new("planted");
        let object = committed(&folder.0);
        fs::write(&object, &fresh).unwrap();
        compare(&object, &fresh).unwrap();
        for at in [0, fresh.len() / 2, fresh.len() - 1] {
            let mut planted = fresh.clone();
            planted[at] ^= 1;
            fs::write(&object, &planted).unwrap();
            let error = compare(&object, &fresh).unwrap_err().to_string();
            assert!(error.contains(&format!("from byte {at} on;")), "{error}");
        }
        for other in [&fresh[..fresh.len() - 1], &[&fresh[..], b"\0"].concat(), b""] {
            fs::write(&object, other).unwrap();
            assert!(compare(&object, &fresh).is_err(), "{} bytes", other.len());
        }
        fs::remove_file(&object).unwrap();
        assert!(compare(&object, &fresh).is_err(), "no object");
    }

    /// Whatever the file of pinned compilers says, nothing passes without those compilers.
    #[test]
    fn a_check_that_cannot_be_made_fails() {
        let folder = Folder::new("pins");
        let error = format!("{:#}", check(&folder.0).unwrap_err());
        assert!(error.contains("toolchain.toml: cannot read it"), "{error}");
        let real = Compilers::pinned(&repository()).unwrap();
        let nowhere = Compilers { rustc: "rustc 0.0.0, LLVM 0".to_owned(), ..real.clone() };
        let others = [
            String::new(),
            nowhere.render(),
            Compilers { bpf_linker: "bpf-linker 0".to_owned(), ..real.clone() }.render(),
            Compilers { llvm_objcopy: String::new(), ..real }.render(),
        ];
        for text in others {
            fs::write(bpf_pin::path(&folder.0), &text).unwrap();
            // Without any compiler it fails as well, with another message.
            let error = format!("{:#}", check(&folder.0).unwrap_err());
            assert!(error.contains("not checked"), "{error}");
        }
    }
}
