//! Any bytes as a recording: `cargo fuzz run recording`, with `RUSTC_BOOTSTRAP=1` on a stable toolchain.
#![no_main]

#[path = "../run.rs"]
mod run;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| run::recording(bytes));
