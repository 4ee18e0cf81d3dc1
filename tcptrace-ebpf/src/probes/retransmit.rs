//! Retransmitted segments and SYN-ACKs.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use core::ffi::c_void;
use tcptrace_common::{
    config::feature,
    record::{KIND_RETRANSMIT, KIND_SYNACK_RETRANSMIT, Retransmit, socket_flag},
    state,
};

use crate::{
    aggregate,
    config::{config, member},
    deferred, emit, filter,
    kernel::{
        clock::now_ns,
        sock::{SockCommon, TcpSock, as_request},
    },
    tracked,
};

/// `tcp_retransmit_skb`: (sk, skb), and since 6.18 the result of sending.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn retransmit(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let Some(sock) = TcpSock::new(sk) else {
        return 0;
    };
    let err: i32 = if config!(features) & feature::RETRANSMIT_ERR != 0 { ctx.arg(2) } else { 0 };
    let mut tracked = tracked::get(sock.key());
    if let Some(tracked) = tracked.as_deref_mut()
        && tracked.deferred_from != 0
    {
        deferred::emit(sock, sk, tracked); // a SYN was sent, so the port is known
    }
    let tuple = sock.tuple();
    let current = sock.common.state();
    if !filter::passes(|| state::bit(current), &tuple, tracked.as_deref()) {
        return 0;
    }
    if aggregate::is_on() {
        if err == 0 {
            aggregate::count_event(KIND_RETRANSMIT, tracked.as_deref(), None);
        }
        return 0;
    }
    emit::send::<Retransmit>(|record| {
        // SAFETY: `record` is a reserved record, and all of it is written.
        unsafe {
            emit::write_header::<Retransmit>(
                &raw mut (*record).header,
                KIND_RETRANSMIT,
                now_ns(),
                sock.address,
                sock.cookie(sk),
            );
            tuple.write(&raw mut (*record).socket, current, sock.flags());
            tracked::write_owner(tracked.as_deref(), &raw mut (*record).owner);
            (*record).total_retrans = sock.total_retrans();
            (*record).err = err;
            (*record).srtt_us8 = sock.srtt_us8();
            (*record).timeouts = sock.timeouts();
            (*record).pad = [0; 3];
        }
    });
    0
}

/// `tcp_retransmit_synack`: (sk of the listener, request). A TCP Fast Open child is a full socket before its handshake ends
/// and retransmits its own SYN-ACK (`net/ipv4/tcp_timer.c`, `tcp_fastopen_synack_timer`): then `sk` is the child.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn retransmit_synack(ctx: BtfTracePointContext) -> i32 {
    let sk: *const c_void = ctx.arg(0);
    let Some(listener) = TcpSock::new(sk) else {
        return 0;
    };
    let request_sk: *const c_void = ctx.arg(1);
    let Some(request) = as_request(request_sk) else {
        return 0;
    };
    let common = SockCommon(request);
    let tuple = common.tuple();
    let mut tracked = tracked::get(listener.key());
    if let Some(tracked) = tracked.as_deref_mut()
        && tracked.deferred_from != 0
    {
        deferred::emit(listener, sk, tracked); // the child's addresses are known by now
    }
    if !filter::passes(|| filter::HALF_OPEN, &tuple, tracked.as_deref()) {
        return 0;
    }
    if aggregate::is_on() {
        aggregate::count_event(KIND_SYNACK_RETRANSMIT, tracked.as_deref(), Some(&tuple));
        return 0;
    }
    // A child inherits its request's cookie (`net/ipv4/inet_connection_sock.c`, `inet_csk_clone_lock`).
    let cookie = if listener.common.state() == state::LISTEN { common.cookie(request_sk) } else { listener.cookie(sk) };
    // The kernel counts this retransmission after the tracepoint (`net/ipv4/inet_connection_sock.c`, `inet_rtx_syn_ack`).
    let before: u8 = request.load(member!(request_sock_num_retrans));
    emit::send::<Retransmit>(|record| {
        // SAFETY: `record` is a reserved record, and all of it is written.
        unsafe {
            emit::write_header::<Retransmit>(
                &raw mut (*record).header,
                KIND_SYNACK_RETRANSMIT,
                now_ns(),
                listener.address,
                cookie,
            );
            tuple.write(&raw mut (*record).socket, state::NEW_SYN_RECV, socket_flag::FROM_PACKET);
            tracked::write_owner(tracked.as_deref(), &raw mut (*record).owner);
            (*record).total_retrans = u32::from(before) + 1;
            (*record).err = 0;
            (*record).srtt_us8 = 0;
            (*record).timeouts = before;
            (*record).pad = [0; 3];
        }
    });
    0
}
