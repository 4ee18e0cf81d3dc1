//! The BPF programs of tcptrace. They turn hooks in the TCP stack into records ([`tcptrace_common::record`]), which they
//! write into per-CPU rings, or count ([`tcptrace_common::aggregate`]).
//!
//! Most are tp_btf programs, which get a tracepoint's raw arguments as typed pointers. They load struct members directly, at
//! offsets that user space takes from the running kernel's BTF, and the verifier checks each load. The exceptions are two
//! fexit programs on `inet_csk_accept`, attached if the kernel supports trampolines, and two iterators, which list sockets
//! and their holders on request.
//!
//! Files import only from files above them:
//!
//! | files | what they do |
//! | --- | --- |
//! | `mem`, `config`, `maps`, `counters` | word copies, constants, maps, counters |
//! | `kernel/` | read the kernel's structs: `ptr` → `clock`, `iter`, `tuple` → `sock`, `task` |
//! | `tracked` | the table of tracked sockets |
//! | `filter` | which events pass |
//! | `owner` → `listeners` → `attribution` | which process uses a socket |
//! | `emit` → `change` → `aggregate` → `deferred` | records and counts |
//! | `probes/` | the programs, one file for each group of hooks |
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod aggregate;
mod attribution;
mod change;
mod config;
mod counters;
mod deferred;
mod emit;
mod filter;
mod kernel;
mod listeners;
mod maps;
mod mem;
mod owner;
mod probes;
mod tracked;

/// The programs call helpers that the kernel allows only to programs with a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached, since the programs contain no code that panics. The verifier would reject the loop.
    loop {}
}
