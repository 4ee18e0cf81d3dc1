//! Installs a compiler and a linker for the BPF side.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use xtask::{cargo, programs, workspace};

use crate::{
    apt,
    bpf_pin::Compilers,
    bpf_toolchain::{self, DEBIAN_RUSTC, LINKER_VERSION, Toolchain},
};

/// Debian's compiler for BPF: rustc with the sources of `core`, which a BPF target is built from.
pub(crate) const COMPILER_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Whether a complete toolchain is installed.
pub(crate) fn is_complete() -> Result<bool> {
    Ok(Toolchain::find(Some(&Compilers::pinned(&workspace::root()?)?)).is_ok())
}

/// Installs what is missing of it.
pub(crate) fn install() -> Result<()> {
    if !bpf_toolchain::compilers().iter().any(|compiler| compiler.has_sources) {
        apt::install(&COMPILER_PACKAGES).with_context(bpf_toolchain::no_compiler)?;
    }
    let compilers = bpf_toolchain::compilers();
    let compiler = compilers.iter().find(|compiler| compiler.has_sources).with_context(|| {
        format!(
            "{DEBIAN_RUSTC}: has no sources of core after {} were installed; see `cargo xtask build-ebpf`",
            COMPILER_PACKAGES.join(", ")
        )
    })?;
    // The linker must know the bitcode of the compiler, so it is built with the same LLVM.
    let llvm = compiler.llvm;
    let prefix = format!("/usr/lib/llvm-{llvm}");
    if bpf_toolchain::objcopy(compiler).is_none() || programs::find(&format!("{prefix}/bin/llvm-config")).is_none() {
        apt::install(&[&format!("llvm-{llvm}-dev"), &format!("llvm-{llvm}")])
            .with_context(|| format!("bpf-linker is built with LLVM {llvm}, which is missing"))?;
    }
    if bpf_toolchain::linker(compiler).is_err() {
        let mut command = cargo::command(&workspace::root()?);
        command
            .env("LLVM_PREFIX", &prefix)
            .args(["install", "--force", "bpf-linker", "--version", LINKER_VERSION, "--no-default-features"])
            .args(["--features", &format!("llvm-{llvm}")])
            .stdin(Stdio::null());
        programs::succeed(&mut command)?;
    }
    Ok(())
}

/// Prints which compiler is installed, and warns if it is not the pinned one.
pub(crate) fn report() -> Result<()> {
    let pinned = Compilers::pinned(&workspace::root()?)?;
    let Toolchain { versions, .. } = Toolchain::find(Some(&pinned))?;
    println!("setup: a compiler for BPF is installed: {}", versions.rustc);
    for difference in pinned.differences(&versions) {
        println!("setup: warning: {difference}: `cargo xtask build-ebpf --check` will fail");
    }
    Ok(())
}
