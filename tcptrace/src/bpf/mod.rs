//! The kernel side: loads the compiled BPF programs, attaches them, and reads their rings and maps. No policy.
//!
//! [`probes::Probes::attach`] is the entry point. It reads the kernel's BTF ([`btf`], [`kernel`]) to find the offsets
//! of the struct members that the programs read, patches these offsets into the compiled object, loads the programs,
//! and attaches those whose hooks the kernel has. For example, a kernel without the tracepoint `tcp_send_reset` still
//! gets all other programs, and the missing hook is reported with its effect ([`probes::MissingHook`]).
//!
//! Events come out of [`rings`] as bytes, in the order of their times; [`iterators`] list the sockets that exist;
//! [`aggregate`] has the counts of aggregate mode. None of them decodes or filters anything: that is up to later rooms.

pub mod aggregate;
pub mod btf;
mod constants;
pub(crate) mod error;
mod hooks;
pub mod iterators;
pub mod kernel;
pub(crate) mod maps;
pub mod object;
pub mod preflight;
pub mod probes;

pub mod rings;
pub mod vmlinux;

/// The compiled BPF programs, built from `tcptrace-ebpf` by `cargo xtask build-ebpf`.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/tcptrace.bpf.o");
