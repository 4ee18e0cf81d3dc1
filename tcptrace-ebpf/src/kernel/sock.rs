//! Sockets: `struct sock_common` and the structs that begin with it.

use aya_ebpf::helpers::{
    bpf_get_socket_cookie,
    generated::{bpf_skc_to_tcp_request_sock, bpf_skc_to_tcp_sock, bpf_skc_to_tcp_timewait_sock},
};
use core::{ffi::c_void, hint::black_box};
use tcptrace_common::{
    config::feature,
    record::{AF_INET6, socket_flag},
};

use super::{
    clock::jiffies,
    ptr::{KernelPtr, probe_read},
    tuple::{Tuple, v4_mapped},
};
use crate::{
    config::{CONFIG, Member, Scalar, config, member},
    mem,
};

/// `enum sock_flags` of `include/net/sock.h`: bit numbers in `sk_flags`.
const SOCK_DEAD: u64 = 0;
const SOCK_DONE: u64 = 1;
const SOCK_KEEPOPEN: u64 = 3;
const SOCK_LINGER: u64 = 4;
/// `RCV_SHUTDOWN` and `SEND_SHUTDOWN` of `include/net/sock.h`.
const RCV_SHUTDOWN: u8 = 1;
const SEND_SHUTDOWN: u8 = 2;

/// Values of `sk_protocol`.
pub(crate) const IPPROTO_TCP: u16 = 6;
pub(crate) const IPPROTO_MPTCP: u16 = 262;

/// `TCP_SYNCOOKIE_VALID` of `include/net/tcp.h`, in s.
const SYNCOOKIE_VALID_S: u32 = 120;

/// Identifies a socket while it lives: the offset of its `struct sock` from the constants' address. The verifier rejects
/// arithmetic on kernel pointers but allows subtracting two of them.
#[derive(Clone, Copy)]
pub(crate) struct SockKey(pub(crate) u64);

impl SockKey {
    #[inline(always)]
    pub(crate) fn of(sk: u64) -> Self {
        Self(black_box(sk.wrapping_sub((&raw const CONFIG) as u64)))
    }
}

/// The part that full sockets, mini-sockets and request sockets share (`struct sock_common`).
#[derive(Clone, Copy)]
pub(crate) struct SockCommon(pub(crate) KernelPtr);

impl SockCommon {
    #[inline(always)]
    pub(crate) fn state(self) -> u8 {
        self.0.load(member!(sock_common_skc_state))
    }

    /// The protocol. For full sockets only.
    #[inline(always)]
    pub(crate) fn protocol(self) -> u16 {
        self.0.load(member!(sock_sk_protocol))
    }

    /// `sk_err`, a positive errno or 0. For full sockets only.
    #[inline(always)]
    pub(crate) fn err(self) -> i32 {
        self.0.load(member!(sock_sk_err))
    }

    /// Whether the current task holds the socket's lock. For full sockets only.
    #[inline(always)]
    pub(crate) fn is_owned(self) -> bool {
        self.lock_owned() != 0
    }

    #[inline(always)]
    fn lock_owned(self) -> u32 {
        self.0.load(member!(sock_sk_lock_owned))
    }

    /// Whether both directions are shut down, as `__tcp_close` does first of all. For full sockets only.
    #[inline(always)]
    pub(crate) fn is_shut_down(self) -> bool {
        self.0.load::<u8, _>(member!(sock_sk_shutdown)) & (RCV_SHUTDOWN | SEND_SHUTDOWN) == RCV_SHUTDOWN | SEND_SHUTDOWN
    }

    /// Whether SO_REUSEPORT is set. A child inherits it from its listener.
    #[inline(always)]
    pub(crate) fn has_reuseport(self) -> bool {
        let bit = config!(layout.sock_common_skc_reuseport);
        self.0.load_at::<u8>(bit / 8) >> (bit % 8) & 1 != 0
    }

    /// The socket cookie, generated if the kernel allows it, else 0 if there is none yet. `sk` is the same socket.
    #[inline(always)]
    pub(crate) fn cookie(self, sk: *const c_void) -> u64 {
        let existing: u64 = self.0.load(member!(sock_common_skc_cookie));
        if existing == 0 && config!(features) & feature::SOCKET_COOKIE != 0 {
            // SAFETY: the helper takes any sock_common whose type the verifier knows.
            return unsafe { bpf_get_socket_cookie(sk.cast_mut()) };
        }
        existing
    }

