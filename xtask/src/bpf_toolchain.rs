//! Finds what compiles the BPF side, and names exactly what is missing.
//!
//! A BPF target has no compiled `core`, so it is built from its sources, which stable toolchains of rustup lack. Two
//! sets have them: Debian's own rustc, and rustup's nightly with the component rust-src. bpf-linker reads the
//! compiler's bitcode, so its LLVM may not be older than the compiler's.

use std::{
    env,
    ffi::OsString,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, anyhow};
use xtask::programs;

use crate::bpf_pin::Compilers;

/// The release of bpf-linker that `cargo xtask setup --bpf` installs.
pub(crate) const LINKER_VERSION: &str = "0.13.0";

/// Debian's compiler, by its path: the one on PATH is usually rustup's.
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// A compiler that knows the BPF target.
pub(crate) struct Compiler {
    /// Its name in messages.
    pub(crate) name: &'static str,
    /// The command line of its cargo.
    pub(crate) cargo: Vec<OsString>,
    /// The path of rustc, for a cargo that would otherwise look for it on PATH.
    pub(crate) rustc_path: Option<&'static str>,
    /// Its release with the commit and its LLVM.
    pub(crate) rustc: String,
    /// The major version of its LLVM.
    pub(crate) llvm: u32,
    /// Where its libraries and sources are.
    pub(crate) sysroot: PathBuf,
    /// Whether the sources of `core` are there.
    pub(crate) has_sources: bool,
}

/// A compiler with the programs that link its output.
pub(crate) struct Toolchain {
    /// The compiler.
    pub(crate) compiler: Compiler,
    /// The path of bpf-linker.
    pub(crate) linker_path: PathBuf,
    /// The path of llvm-objcopy.
    pub(crate) objcopy_path: PathBuf,
    /// The versions of all three.
    pub(crate) versions: Compilers,
}

impl Toolchain {
    /// A complete toolchain, or an error that names what each compiler lacks. The pinned compiler comes first: it can
    /// reproduce the object of the repository byte for byte.
    pub(crate) fn find(pinned: Option<&Compilers>) -> Result<Self> {
        let mut compilers = compilers();
        compilers.sort_by_key(|compiler| Some(&compiler.rustc) != pinned.map(|pinned| &pinned.rustc));
        let mut missing = String::new();
        for compiler in compilers {
            match Self::complete(compiler) {
                Ok(toolchain) => return Ok(toolchain),
                Err(why) => {
                    // A string takes whatever is written to it.
                    let _ = write!(missing, "\n  {why:#}");
                }
            }
        }
        if missing.is_empty() {
            missing = format!("\n  {}", no_compiler());
        }
        Err(anyhow!("nothing here can compile BPF:{missing}"))
    }

    fn complete(compiler: Compiler) -> Result<Self> {
        if !compiler.has_sources {
            let mend = match compiler.rustc_path {
                Some(_) => "apt-get install --no-install-recommends rust-web-src",
                None => "rustup component add rust-src --toolchain nightly",
            };
            return Err(anyhow!("{}: lacks the sources of core: {mend}", compiler.name));
        }
        let (linker_path, bpf_linker) = linker(&compiler)?;
        let (objcopy_path, llvm_objcopy) = objcopy(&compiler).ok_or_else(|| {
            anyhow!(
                "{0}: llvm-objcopy is missing: apt-get install --no-install-recommends llvm-{1}, or rustup component add llvm-tools --toolchain nightly",
                compiler.name, compiler.llvm
            )
        })?;
        let versions = Compilers { rustc: compiler.rustc.clone(), bpf_linker, llvm_objcopy };
        Ok(Self { compiler, linker_path, objcopy_path, versions })
    }
}

/// What to do if there is no compiler.
pub(crate) fn no_compiler() -> String {
    "no compiler for BPF: on Debian `cargo xtask setup --bpf` installs one; with rustup, \
     `rustup toolchain install nightly --component rust-src`"
        .to_owned()
}

/// The compilers of this machine that may know the BPF target, with their sources or without.
pub(crate) fn compilers() -> Vec<Compiler> {
    let debian = Path::new(DEBIAN_CARGO)
        .exists()
        .then(|| compiler("Debian's rustc", vec![DEBIAN_CARGO.into()], Some(DEBIAN_RUSTC)));
    let nightly = programs::find("rustup").map(|rustup| {
        let cargo = vec![rustup.into(), "run".into(), "nightly".into(), "cargo".into()];
        compiler("rustup's nightly", cargo, None)
    });
    [debian, nightly].into_iter().flatten().flatten().collect()
}

