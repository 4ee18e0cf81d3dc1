//! `BUILD.toml`, the record beside the BPF object: which compilers made it, and from what.
//!
//! It lets a check without any compiler tell a stale object from a current one, and a check with a compiler know
//! whether equal bytes are to be expected.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::bpf_toolchain::Toolchain;

const HEADER: &str = "\
# What made tcptrace.bpf.o. Written by `cargo xtask build-ebpf`, verified by `cargo xtask check`; not for editing.
";

/// The record of one object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The compiler, with its LLVM.
    pub(crate) rustc: String,
    /// bpf-linker, with its LLVM.
    pub(crate) bpf_linker: String,
    /// llvm-objcopy.
    pub(crate) llvm_objcopy: String,
    /// The hash over the sources.
    pub(crate) sources_sha256: String,
    /// The hash over the object.
    pub(crate) object_sha256: String,
}

impl Record {
    /// The record of an object that `toolchain` made.
    pub(crate) fn new(toolchain: &Toolchain, sources_sha256: String, object_sha256: String) -> Self {
        Self {
            rustc: toolchain.rustc.clone(),
            bpf_linker: toolchain.linker.clone(),
            llvm_objcopy: toolchain.objcopy.clone(),
            sources_sha256,
            object_sha256,
        }
    }

    /// What differs between the recorded compilers and `toolchain`; nothing where the same bytes are due.
    pub(crate) fn differences(&self, toolchain: &Toolchain) -> Vec<String> {
        [
            (&self.rustc, &toolchain.rustc),
            (&self.bpf_linker, &toolchain.linker),
            (&self.llvm_objcopy, &toolchain.objcopy),
        ]
        .into_iter()
        .filter(|(recorded, here)| recorded != here)
        .map(|(recorded, here)| format!("{recorded} made it, {here} is here"))
        .collect()
    }

    /// Reads the record at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| {
            format!("{}: cannot read the record of the BPF object; `cargo xtask build-ebpf` makes both", path.display())
        })?;
        Self::parse(&text).with_context(|| {
            format!("{}: not a record of the BPF object; `cargo xtask build-ebpf` makes a new one", path.display())
        })
    }

    fn parse(text: &str) -> Result<Self> {
        let get = |key: &str| {
            text.lines()
                .filter_map(|line| line.split_once(" = "))
                .find(|(name, _)| *name == key)
                .and_then(|(_, value)| value.strip_prefix('"')?.strip_suffix('"'))
                .map(str::to_owned)
                .with_context(|| format!("{key} is missing"))
        };
        Ok(Self {
            rustc: get("rustc")?,
            bpf_linker: get("bpf_linker")?,
            llvm_objcopy: get("llvm_objcopy")?,
            sources_sha256: get("sources_sha256")?,
            object_sha256: get("object_sha256")?,
        })
    }

    /// The record as text; versions hold neither quotes nor backslashes, so plain strings do.
    pub(crate) fn render(&self) -> String {
        format!(
            "{HEADER}rustc = \"{}\"\nbpf_linker = \"{}\"\nllvm_objcopy = \"{}\"\nsources_sha256 = \"{}\"\nobject_sha256 = \"{}\"\n",
            self.rustc, self.bpf_linker, self.llvm_objcopy, self.sources_sha256, self.object_sha256
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Record;

    #[test]
    fn what_is_written_is_read_back() {
        let record = Record {
            rustc: "rustc 1.96.0 (ac68faa20 2026-05-25), LLVM 22.1.8".to_owned(),
            bpf_linker: "bpf-linker 0.13.0, libLLVM.so.22.1".to_owned(),
            llvm_objcopy: "llvm-objcopy, LLVM version 22.1.8".to_owned(),
            sources_sha256: "ab".repeat(32),
            object_sha256: "cd".repeat(32),
        };
        assert_eq!(Record::parse(&record.render()).unwrap(), record);
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = Record::parse("rustc = \"1\"\n").unwrap_err();
        assert_eq!(error.to_string(), "bpf_linker is missing");
    }
}
