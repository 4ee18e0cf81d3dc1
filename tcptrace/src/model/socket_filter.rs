//! Which sockets and events are selected: the user-space counterpart of the kernel's filter
//! ([`tcptrace_common::filter`]). All criteria must match; within one criterion, any of its values.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use tcptrace_common::record::{AF_INET, AF_INET6};

use crate::model::{
    event::{Event, EventKind},
    holders::Holder,
    socket::ListedSocket,
    state::{State, StateSet},
};

/// A selection of sockets. A criterion that is empty, 0 or `None` matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketFilter {
    /// States; empty for all.
    pub states: StateSet,
    /// [`AF_INET`] or [`AF_INET6`], by the addresses: IPv4 on an IPv6 socket is IPv4.
    pub family: u16,
    /// Port ranges, first and last port included.
    pub ports: Ends<(u16, u16)>,
    /// Address prefixes (CIDR).
    pub addresses: Ends<Prefix>,
    /// Inode number of the network namespace.
    pub netns: Option<u32>,
    /// PIDs of holders or of the owner.
    pub pids: Vec<u32>,
    /// Paths of cgroups in the v2 hierarchy: matches a holder in one of them or below.
    pub cgroups: Vec<String>,
}

/// Values for the two ends of a connection. Local, remote and either end are separate criteria.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends<T> {
    /// Values for the local end.
    pub local: Vec<T>,
    /// Values for the remote end.
    pub remote: Vec<T>,
    /// Values for either end.
    pub any: Vec<T>,
}

impl<T> Default for Ends<T> {
    fn default() -> Self {
        Self { local: Vec::new(), remote: Vec::new(), any: Vec::new() }
    }
}

impl<T> Ends<T> {
    fn pass(&self, local: SocketAddr, remote: SocketAddr, has: impl Fn(&T, SocketAddr) -> bool) -> bool {
        let one_of = |values: &[T], end: SocketAddr| values.iter().any(|value| has(value, end));
        (self.local.is_empty() || one_of(&self.local, local))
            && (self.remote.is_empty() || one_of(&self.remote, remote))
            && (self.any.is_empty() || one_of(&self.any, local) || one_of(&self.any, remote))
    }
}

impl Ends<(u16, u16)> {
    /// True if the ports match.
    #[must_use]
    pub fn match_ports(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        self.pass(local, remote, |&(first, last), end| (first..=last).contains(&end.port()))
    }
}

impl Ends<Prefix> {
    /// True if the addresses match.
    #[must_use]
    pub fn match_addresses(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        self.pass(local, remote, |prefix, end| prefix.contains(end.ip()))
    }
}

/// An address prefix; IPv4 is `::ffff:a.b.c.d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: u128,
    mask: u128,
}

impl Prefix {
    /// The first `bits` (at most 128) of `address`.
    #[must_use]
    pub const fn new(address: [u8; 16], bits: u32) -> Self {
        let mask = match u128::MAX.checked_shl(128u32.saturating_sub(bits)) {
            Some(mask) => mask,
            None => 0,
        };
        Self { address: u128::from_be_bytes(address) & mask, mask }
    }

    /// The address, IPv4 as `::ffff:a.b.c.d`, and the number of its bits that count, of 128.
    #[must_use]
    pub const fn parts(self) -> ([u8; 16], u32) {
        (self.address.to_be_bytes(), self.mask.leading_ones())
    }

    /// Networks that together hold all addresses but those in `excluded`; `None` if these are more than `most`, or if
    /// nothing is left.
    #[must_use]
    pub fn all_but(excluded: &[Self], most: usize) -> Option<Vec<Self>> {
        let mut left = vec![Self { address: 0, mask: 0 }];
        for out in excluded {
            let mut next = Vec::new();
            for network in left {
                if network.address & out.mask == out.address && network.mask >= out.mask {
                    continue; // wholly excluded
                }
                if out.address & network.mask != network.address {
                    next.push(network);
                    continue;
                }
                // The halves that do not hold the excluded network, from the largest to its neighbour.
                for bits in network.mask.leading_ones()..out.mask.leading_ones() {
                    let bit = 1 << (127 - bits);
                    let mask = network.mask | u128::MAX.checked_shl(127 - bits).unwrap_or(0);
                    next.push(Self { address: (out.address ^ bit) & mask, mask });
                }
            }
            if next.len() > most {
                return None;
            }
            left = next;
        }
        (!left.is_empty()).then_some(left)
    }

