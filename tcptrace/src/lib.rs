//! lib
pub mod bpf;
