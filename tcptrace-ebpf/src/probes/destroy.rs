//! The end of a socket's life.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;

use crate::memos;

/// Forgets the socket: its address may be another's from now on (`net/ipv4/tcp_ipv4.c`, `tcp_v4_destroy_sock`).
#[btf_tracepoint(function = "tcp_destroy_sock")]
pub(crate) fn destroy(ctx: BtfTracePointContext) -> i32 {
    memos::forget(ctx.arg::<*const c_void>(0) as u64);
    0
}
