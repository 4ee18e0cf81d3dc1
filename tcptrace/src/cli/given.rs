//! Where each setting was given, so that messages can name it as the user wrote it.

use std::collections::{BTreeMap, btree_map::Entry};

/// The flags that were given, by clap's id, with the name of each in messages: `--port`, `TCPTRACE_PORT`, or
/// `port (FILE, line 3)`.
#[derive(Clone, Debug, Default)]
pub struct Given(BTreeMap<&'static str, String>);

impl Given {
    /// The name of the flag with this id, if it was given.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(String::as_str)
    }

    /// The name of the flag with this id as it was given, or else the flag itself.
    #[must_use]
    pub fn name(&self, id: &str) -> String {
        self.get(id).map_or_else(|| long(id), str::to_owned)
    }

    /// Records that a layer gave the flag. Returns false if a higher layer already did.
    pub(super) fn add(&mut self, id: &'static str, name: impl FnOnce() -> String) -> bool {
        match self.0.entry(id) {
            Entry::Vacant(place) => _ = place.insert(name()),
            Entry::Occupied(_) => return false,
        }
        true
    }

    /// Removes a flag that was given as `false`.
    pub(super) fn remove(&mut self, id: &str) {
        self.0.remove(id);
    }
}

/// The long flag with this id.
pub(super) fn long(id: &str) -> String {
    let name = match id {
        "findings_mode" => "findings",
        "expression" => "where",
        _ => id,
    };
    format!("--{}", name.replace('_', "-"))
}
