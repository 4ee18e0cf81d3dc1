//! The command line, in two layers: [`args`] is what was typed, [`settings`] is what it means.

pub mod args;
pub mod findings;
pub mod parse;
pub mod settings;
