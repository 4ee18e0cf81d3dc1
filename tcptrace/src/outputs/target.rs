//! What a kind of output is: what users write for it, the options it has, and how it is opened.

use std::{fmt, io, net::SocketAddr, path::Path};

use crate::outputs::sink::Sink;

/// A kind of output.
pub struct OutputKind {
    /// What stands before the colon in `--output KIND:TARGET`.
    pub name: &'static str,
    /// What users write, for messages.
    pub form: &'static str,
    /// Reads the part after the colon.
    pub parse: fn(&str) -> Result<Box<dyn Target>, String>,
}

/// What an output takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Records in the format that the user chose.
    Formatted,
    /// Records as lines of JSON, whose fields it maps.
    Json,
    /// Snapshots of the metrics.
    Metrics,
    /// Nothing: scrapers fetch metrics at this address.
    Scraped(SocketAddr),
}

/// Where an output goes, with its options.
pub trait Target: fmt::Debug + Send + Sync {
    /// The keys that only this kind has. `format` is set by the caller.
    fn keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// Sets one of [`Target::keys`].
    ///
    /// # Errors
    /// What the key takes, if `value` is not that.
    fn set(&mut self, _key: &str, _value: &str) -> Result<(), String> {
        Err("does not fit this output".into())
    }

    /// True for one of [`Target::keys`] that takes several values: [`Target::set`] is called with each.
    fn takes_several(&self, _key: &str) -> bool {
        false
    }

    /// True if it gets findings alone, unless others are asked for.
    fn is_for_findings(&self) -> bool {
        false
    }

    /// True if it can get nothing but findings.
    fn takes_only_findings(&self) -> bool {
        false
    }

    /// What it takes.
    fn content(&self) -> Content {
        Content::Json
    }

    /// True for standard output: it may be a terminal, and SIGHUP then ends the run.
    fn is_stdout(&self) -> bool {
        false
    }

    /// What it opens again and again in the file system, to write to it.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// What the name of its file ends with, if it has one.
    fn extension(&self) -> Option<&str> {
        None
    }

    /// Sets the line at the head of each of its files, if it has files.
    fn set_head(&mut self, _head: &[u8]) {}

    /// The targets that metrics and records go to, with a name for each, if it takes both: a collector has a path for each.
    fn signals(&self) -> Option<[(&'static str, Box<dyn Target>); 2]> {
        None
    }

    /// Opens it.
    ///
    /// # Errors
    /// Why it cannot be opened.
    fn open(&self) -> io::Result<Box<dyn Sink>>;

    /// A copy.
    fn boxed(&self) -> Box<dyn Target>;
}

impl Clone for Box<dyn Target> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}

/// Reads `true` or `false`.
pub(super) fn flag(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| "takes true or false".into())
}

/// True for `gzip`, false for `none`.
pub(super) fn is_gzip(value: &str) -> Result<bool, String> {
    match value {
        "none" => Ok(false),
        "gzip" => Ok(true),
        other => Err(format!("unknown compression `{other}`; known here: none, gzip")),
    }
}