fn compiler(name: &'static str, cargo: Vec<OsString>, rustc_path: Option<&'static str>) -> Option<Compiler> {
    let ask = |args: &[&str]| {
        let mut command = match rustc_path {
            Some(path) => Command::new(path),
            None => {
                let mut command = Command::new(cargo.first()?);
                command.args(["run", "nightly", "rustc"]);
                command
            }
        };
        programs::stdout_of(command.args(args)).ok()
    };
    let version = ask(&["--version", "--verbose"])?;
    let release = version.lines().next()?;
    let llvm_version = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    let sysroot = PathBuf::from(ask(&["--print", "sysroot"])?.trim());
    let has_sources = sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").exists();
    Some(Compiler {
        name,
        rustc: format!("{release}, LLVM {llvm_version}"),
        llvm: major(llvm_version)?,
        cargo,
        rustc_path,
        sysroot,
        has_sources,
    })
}

/// The path and version of a bpf-linker that can read what `compiler` writes.
pub(crate) fn linker(compiler: &Compiler) -> Result<(PathBuf, String)> {
    let llvm = compiler.llvm;
    let mend = format!(
        "apt-get install --no-install-recommends llvm-{llvm}-dev && LLVM_PREFIX=/usr/lib/llvm-{llvm} cargo install bpf-linker --version {LINKER_VERSION} --no-default-features --features llvm-{llvm} --force"
    );
    let path = programs::find("bpf-linker")
        .or_else(|| Some(programs::cargo_home()?.join("bin/bpf-linker")))
        .filter(|path| programs::is_executable(path))
        .ok_or_else(|| anyhow!("{}: bpf-linker is neither on PATH nor in cargo's folder: {mend}", compiler.name))?;
    let version = programs::stdout_of(Command::new(&path).arg("--version")).map_err(|_| {
        anyhow!("{}: `{} --version` fails, as it does without its libLLVM: {mend}", compiler.name, path.display())
    })?;
    let version = version.trim();
    // bpf-linker does not print its LLVM version, but its shared libraries show it. A statically linked one is taken as it is.
    let libraries = programs::stdout_of(Command::new("ldd").arg(&path)).unwrap_or_default();
    let Some(library) = libraries.split_whitespace().find(|word| word.starts_with("libLLVM")) else {
        return Ok((path, version.to_owned()));
    };
    let found = major(library.trim_start_matches(|c: char| !c.is_ascii_digit()));
    if found.is_some_and(|found| found < llvm) {
        return Err(anyhow!(
            "{}: {} is built with {library} and cannot read the bitcode of LLVM {llvm}: {mend}",
            compiler.name,
            path.display()
        ));
    }
    Ok((path, format!("{version}, {library}")))
}

/// The path and version of the llvm-objcopy that belongs to `compiler`, else of the newest one. GNU objcopy does not
/// support BPF.
pub(crate) fn objcopy(compiler: &Compiler) -> Option<(PathBuf, String)> {
    let own = format!("lib/rustlib/{}-unknown-linux-gnu/bin", env::consts::ARCH);
    let newest_first = (14..40)
        .rev()
        .flat_map(|major| [format!("/usr/lib/llvm-{major}/bin/llvm-objcopy"), format!("llvm-objcopy-{major}")]);
    let names = [format!("/usr/lib/llvm-{}/bin/llvm-objcopy", compiler.llvm)]
        .into_iter()
        .chain([compiler.sysroot.join(own).join("llvm-objcopy").display().to_string()])
        .chain(newest_first)
        .chain(["llvm-objcopy".to_owned()]);
    for name in names {
        // Joining a folder of PATH with an absolute path gives the absolute path.
        let Some(path) = programs::find(&name) else {
            continue;
        };
        let version = programs::stdout_of(Command::new(&path).arg("--version")).unwrap_or_default();
        let Some(line) = version.lines().find(|line| line.contains("version")) else {
            continue;
        };
        return Some((path, format!("llvm-objcopy, {}", line.trim())));
    }
    None
}

/// The first number of a version.
fn major(version: &str) -> Option<u32> {
    version.split(['.', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn the_major_version_is_what_stands_before_the_first_dot() {
        assert_eq!(major("22.1.8"), Some(22));
        assert_eq!(major("22.1-rust-1.95.0-stable"), Some(22));
        assert_eq!(major("14"), Some(14));
        assert_eq!(major("so"), None);
    }
}
