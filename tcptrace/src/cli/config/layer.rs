//! What one layer of settings says, and where it comes from.

use std::path::PathBuf;

use super::keys::Keys;
use crate::cli::{
    given::{self, Origin, Setting},
    outputs::OutputSpec,
};

/// A remark about the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Something that has no effect, and probably was meant to have one.
    Warning(String),
    /// Information without a problem.
    Info(String),
}

/// The settings of one variable, or of the config file.
pub(super) struct Layer {
    pub(super) keys: Keys,
    pub(super) outputs: Vec<OutputSpec>,
    pub(super) place: Place,
}

/// Where a layer comes from.
pub(super) enum Place {
    /// A variable, and its value as text.
    Variable(String, Vec<String>),
    /// A file, with its keys in order.
    File(PathBuf, Vec<Key>),
}

/// A key of a config file.
pub(super) struct Key {
    pub(super) line: usize,
    pub(super) name: String,
    /// Its value as text.
    pub(super) words: Vec<String>,
}

impl Place {
    /// The flag with this id as this layer gave it; one setting for each `[[output]]`.
    pub(super) fn settings(&self, id: &str) -> Vec<Setting> {
        match self {
            Self::Variable(name, words) => vec![Setting::new(id, Origin::Variable(name.clone()), words.clone())],
            Self::File(path, keys) => {
                let key = given::key(id);
                let of_key = keys.iter().filter(|known| known.name == key);
                of_key.map(|key| Setting::new(id, Origin::File(path.clone(), key.line), key.words.clone())).collect()
            }
        }
    }
}

/// The names of all keys of a config file, with underscores.
pub(super) fn fields() -> impl Iterator<Item = &'static str> {
    Keys::NAMES.iter().copied().chain(["output"])
}