    /// True if the address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        bits & self.mask == self.address
    }
}

/// As users write it: IPv4 as such, and the length only if it is not the whole address.
impl fmt::Display for Prefix {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, bits) = self.parts();
        let address = IpAddr::from(bytes).to_canonical();
        match (address, bits) {
            (IpAddr::V4(v4), 128) => v4.fmt(to),
            (IpAddr::V4(v4), 96..) => write!(to, "{v4}/{}", bits - 96),
            (IpAddr::V6(v6), 128) => v6.fmt(to),
            _ => write!(to, "{}/{bits}", std::net::Ipv6Addr::from(bytes)),
        }
    }
}

impl SocketFilter {
    /// True if a socket with these holders matches. `cgroup_of` returns the path of the cgroup in the v2 hierarchy of a
    /// process, by its PID and the cgroup's id, and is called only if cgroups are a criterion.
    pub fn matches<Path: AsRef<str>>(
        &self,
        socket: &ListedSocket,
        holders: &[Holder],
        mut cgroup_of: impl FnMut(u32, Option<u64>) -> Option<Path>,
    ) -> bool {
        let owner = socket.owner.iter().map(|owner| (owner.pid, Some(owner.cgroup)));
        let mut processes = holders.iter().map(|holder| (holder.pid, holder.cgroup)).chain(owner);
        let mut is_below = |(pid, cgroup)| cgroup_of(pid, cgroup).is_some_and(|path| self.has_cgroup(path.as_ref()));
        (self.states.is_empty() || self.states.contains(socket.state))
            && self.netns.is_none_or(|netns| netns == socket.netns)
            && self.ends_match(socket.local, socket.remote)
            && (self.pids.is_empty() || self.has_pid(socket, holders))
            && (self.cgroups.is_empty() || processes.any(&mut is_below))
    }

    /// True if the event is about a selected state and a selected socket. A transition is about both of its states.
    /// `cgroup_of` returns the path of the cgroup with an id.
    pub fn matches_event<Path: AsRef<str>>(&self, event: &Event, cgroup_of: impl FnMut(u64) -> Option<Path>) -> bool {
        let socket = &event.socket;
        (self.states.is_empty() || concerns(event, self.states))
            && self.netns.is_none_or(|netns| Some(netns) == socket.netns)
            && self.ends_match(socket.local, socket.remote)
            && self.owner_matches(event, cgroup_of)
    }

    /// True if the event has to wait until its local port is bound: `connect` enters SYN_SENT, and `listen` LISTEN,
    /// before that (`net/ipv4/tcp_ipv4.c`, `tcp_v4_connect`). Counterpart of `waits_for_port` in the BPF programs.
    #[must_use]
    pub fn waits_for_port(&self, event: &Event) -> bool {
        let remote = event.socket.remote.port();
        let has_remote = || self.ports.any.iter().any(|&(first, last)| (first..=last).contains(&remote));
        begins_without_port(event) && (!self.ports.local.is_empty() || !self.ports.any.is_empty() && !has_remote())
    }

    pub(crate) fn ends_match(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        (self.family == 0 || self.family == shown_family(local, remote))
            && self.ports.match_ports(local, remote)
            && self.addresses.match_addresses(local, remote)
    }

    /// True if the owner or any candidate is selected. Selecting a listening process selects everything that its
    /// service does. Used for owners that the kernel's filter did not know.
    pub fn owner_matches<Path: AsRef<str>>(
        &self,
        event: &Event,
        mut cgroup_of: impl FnMut(u64) -> Option<Path>,
    ) -> bool {
        let mut is_wanted = |pid, cgroup| self.process_matches(pid, Some(cgroup), &mut cgroup_of);
        match &event.owner {
            Some(owner) => {
                let candidates = event.candidates.as_deref().unwrap_or_default();
                is_wanted(owner.pid, owner.cgroup)
                    || event.listener.is_some_and(|(pid, _)| self.pids.contains(&pid) && is_wanted(pid, owner.cgroup))
                    || candidates.iter().any(|one| is_wanted(one.pid, one.cgroup))
            }
            None => self.pids.is_empty() && self.cgroups.is_empty(),
        }
    }

