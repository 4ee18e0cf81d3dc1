//! A hash over all that the BPF object is made from, so that a stale object is noticed without any compiler for BPF.
//!
//! It covers the sources of the crates that run in the kernel, the packages that get linked into them, the profile
//! and the compiler's flags. It leaves out what only user space uses: bumping such a dependency must not ask for a
//! new object.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::{bpf_object, cargo, workspace::EBPF_PACKAGE};

/// The packages of the workspace that the object is made from.
const PACKAGES: [&str; 2] = [EBPF_PACKAGE, "tcptrace-common"];

/// The hash over the sources, as hexadecimal text.
pub(crate) fn hash(root: &Path) -> Result<String> {
    let mut sha = Sha256::new();
    let mut add = |name: &str, content: &[u8]| {
        // Lengths keep the border between two entries from moving unseen.
        sha.update((name.len() as u64).to_le_bytes());
        sha.update(name);
        sha.update((content.len() as u64).to_le_bytes());
        sha.update(content);
    };
    for (name, file) in files(root)? {
        let content = fs::read(&file).with_context(|| format!("{}: cannot read it", file.display()))?;
        add(&name, &content);
    }
    add("packages", packages(root)?.as_bytes());
    add("manifest", manifest_parts(root)?.as_bytes());
    add("flags", bpf_object::FLAGS.join("\n").as_bytes());
    Ok(hex(&sha.finalize()))
}

/// The hash over one file, as hexadecimal text.
pub(crate) fn hash_file(file: &Path) -> Result<String> {
    let content = fs::read(file).with_context(|| format!("{}: cannot read it", file.display()))?;
    Ok(hex(&Sha256::digest(content)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names and paths of the files that a build reads: manifests, build scripts and everything under `src`. Tests and
/// licences do not change an object.
fn files(root: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for package in PACKAGES {
        let folder = root.join(package);
        for name in ["Cargo.toml", "build.rs"] {
            let file = folder.join(name);
            if file.exists() {
                found.insert(format!("{package}/{name}"), file);
            }
        }
        let mut folders = vec![(format!("{package}/src"), folder.join("src"))];
        while let Some((prefix, folder)) = folders.pop() {
            let entries = fs::read_dir(&folder).with_context(|| format!("{}: cannot list it", folder.display()))?;
            for entry in entries {
                let entry = entry.with_context(|| format!("{}: cannot list it", folder.display()))?;
                let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
                let path = entry.path();
                if path.is_dir() {
                    folders.push((name, path));
                } else {
                    found.insert(name, path);
                }
            }
        }
    }
    Ok(found)
}

/// One line for each package that is linked into the object or generates code for it, with its version, features and
/// checksum.
fn packages(root: &Path) -> Result<String> {
    let output = cargo::command(root)
        .args(["tree", "--locked", "--package", EBPF_PACKAGE])
        .args(["--target", bpf_object::TARGET, "--edges", "normal"])
        .args(["--no-dedupe", "--prefix", "depth", "--format", "{p}|{f}"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("`cargo tree` cannot be started")?;
    if !output.status.success() {
        bail!("`cargo tree --package {EBPF_PACKAGE}` failed: {}", output.status);
    }
    let lock_path = root.join("Cargo.lock");
    let lock = fs::read_to_string(&lock_path).with_context(|| format!("{}: cannot read it", lock_path.display()))?;
    let checksums = checksums(&lock);
    let mut lines = BTreeSet::new();
    for (name, version, features) in linked(&String::from_utf8_lossy(&output.stdout)) {
        let checksum = checksums.get(&(name.as_str(), version.as_str())).unwrap_or(&"path");
        lines.insert(format!("{name} {version} [{features}] {checksum}\n"));
    }
    Ok(lines.into_iter().collect())
}

/// Name, version and features of each package in cargo's tree, down to procedural macros. What a macro is itself
/// made of runs in the compiler and is shared with user space, so it is left out.
fn linked(tree: &str) -> Vec<(String, String, String)> {
    let mut packages = Vec::new();
    let mut inside_macro: Option<usize> = None;
    for line in tree.lines() {
        let digits = line.chars().take_while(char::is_ascii_digit).count();
        let (depth, rest) = line.split_at(digits);
        let Ok(depth) = depth.parse::<usize>() else {
            continue;
        };
        if inside_macro.is_some_and(|outer| depth > outer) {
            continue;
        }
        let (package, features) = rest.split_once('|').unwrap_or((rest, ""));
        inside_macro = package.ends_with("(proc-macro)").then_some(depth);
        let mut words = package.split_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            packages.push((name.to_owned(), version.trim_start_matches('v').to_owned(), features.trim().to_owned()));
        }
    }
    packages
}

/// The checksums of Cargo.lock by name and version; packages of the workspace have none.
fn checksums(lock: &str) -> BTreeMap<(&str, &str), &str> {
    let value = |block: &'_ str, key: &str| {
        let start = block.find(&format!("\n{key} = \""))? + key.len() + 5;
        let end = start + block.get(start..)?.find('"')?;
        Some((start, end))
    };
    lock.split("[[package]]")
        .filter_map(|block| {
            let get = |key| value(block, key).and_then(|(start, end)| block.get(start..end));
            Some(((get("name")?, get("version")?), get("checksum")?))
        })
        .collect()
}

/// The parts of the workspace's manifest that reach the BPF compiler: the edition and the release profiles.
fn manifest_parts(root: &Path) -> Result<String> {
    let path = root.join("Cargo.toml");
    let manifest = fs::read_to_string(&path).with_context(|| format!("{}: cannot read it", path.display()))?;
    let mut parts = String::new();
    let mut section = "";
    for line in manifest.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            section = line;
        }
        let profile = section.starts_with("[profile.release");
        let edition = section == "[workspace.package]" && line.starts_with("edition");
        if profile || edition {
            parts.push_str(line);
            parts.push('\n');
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::{checksums, linked};

    #[test]
    fn the_inside_of_a_macro_is_left_out() {
        let tree = "0kernel v0.1.0 (/repo/kernel)|\n1macros v0.2.0 (proc-macro)|\n2syn v2.0.1|full\n1maps v0.3.0|a,b\n2bindings v0.1.0|\n";
        let names: Vec<_> =
            linked(tree).into_iter().map(|(name, version, features)| format!("{name} {version} {features}")).collect();
        assert_eq!(names, ["kernel 0.1.0 ", "macros 0.2.0 ", "maps 0.3.0 a,b", "bindings 0.1.0 "]);
    }

    #[test]
    fn checksums_are_found_by_name_and_version() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"s\"\nchecksum = \"c1\"\n\n[[package]]\nname = \"b\"\nversion = \"0.1.0\"\ndependencies = [\n \"a\",\n]\n";
        let found = checksums(lock);
        assert_eq!(found.get(&("a", "1.0.0")), Some(&"c1"));
        assert_eq!(found.get(&("b", "0.1.0")), None);
    }
}
