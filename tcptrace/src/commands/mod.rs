//! What tcptrace does besides tracing, one module a subcommand.

pub mod sockets;
