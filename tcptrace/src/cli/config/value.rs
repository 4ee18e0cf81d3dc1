//! Readers for the values of keys: each uses the parser of its flag, so that both accept the same text.

use std::{
    fmt::{self, Display},
    marker::PhantomData,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::ValueEnum;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
};

use crate::{
    cli::{
        args::AggregateBy,
        parse::{self, PidList},
    },
    findings::Severity,
};

/// One value of a TOML file; a port, for example, may be written as a number or as text.
#[derive(Deserialize)]
#[serde(untagged, expecting = "takes text, a number, true or false")]
pub(super) enum Word {
    Text(String),
    Whole(i64),
    Fraction(f64),
    Flag(bool),
}

impl Display for Word {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => to.write_str(text),
            Self::Whole(number) => number.fmt(to),
            Self::Fraction(number) => number.fmt(to),
            Self::Flag(flag) => flag.fmt(to),
        }
    }
}

/// A value, or a list with at least one value.
#[derive(Deserialize)]
#[serde(untagged, expecting = "takes text, a number, true or false, or a list of these")]
enum OneOrMore {
    One(Word),
    More(Vec<Word>),
}

/// The value or values as text.
pub(super) fn words<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    match OneOrMore::deserialize(from)? {
        OneOrMore::One(word) => Ok(vec![word.to_string()]),
        OneOrMore::More(words) if words.is_empty() => Err(D::Error::custom("the list is empty: remove the key")),
        OneOrMore::More(words) => Ok(words.iter().map(Word::to_string).collect()),
    }
}

/// One value, read by the parser of a flag.
fn parsed<'de, D: Deserializer<'de>, T, E: Display>(
    from: D,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, D::Error> {
    let text = Word::deserialize(from)?.to_string();
    parse(&text).map(Some).map_err(D::Error::custom)
}

/// Several values, each read by the parser of one.
fn several<'de, D: Deserializer<'de>, T, E: Display>(
    from: D,
    parse: impl FnMut(&str) -> Result<T, E>,
) -> Result<Option<Vec<T>>, D::Error> {
    let words = words(from)?;
    let values: Result<_, _> = words.iter().flat_map(|word| word.split(',')).map(parse).collect();
    values.map(Some).map_err(D::Error::custom)
}

pub(super) fn one<'de, D, T: FromStr<Err: Display>>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
{
    parsed(from, str::parse)
}

pub(super) fn list<'de, D, T: FromStr<Err: Display>>(from: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
{
    several(from, str::parse)
}

/// Paths, which may contain commas.
pub(super) fn paths<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<PathBuf>>, D::Error> {
    Ok(Some(words(from)?.into_iter().map(PathBuf::from).collect()))
}

pub(super) fn choice<'de, D: Deserializer<'de>, T: ValueEnum>(from: D) -> Result<Option<T>, D::Error> {
    parsed(from, parse::choice)
}

pub(super) fn choices<'de, D: Deserializer<'de>, T: ValueEnum>(from: D) -> Result<Option<Vec<T>>, D::Error> {
    several(from, parse::choice)
}

pub(super) fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    parsed(from, |text| text.parse().map_err(|_| format!("takes true or false, not `{text}`")))
}

pub(super) fn number<'de, D: Deserializer<'de>, const MOST: u32>(from: D) -> Result<Option<u32>, D::Error> {
    parsed(from, parse::number::<MOST>)
}

pub(super) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    parsed(from, parse::count)
}

pub(super) fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    parsed(from, parse::duration)
}

pub(super) fn ring_size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    parsed(from, parse::ring_size)
}

pub(super) fn severity<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Severity>, D::Error> {
    parsed(from, parse::severity)
}

pub(super) fn record_size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    parsed(from, crate::cli::args::recording::record_size)
}

/// PIDs to filter by, or a boolean: whether to show owners.
pub(super) fn pid<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Option<PidList>>>, D::Error> {
    let pids = |text: String| text.parse().map(|pids| Some(Some(pids))).map_err(D::Error::custom);
    switch(words(from)?.join(","), Some(None), pids)
}

/// What to count by, or a boolean: whether to count.
pub(super) fn aggregate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<AggregateBy>>, D::Error> {
    let by = |text: String| parse::choice(&text).map(Some).map_err(D::Error::custom);
    switch(Word::deserialize(from)?.to_string(), Some(AggregateBy::Transition), by)
}

fn switch<T, E>(
    text: String,
    on: Option<T>,
    other: impl FnOnce(String) -> Result<Option<T>, E>,
) -> Result<Option<Option<T>>, E> {
    match text.as_str() {
        "true" => Ok(Some(on)),
        "false" => Ok(Some(None)),
        _ => other(text).map(Some),
    }
}

/// `NAME=VALUE` pairs separated by commas, or a table.
pub(super) fn pairs<'de, D, T: FromStr<Err: Display>>(from: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
{
    from.deserialize_any(Pairs(PhantomData)).map(Some)
}

struct Pairs<T>(PhantomData<T>);

impl<'de, T: FromStr<Err: Display>> Visitor<'de> for Pairs<T> {
    type Value = Vec<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a table of names and values")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
        text.split(',').map(|pair| pair.parse().map_err(E::custom)).collect()
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Vec<T>, A::Error> {
        let mut pairs = Vec::new();
        while let Some(name) = table.next_key::<String>()? {
            pairs.push(table.next_value_seed(Pair(&name, PhantomData))?);
        }
        Ok(pairs)
    }
}

/// The value of this name. Parsed while serde visits it, so that an error has its line.
struct Pair<'a, T>(&'a str, PhantomData<T>);

impl<'de, T: FromStr<Err: Display>> DeserializeSeed<'de> for Pair<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        let value = Word::deserialize(from)
            .map_err(|error| D::Error::custom(format!("{}: {}", self.0, error.to_string().trim_end())))?;
        format!("{}={value}", self.0).parse().map_err(D::Error::custom)
    }
}
