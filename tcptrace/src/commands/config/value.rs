//! The value of a setting as text, JSON and TOML, made from the words that gave it.

use clap::{Arg, ArgAction};
use serde_json::json;
use toml::Value as Toml;

use crate::cli::outputs::{Pair, to_and_pairs};

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// It has none, and no default that could be written down.
    Unset,
    One(String),
    List(Vec<String>),
    /// Names and values.
    Table(Vec<(String, String)>),
    /// Targets, each with its keys and their values.
    Outputs(Vec<(String, Vec<Pair>)>),
}

impl Value {
    /// The value of this flag, given by these words, the lowest layer first.
    pub(super) fn new(argument: &Arg, words: &[String]) -> Self {
        match argument.get_id().as_str() {
            "output" => Self::Outputs(words.iter().filter_map(|word| to_and_pairs(word).ok()).collect()),
            "stuck_after" | "threshold" => {
                let mut pairs: Vec<(String, String)> = Vec::new();
                for (name, value) in
                    words.iter().flat_map(|word| word.split(',')).filter_map(|word| word.split_once('='))
                {
                    pairs.retain(|(known, _)| known != name); // the last one counts
                    pairs.push((name.to_owned(), value.to_owned()));
                }
                if pairs.is_empty() { Self::Unset } else { Self::Table(pairs) }
            }
            _ if matches!(argument.get_action(), ArgAction::Append) => {
                let delimiter = argument.get_value_delimiter();
                let split = |word: &String| match delimiter {
                    Some(delimiter) => word.split(delimiter).map(|part| part.trim().to_owned()).collect(),
                    None => vec![word.clone()],
                };
                let list: Vec<_> = words.iter().flat_map(split).collect();
                if list.is_empty() { Self::Unset } else { Self::List(list) }
            }
            _ if words.is_empty() => Self::Unset,
            _ => Self::One(words.join(",")),
        }
    }

    /// One line for people; one for each output.
    pub(super) fn lines(&self) -> Vec<String> {
        match self {
            Self::Unset => vec!["-".to_owned()],
            Self::One(word) => vec![word.clone()],
            Self::List(words) => vec![words.join(", ")],
            Self::Table(pairs) => {
                vec![pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")]
            }
            Self::Outputs(outputs) => outputs
                .iter()
                .map(|(to, keys)| {
                    let keys = keys.iter().map(|(key, values)| format!(",{key}={}", values.join("+")));
                    to.clone() + &keys.collect::<String>()
                })
                .collect(),
        }
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Unset => serde_json::Value::Null,
            Self::One(word) => word_to_json(word),
            Self::List(words) => words.iter().map(|word| word_to_json(word)).collect(),
            Self::Table(pairs) => pairs.iter().map(|(name, value)| (name.clone(), word_to_json(value))).collect(),
            Self::Outputs(outputs) => outputs
                .iter()
                .map(|(to, keys)| {
                    let mut object = json!({ "to": to });
                    for (key, values) in keys {
                        object[key] = match values.as_slice() {
                            [one] => word_to_json(one),
                            more => more.iter().map(|word| word_to_json(word)).collect(),
                        };
                    }
                    object
                })
                .collect(),
        }
    }

    /// The value of `key = …`; `None` for outputs, which are tables of their own.
    pub(super) fn to_toml(&self) -> Option<Toml> {
        match self {
            Self::Unset | Self::Outputs(_) => None,
            Self::One(word) => Some(word_to_toml(word)),
            Self::List(words) => Some(Toml::Array(words.iter().map(|word| word_to_toml(word)).collect())),
            Self::Table(pairs) => {
                Some(Toml::Table(pairs.iter().map(|(name, value)| (name.clone(), word_to_toml(value))).collect()))
            }
        }
    }

    /// The tables `[[output]]`, each as lines.
    pub(super) fn output_tables(&self) -> Vec<Vec<String>> {
        let Self::Outputs(outputs) = self else { return Vec::new() };
        let table = |(to, keys): &(String, Vec<Pair>)| {
            let keys = keys.iter().map(|(key, values)| match values.as_slice() {
                [one] => format!("{key} = {}", word_to_toml(one)),
                more => format!("{key} = {}", Toml::Array(more.iter().map(|word| word_to_toml(word)).collect())),
            });
            [format!("to = {}", Toml::String(to.clone()))].into_iter().chain(keys).collect()
        };
        outputs.iter().map(table).collect()
    }
}

/// A whole number that is written as everybody writes it.
fn number(word: &str) -> Option<i64> {
    word.parse().ok().filter(|number: &i64| number.to_string() == word)
}

fn word_to_json(word: &str) -> serde_json::Value {
    match (word, number(word)) {
        ("true" | "false", _) => (word == "true").into(),
        (_, Some(number)) => number.into(),
        _ => word.into(),
    }
}

fn word_to_toml(word: &str) -> Toml {
    match (word, number(word)) {
        ("true" | "false", _) => Toml::Boolean(word == "true"),
        (_, Some(number)) => Toml::Integer(number),
        _ => Toml::String(word.to_owned()),
    }
}
