//! Recorded streams through the whole of the pure middle, compared with what they gave when it was last looked at.
//!
//! `TCPTRACE_BLESS=1 cargo test --test golden` writes the files anew; their difference is what is to be reviewed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod aggregate;
mod alignment;
mod compare;
mod doctor;
mod documented;
mod findings;
mod kills;
mod ladders;
mod listings;
mod outputs;
mod rates;
mod recordings;
mod screens;
mod sockets;
mod stories;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "each test target uses a part of it")]
mod support;
mod valid;
mod waiting;
