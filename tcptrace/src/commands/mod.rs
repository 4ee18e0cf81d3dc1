//! What tcptrace does besides tracing, one module a subcommand.

pub mod doctor;
pub mod rates;
pub mod sockets;
