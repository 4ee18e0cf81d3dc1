//! Everything a user can set, as data: the command line ([`args`]), variables and the config file ([`config`]), and the
//! outputs ([`outputs`]).
//!
//! This room parses text into typed values and reports what is wrong with it; it starts nothing. `commands/settings.rs`
//! turns the values into the parts of a run. A flag, a variable and a key of the config file share one parser, so that
//! `--port 80,443`, `TCPTRACE_PORT=80,443` and `port = [80, 443]` mean the same and fail with the same words.

pub mod args;
pub mod config;
pub(crate) mod conflicts;
pub mod filter;
pub mod findings;
pub mod given;
mod habits;
pub mod outputs;
pub mod parse;
pub mod terminal;
pub mod words;

pub(crate) use crate::model::nearest::nearest;
