//! What must hold for any bytes that the kernel, a damaged recording or a hostile process may give.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod aggregate;
mod any_record;
mod bounds;
mod decoding;
mod filter;
mod findings;
mod foreign_names;
mod fuzzed;
mod machine_readable;
mod page;
mod recording;
mod session;
mod sockets;
mod summary;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "each test target uses a part of it")]
mod support;
mod table;
