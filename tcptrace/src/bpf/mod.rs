//! The edge to the kernel: what it is, loading and attaching the programs, reading what they tell. No policy.

pub mod aggregate;
pub mod btf;
mod constants;
pub(crate) mod error;
pub mod iterators;
pub mod kernel;
pub(crate) mod maps;
pub mod object;
pub mod preflight;
pub mod probes;

pub mod rings;
pub mod vmlinux;

/// The compiled BPF programs, made from `tcptrace-ebpf` by `cargo xtask build-ebpf`.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/tcptrace.bpf.o");
