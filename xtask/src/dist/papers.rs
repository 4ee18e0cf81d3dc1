//! What comes with a program: man pages, completions, licences of the crates in it, and the list of these crates.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use xtask::{cargo, programs, workspace::TRACER};

use super::{DOCUMENTS, PACKAGE, Source, VERSION, binaries::Binary};
use crate::arch::Arch;

/// Files that all packages hold.
pub(super) struct Papers {
    /// Man pages, completions and documents, and their places in an archive.
    pub(super) pages: Vec<(PathBuf, String)>,
    /// The licences of all crates in the binary.
    pub(super) third_party: PathBuf,
}

/// The shells, and the names that they expect.
const COMPLETIONS: [(&str, &str); 3] = [("bash", "tcptrace"), ("zsh", "_tcptrace"), ("fish", "tcptrace.fish")];

/// The licences of what is in every static program, whatever its crates.
const RUNTIME: &str = include_str!("runtime-licences.txt");

/// Writes them to where packages take them from.
pub(super) fn write(source: &Source, built: &[Binary]) -> Result<Papers> {
    let folder = source.stage();
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let man = folder.join("man");
    fs::create_dir_all(&man).with_context(|| man.display().to_string())?;
    let program = built.iter().find(|binary| binary.arch.name() == env::consts::ARCH);
    let program =
        &program.with_context(|| format!("--arch: without {} nothing writes man pages", env::consts::ARCH))?.program;
    programs::succeed(Command::new(program).args(["man", "--to"]).arg(&man))?;
    let entries = fs::read_dir(&man).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut pages: Vec<_> = entries
        .with_context(|| man.display().to_string())?
        .into_iter()
        .map(|entry| (entry.path(), format!("man/{}", entry.file_name().to_string_lossy())))
        .collect();
    pages.sort();
    let completions = folder.join("completions");
    fs::create_dir_all(&completions).with_context(|| completions.display().to_string())?;
    for (shell, name) in COMPLETIONS {
        let path = completions.join(name);
        let text = programs::stdout_of(Command::new(program).args(["completions", shell]))?;
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        pages.push((path, format!("completions/{name}")));
    }
    let third_party = folder.join("THIRD-PARTY-LICENSES.txt");
    fs::write(&third_party, licences(source)?).with_context(|| third_party.display().to_string())?;
    let documents = DOCUMENTS.map(|document| {
        let (from, name) = (source.root.join(document), document.rsplit('/').next().unwrap_or(document).to_owned());
        let path = folder.join(&name);
        fs::copy(&from, &path).with_context(|| from.display().to_string()).map(|_| (path, name))
    });
    pages.extend(documents.into_iter().collect::<Result<Vec<_>>>()?);
    Ok(Papers { pages, third_party })
}

/// The crates in the binary, with what `cargo metadata` knows of them, by name and version.
fn crates(source: &Source) -> Result<Vec<Value>> {
    let mut used = BTreeSet::new();
    for arch in Arch::ALL {
        let mut tree = cargo::command(&source.root);
        tree.args(["tree", "--locked", "--package", TRACER, "--all-features", "--target", &arch.target()]);
        tree.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]);
        // `name v1.2.3`, and a path or a note behind it.
        used.extend(programs::stdout_of(&mut tree)?.lines().filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?.to_owned(), words.next()?.trim_start_matches('v').to_owned()))
        }));
    }
    let mut metadata = cargo::command(&source.root);
    metadata.args(["metadata", "--format-version=1", "--locked", "--all-features"]);
    let metadata: Value = serde_json::from_str(&programs::stdout_of(&mut metadata)?).context("`cargo metadata`")?;
    let text = |package: &Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let all = metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
    let mut found: Vec<_> = all
        .iter()
        .filter(|package| used.contains(&(text(package, "name"), text(package, "version"))))
        .cloned()
        .collect();
    found.sort_by_key(|package| (text(package, "name"), text(package, "version")));
    if found.len() != used.len() {
        bail!("`cargo tree` names {} crates, and `cargo metadata` knows {} of them", used.len(), found.len());
    }
    Ok(found)
}

/// Each licence text once, under the crates that have it.
fn licences(source: &Source) -> Result<String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut list = String::from(RUNTIME);
    list.push_str("And these crates, each under its licence. Their texts follow.\n\n");
    for package in crates(source)?.iter().filter(|package| !package["source"].is_null()) {
        let name = format!(
            "{} {}",
            package["name"].as_str().unwrap_or_default(),
            package["version"].as_str().unwrap_or_default()
        );
        let licence = package["license"].as_str().unwrap_or("see its text");
        let _ = writeln!(list, "- {name}: {licence}"); // to memory
        let folder = Path::new(package["manifest_path"].as_str().unwrap_or_default()).parent().unwrap_or(Path::new(""));
        let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        for entry in entries.filter_map(Result::ok) {
            let is_text = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"]
                .iter()
                .any(|start| entry.file_name().to_string_lossy().to_uppercase().starts_with(start));
            if is_text && let Ok(text) = fs::read_to_string(entry.path()) {
                texts.entry(text.trim().replace("\r\n", "\n")).or_default().push(name.clone());
            }
        }
    }
    let mut sorted: Vec<_> = texts.into_iter().map(|(text, names)| (names, text)).collect();
    sorted.sort();
    for (mut names, text) in sorted {
        names.sort();
        names.dedup();
        let _ = write!(list, "\n{:=<80}\n{}\n{:=<80}\n\n{text}\n", "", names.join(", "), ""); // to memory
    }
    Ok(list)
}

/// Writes `tcptrace-VERSION.cdx.json`: the crates in the binary, as CycloneDX 1.5.
pub(super) fn sbom(source: &Source, to: &Path) -> Result<()> {
    let own = format!("pkg:generic/{PACKAGE}@{VERSION}");
    let components: Vec<_> = crates(source)?
        .iter()
        .filter(|package| !package["source"].is_null())
        .map(|package| {
            let (name, version) = (&package["name"], &package["version"]);
            let purl =
                format!("pkg:cargo/{}@{}", name.as_str().unwrap_or_default(), version.as_str().unwrap_or_default());
            let mut component = json!({
                "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
                "scope": "required",
            });
            if let Some(licence) = package["license"].as_str() {
                // SPDX has no slash; crates from before 2018 have it for "or".
                component["licenses"] = json!([{ "expression": licence.replace('/', " OR ").replace("  ", " ") }]);
            }
            if let Some(repository) = package["repository"].as_str() {
                component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
            }
            component
        })
        .collect();
    let bom = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {
            "component": { "type": "application", "bom-ref": own, "name": "tcptrace", "version": VERSION, "purl": own },
            "properties": [{ "name": "commit", "value": source.commit }],
        },
        "components": components,
    });
    let path = to.join(format!("tcptrace-{VERSION}.cdx.json"));
    fs::write(&path, format!("{bom:#}\n")).with_context(|| path.display().to_string())
}
