//! What the iterator programs write: one entry after another, all of one size, each iterator its own kind.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::{Owner, Socket};

/// [`SocketEntry::kind`] of a `struct tcp_sock`.
pub const KIND_FULL: u8 = 0;
/// [`SocketEntry::kind`] of a `struct tcp_timewait_sock`.
pub const KIND_MINI: u8 = 1;
/// [`SocketEntry::kind`] of a `struct tcp_request_sock`.
pub const KIND_REQUEST: u8 = 2;

/// [`SocketEntry::timer`], numbered as `idiag_timer` is (`net/ipv4/inet_diag.c`, `inet_sk_diag_fill`).
pub mod timer {
    /// None runs.
    pub const NONE: u8 = 0;
    /// Retransmission.
    pub const RETRANSMIT: u8 = 1;
    /// Keepalive, and what is left of FIN_WAIT2.
    pub const KEEPALIVE: u8 = 2;
    /// TIME_WAIT.
    pub const TIME_WAIT: u8 = 3;
    /// Zero window probe.
    pub const PROBE: u8 = 4;
}

/// A socket (`iter/tcp`). 208 bytes. Times are in ticks of the kernel's jiffies.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SocketEntry {
    /// Address of the socket.
    pub sk: u64,
    /// Cookie; 0 where the kernel gave none.
    pub cookie: u64,
    /// The socket; a mini-socket's state is its substate. The flags are those of full sockets.
    pub socket: Socket,
    /// Its owner, where the programs know it.
    pub owner: Owner,
    /// CLOCK_MONOTONIC at which it entered its state, in ns; 0 where that was not seen.
    pub entered_ns: u64,
    /// `tcp_sock.bytes_acked`.
    pub bytes_acked: u64,
    /// `tcp_sock.bytes_received`.
    pub bytes_received: u64,
    /// Ticks until the timer ends; negative where it is overdue.
    pub timer_ticks: i32,
    /// Ticks since `tcp_sock.lsndtime`.
    pub last_sent_ticks: u32,
    /// Ticks since `icsk_ack.lrcvtime`.
    pub last_received_ticks: u32,
    /// Ticks since `tcp_sock.rcv_tstamp`.
    pub last_ack_ticks: u32,
    /// Bytes to be read; of a listener `sk_ack_backlog`.
    pub receive_queue: u32,
    /// Bytes not acknowledged; of a listener `sk_max_ack_backlog`.
    pub send_queue: u32,
    /// `tcp_sock.srtt_us`, which holds 8 times the smoothed round-trip time in µs.
    pub srtt_us8: u32,
    /// `tcp_sock.total_retrans`.
    pub total_retrans: u32,
    /// UID of the socket's file, in the initial user namespace.
    pub uid: u32,
    /// One of the `KIND_` constants.
    pub kind: u8,
    /// One of [`timer`].
    pub timer: u8,
    /// `icsk_retransmits`; of a request `num_retrans`.
    pub timeouts: u8,
    /// `icsk_probes_out`.
    pub probes: u8,
    /// `icsk_rto`, the time of the next retransmission's timer.
    pub rto_ticks: u32,
    /// `icsk_user_timeout` in ms (TCP_USER_TIMEOUT); 0: none.
    pub user_timeout_ms: u32,
    /// `tcp_sock.keepalive_time` (TCP_KEEPIDLE); 0: as the namespace's sysctl says, or keepalive is off. So are the next two.
    pub keepalive_ticks: u32,
    /// `tcp_sock.keepalive_intvl` (TCP_KEEPINTVL).
    pub keepalive_interval_ticks: u32,
    /// `tcp_sock.keepalive_probes` (TCP_KEEPCNT).
    pub keepalive_probes: u8,
    /// `icsk_backoff`: how often the timeout was doubled.
    pub backoff: u8,
    /// 1: an upper-layer protocol has it (`icsk_ulp_ops`: MPTCP, kTLS); an MPTCP subflow has no file of its own.
    pub ulp: u8,
    /// Zero.
    pub pad: u8,
    /// `tcp_sock.snd_wnd`: the window that the peer advertised last, in bytes.
    pub send_window: u32,
    /// Bytes written and never sent (`write_seq` - `snd_nxt`).
    pub unsent: u32,
    /// `tcp_sock.rcv_wnd`: the window that this side advertised last, in bytes.
    pub receive_window: u32,
    /// Of a subflow of MPTCP, the inode number of its MPTCP socket, whose file processes hold; else 0.
    pub mptcp_inode: u64,
}

/// A descriptor of a process that refers to a TCP or MPTCP socket (`iter/task_file`). 56 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HolderEntry {
    /// Address of the socket; of an MPTCP socket, whose subflows are the TCP sockets, its inode number.
    pub sk: u64,
    /// Id of the process's cgroup in the v2 hierarchy.
    pub cgroup: u64,
    /// PID, in the initial PID namespace.
    pub pid: u32,
    /// PID in the process's own PID namespace.
    pub ns_pid: u32,
    /// The descriptor.
    pub fd: u32,
    /// Real UID, in the initial user namespace.
    pub uid: u32,
    /// Inode number of the socket's network namespace.
    pub netns: u32,
    /// When the process started, see [`Owner::start`].
    pub start: u32,
    /// Command name of the thread group's leader, NUL-padded.
    pub comm: [u8; 16],
}

/// What the iterator programs are to do. 8 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Request {
    /// States that are wanted, by [`crate::state::bit`] (requests as SYN_RECV); 0: all.
    pub states: u16,
    /// 1: holders are remembered as owners; 2: those of listeners are, where the programs know the listener.
    pub seeding: u8,
    /// 1: of other states those connections too that wait for a process: not accepted, held up by a closed window, or with
    /// data that nobody reads.
    pub ailing: u8,
    /// For so many sockets without an owner the holder that is seen is remembered as it; counted down.
    pub seeds: u32,
}

const _: () = assert!(size_of::<SocketEntry>() == 208);
const _: () = assert!(size_of::<HolderEntry>() == 56);