    #[inline(always)]
    pub(crate) fn tuple(self) -> Tuple {
        self.tuple_in(netns_of(self.0))
    }

    #[inline(always)]
    fn tuple_in(self, netns: u32) -> Tuple {
        let family: u16 = self.0.load(member!(sock_common_skc_family));
        let (local, remote) = if family == AF_INET6 {
            (
                self.0.load_pair(member!(sock_common_skc_v6_rcv_saddr)),
                self.0.load_pair(member!(sock_common_skc_v6_daddr)),
            )
        } else {
            (
                v4_mapped(self.0.load(member!(sock_common_skc_rcv_saddr))),
                v4_mapped(self.0.load(member!(sock_common_skc_daddr))),
            )
        };
        Tuple {
            family,
            local,
            remote,
            local_port: self.0.load(member!(sock_common_skc_num)),
            remote_port: u16::from_be(self.0.load(member!(sock_common_skc_dport))),
            netns,
        }
    }
}

/// Inode number of the network namespace of a struct that begins with a `sock_common`. Do not pass a pointer that the
/// verifier trusts: for each path it would search all kernel types by name.
#[inline(always)]
pub(crate) fn netns_of(sock_common: KernelPtr) -> u32 {
    sock_common.follow(member!(sock_common_skc_net)).load(member!(net_ns_inum))
}

/// A full TCP socket.
#[derive(Clone, Copy)]
pub(crate) struct TcpSock {
    /// The socket as the kernel's `struct sock`. From 6.2 on, the verifier trusts a tracepoint's own argument, and a load
    /// through it takes one instruction instead of eleven.
    pub(crate) common: SockCommon,
    /// The socket as `struct tcp_sock`, for members that only it has.
    tcp: KernelPtr,
    /// Address of the socket.
    pub(crate) address: u64,
}

impl TcpSock {
    /// `None` if `sk` is a mini-socket, a request socket, or a socket of another protocol.
    #[inline(always)]
    pub(crate) fn new(sk: *const c_void) -> Option<Self> {
        // SAFETY: the helper takes any sock_common whose type the verifier knows.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut()) };
        if tcp.is_null() {
            return None;
        }
        Some(Self::from_parts(sk, tcp.cast_const().cast()))
    }

    /// The same from the socket's two pointers, see [`TcpSock::tcp_ptr`].
    #[inline(always)]
    pub(crate) fn from_parts(sk: *const c_void, tcp: *const c_void) -> Self {
        Self { common: SockCommon(KernelPtr::new(sk)), tcp: KernelPtr::new(tcp), address: sk as u64 }
    }

    /// The same if the verifier knows `sk` as a `sock_common` only.
    #[inline(always)]
    pub(crate) fn from_common(sk: *const c_void) -> Option<Self> {
        Self::new(sk).map(|sock| Self { common: SockCommon(sock.tcp), ..sock })
    }

    /// The pointer to the `struct tcp_sock`.
    #[inline(always)]
    pub(crate) fn tcp_ptr(self) -> *const c_void {
        self.tcp.as_ptr()
    }

    #[inline(always)]
    pub(crate) fn key(self) -> SockKey {
        SockKey::of(self.address)
    }

    /// Loads a member of the `tcp_sock`.
    #[inline(always)]
    pub(crate) fn load<T: Scalar, const FIELD: u32>(self, member: Member<FIELD>) -> T {
        self.tcp.load(member)
    }

    /// Loads 4 bytes at an offset in the `tcp_sock`.
    #[inline(always)]
    pub(crate) fn load_at(self, offset: u32) -> u32 {
        self.tcp.load_at(offset)
    }

    /// Loads a member of the `sock`.
    #[inline(always)]
    fn load_sock<T: Scalar, const FIELD: u32>(self, member: Member<FIELD>) -> T {
        self.common.0.load(member)
    }

    /// Addresses and ports. The local port is known even if the socket has released it (`skc_num` may be 0 at →CLOSE).
    #[inline(always)]
    pub(crate) fn tuple(self) -> Tuple {
        self.tuple_in(self.netns())
    }

