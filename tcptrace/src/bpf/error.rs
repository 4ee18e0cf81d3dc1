//! Why loading or attaching the programs failed.

use aya::{maps::MapError, programs::ProgramError};
use thiserror::Error;

use super::{
    btf::{self},
    constants,
    preflight::cause,
};

/// Why the programs do not run.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("cannot read {path}: {source}", path = btf::VMLINUX)]
    ReadBtf { source: std::io::Error },
    #[error(transparent)]
    Btf(#[from] btf::Error),
    #[error("cannot parse {path}: {source}", path = btf::VMLINUX)]
    ParseBtf { source: aya::BtfError },
    #[error("this kernel lacks what BPF iterators need: {0}")]
    NoListing(String),
    #[error("--no-iter forbids BPF iterators")]
    Forbidden,
    #[error("cannot load the BPF object: {}{}", with_causes(.0), cause(.0))]
    Load(#[from] aya::EbpfError),
    #[error("cannot use the BPF object: {0}")]
    Constants(#[from] constants::Error),
    #[error("cannot attach to {hook}: {}{}{}", in_short(source), cause(source), last_words(source))]
    Attach { hook: &'static str, source: ProgramError },
    #[error("the BPF object has no `{0}`")]
    NotInObject(&'static str),
    #[error("cannot set up the map {name}: {}{}", with_causes(source), cause(source))]
    Map { name: &'static str, source: MapError },
    #[error("cannot read {path}: {source}")]
    Cpus { path: &'static str, source: std::io::Error },
    #[error("cannot read the log of the BPF programs: {0}")]
    Log(#[from] aya_log::Error),
}

pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(this) = cause {
        let words = this.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = this.source();
    }
    text
}

pub(crate) fn failed(name: &'static str, source: std::io::Error) -> Error {
    Error::Map { name, source: MapError::IoError(source) }
}

/// Maximum number of lines of the verifier's log in an error.
pub(crate) const VERIFIER_LINES: usize = 8;

/// The end of the verifier's log, if the verifier rejected the program (`kernel/bpf/verifier.c`).
pub(crate) fn last_words(error: &ProgramError) -> String {
    let ProgramError::LoadError { verifier_log, io_error } = error else {
        return String::new();
    };
    if !matches!(io_error.raw_os_error(), Some(libc::EACCES | libc::EINVAL | libc::E2BIG | libc::ENOSPC | libc::EFAULT))
    {
        return String::new();
    }
    let log = verifier_log.to_string();
    let lines: Vec<_> = log.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(VERIFIER_LINES)..];
    if last.is_empty() { String::new() } else { format!("; the kernel's verifier says:\n  {}", last.join("\n  ")) }
}

/// Only the errno if there is one: the verifier's log is for developers.
pub(crate) fn in_short(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, .. } => io_error.to_string(),
        ProgramError::SyscallError(error) => error.io_error.to_string(),
        other => other.to_string(),
    }
}