    /// True if this process, in the cgroup with this id, is selected.
    pub fn process_matches<Path: AsRef<str>>(
        &self,
        pid: u32,
        cgroup: Option<u64>,
        cgroup_of: impl FnOnce(u64) -> Option<Path>,
    ) -> bool {
        (self.pids.is_empty() || self.pids.contains(&pid))
            && (self.cgroups.is_empty()
                || cgroup.and_then(cgroup_of).is_some_and(|path| self.has_cgroup(path.as_ref())))
    }

    fn has_pid(&self, socket: &ListedSocket, holders: &[Holder]) -> bool {
        let owner = socket.owner.iter().map(|owner| owner.pid);
        holders.iter().map(|holder| holder.pid).chain(owner).any(|pid| self.pids.contains(&pid))
    }

    pub(crate) fn has_cgroup(&self, path: &str) -> bool {
        self.cgroups.iter().any(|cgroup| {
            let below = path.strip_prefix(cgroup.trim_end_matches('/'));
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
    }
}

/// True for the first event of a socket whose local port is not bound yet.
pub(crate) fn begins_without_port(event: &Event) -> bool {
    let begins = matches!(event.what, EventKind::Transition(t) if matches!(t.new, State::SynSent | State::Listen));
    begins && event.socket.local.port() == 0
}

/// Counterpart of `Tuple::shown_family` in the BPF programs.
const fn shown_family(local: SocketAddr, remote: SocketAddr) -> u16 {
    if local.is_ipv4() || remote.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// True if the event is about one of these states.
#[must_use]
pub fn concerns(event: &Event, states: StateSet) -> bool {
    match event.what {
        EventKind::Transition(transition) => states.contains(transition.old) || states.contains(transition.new),
        _ => states.contains(event.socket.state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        event::{Command, Owner, OwnerSource},
        socket::Kind,
        state::State,
    };

    fn socket(local: &str, remote: &str) -> ListedSocket {
        ListedSocket {
            handle: 1,
            ..ListedSocket::new(Kind::Full, State::Established, 7, local.parse().unwrap(), remote.parse().unwrap())
        }
    }

    fn holder(pid: u32) -> Holder {
        let command = Command::new([0; 16]);
        Holder { handle: 1, pid, ns_pid: pid, fd: 3, uid: 0, cgroup: None, start: None, command }
    }

    fn without_cgroups(_: u32, _: Option<u64>) -> Option<String> {
        panic!("nobody wants cgroups");
    }

    fn selects(selection: &SocketFilter, socket: &ListedSocket) -> bool {
        selection.matches(socket, &[], without_cgroups)
    }

    #[test]
    fn nothing_chosen_lets_all_pass() {
        for (local, remote) in [("0.0.0.0:80", "0.0.0.0:0"), ("[::1]:80", "[::1]:9"), ("10.0.0.1:80", "10.0.0.2:9")] {
            assert!(selects(&SocketFilter::default(), &socket(local, remote)));
        }
    }

    #[test]
    fn states_and_namespaces() {
        let here = socket("10.0.0.1:80", "10.0.0.2:9");
        let states =
            |state| SocketFilter { states: [state, State::Listen].into_iter().collect(), ..SocketFilter::default() };
        assert!(selects(&states(State::Established), &here));
        assert!(!selects(&states(State::CloseWait), &here));
        let netns = |inode| SocketFilter { netns: Some(inode), ..SocketFilter::default() };
        assert!(selects(&netns(7), &here));
        assert!(!selects(&netns(8), &here));
    }

    #[test]
    fn the_family_is_the_one_that_addresses_show() {
        let family = |family| SocketFilter { family, ..SocketFilter::default() };
        for (ipv6, local, remote, want) in [
            (false, "10.0.0.1:1", "10.0.0.2:2", AF_INET),
            (true, "10.0.0.1:1", "10.0.0.2:2", AF_INET),
            (true, "[::]:1", "10.0.0.2:2", AF_INET),
            (true, "[::]:1", "[::]:0", AF_INET6),
            (true, "[fe80::1]:1", "[fe80::2]:2", AF_INET6),
        ] {
            let socket = ListedSocket { ipv6, ..socket(local, remote) };
            assert_eq!(selects(&family(AF_INET), &socket), want == AF_INET, "{local} {remote}");
            assert_eq!(selects(&family(AF_INET6), &socket), want == AF_INET6, "{local} {remote}");
        }
    }

    #[test]
    fn ports_at_each_end() {
        let here = socket("10.0.0.1:8050", "10.0.0.2:443");
        let ranges = |first, last| vec![(1, 1), (first, last)];
        for (first, last, local, remote) in
            [(8000, 8099, true, false), (8050, 8050, true, false), (8051, 9000, false, false), (1, 443, false, true)]
        {
            let at = |ports| selects(&SocketFilter { ports, ..SocketFilter::default() }, &here);
            assert_eq!(at(Ends { local: ranges(first, last), ..Ends::default() }), local);
            assert_eq!(at(Ends { remote: ranges(first, last), ..Ends::default() }), remote);
            assert_eq!(at(Ends { any: ranges(first, last), ..Ends::default() }), local || remote);
        }
        let both = Ends { local: ranges(8050, 8050), remote: ranges(80, 80), any: Vec::new() };
        assert!(!selects(&SocketFilter { ports: both, ..SocketFilter::default() }, &here), "all parts must match");
    }

    #[test]
    fn addresses_at_each_end() {
        let prefix = |address: &str, bits| match address.parse().unwrap() {
            IpAddr::V4(v4) => Prefix::new(v4.to_ipv6_mapped().octets(), bits + 96),
            IpAddr::V6(v6) => Prefix::new(v6.octets(), bits),
        };
        let v4 = socket("10.1.2.3:80", "192.0.2.9:9");
        let v6 = ListedSocket { ipv6: true, ..socket("[2001:db8::1]:80", "[fe80::9]:9") };
        for (address, bits, [local4, remote4, local6, remote6]) in [
            ("10.0.0.0", 8, [true, false, false, false]),
            ("10.255.255.255", 8, [true, false, false, false]),
            ("192.0.2.9", 32, [false, true, false, false]),
            ("192.0.2.8", 32, [false; 4]),
            ("0.0.0.0", 0, [true, true, false, false]),
            ("::", 0, [true; 4]),
            ("2001:db8::", 32, [false, false, true, false]),
            ("fe80::9", 128, [false, false, false, true]),
            ("fe80::8", 128, [false; 4]),
        ] {
            let list = vec![prefix("203.0.113.1", 32), prefix(address, bits)];
            for (socket, local, remote) in [(v4, local4, remote4), (v6, local6, remote6)] {
                let at = |addresses| selects(&SocketFilter { addresses, ..SocketFilter::default() }, &socket);
                assert_eq!(at(Ends { local: list.clone(), ..Ends::default() }), local, "{address}/{bits}");
                assert_eq!(at(Ends { remote: list.clone(), ..Ends::default() }), remote, "{address}/{bits}");
                assert_eq!(at(Ends { any: list.clone(), ..Ends::default() }), local || remote, "{address}/{bits}");
            }
        }
    }

    #[test]
    fn holders_and_owners_by_pid() {
        let selection = SocketFilter { pids: vec![5, 6], ..SocketFilter::default() };
        let mut socket = socket("10.0.0.1:1", "10.0.0.2:2");
        let matches = |socket: &ListedSocket, pids: &[u32]| {
            let holders: Vec<_> = pids.iter().map(|pid| holder(*pid)).collect();
            selection.matches(socket, &holders, without_cgroups)
        };
        assert!(matches(&socket, &[4, 6]));
        assert!(!matches(&socket, &[4]));
        assert!(!matches(&socket, &[]));
        let command = Command::new([0; 16]);
        socket.owner = Some(Owner { pid: 5, uid: 0, cgroup: 0, start: None, command, source: OwnerSource::Accept });
        assert!(matches(&socket, &[4]));
    }

    #[test]
    fn holders_by_cgroup() {
        let socket = socket("10.0.0.1:1", "10.0.0.2:2");
        let matches = |wanted: &[&str], path: Option<&str>| {
            let selection = SocketFilter {
                cgroups: wanted.iter().map(|path| (*path).to_owned()).collect(),
                ..SocketFilter::default()
            };
            selection.matches(&socket, &[holder(1)], |_, _| path)
        };
        assert!(matches(&["/a", "/system.slice"], Some("/system.slice")));
        assert!(matches(&["/system.slice"], Some("/system.slice/nginx.service")));
        assert!(!matches(&["/system.slice"], Some("/system.slices")));
        assert!(!matches(&["/system.slice/nginx.service"], Some("/system.slice")));
        assert!(matches(&["/"], Some("/")) && matches(&["/"], Some("/a/b")));
        assert!(!matches(&["/"], None), "what is not known is not there");
    }
}
