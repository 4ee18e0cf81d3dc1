//! Compiles the BPF object so that the same sources and compilers produce the same bytes, wherever the repository and
//! cargo's folder are.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use xtask::{
    programs,
    workspace::{COMMON_PACKAGE, EBPF_PACKAGE, TRACER},
};

use crate::bpf_toolchain::Toolchain;

/// The target of the object: little-endian BPF, as every supported machine is little-endian.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// The flags of rustc that are the same on every machine.
///
/// The programs are BTF tracepoints, whose arguments do not depend on CPU registers, so one object serves every
/// architecture. `bpf_target_arch` is fixed so that every machine produces the same one.
pub(crate) const FLAGS: [&str; 4] =
    ["-Cdebuginfo=2", "-Ctarget-cpu=v3", "-Clink-arg=--btf", "--cfg=bpf_target_arch=\"x86_64\""];

/// Separates flags in `CARGO_ENCODED_RUSTFLAGS`, as paths may contain spaces.
const FLAG_SEPARATOR: &str = "\x1f";

/// Variables of the calling cargo that the toolchain's cargo inherits: its folder, and how it reaches the registry.
const KEPT_CARGO_VARIABLES: [&str; 6] =
    ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_"];

/// Compiles the object with `toolchain`, without DWARF, and returns its path under `target`.
pub(crate) fn compile(root: &Path, toolchain: &Toolchain) -> Result<PathBuf> {
    let target = root.join("target/bpf");
    // The toolchain's cargo may unpack crates into its own folder, which must exist before the flags can name it.
    let mut fetch = cargo(toolchain)?;
    fetch.current_dir(root).args(["fetch", "--locked", "--quiet"]).stdin(Stdio::null());
    programs::succeed(&mut fetch)?;
    // Cargo compares file times, and may take a changed source for one that it has compiled.
    let mut clean = cargo(toolchain)?;
    clean
        .current_dir(root)
        .args(["clean", "--locked", "--quiet", "--release", "--package", EBPF_PACKAGE, "--package", COMMON_PACKAGE])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target)
        .stdin(Stdio::null());
    programs::succeed(&mut clean)?;
    let mut command = cargo(toolchain)?;
    command
        .current_dir(root)
        .args(["build", "--locked", "--release", "--package", EBPF_PACKAGE])
        .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(root, toolchain)?)
        .stdin(Stdio::null());
    programs::succeed(&mut command).with_context(|| {
        format!("{EBPF_PACKAGE}: not compiled by {} with {}", toolchain.versions.rustc, toolchain.versions.bpf_linker)
    })?;
    let linked = target.join(TARGET).join("release").join(TRACER);
    let stripped = target.join("tcptrace.bpf.o");
    let names = target.join("symbols");
    let linked_bytes = fs::read(&linked).with_context(|| format!("{}: cannot read it", linked.display()))?;
    fs::write(&names, renamed_symbols(&linked_bytes))
        .with_context(|| format!("{}: cannot write it", names.display()))?;
    // .BTF and .BTF.ext stay: the kernel reads types, function and line information from them. DWARF is the larger part
    // of the file, and nobody reads it.
    let mut objcopy = Command::new(&toolchain.objcopy_path);
    objcopy.args(["--strip-debug", "--redefine-syms"]).args([&names, &linked, &stripped]);
    programs::succeed(&mut objcopy)?;
    let object = fs::read(&stripped).with_context(|| format!("{}: cannot read it", stripped.display()))?;
    for folder in foreign_paths(root, toolchain) {
        let text = folder.to_string_lossy().into_owned();
        if text.len() > 1 && object.windows(text.len()).any(|part| part == text.as_bytes()) {
            bail!(
                "{}: contains the path {text} of this machine, so other machines would produce other bytes; remap it in xtask/src/bpf_object.rs",
                stripped.display()
            );
        }
    }
    Ok(stripped)
}

