//! The house stays in order: rooms are few, each uses only those before it, and no two files use each other.
//!
//! Read from the `use` lines and paths of all four crates. Code of tests may use anything.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, ItemMod, ItemUse, Meta, UseTree,
    visit::{self, Visit},
};

/// The rooms of `tcptrace/src`, each after those that it may use. `src/lib.rs` and docs/architecture.md explain them.
const ROOMS: [&str; 12] = [
    "model", "sys", "bpf", "listing", "table", "findings", "analysis", "render", "pipeline", "outputs", "cli",
    "commands",
];

/// A module's path from the root of its crate; empty for the root.
type Module = Vec<String>;

/// The files of a crate by module, and for each the files that it uses, with one name that it takes from there.
struct Crate {
    files: BTreeMap<Module, PathBuf>,
    uses: BTreeMap<Module, BTreeMap<Module, String>>,
}

impl Crate {
    fn read(source: &Path) -> Self {
        let mut files = BTreeMap::new();
        collect(source, source, &mut files);
        let mut uses = BTreeMap::new();
        for (module, path) in &files {
            let file = syn::parse_file(&fs::read_to_string(path).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let mut reader = Reader { module, files: &files, found: BTreeMap::new() };
            reader.visit_file(&file);
            uses.insert(module.clone(), reader.found);
        }
        Self { files, uses }
    }

    /// Files that use each other, in a circle.
    fn circle(&self) -> Option<Vec<&Module>> {
        let mut done = BTreeSet::new();
        self.files.keys().find_map(|start| self.search(start, &mut Vec::new(), &mut done))
    }

    fn search<'a>(
        &'a self,
        at: &'a Module,
        way: &mut Vec<&'a Module>,
        done: &mut BTreeSet<&'a Module>,
    ) -> Option<Vec<&'a Module>> {
        if let Some(start) = way.iter().position(|before| *before == at) {
            return Some(way[start..].to_vec());
        }
        if !done.insert(at) {
            return None;
        }
        way.push(at);
        let found = self.uses[at].keys().find_map(|next| self.search(next, way, done));
        way.pop();
        found
    }
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<Module, PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if ["tests", "testing"].contains(&name) {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let mut module: Module = path.with_extension("").strip_prefix(root).unwrap().iter().map(part).collect();
            if ["mod", "lib", "main"].contains(&name) {
                module.pop();
            }
            // A program next to a library is a crate of its own.
            if name != "main" || !root.join("lib.rs").exists() {
                files.insert(module, path);
            }
        }
    }
}

fn part(name: &std::ffi::OsStr) -> String {
    name.to_str().unwrap().to_owned()
}

/// Reads what a file uses.
struct Reader<'a> {
    module: &'a Module,
    files: &'a BTreeMap<Module, PathBuf>,
    found: BTreeMap<Module, String>,
}