    /// The same for a known network namespace.
    #[inline(always)]
    pub(crate) fn tuple_in(self, netns: u32) -> Tuple {
        let mut tuple = self.common.tuple_in(netns);
        if tuple.local_port == 0 {
            tuple.local_port = u16::from_be(self.load(member!(inet_sock_inet_sport)));
        }
        tuple
    }

    /// Inode number of the network namespace.
    #[inline(always)]
    pub(crate) fn netns(self) -> u32 {
        netns_of(self.tcp)
    }

    /// See [`SockCommon::cookie`].
    #[inline(always)]
    pub(crate) fn cookie(self, sk: *const c_void) -> u64 {
        self.common.cookie(sk)
    }

    #[inline(always)]
    pub(crate) fn srtt_us8(self) -> u32 {
        self.load(member!(tcp_sock_srtt_us))
    }

    #[inline(always)]
    pub(crate) fn total_retrans(self) -> u32 {
        self.load(member!(tcp_sock_total_retrans))
    }

    #[inline(always)]
    pub(crate) fn timeouts(self) -> u8 {
        self.load(member!(inet_connection_sock_icsk_retransmits))
    }

    #[inline(always)]
    pub(crate) fn bytes_acked(self) -> u64 {
        self.load(member!(tcp_sock_bytes_acked))
    }

    #[inline(always)]
    pub(crate) fn bytes_received(self) -> u64 {
        self.load(member!(tcp_sock_bytes_received))
    }

    /// Unread bytes, like `tcp_inq` of `include/net/tcp.h` but including urgent data, and unacknowledged bytes, counting a
    /// FIN as one. Both are differences of sequence numbers, so they survive purged queues. Meaningless before the
    /// connection is established.
    #[inline(always)]
    pub(crate) fn queues(self, flags: u16) -> (u32, u32) {
        let unread = self.seq_difference(member!(tcp_sock_rcv_nxt), member!(tcp_sock_copied_seq));
        let fin = u32::from(unread != 0 && flags & socket_flag::DONE != 0);
        (unread - fin, self.unacked())
    }

    /// Unacknowledged bytes, counting a SYN and a FIN as one each.
    #[inline(always)]
    pub(crate) fn unacked(self) -> u32 {
        self.seq_difference(member!(tcp_sock_write_seq), member!(tcp_sock_snd_una))
    }

    /// The difference of two sequence numbers; 0 if `ahead` is behind.
    #[inline(always)]
    pub(crate) fn seq_difference<const A: u32, const B: u32>(self, ahead: Member<A>, behind: Member<B>) -> u32 {
        let difference = self.load::<u32, A>(ahead).wrapping_sub(self.load(behind));
        difference & !((difference as i32 >> 31) as u32)
    }

    /// Whether a process has the socket.
    #[inline(always)]
    pub(crate) fn is_attached(self) -> bool {
        self.load::<u64, _>(member!(sock_sk_socket)) != 0
    }

    /// The key of the listener that this child was just cloned from (`net/ipv4/inet_connection_sock.c`,
    /// `inet_csk_clone_lock`). The head of the list of sent segments is empty and points to itself. Until
    /// `tcp_create_openreq_child` initializes it, the child's head is a copy and still points into the listener.
    #[inline(always)]
    pub(crate) fn listener_key(self) -> SockKey {
        let queue: u64 = self.load(member!(tcp_sock_tsorted_sent_queue));
        SockKey(SockKey::of(queue).0.wrapping_sub(config!(layout.tcp_sock_tsorted_sent_queue).into()))
    }

    /// For a subflow of MPTCP, the inode number of the MPTCP socket, which `mptcp_subflow_create_socket`
    /// (`net/mptcp/subflow.c`) gives to the subflow's socket too; else 0.
    #[inline(always)]
    pub(crate) fn mptcp_inode(self) -> u64 {
        let ulp: u64 = self.load(member!(inet_connection_sock_icsk_ulp_ops));
        if ulp == 0 || probe_read(ulp + u64::from(config!(layout.tcp_ulp_ops_name))) != Some(*b"mptc") {
            return 0;
        }
        inode_of(self.load(member!(sock_sk_socket))).unwrap_or(0)
    }

