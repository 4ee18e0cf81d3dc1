//! `tcptrace-ebpf/toolchain.toml`: the compilers that make the BPF object of the repository.
//!
//! Other compilers produce other bytes, so only these can show that the object matches the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

const HEADER: &str = "\
# The compilers that make tcptrace/bpf/tcptrace.bpf.o. `cargo xtask build-ebpf` refuses others, and its `--check`, which
# CI runs, too. `cargo xtask build-ebpf --pin` writes those of this machine here and makes the object anew.
";

/// The versions of the programs that produce an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compilers {
    /// The compiler, with its LLVM.
    pub(crate) rustc: String,
    /// bpf-linker, with its LLVM.
    pub(crate) bpf_linker: String,
    /// llvm-objcopy.
    pub(crate) llvm_objcopy: String,
}

/// The file of the pinned versions.
pub(crate) fn path(root: &Path) -> PathBuf {
    root.join("tcptrace-ebpf/toolchain.toml")
}

impl Compilers {
    /// The pinned versions.
    pub(crate) fn pinned(root: &Path) -> Result<Self> {
        let path = path(root);
        let text = fs::read_to_string(&path).with_context(|| format!("{}: cannot read it", path.display()))?;
        Self::parse(&text).with_context(|| {
            format!("{}: does not pin the compilers; `cargo xtask build-ebpf --pin` writes it", path.display())
        })
    }

    /// The differences between the pinned compilers and those `here`; empty if both must produce the same bytes.
    pub(crate) fn differences(&self, here: &Self) -> Vec<String> {
        [(&self.rustc, &here.rustc), (&self.bpf_linker, &here.bpf_linker), (&self.llvm_objcopy, &here.llvm_objcopy)]
            .into_iter()
            .filter(|(pinned, here)| pinned != here)
            .map(|(pinned, here)| format!("{pinned} is pinned, {here} is here"))
            .collect()
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
        Ok(Self { rustc: get("rustc")?, bpf_linker: get("bpf_linker")?, llvm_objcopy: get("llvm_objcopy")? })
    }

    /// The text of the file. Versions contain neither quotes nor backslashes, so they need no escapes.
    pub(crate) fn render(&self) -> String {
        let Self { rustc, bpf_linker, llvm_objcopy } = self;
        format!("{HEADER}rustc = \"{rustc}\"\nbpf_linker = \"{bpf_linker}\"\nllvm_objcopy = \"{llvm_objcopy}\"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::Compilers;

    fn compilers() -> Compilers {
        Compilers {
            rustc: "rustc 1.96.0 (ac68faa20 2026-05-25), LLVM 22.1.8".to_owned(),
            bpf_linker: "bpf-linker 0.13.0, libLLVM.so.22.1".to_owned(),
            llvm_objcopy: "llvm-objcopy, LLVM version 22.1.8".to_owned(),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(Compilers::parse(&compilers().render()).unwrap(), compilers());
        let error = Compilers::parse("rustc = \"1\"\n").unwrap_err();
        assert_eq!(error.to_string(), "bpf_linker is missing");
    }

    #[test]
    fn each_difference_is_named() {
        let other = Compilers { rustc: "rustc 1.97.0".to_owned(), ..compilers() };
        assert!(compilers().differences(&compilers()).is_empty());
        let differences = compilers().differences(&other);
        assert_eq!(differences, ["rustc 1.96.0 (ac68faa20 2026-05-25), LLVM 22.1.8 is pinned, rustc 1.97.0 is here"]);
    }
}