/// The toolchain's cargo, without the environment of the cargo that runs this program.
fn cargo(toolchain: &Toolchain) -> Result<Command> {
    let (program, words) = toolchain.compiler.cargo.split_first().context("the compiler has no cargo")?;
    let mut command = Command::new(program);
    command.args(words);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let foreign = text.starts_with("CARGO") && !KEPT_CARGO_VARIABLES.iter().any(|kept| text.starts_with(kept));
        if foreign || text.starts_with("RUST") && text != "RUSTUP_HOME" {
            command.env_remove(&name);
        }
    }
    // `cargo run` adds its own compiler's libraries to this one.
    command.env_remove("LD_LIBRARY_PATH");
    if let Some(rustc) = toolchain.compiler.rustc_path {
        // A released compiler takes the unstable `-Z build-std` only with this variable.
        command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
    }
    // rustc looks for bpf-linker on PATH. Naming it by a flag would put its path into the hash of each crate.
    let folder = toolchain
        .linker_path
        .parent()
        .with_context(|| format!("{}: is in no folder", toolchain.linker_path.display()))?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([folder.to_owned()].into_iter().chain(env::split_paths(&path)))
        .context("PATH cannot be extended by the folder of bpf-linker")?;
    command.env("PATH", path);
    Ok(command)
}

/// The fixed flags, and those that keep this machine's paths out of the object.
fn flags(root: &Path, toolchain: &Toolchain) -> Result<OsString> {
    let mut flags = OsString::from(FLAGS.join(FLAG_SEPARATOR));
    let mut remap = |from: &Path, to: &str| {
        flags.push(FLAG_SEPARATOR);
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    };
    // The last prefix that matches wins, so the repository comes first: cargo's folder may lie within it.
    remap(root, ".");
    remap(&toolchain.compiler.sysroot.join("lib/rustlib/src/rust"), "/rust");
    for folder in registry_folders()? {
        remap(&folder, "/crates");
    }
    Ok(flags)
}

/// The folders of unpacked crates. There is one for each registry, with a name that differs between machines.
fn registry_folders() -> Result<Vec<PathBuf>> {
    let Some(home) = programs::cargo_home() else {
        bail!("neither CARGO_HOME nor HOME is set: the folder of the crates is unknown");
    };
    let sources = home.join("registry/src");
    let entries = fs::read_dir(&sources)
        .with_context(|| format!("{}: cannot list it, though cargo has fetched crates into it", sources.display()))?;
    let mut folders = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{}: cannot list it", sources.display()))?;
    folders.sort();
    Ok(folders)
}

/// Lines for llvm-objcopy that take the crates' hashes out of the symbols' names.
///
/// Cargo derives that hash from all that a crate depends on, including build scripts and macros. User space shares
/// those, and their versions would otherwise change an object that does not depend on them.
fn renamed_symbols(object: &[u8]) -> String {
    let names: BTreeSet<_> = object
        .split(|byte| *byte == 0)
        .filter(|name| name.starts_with(b"_R"))
        .filter_map(|name| std::str::from_utf8(name).ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        .collect();
    names.into_iter().map(|name| format!("{name} {}\n", without_crate_hashes(name))).collect()
}

/// The mangled name without crate disambiguators. In Rust's v0 mangling a crate is `C`, then `s`, its hash in base 62
/// and `_`, which may be missing, then its name.
fn without_crate_hashes(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("Cs") {
        plain.push_str(before);
        plain.push('C');
        rest = match after.split_once('_') {
            // 64 bits take ten or eleven digits; a hash that happens to be much smaller is one in a million.
            Some((hash, name)) if (8..=11).contains(&hash.len()) && name.starts_with(|c: char| c.is_ascii_digit()) => {
                name
            }
            _ => {
                plain.push('s');
                after
            }
        };
    }
    plain + rest
}

/// Folders whose names must not be in the object.
fn foreign_paths(root: &Path, toolchain: &Toolchain) -> Vec<PathBuf> {
    [Some(root.to_owned()), programs::cargo_home(), Some(toolchain.compiler.sysroot.join("lib/rustlib"))]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{renamed_symbols, without_crate_hashes};

    #[test]
    fn the_hash_of_a_crate_is_taken_out() {
        assert_eq!(
            without_crate_hashes("_RNCNvNtNtCsdFqXJ5y05mM_8tcptrace6probes5owner4send0B7_"),
            "_RNCNvNtNtC8tcptrace6probes5owner4send0B7_"
        );
        assert_eq!(without_crate_hashes("_RNvC3abc5Cs_xyz"), "_RNvC3abc5Cs_xyz");
    }

    #[test]
    fn only_mangled_names_are_renamed() {
        let object = b"memcpy\0_RNvCsdFqXJ5y05mM_1a1b\0_R \xff\0";
        assert_eq!(renamed_symbols(object), "_RNvCsdFqXJ5y05mM_1a1b _RNvC1a1b\n");
    }
}
