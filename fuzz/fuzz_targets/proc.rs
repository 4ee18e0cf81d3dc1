#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, reason = "of one target")]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::proc(bytes));
