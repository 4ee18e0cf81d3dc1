//! What tcptrace does besides tracing each event, one module a subcommand or mode.

pub mod aggregate;
pub mod config;
pub mod delivery;
pub mod doctor;
pub mod rates;
pub mod settings;
pub mod sockets;
pub mod trace;