impl Reader<'_> {
    /// Takes in a path, where it leads into this crate.
    fn path(&mut self, path: &[String]) {
        let above = path.iter().take_while(|part| *part == "super").count();
        let mut full: Module = match path[0].as_str() {
            "crate" => Vec::new(),
            "self" => self.module.clone(),
            "super" => self.module[..self.module.len() - above].to_vec(),
            child if self.files.contains_key(&[self.module.as_slice(), &[child.to_owned()]].concat()) => {
                [self.module.as_slice(), &[child.to_owned()]].concat()
            }
            _ => return,
        };
        full.extend_from_slice(&path[above.max(1)..]);
        let module = (0..=full.len()).rev().map(|length| &full[..length]).find(|part| self.files.contains_key(*part));
        if let Some(module) = module.filter(|module| *module != self.module.as_slice()) {
            let name = full[module.len()..].first().or(module.last()).cloned().unwrap_or_default();
            self.found.entry(module.to_vec()).or_insert(name);
        }
    }

    fn tree(&mut self, tree: &UseTree, before: &[String]) {
        match tree {
            UseTree::Path(path) => self.tree(&path.tree, &[before, &[path.ident.to_string()]].concat()),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, before)),
            UseTree::Name(name) if name.ident == "self" => self.path(before),
            UseTree::Name(name) => self.path(&[before, &[name.ident.to_string()]].concat()),
            UseTree::Rename(name) => self.path(&[before, &[name.ident.to_string()]].concat()),
            UseTree::Glob(_) => self.path(before),
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string().contains("test"),
        _ => false,
    })
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test(&item.attrs) {
            self.tree(&item.tree, &[]);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if parts.len() > 1 && ["crate", "self", "super"].contains(&parts[0].as_str()) {
            self.path(&parts);
        }
        visit::visit_path(self, path);
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn the_top_of_the_house_is_its_rooms() {
    let entries = fs::read_dir(repository().join("tcptrace/src")).unwrap();
    let found: BTreeSet<_> = entries.map(|entry| part(&entry.unwrap().file_name())).collect();
    let known = ROOMS.iter().map(|room| (*room).to_owned()).chain(["lib.rs".to_owned(), "main.rs".to_owned()]);
    assert_eq!(found, known.collect(), "tcptrace/src has these rooms, and no loose files but lib.rs and main.rs");
}

#[test]
fn a_room_uses_only_those_before_it() {
    let place = |module: &Module| ROOMS.iter().position(|room| module.first().is_some_and(|first| first == room));
    let house = Crate::read(&repository().join("tcptrace/src"));
    for (module, used) in &house.uses {
        for (other, name) in used {
            if let (Some(here), Some(there)) = (place(module), place(other)) {
                assert!(
                    there <= here,
                    "{} uses {}::{name}, but the room `{}` comes after `{}`: move what is needed down to a room that both \
                     may use, or hand it over as an argument",
                    house.files[module].display(),
                    other.join("::"),
                    ROOMS[there],
                    ROOMS[here],
                );
            }
        }
    }
}

#[test]
fn no_two_files_use_each_other() {
    let circles = ["bench", "tcptrace-common", "tcptrace-ebpf", "tcptrace", "xtask"].into_iter().filter_map(|name| {
        let source = Crate::read(&repository().join(name).join("src"));
        let circle = source.circle()?;
        let file = |module: &Module| source.files[module].strip_prefix(repository()).unwrap().display().to_string();
        let steps = circle.iter().zip(circle.iter().cycle().skip(1)).map(|(module, next)| {
            format!("  {} takes `{}` from {}\n", file(module), source.uses[*module][*next], file(next))
        });
        Some(steps.collect::<String>())
    });
    let circles = circles.collect::<Vec<_>>().join("\n");
    assert!(circles.is_empty(), "files use each other; move what both need to a file of its own:\n{circles}");
}

#[test]
fn what_breaks_the_order_is_found() {
    let folder = std::env::temp_dir().join(format!("tcptrace-structure-{}", std::process::id()));
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod a; mod b;");
    write("a/mod.rs", "mod inner;\n#[cfg(test)] mod tests { use crate::b::B; }\npub struct A;");
    write("a/inner.rs", "use super::A;\nfn f() { super::super::b::g() }");
    write("b.rs", "fn g() {}");
    let uses = |name: &str| {
        let found = Crate::read(&folder).uses.remove(&name.split("::").map(str::to_owned).collect::<Module>());
        found.unwrap().into_keys().map(|module| module.join("::")).collect::<Vec<_>>()
    };
    assert_eq!(uses("a::inner"), ["a", "b"]);
    assert_eq!(uses("a"), [""; 0], "declarations and tests are no imports");
    assert!(Crate::read(&folder).circle().is_none());
    write("b.rs", "use crate::a::{self, inner::{X as Y}};\nfn g() {}");
    assert_eq!(uses("b"), ["a", "a::inner"]);
    let read = Crate::read(&folder);
    let circle: Vec<_> = read.circle().unwrap().into_iter().map(|module| module.join("::")).collect();
    assert_eq!(circle, ["a::inner", "b"]);
    fs::remove_dir_all(folder).unwrap();
}
