//! Retransmitted segments and SYN-ACKs.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;
use tcptrace_common::{
    config::kernel,
    record::{KIND_RETRANSMIT, KIND_SYNACK_RETRANSMIT, Retransmit, socket_flag},
    state,
};

use crate::{
    aggregate,
    config::{config, member},
    emit, filter,
    kernel::sock::{SockCommon, TcpSock, request},
    probes::transition,
    tracked,
};

/// `tcp_retransmit_skb`: (sk, skb) and, where the kernel passes it, what sending gave.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub(crate) fn retransmit(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let Some(sock) = TcpSock::new(sk) else {
        return 0;
    };
    let err: i32 = if config!(kernel) & kernel::RETRANSMIT_ERR != 0 { ctx.arg(2) } else { 0 };
    let mut memo = tracked::known(sock.memo_key());
    if let Some(memo) = memo.as_deref_mut()
        && memo.deferred_from != 0
    {
        transition::tell_deferred(sock, sk, memo); // a SYN was sent, so the port is known
    }
    let tuple = sock.tuple();
    let current = sock.common.state();
    if !filter::passes(|| state::bit(current), &tuple, memo.as_deref()) {
        return 0;
    }
    if aggregate::is_on() {
        if err == 0 {
            aggregate::event(KIND_RETRANSMIT, memo.as_deref(), None);
        }
        return 0;
    }
    emit::send::<Retransmit>(|record| {
        // SAFETY: `record` is a reserved record, and all of it is written.
        unsafe {
            emit::header::<Retransmit>(
                &raw mut (*record).header,
                KIND_RETRANSMIT,
                emit::now_ns(),
                sock.key,
                sock.cookie(sk),
            );
            tuple.write(&raw mut (*record).socket, current, sock.flags());
            tracked::write_owner(memo.as_deref(), &raw mut (*record).owner);
            (*record).total_retrans = sock.total_retrans();
            (*record).err = err;
            (*record).srtt_us8 = sock.srtt_us8();
            (*record).timeouts = sock.timeouts();
            (*record).pad = [0; 3];
        }
    });
    0
}

/// `tcp_retransmit_synack`: (sk of the listener, request). A TCP Fast Open child, which is a full socket before its
/// handshake ends, sends its own SYN-ACK again (`net/ipv4/tcp_timer.c`, `tcp_fastopen_synack_timer`): then `sk` is it.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
pub(crate) fn retransmit_synack(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let Some(listener) = TcpSock::new(sk) else {
        return 0;
    };
    let request_sk: *const c_void = ctx.arg(1);
    let Some(request) = request(request_sk) else {
        return 0;
    };
    let common = SockCommon(request);
    let tuple = common.tuple();
    let mut memo = tracked::known(listener.memo_key());
    if let Some(memo) = memo.as_deref_mut()
        && memo.deferred_from != 0
    {
        transition::tell_deferred(listener, sk, memo); // the child's addresses are known by now
    }
    if !filter::passes(|| filter::HALF_OPEN, &tuple, memo.as_deref()) {
        return 0;
    }
    if aggregate::is_on() {
        aggregate::event(KIND_SYNACK_RETRANSMIT, memo.as_deref(), Some(&tuple));
        return 0;
    }
    // A child takes over its request's cookie (`net/ipv4/inet_connection_sock.c`, `inet_csk_clone_lock`).
    let cookie = if listener.common.state() == state::LISTEN { common.cookie(request_sk) } else { listener.cookie(sk) };
    // The kernel counts this one after the tracepoint (`net/ipv4/inet_connection_sock.c`, `inet_rtx_syn_ack`).
    let before: u8 = request.load(member!(request_sock_num_retrans));
    emit::send::<Retransmit>(|record| {
        // SAFETY: `record` is a reserved record, and all of it is written.
        unsafe {
            emit::header::<Retransmit>(
                &raw mut (*record).header,
                KIND_SYNACK_RETRANSMIT,
                emit::now_ns(),
                listener.key,
                cookie,
            );
            tuple.write(&raw mut (*record).socket, state::NEW_SYN_RECV, socket_flag::FROM_PACKET);
            tracked::write_owner(memo.as_deref(), &raw mut (*record).owner);
            (*record).total_retrans = u32::from(before) + 1;
            (*record).err = 0;
            (*record).srtt_us8 = 0;
            (*record).timeouts = before;
            (*record).pad = [0; 3];
        }
    });
    0
}
