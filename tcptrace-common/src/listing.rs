//! The entries that the iterator programs write. All entries of one iterator have the same size.

use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::{Owner, Socket};

/// [`SocketEntry::kind`] of a `struct tcp_sock`.
pub const KIND_FULL: u8 = 0;
/// [`SocketEntry::kind`] of a `struct tcp_timewait_sock`.
pub const KIND_MINI: u8 = 1;
/// [`SocketEntry::kind`] of a `struct tcp_request_sock`.
pub const KIND_REQUEST: u8 = 2;

/// Values of [`SocketEntry::timer`], numbered like `idiag_timer` (`net/ipv4/inet_diag.c`, `inet_sk_diag_fill`).
pub mod timer {
    /// No timer runs.
    pub const NONE: u8 = 0;
    /// The retransmission timer.
    pub const RETRANSMIT: u8 = 1;
    /// The keepalive timer, which also ends FIN_WAIT2.
    pub const KEEPALIVE: u8 = 2;
    /// The TIME_WAIT timer.
    pub const TIME_WAIT: u8 = 3;
    /// The zero window probe timer.
    pub const PROBE: u8 = 4;
}

/// A socket, written by `iter/tcp`. 208 bytes. Ticks are jiffies.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SocketEntry {
    /// Address of the `struct sock`.
    pub sk: u64,
    /// Socket cookie; 0 if the kernel gave none.
    pub cookie: u64,
    /// Addresses and state. The state of a mini-socket is its substate; only full sockets have flags.
    pub socket: Socket,
    /// The owner, if the programs know it.
    pub owner: Owner,
    /// CLOCK_MONOTONIC when the socket entered its state, in ns; 0 if not seen.
    pub entered_ns: u64,
    /// `tcp_sock.bytes_acked`.
    pub bytes_acked: u64,
    /// `tcp_sock.bytes_received`.
    pub bytes_received: u64,
    /// Ticks until the timer expires; negative if it is overdue.
    pub timer_ticks: i32,
    /// Ticks since `tcp_sock.lsndtime`.
    pub last_sent_ticks: u32,
    /// Ticks since `icsk_ack.lrcvtime`.
    pub last_received_ticks: u32,
    /// Ticks since `tcp_sock.rcv_tstamp`.
    pub last_ack_ticks: u32,
    /// Unread bytes; for a listener, `sk_ack_backlog`.
    pub receive_queue: u32,
    /// Unacknowledged bytes; for a listener, `sk_max_ack_backlog`.
    pub send_queue: u32,
    /// `tcp_sock.srtt_us`: 8 times the smoothed round-trip time in µs.
    pub srtt_us8: u32,
    /// `tcp_sock.total_retrans`.
    pub total_retrans: u32,
    /// UID of the socket's file in the initial user namespace.
    pub uid: u32,
    /// [`KIND_FULL`], [`KIND_MINI`] or [`KIND_REQUEST`].
    pub kind: u8,
    /// The timer that runs, one of [`timer`].
    pub timer: u8,
    /// `icsk_retransmits`; for a request, `num_retrans`.
    pub timeouts: u8,
    /// `icsk_probes_out`.
    pub probes: u8,
    /// `icsk_rto`: the next retransmission timeout.
    pub rto_ticks: u32,
    /// `icsk_user_timeout` (TCP_USER_TIMEOUT) in ms; 0: none.
    pub user_timeout_ms: u32,
    /// `tcp_sock.keepalive_time` (TCP_KEEPIDLE). This and the next two are 0 if the namespace's sysctl applies or keepalive
    /// is off.
    pub keepalive_ticks: u32,
    /// `tcp_sock.keepalive_intvl` (TCP_KEEPINTVL).
    pub keepalive_interval_ticks: u32,
    /// `tcp_sock.keepalive_probes` (TCP_KEEPCNT).
    pub keepalive_probes: u8,
    /// `icsk_backoff`: how many times the timeout was doubled.
    pub backoff: u8,
    /// 1 if the socket has an upper-layer protocol (`icsk_ulp_ops`: MPTCP, kTLS). An MPTCP subflow has no file of its own.
    pub ulp: u8,
    /// Explicit padding, always zero.
    pub pad: u8,
    /// `tcp_sock.snd_wnd`: the window last advertised by the peer, in bytes.
    pub send_window: u32,
    /// Bytes written but never sent (`write_seq` - `snd_nxt`).
    pub unsent: u32,
    /// `tcp_sock.rcv_wnd`: the window last advertised by this host, in bytes.
    pub receive_window: u32,
    /// For an MPTCP subflow, the inode number of the MPTCP socket, whose file processes hold; else 0.
    pub mptcp_inode: u64,
}

/// A file descriptor of a TCP or MPTCP socket, written by `iter/task_file`. 56 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HolderEntry {
    /// Address of the `struct sock`; for an MPTCP socket, whose subflows are the TCP sockets, its inode number.
    pub sk: u64,
    /// Id of the process's cgroup in the v2 hierarchy.
    pub cgroup: u64,
    /// PID in the initial PID namespace.
    pub pid: u32,
    /// PID in the process's own PID namespace.
    pub ns_pid: u32,
    /// The file descriptor itself.
    pub fd: u32,
    /// Real UID in the initial user namespace.
    pub uid: u32,
    /// Inode number of the socket's network namespace.
    pub netns: u32,
    /// Start time of the process, as in [`Owner::start_ticks`].
    pub start_ticks: u32,
    /// Command name of the thread group's leader, NUL-padded.
    pub comm: [u8; 16],
}

/// Values of [`ListingRequest::seeding`].
pub mod seeding {
    /// Remember no holder.
    pub const OFF: u8 = 0;
    /// Remember holders as owners.
    pub const ALL: u8 = 1;
    /// Remember holders of listeners that the programs already track.
    pub const LISTENERS: u8 = 2;
}

/// User space's request to the iterator programs. 8 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ListingRequest {
    /// Wanted states by [`crate::state::bit`], a request socket as SYN_RECV; 0: all.
    pub states: u16,
    /// Whether to remember holders as owners, see [`seeding`].
    pub seeding: u8,
    /// 1: also list connections of other states that wait for a process: those not accepted, blocked by a zero window, or
    /// with data that nobody reads.
    pub stuck: u8,
    /// With [`seeding::ALL`], the number of sockets that may still be tracked for their holder; counts down.
    pub seeds_left: u32,
}

const _: () = assert!(size_of::<SocketEntry>() == 208);
const _: () = assert!(size_of::<HolderEntry>() == 56);
