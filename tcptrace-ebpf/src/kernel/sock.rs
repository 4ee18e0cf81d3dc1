//! Reads facts from the kernel's sockets.

use aya_ebpf::helpers::{
    bpf_get_socket_cookie,
    generated::{
        bpf_jiffies64, bpf_probe_read_kernel, bpf_skc_to_tcp_request_sock, bpf_skc_to_tcp_sock,
        bpf_skc_to_tcp_timewait_sock,
    },
};
use core::{ffi::c_void, mem::MaybeUninit};
use tcptrace_common::{
    config::kernel,
    record::{AF_INET, AF_INET6, Socket, socket_flag},
};

use crate::{
    config::{Member, Word, config, member},
    mem, tracked,
};

/// `enum sock_flags` of `include/net/sock.h`: numbers of bits in `sk_flags`.
const SOCK_DEAD: u64 = 0;
const SOCK_DONE: u64 = 1;
const SOCK_KEEPOPEN: u64 = 3;
const SOCK_LINGER: u64 = 4;
/// `RCV_SHUTDOWN` and `SEND_SHUTDOWN` of `include/net/sock.h`.
const RCV_SHUTDOWN: u8 = 1;
const SEND_SHUTDOWN: u8 = 2;

/// As `sk_protocol` has it.
pub(crate) const IPPROTO_TCP: u16 = 6;
/// The same.
pub(crate) const IPPROTO_MPTCP: u16 = 262;

/// `TCP_SYNCOOKIE_VALID` of `include/net/tcp.h`, in s.
const SYNCOOKIE_VALID_S: u32 = 120;

/// The kernel's `jiffies`.
#[inline(always)]
pub(crate) fn jiffies() -> u64 {
    // SAFETY: takes nothing.
    unsafe { bpf_jiffies64() }
}

/// A pointer to a kernel struct that the verifier knows by its BTF type. A load through it that turns out to be
/// wrong gives zero, by the kernel's exception table.
#[derive(Clone, Copy)]
pub(crate) struct Kernel(*const u8);

impl Kernel {
    /// The address, for [`read`].
    #[inline(always)]
    pub(crate) fn address(self) -> u64 {
        self.0 as u64
    }

    /// For helpers.
    #[inline(always)]
    pub(crate) fn pointer(self) -> *const c_void {
        self.0.cast()
    }

    #[inline(always)]
    pub(crate) fn new(pointer: *const c_void) -> Self {
        Self(pointer.cast())
    }

    /// The member.
    #[inline(always)]
    pub(crate) fn load<T: Word, const NUMBER: u32>(self, _: Member<NUMBER>) -> T {
        // SAFETY: the verifier checks the load against the BTF of the struct and refuses the program otherwise.
        unsafe { T::load::<NUMBER, 0>(self.0) }
    }

    /// The 16 bytes of the member.
    #[inline(always)]
    pub(crate) fn load_pair<const NUMBER: u32>(self, _: Member<NUMBER>) -> [u64; 2] {
        // SAFETY: as above.
        unsafe { [u64::load::<NUMBER, 0>(self.0), u64::load::<NUMBER, 1>(self.0)] }
    }

    /// What is at an offset that is no member's.
    #[inline(always)]
    pub(crate) fn load_at<T: Copy>(self, offset: u32) -> T {
        // SAFETY: as above.
        unsafe { self.0.add(offset as usize).cast::<T>().read_volatile() }
    }

    /// What the member points to.
    #[inline(always)]
    pub(crate) fn follow<const NUMBER: u32>(self, member: Member<NUMBER>) -> Self {
        Self(self.load::<u64, NUMBER>(member) as *const u8)
    }
}

/// Addresses and ports of a connection, as [`Socket`] holds them, addresses as two native words each.
#[derive(Clone, Copy)]
pub(crate) struct Tuple {
    pub(crate) family: u16,
    pub(crate) local: [u64; 2],
    pub(crate) remote: [u64; 2],
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    /// Inode number of the network namespace.
    pub(crate) netns: u32,
}

/// `::ffff:a.b.c.d` of an IPv4 address in network order, as two words of a little-endian machine.
#[inline(always)]
pub(crate) const fn mapped(address: u32) -> [u64; 2] {
    [0, (address as u64) << 32 | 0xffff_0000]
}

/// The part that full sockets, mini-sockets and request sockets share (`struct sock_common`).
#[derive(Clone, Copy)]
pub(crate) struct SockCommon(pub(crate) Kernel);

impl SockCommon {
    #[inline(always)]
    pub(crate) fn state(self) -> u8 {
        self.0.load(member!(sock_common_skc_state))
    }

    /// Of a full socket: its protocol.
    #[inline(always)]
    pub(crate) fn protocol(self) -> u16 {
        self.0.load(member!(sock_sk_protocol))
    }

