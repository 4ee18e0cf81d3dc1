//! The commands, one module each: they connect settings, kernel, session and outputs.
//!
//! This is the only room that uses all others. `tcptrace` itself is [`trace`] (with [`aggregate`] for `--aggregate`), and
//! `stuck` and `story` are traces with other settings (see [`settings`]); `sockets`, `rates` and `doctor` have views of their
//! own, which stand next to them. [`delivery`] opens outputs for all commands.

pub mod aggregate;
pub mod config;
pub mod delivery;
pub mod doctor;
pub mod rates;
pub mod settings;
pub mod sockets;
pub mod trace;
