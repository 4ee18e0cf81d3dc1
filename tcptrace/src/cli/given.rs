//! Which settings were given, and where: messages name them so.

use std::collections::{BTreeMap, btree_map::Entry};

/// Which flags were given, and how a message names each: `--port`, `TCPTRACE_PORT`, or `port (FILE, line 3)`.
#[derive(Clone, Debug, Default)]
pub struct Given(BTreeMap<&'static str, String>);

impl Given {
    /// What the flag with this id is called where it was given.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(String::as_str)
    }

    /// What it is called in any case.
    #[must_use]
    pub fn name(&self, id: &str) -> String {
        self.get(id).map_or_else(|| long(id), str::to_owned)
    }

    /// Records where it was given, if no layer above gave it; gives whether that is so.
    pub(super) fn add(&mut self, id: &'static str, name: impl FnOnce() -> String) -> bool {
        match self.0.entry(id) {
            Entry::Vacant(place) => _ = place.insert(name()),
            Entry::Occupied(_) => return false,
        }
        true
    }

    /// Forgets it: it was given as `false`.
    pub(super) fn remove(&mut self, id: &str) {
        self.0.remove(id);
    }
}

/// The flag with this id.
pub(super) fn long(id: &str) -> String {
    format!("--{}", if id == "findings_mode" { "findings" } else { id }.replace('_', "-"))
}
