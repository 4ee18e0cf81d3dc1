//! The BPF programs of tcptrace: they turn tracepoints of the TCP stack into the records of
//! [`tcptrace_common::record`] and put them into a ring of the CPU, or count them ([`tcptrace_common::aggregate`]).
//!
//! All are tp_btf programs, which get the tracepoint's raw arguments as typed pointers: members are loaded directly,
//! at offsets that user space took from the running kernel's BTF, and the verifier checks each load. The exception is
//! the pair of fexit programs on `inet_csk_accept`, attached where the kernel allows trampolines. Two iterator programs
//! list what is there when user space asks.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod aggregate;
mod config;
mod emit;
mod filter;
mod kernel;
mod listeners;
mod maps;
mod mem;
mod owner;
mod probes;
mod tracked;

/// The helpers that these programs call are for programs under a licence compatible with the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the programs hold no code that panics. The verifier would refuse the loop.
    loop {}
}