    /// Whether the listener that this child was just cloned from sent SYN cookies within their lifetime. The child still
    /// has its listener's `rx_opt.ts_recent_stamp`, where `tcp_synq_overflow` (`include/net/tcp.h`) stores the jiffies of
    /// the last queue overflow. Listeners with SO_REUSEPORT store it elsewhere.
    #[inline(always)]
    pub(crate) fn follows_syn_cookies(self) -> bool {
        let overflow: u32 = self.load(member!(tcp_sock_rx_opt_ts_recent_stamp));
        overflow != 0 && (jiffies() as u32).wrapping_sub(overflow) < SYNCOOKIE_VALID_S * config!(hz)
    }

    /// [`socket_flag::LINGER2_NEGATIVE`], which matters at the end only.
    #[inline(always)]
    pub(crate) fn linger2_flag(self) -> u16 {
        let sign = self.load::<u32, _>(member!(tcp_sock_linger2)) >> 31;
        sign as u16 * socket_flag::LINGER2_NEGATIVE
    }

    /// All other [`socket_flag`]s that describe the socket.
    #[inline(always)]
    pub(crate) fn flags(self) -> u16 {
        let sk_flags: u64 = self.load_sock(member!(sock_common_skc_flags));
        let shutdown: u8 = self.load_sock(member!(sock_sk_shutdown));
        let (shutdown, lingertime) = (u64::from(shutdown), self.load_sock::<u32, _>(member!(sock_sk_lingertime)));
        // Free of branches: the verifier would follow each combination.
        let flag = |word: u64, flag: u16| (word & 1) * u64::from(flag);
        let all = flag(1 ^ mem::is_zero(self.common.lock_owned().into()), socket_flag::OWNED)
            | flag(sk_flags >> SOCK_DEAD, socket_flag::DEAD)
            | flag(sk_flags >> SOCK_DONE, socket_flag::DONE)
            | flag(sk_flags >> SOCK_KEEPOPEN, socket_flag::KEEPALIVE)
            | flag(sk_flags >> SOCK_LINGER, socket_flag::LINGER)
            | flag(mem::is_zero(lingertime.into()), socket_flag::LINGER_ZERO)
            | flag(1 ^ mem::is_zero(self.load(member!(sock_sk_socket))), socket_flag::ATTACHED)
            | flag(shutdown >> SEND_SHUTDOWN.trailing_zeros(), socket_flag::SHUTDOWN_SEND)
            | flag(shutdown >> RCV_SHUTDOWN.trailing_zeros(), socket_flag::SHUTDOWN_RECEIVE);
        all as u16
    }
}

/// Inode number of a `struct socket` (`include/net/sock.h`, `SOCK_INODE`).
#[inline(always)]
pub(crate) fn inode_of(socket: u64) -> Option<u64> {
    probe_read(socket + u64::from(config!(layout.socket_alloc_vfs_inode)) + u64::from(config!(layout.inode_i_ino)))
}

/// `sk` as a mini-socket (`struct tcp_timewait_sock`), if it is one.
#[inline(always)]
pub(crate) fn as_mini(sk: *const c_void) -> Option<KernelPtr> {
    // SAFETY: the helper takes any sock_common whose type the verifier knows.
    let mini = unsafe { bpf_skc_to_tcp_timewait_sock(sk.cast_mut()) };
    if mini.is_null() { None } else { Some(KernelPtr::new(mini.cast_const().cast())) }
}

/// `sk` as a request socket (`struct tcp_request_sock`), if it is one.
#[inline(always)]
pub(crate) fn as_request(sk: *const c_void) -> Option<KernelPtr> {
    // SAFETY: the helper takes any sock_common whose type the verifier knows.
    let request = unsafe { bpf_skc_to_tcp_request_sock(sk.cast_mut()) };
    if request.is_null() { None } else { Some(KernelPtr::new(request.cast_const().cast())) }
}

/// The state that a mini-socket represents: TIME_WAIT or FIN_WAIT2.
#[inline(always)]
pub(crate) fn mini_state(mini: KernelPtr) -> u8 {
    mini.load(member!(inet_timewait_sock_tw_substate))
}