    /// Of a full socket: its error, a positive errno.
    #[inline(always)]
    pub(crate) fn err(self) -> i32 {
        self.0.load(member!(sock_sk_err))
    }

    /// Of a full socket: does the current task hold its lock?
    #[inline(always)]
    pub(crate) fn owned(self) -> bool {
        self.lock_owned() != 0
    }

    #[inline(always)]
    fn lock_owned(self) -> u32 {
        self.0.load(member!(sock_sk_lock_owned))
    }

    /// Of a full socket: are both directions shut down, as `__tcp_close` does first of all?
    #[inline(always)]
    pub(crate) fn is_shut_down(self) -> bool {
        self.0.load::<u8, _>(member!(sock_sk_shutdown)) & (RCV_SHUTDOWN | SEND_SHUTDOWN) == RCV_SHUTDOWN | SEND_SHUTDOWN
    }

    /// SO_REUSEPORT is set; a child has it from its listener.
    #[inline(always)]
    pub(crate) fn shares_port(self) -> bool {
        let bit = config!(layout.sock_common_skc_reuseport);
        self.0.load_at::<u8>(bit / 8) >> (bit % 8) & 1 != 0
    }

    /// The cookie of `sk`, the same as `self`: generated where the kernel lets us, else 0 if there is none yet.
    #[inline(always)]
    pub(crate) fn cookie(self, sk: *const c_void) -> u64 {
        let there: u64 = self.0.load(member!(sock_common_skc_cookie));
        if there == 0 && config!(kernel) & kernel::SOCKET_COOKIE != 0 {
            // SAFETY: the helper takes any sock_common that the verifier knows as such.
            return unsafe { bpf_get_socket_cookie(sk.cast_mut()) };
        }
        there
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
                mapped(self.0.load(member!(sock_common_skc_rcv_saddr))),
                mapped(self.0.load(member!(sock_common_skc_daddr))),
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

/// Inode number of the network namespace of what begins with a `sock_common`. Not by a pointer that the verifier trusts:
/// it would look for names among all types of the kernel, on each path that comes here.
#[inline(always)]
pub(crate) fn netns_of(sock_common: Kernel) -> u32 {
    sock_common.follow(member!(sock_common_skc_net)).load(member!(net_ns_inum))
}

/// A full TCP socket.
#[derive(Clone, Copy)]
pub(crate) struct TcpSock {
    /// As the kernel's `struct sock`. A tracepoint's own argument is a pointer that the verifier trusts from 6.2 on:
    /// loads through it are one instruction each, where others are guarded by ten.
    pub(crate) common: SockCommon,
    /// As its `struct tcp_sock`, for what only that has.
    tcp: Kernel,
    /// The address of the socket: its name while it lives.
    pub(crate) key: u64,
}

impl TcpSock {
    /// `None` where `sk` is no full TCP socket: of another protocol, a mini-socket or a request socket.
    #[inline(always)]
    pub(crate) fn new(sk: *const c_void) -> Option<Self> {
        // SAFETY: the helper takes any sock_common that the verifier knows as such.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut()) };
        if tcp.is_null() {
            return None;
        }
        Some(Self { common: SockCommon(Kernel::new(sk)), tcp: Kernel::new(tcp.cast_const().cast()), key: sk as u64 })
    }

    /// The same by what [`TcpSock::tcp_pointer`] gave for it.
    #[inline(always)]
    pub(crate) fn of_both(sk: *const c_void, tcp: *const c_void) -> Self {
        Self { common: SockCommon(Kernel::new(sk)), tcp: Kernel::new(tcp), key: sk as u64 }
    }

    /// It as the kernel's `struct tcp_sock`.
    #[inline(always)]
    pub(crate) fn tcp_pointer(self) -> *const c_void {
        self.tcp.pointer()
    }

    /// The same where `sk` is known as a `sock_common` only.
    #[inline(always)]
    pub(crate) fn of_common(sk: *const c_void) -> Option<Self> {
        Self::new(sk).map(|sock| Self { common: SockCommon(sock.tcp), ..sock })
    }

    /// Where its memo is.
    #[inline(always)]
    pub(crate) fn memo_key(self) -> tracked::Key {
        tracked::Key::of(self.key)
    }

    /// The member of the `tcp_sock`.
    #[inline(always)]
    pub(crate) fn load<T: Word, const NUMBER: u32>(self, member: Member<NUMBER>) -> T {
        self.tcp.load(member)
    }

    /// The 4 bytes at an offset of the `tcp_sock`.
    #[inline(always)]
    pub(crate) fn load_at(self, offset: u32) -> u32 {
        self.tcp.load_at(offset)
    }

    /// The member of the `sock`.
    #[inline(always)]
    pub(crate) fn load_sock<T: Word, const NUMBER: u32>(self, member: Member<NUMBER>) -> T {
        self.common.0.load(member)
    }

    /// As of the socket; the local port also after the socket gave it back (`skc_num` is 0 at most →CLOSE).
    #[inline(always)]
    pub(crate) fn tuple(self) -> Tuple {
        self.tuple_in(self.netns())
    }

    /// The same where the network namespace is known.
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

    /// The socket's cookie, generated where the kernel lets us.
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

    /// Bytes received and not read, as `tcp_inq` of `include/net/tcp.h` counts them (urgent data as any other), and bytes
    /// written that the peer has not acknowledged, its own FIN counted as one. What is counted are sequence numbers, which
    /// last when the queues are purged. They tell nothing before a connection is established.
    #[inline(always)]
    pub(crate) fn queues(self, flags: u16) -> (u32, u32) {
        let unread = self.positive_difference(member!(tcp_sock_rcv_nxt), member!(tcp_sock_copied_seq));
        let fin = u32::from(unread != 0 && flags & socket_flag::DONE != 0);
        (unread - fin, self.unacked())
    }

    /// What was written and the peer has not acknowledged, a SYN and a FIN counted as one each.
    #[inline(always)]
    pub(crate) fn unacked(self) -> u32 {
        self.positive_difference(member!(tcp_sock_write_seq), member!(tcp_sock_snd_una))
    }

    /// The difference of two sequence numbers; 0 where the first is behind.
    #[inline(always)]
    pub(crate) fn positive_difference<const A: u32, const B: u32>(self, ahead: Member<A>, behind: Member<B>) -> u32 {
        let difference = self.load::<u32, A>(ahead).wrapping_sub(self.load(behind));
        difference & !((difference as i32 >> 31) as u32)
    }

    /// Has some process got it?
    #[inline(always)]
    pub(crate) fn is_attached(self) -> bool {
        self.load::<u64, _>(member!(sock_sk_socket)) != 0
    }

    /// Where the memo of the listener is that this child was just cloned from (`net/ipv4/inet_connection_sock.c`,
    /// `inet_csk_clone_lock`): the head of its list of sent segments, which is empty and so points to itself, is a copy
    /// until `tcp_create_openreq_child` makes it the child's own.
    #[inline(always)]
    pub(crate) fn listener_key(self) -> tracked::Key {
        let queue: u64 = self.load(member!(tcp_sock_tsorted_sent_queue));
        tracked::Key::of(queue).before(config!(layout.tcp_sock_tsorted_sent_queue))
    }

    /// Of a subflow of MPTCP, the inode number of its MPTCP socket (`net/mptcp/subflow.c`, `mptcp_subflow_create_socket`,
    /// gives it to the subflow's own); else 0.
    #[inline(always)]
    pub(crate) fn mptcp_inode(self) -> u64 {
        let ulp: u64 = self.load(member!(inet_connection_sock_icsk_ulp_ops));
        if ulp == 0 || read(ulp + u64::from(config!(layout.tcp_ulp_ops_name))) != Some(*b"mptc") {
            return 0;
        }
        inode_of(self.load(member!(sock_sk_socket))).unwrap_or(0)
    }

    /// Did the listener that this child was just cloned from send SYN cookies within the time that they are valid for?
    /// Until the child gets a value of its own it has its listener's `rx_opt.ts_recent_stamp`, where that keeps the
    /// jiffies of the last overflow of its queue (`include/net/tcp.h`, `tcp_synq_overflow`; listeners with SO_REUSEPORT
    /// keep it elsewhere).
    #[inline(always)]
    pub(crate) fn comes_after_syn_cookies(self) -> bool {
        let overflow: u32 = self.load(member!(tcp_sock_rx_opt_ts_recent_stamp));
        overflow != 0 && (jiffies() as u32).wrapping_sub(overflow) < SYNCOOKIE_VALID_S * config!(hz)
    }

    /// [`socket_flag::LINGER2_NEGATIVE`], which is of interest at the end alone.
    #[inline(always)]
    pub(crate) fn linger2_flag(self) -> u16 {
        let sign = self.load::<u32, _>(member!(tcp_sock_linger2)) >> 31;
        sign as u16 * socket_flag::LINGER2_NEGATIVE
    }

    /// Bits of [`socket_flag`].
    #[inline(always)]
    pub(crate) fn flags(self) -> u16 {
        let sk_flags: u64 = self.load_sock(member!(sock_common_skc_flags));
        let shutdown: u8 = self.load_sock(member!(sock_sk_shutdown));
        let (shutdown, lingertime) = (u64::from(shutdown), self.load_sock::<u32, _>(member!(sock_sk_lingertime)));
        // Without branches: the verifier would follow each combination.
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
    read(socket + u64::from(config!(layout.socket_alloc_vfs_inode)) + u64::from(config!(layout.inode_i_ino)))
}

/// A mini-socket (`struct tcp_timewait_sock`); `None` where `sk` is something else.
#[inline(always)]
pub(crate) fn mini(sk: *const c_void) -> Option<Kernel> {
    // SAFETY: the helper takes any sock_common that the verifier knows as such.
    let mini = unsafe { bpf_skc_to_tcp_timewait_sock(sk.cast_mut()) };
    if mini.is_null() { None } else { Some(Kernel::new(mini.cast_const().cast())) }
}

/// A request socket (`struct tcp_request_sock`); `None` where `sk` is something else.
#[inline(always)]
pub(crate) fn request(sk: *const c_void) -> Option<Kernel> {
    // SAFETY: the helper takes any sock_common that the verifier knows as such.
    let request = unsafe { bpf_skc_to_tcp_request_sock(sk.cast_mut()) };
    if request.is_null() { None } else { Some(Kernel::new(request.cast_const().cast())) }
}

/// The state that a mini-socket stands for: TIME_WAIT or FIN_WAIT2.
#[inline(always)]
pub(crate) fn mini_state(sk: *const c_void) -> Option<u8> {
    mini(sk).map(|mini| mini.load(member!(inet_timewait_sock_tw_substate)))
}

impl Tuple {
    /// The family that the addresses show: [`AF_INET`] for an IPv6 socket that talks IPv4.
    #[inline(always)]
    pub(crate) fn shown_family(&self) -> u16 {
        let is_mapped = |[high, low]: [u64; 2]| high == 0 && low as u32 == 0xffff_0000;
        if is_mapped(self.remote) || is_mapped(self.local) { AF_INET } else { self.family }
    }

    /// Writes all of `to`.
    #[inline(always)]
    pub(crate) fn write(&self, to: *mut Socket, state: u8, flags: u16) {
        // SAFETY: `to` points into a reserved record, is aligned to 4 bytes, and the words cover the two addresses.
        unsafe {
            let local = (&raw mut (*to).local).cast::<u64>();
            local.write_unaligned(self.local[0]);
            local.add(1).write_unaligned(self.local[1]);
            let remote = (&raw mut (*to).remote).cast::<u64>();
            remote.write_unaligned(self.remote[0]);
            remote.add(1).write_unaligned(self.remote[1]);
            (*to).local_port = self.local_port;
            (*to).remote_port = self.remote_port;
            (*to).family = self.family;
            (*to).flags = flags;
            (*to).netns = self.netns;
            // The state and its padding as one word, see `mem`.
            (&raw mut (*to).state).cast::<u32>().write(u32::from(state).to_le());
        }
    }

    /// The connection that a received packet belongs to, seen from this host: the packet's destination is local.
    #[inline(always)]
    pub(crate) fn of_received_packet(skb: Kernel) -> Option<Self> {
        let head: u64 = skb.load(member!(sk_buff_head));
        let network: u16 = skb.load(member!(sk_buff_network_header));
        let transport: u16 = skb.load(member!(sk_buff_transport_header));
        // Version, then the parts of the header that hold the addresses: read as words, IPv4's end before IPv6's.
        let first: u8 = read(head + u64::from(network))?;
        let (family, remote, local) = match first >> 4 {
            4 => {
                let [source, destination]: [u32; 2] = read(head + u64::from(network) + 12)?;
                (AF_INET, mapped(source), mapped(destination))
            }
            6 => {
                let [a, b, c, d]: [u64; 4] = read(head + u64::from(network) + 8)?;
                (AF_INET6, [a, b], [c, d])
            }
            _ => return None,
        };
        let [remote_port, local_port]: [u16; 2] = read(head + u64::from(transport))?;
        Some(Self {
            family,
            local,
            remote,
            local_port: u16::from_be(local_port),
            remote_port: u16::from_be(remote_port),
            // Given by the device that the packet came in by (`struct net_device`).
            netns: netns_of_device(skb.address()).unwrap_or(0),
        })
    }
}

/// The network namespace of the device of a packet.
#[inline(always)]
fn netns_of_device(skb: u64) -> Option<u32> {
    let device: u64 = read(skb + u64::from(config!(layout.sk_buff_dev)))?;
    let net: u64 = read(device + u64::from(config!(layout.net_device_nd_net)))?;
    read(net + u64::from(config!(layout.net_ns_inum)))
}

/// A `T` from kernel memory that the verifier does not know.
#[inline(always)]
pub(crate) fn read<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: writes within `value`, all of it; the helper refuses addresses that cannot be read. `T` is made of integers.
    unsafe {
        let failed = bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, address as *const c_void);
        if failed == 0 { Some(value.assume_init()) } else { None }
    }
}
