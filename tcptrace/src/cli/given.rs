//! Where each setting was given, so that messages can name it as the user wrote it, and `tcptrace config show` can list it.

use std::{collections::BTreeMap, path::PathBuf};

/// What gave a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// An environment variable.
    Variable(String),
    /// A line of a config file.
    File(PathBuf, usize),
}

/// A value as it was given.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What gave it.
    pub origin: Origin,
    /// Its name in messages: `--port`, `TCPTRACE_PORT`, or `port (FILE, line 3)`.
    name: String,
    /// The value as text; several for a list.
    pub words: Vec<String>,
}

impl Setting {
    /// A value of the flag with this id.
    pub(super) fn new(id: &str, origin: Origin, words: Vec<String>) -> Self {
        let name = match &origin {
            Origin::Flag => long(id),
            Origin::Variable(name) => name.clone(),
            Origin::File(path, line) => format!("{} ({}, line {line})", key(id), path.display()),
        };
        Self { origin, name, words }
    }
}

/// The flags that were given, by clap's id, the highest layer first.
#[derive(Clone, Debug, Default)]
pub struct Given(BTreeMap<&'static str, Vec<Setting>>);

impl Given {
    /// The name of the flag with this id, if it was given, and not as `false`.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&str> {
        self.settings(id).first().filter(|setting| setting.words != ["false"]).map(|setting| setting.name.as_str())
    }

    /// The name of the flag with this id as it was given, or else the flag itself.
    #[must_use]
    pub fn name(&self, id: &str) -> String {
        self.get(id).map_or_else(|| long(id), str::to_owned)
    }

    /// All that counts of the flag with this id, the highest layer first; empty if it has its default.
    #[must_use]
    pub fn settings(&self, id: &str) -> &[Setting] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }

    /// Records that a layer gave the flag. Returns false if a higher layer already did.
    pub(super) fn add(&mut self, id: &'static str, settings: impl FnOnce() -> Vec<Setting>) -> bool {
        let is_first = !self.0.contains_key(id);
        if is_first {
            self.join(id, settings());
        }
        is_first
    }

    /// Records that a layer gave the flag, whose values are added to those of higher layers.
    pub(super) fn join(&mut self, id: &'static str, settings: Vec<Setting>) {
        self.0.entry(id).or_default().extend(settings);
    }
}

/// The key of the flag with this id in the config file.
pub(crate) fn key(id: &str) -> String {
    let name = match id {
        "findings_mode" => "findings",
        "expression" => "where",
        _ => id,
    };
    name.replace('_', "-")
}

/// The long flag with this id.
pub(super) fn long(id: &str) -> String {
    format!("--{}", key(id))
}
