//! `cargo xtask build-ebpf`: makes the BPF object that the repository carries, or proves that it is current.
//!
//! The object is committed so that building tcptrace needs no BPF compiler. What is committed must then be what the
//! sources give, and `--check` is how CI holds that.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

use crate::{bpf_object, bpf_record::Record, bpf_sources, bpf_toolchain::Toolchain, workspace};

const STALE: &str = "`cargo xtask build-ebpf` makes a new one, to be committed with the sources";

/// Options of `cargo xtask build-ebpf`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail where the object is not what the sources give
    #[arg(long)]
    check: bool,
}

/// The object of the repository and its record.
struct Committed {
    object: PathBuf,
    record: PathBuf,
}

impl Committed {
    fn new(root: &Path) -> Self {
        let folder = root.join("tcptrace/bpf");
        Self { object: folder.join("tcptrace.bpf.o"), record: folder.join("BUILD.toml") }
    }
}

/// Builds or checks the object.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = workspace::root()?;
    if args.check {
        check(&root)?;
    } else {
        build(&root)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn build(root: &Path) -> Result<()> {
    let committed = Committed::new(root);
    // Where there is no readable record yet, any compiler will do.
    let recorded = Record::read(&committed.record).ok();
    let toolchain = Toolchain::find(recorded.as_ref().map(|record| record.rustc.as_str()))?;
    let sources = bpf_sources::hash(root)?;
    let fresh = bpf_object::compile(root, &toolchain)?;
    let record = Record::new(&toolchain, sources, bpf_sources::hash_file(&fresh)?);
    let content = fs::read(&fresh).with_context(|| format!("{}: cannot read it", fresh.display()))?;
    write(&committed.object, &content)?;
    write(&committed.record, record.render().as_bytes())?;
    let size = content.len();
    println!("{}: {size} bytes, made by {} and {}", committed.object.display(), record.rustc, record.bpf_linker);
    Ok(())
}

/// Fails where the object is not what the sources give: by the record alone first, which takes no compiler for BPF,
/// then by compiling where that can be done.
pub(crate) fn check(root: &Path) -> Result<()> {
    let committed = Committed::new(root);
    let record = Record::read(&committed.record)?;
    if bpf_sources::hash(root)? != record.sources_sha256 {
        bail!("{}: the sources have changed since it was made; {STALE}", committed.object.display());
    }
    if bpf_sources::hash_file(&committed.object)? != record.object_sha256 {
        bail!(
            "{}: is not the object of its record {}; {STALE}",
            committed.object.display(),
            committed.record.display()
        );
    }
    println!("the BPF object and its sources are those of the record");
    let toolchain = match Toolchain::find(Some(&record.rustc)) {
        Ok(toolchain) => toolchain,
        Err(error) => {
            println!("not compiled again: {error:#}");
            return Ok(());
        }
    };
    let fresh = bpf_object::compile(root, &toolchain)?;
    let differences = record.differences(&toolchain);
    if !differences.is_empty() {
        println!(
            "compiled again without error; bytes were not compared, as the compilers differ: {}",
            differences.join("; ")
        );
        return Ok(());
    }
    if bpf_sources::hash_file(&fresh)? != record.object_sha256 {
        bail!(
            "{}: the recorded compilers made other bytes, kept in {}; {STALE}",
            committed.object.display(),
            fresh.display()
        );
    }
    println!("compiled again by {}: the same bytes", record.rustc);
    Ok(())
}

/// Replaces `path` in one step, so that a build that runs at the same time never embeds half an object. A file that
/// is right already keeps its time, and tcptrace is not compiled again.
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
