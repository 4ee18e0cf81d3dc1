//! The rows of `tcptrace sockets`: the wanted sockets of a listing in order, with their holders and half-open requests, and
//! counts of them by state, process and so on.

use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    cli::args::GroupBy,
    commands::lookup::HolderLookup,
    model::{
        age::Age,
        event::Command,
        filter::{ConnectionFacts, Filter, ListedSubject},
        holders::Holder,
        keyed::{KeyedMap, KeyedSet},
        snapshot::Snapshot,
        socket::{Kind, ListedSocket, listener_addresses},
        state::State,
    },
    sys::cgroup::names::CgroupNames,
};

/// Cgroups of processes, looked up on demand and cached.
pub struct Cgroups {
    find: Box<dyn Fn(u32) -> Option<String> + Send + Sync>,
    by_pid: Mutex<KeyedMap<u32, Option<Arc<CgroupNames>>>>,
}

impl Cgroups {
    /// `find` returns the path of a process's cgroup.
    #[must_use]
    pub fn new(find: Box<dyn Fn(u32) -> Option<String> + Send + Sync>) -> Self {
        Self { find, by_pid: Mutex::default() }
    }

    /// The cgroup of a process; `None` if not known.
    pub fn of(&self, pid: u32) -> Option<Arc<CgroupNames>> {
        let mut by_pid = self.by_pid.lock().unwrap_or_else(PoisonError::into_inner);
        by_pid.entry(pid).or_insert_with(|| (self.find)(pid).map(CgroupNames::new).map(Arc::new)).clone()
    }
}

/// A socket that matches the filter.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The socket.
    pub socket: &'a ListedSocket,
    /// Name of its network namespace, if it has one.
    pub netns_name: Option<&'a str>,
    /// Time in its state, if known.
    pub age: Option<Age>,
    /// Whether processes or only the kernel hold it.
    pub held_by: HeldBy,
    /// The descriptors that processes have of it, by PID.
    pub holders: &'a [Holder],
    /// For a listener: half-open requests to its address, which a SO_REUSEPORT group shares. `None` if requests were not listed.
    pub half_open: Option<u64>,
}

/// Who holds a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// Processes, by descriptors.
    Processes,
    /// Only the kernel: no file refers to it.
    Kernel,
    /// A file refers to it or may do so, but the process was not found or not looked up.
    Unknown,
}

impl HeldBy {
    /// The name in all outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Kernel => "kernel",
            Self::Unknown => "unknown",
        }
    }
}

impl<'a> Row<'a> {
    #[must_use]
    pub(super) fn is_listener(&self) -> bool {
        self.socket.state == State::Listen
    }

    /// The processes that hold it, each with its descriptors.
    pub fn processes(&self) -> impl Iterator<Item = &'a [Holder]> + use<'a> {
        self.holders.chunk_by(|one, other| one.pid == other.pid)
    }

    /// True if more than one process holds it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.processes().nth(1).is_some()
    }
}

/// The wanted sockets of a listing, in its order.
pub fn rows<'a>(snapshot: &'a Snapshot, filter: &Filter, cgroups: &Cgroups) -> Vec<Row<'a>> {
    let half_open = HalfOpen::count(snapshot);
    let named = snapshot.namespaces.iter().filter_map(|namespace| Some((namespace.inode, namespace.name.as_deref()?)));
    let names: KeyedMap<_, _> = named.collect();
    let holders_of =
        |socket: &ListedSocket| snapshot.holders.as_ref().map_or(&[][..], |holders| holders.of(socket.handle));
    let cgroup_of = |pid| cgroups.of(pid).map(|names| names.path.clone());
    let lookup = RefCell::new(HolderLookup::new(&cgroup_of, &names));
    let is_wanted = |socket: &&ListedSocket| {
        let cgroup = |pid: u32, _| cgroup_of(pid);
        let holders = holders_of(socket);
        let is_complete = held_by(socket, holders) != HeldBy::Unknown;
        let subject = || ListedSubject { socket, holders, now_ns: snapshot.ended_ns, is_complete };
        filter.sockets.matches(socket, holders, cgroup)
            && (filter.rest.is_none()
                || filter.rest_selects(&ConnectionFacts::from(subject()), &mut *lookup.borrow_mut()))
    };
    let row = |socket: &'a ListedSocket| {
        let holders = holders_of(socket);
        Row {
            socket,
            netns_name: names.get(&socket.netns).copied(),
            age: socket.age(snapshot.ended_ns),
            held_by: held_by(socket, holders),
            holders,
            half_open: half_open.as_ref().filter(|_| socket.state == State::Listen).map(|counts| counts.of(socket)),
        }
    };
    snapshot.sockets.iter().filter(is_wanted).map(row).collect()
}

/// Sorts sockets: states in the order of a connection's life, then by local port, remote end (IPv4 first) and namespace.
pub fn sort(sockets: &mut [ListedSocket]) {
    sockets.sort_by_cached_key(order);
}

/// The sort key: state, local port, remote end (IPv4 first) and namespace, packed into numbers for fast comparison.
fn order(socket: &ListedSocket) -> [u64; 4] {
    let (is_ipv6, remote) = match socket.remote.ip() {
        IpAddr::V4(v4) => (0, v4.to_bits().into()),
        IpAddr::V6(v6) => (1, v6.to_bits()),
    };
    let first = (socket.state.index() as u64) << 17 | u64::from(socket.local.port()) << 1 | is_ipv6;
    let last = u64::from(socket.remote.port()) << 32 | u64::from(socket.netns);
    [first, (remote >> 64) as u64, remote as u64, last]
}

fn held_by(socket: &ListedSocket, holders: &[Holder]) -> HeldBy {
    let has_file = socket.kind == Kind::Full && socket.handle != 0 && socket.uid.is_some();
    match (holders.is_empty(), has_file) {
        (false, _) => HeldBy::Processes,
        (true, true) => HeldBy::Unknown,
        (true, false) => HeldBy::Kernel,
    }
}

/// Half-open requests by the namespace and address of the listeners that get them.
struct HalfOpen(KeyedMap<(u32, SocketAddr), u64>);

impl HalfOpen {
    /// `None` where the listing has no requests, since nobody asked for them.
    fn count(snapshot: &Snapshot) -> Option<Self> {
        if !snapshot.states.is_empty() && !snapshot.states.contains(State::SynRecv) {
            return None;
        }
        let (mut listeners, mut requests) = (KeyedSet::default(), Vec::new());
        for socket in &snapshot.sockets {
            match (socket.state, socket.kind) {
                (State::Listen, _) => _ = listeners.insert((socket.netns, socket.local)),
                (_, Kind::Request) => requests.push(socket),
                _ => {}
            }
        }
        let mut counts = KeyedMap::default();
        for request in requests {
            let mut places = listener_addresses(request.local).map(|local| (request.netns, local));
            if let Some(place) = places.find(|place| listeners.contains(place)) {
                *counts.entry(place).or_default() += 1;
            }
        }
        Some(Self(counts))
    }

    fn of(&self, listener: &ListedSocket) -> u64 {
        self.0.get(&(listener.netns, listener.local)).copied().unwrap_or_default()
    }
}

/// Counts by state, in the order of [`State::ALL`].
pub type StateCounts = [u64; State::ALL.len()];

/// Counts all rows by state.
#[must_use]
pub fn totals(rows: &[Row<'_>]) -> StateCounts {
    let mut totals = StateCounts::default();
    for row in rows {
        totals[row.socket.state.index()] += 1;
    }
    totals
}

/// What the sockets of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Common {
    /// Their state.
    State(State),
    /// A process that holds them, by its PID.
    Process(u32),
    /// Their local port.
    Port(u16),
    /// Their remote address.
    Remote(IpAddr),
    /// The path of a cgroup in which a process holds them.
    Cgroup(String),
    /// Their holder or its cgroup is not known.
    Unknown,
    /// Only the kernel holds them.
    Kernel,
}

/// The number of sockets that have something in common.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they have in common.
    pub common: Common,
    /// Command name of the process, if counted by process.
    pub command: Option<Command>,
    /// Number of sockets.
    pub sockets: u64,
    /// Number in each state.
    pub by_state: StateCounts,
}

/// Counts rows; the largest group comes first. A socket that several processes hold counts once for each of them, or once for
/// each of their cgroups.
pub fn count(rows: &[Row<'_>], by: GroupBy, cgroups: &Cgroups) -> Vec<Group> {
    let mut groups: KeyedMap<Common, Group> = KeyedMap::default();
    let mut of_row = Vec::new();
    for row in rows {
        let socket = row.socket;
        match (by, row.held_by) {
            (GroupBy::State, _) => of_row.push((Common::State(socket.state), None)),
            (GroupBy::Port, _) => of_row.push((Common::Port(socket.local.port()), None)),
            (GroupBy::Remote, _) => of_row.push((Common::Remote(socket.remote.ip()), None)),
            (_, HeldBy::Kernel) => of_row.push((Common::Kernel, None)),
            (_, HeldBy::Unknown) => of_row.push((Common::Unknown, None)),
            (GroupBy::Pid, HeldBy::Processes) => {
                of_row.extend(row.processes().map(|fds| (Common::Process(fds[0].pid), Some(fds[0].command))));
            }
            (GroupBy::Cgroup, HeldBy::Processes) => {
                of_row.extend(row.processes().map(|fds| {
                    let path = cgroups.of(fds[0].pid).map(|names| names.path.clone());
                    (path.map_or(Common::Unknown, Common::Cgroup), None)
                }));
                of_row.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
                of_row.dedup_by(|(one, _), (other, _)| one == other);
            }
        }
        for (common, command) in of_row.drain(..) {
            let empty = || Group { common: common.clone(), command, sockets: 0, by_state: StateCounts::default() };
            let group = groups.entry(common.clone()).or_insert_with(empty);
            group.sockets += 1;
            group.by_state[socket.state.index()] += 1;
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_unstable_by(|one, other| other.sockets.cmp(&one.sockets).then_with(|| one.common.cmp(&other.common)));
    groups
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::model::holders::Holders;

    fn socket(handle: u64, state: State, local: &str, remote: &str) -> ListedSocket {
        ListedSocket {
            handle,
            uid: Some(0),
            ..ListedSocket::new(Kind::Full, state, 1, local.parse().unwrap(), remote.parse().unwrap())
        }
    }

    fn request(local: &str) -> ListedSocket {
        ListedSocket { kind: Kind::Request, uid: None, ..socket(0, State::SynRecv, local, "10.0.0.9:9") }
    }

    fn holder(handle: u64, pid: u32, fd: u32) -> Holder {
        Holder { handle, pid, ns_pid: pid, fd, uid: 0, cgroup: None, start: None, command: Command::new([0; 16]) }
    }

    fn cgroups() -> Cgroups {
        Cgroups::new(Box::new(|pid| (pid < 10).then(|| format!("/{}", pid % 2))))
    }

    fn of<T>(snapshot: &Snapshot, with: impl Fn(&[Row<'_>]) -> T) -> T {
        with(&rows(snapshot, &Filter::default(), &cgroups()))
    }

    #[test]
    fn a_cgroup_is_looked_up_once() {
        let looked = AtomicBool::new(false);
        let cgroups = Cgroups::new(Box::new(move |_| {
            assert!(!looked.swap(true, Ordering::Relaxed));
            None
        }));
        assert_eq!(cgroups.of(7), None);
        assert_eq!(cgroups.of(7), None, "as it was found before");
    }

    #[test]
    fn the_order_is_that_of_a_life_then_of_ports_and_remote_ends() {
        let mut sockets = vec![
            socket(1, State::CloseWait, "10.0.0.1:1", "10.0.0.2:1"),
            socket(2, State::Established, "10.0.0.1:90", "10.0.0.2:1"),
            socket(3, State::Established, "10.0.0.1:80", "10.0.0.3:1"),
            socket(4, State::Established, "10.0.0.1:80", "10.0.0.2:9"),
            socket(5, State::Established, "10.0.0.1:80", "10.0.0.2:8"),
            socket(6, State::Listen, "10.0.0.1:99", "0.0.0.0:0"),
        ];
        sort(&mut sockets);
        let order: Vec<_> = sockets.iter().map(|socket| socket.handle).collect();
        assert_eq!(order, [6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn half_open_requests_go_to_the_listener_that_gets_them() {
        let listeners = [(1, "10.0.0.1:80"), (2, "0.0.0.0:80"), (3, "[::]:80"), (4, "[::]:90"), (5, "[::]:90")];
        let mut sockets: Vec<_> = listeners.map(|(handle, at)| socket(handle, State::Listen, at, "0.0.0.0:0")).to_vec();
        let at = ["10.0.0.1:80", "10.0.0.1:80", "10.0.0.2:80", "[fe80::1]:80", "10.0.0.1:90", "10.0.0.1:91"];
        sockets.extend(at.map(request));
        sockets.push(ListedSocket { netns: 2, ..request("10.0.0.1:80") });
        let mut snapshot = Snapshot { sockets, ..Snapshot::default() };
        let counts = |snapshot: &Snapshot| {
            of(snapshot, |rows| {
                let mut counts: Vec<_> = rows.iter().map(|row| (row.socket.handle, row.half_open)).collect();
                counts.retain(|(handle, _)| *handle != 0);
                counts.sort_unstable();
                counts
            })
        };
        assert_eq!(counts(&snapshot), [(1, Some(2)), (2, Some(1)), (3, Some(1)), (4, Some(1)), (5, Some(1))]);
        snapshot.states = [State::Listen].into_iter().collect();
        assert!(counts(&snapshot).iter().all(|(_, count)| count.is_none()), "nobody asked for requests");
    }

    #[test]
    fn who_holds_a_socket() {
        let full = socket(7, State::Established, "10.0.0.1:1", "10.0.0.2:2");
        let held = |socket: ListedSocket, holders: Option<Vec<Holder>>| {
            let holders = holders.map(Holders::new);
            of(&Snapshot { sockets: vec![socket], holders, ..Snapshot::default() }, |rows| {
                (rows[0].held_by, rows[0].is_shared())
            })
        };
        assert_eq!(held(full, Some(vec![holder(7, 1, 3), holder(7, 1, 4)])), (HeldBy::Processes, false));
        assert_eq!(held(full, Some(vec![holder(7, 2, 3), holder(7, 1, 3)])), (HeldBy::Processes, true));
        assert_eq!(held(full, Some(vec![holder(8, 1, 3)])), (HeldBy::Unknown, false));
        assert_eq!(held(full, None), (HeldBy::Unknown, false), "nobody asked");
        assert_eq!(held(ListedSocket { handle: 0, ..full }, Some(Vec::new())), (HeldBy::Kernel, false));
        assert_eq!(held(ListedSocket { uid: None, ..full }, Some(Vec::new())), (HeldBy::Kernel, false));
        assert_eq!(held(ListedSocket { kind: Kind::TimeWait, ..full }, Some(Vec::new())), (HeldBy::Kernel, false));
    }

    #[test]
    fn sockets_count_for_each_of_their_holders() {
        let sockets = vec![
            socket(1, State::Listen, "10.0.0.1:80", "0.0.0.0:0"),
            socket(2, State::Established, "10.0.0.1:80", "10.0.0.2:2"),
            socket(3, State::Established, "10.0.0.1:80", "10.0.0.2:3"),
            socket(4, State::CloseWait, "10.0.0.1:80", "10.0.0.2:4"),
            request("10.0.0.1:80"),
        ];
        // 1 and 3 share a cgroup, that of 11 is not known.
        let holders =
            vec![holder(1, 1, 3), holder(1, 3, 3), holder(1, 2, 3), holder(2, 1, 4), holder(2, 1, 5), holder(3, 11, 3)];
        let snapshot = Snapshot { sockets, holders: Some(Holders::new(holders)), ..Snapshot::default() };
        let counts = |by| {
            of(&snapshot, |rows| {
                let groups = count(rows, by, &cgroups());
                groups.into_iter().map(|group| (group.sockets, group.common.to_string())).collect::<Vec<_>>()
            })
        };
        let want = |groups: &[(u64, &str)]| groups.iter().map(|(n, name)| (*n, (*name).to_owned())).collect::<Vec<_>>();
        let by_pid = [(2, "1"), (1, "2"), (1, "3"), (1, "11"), (1, "unknown"), (1, "kernel")];
        assert_eq!(counts(GroupBy::Pid), want(&by_pid));
        assert_eq!(counts(GroupBy::Cgroup), want(&[(2, "/1"), (2, "unknown"), (1, "/0"), (1, "kernel")]));
        assert_eq!(counts(GroupBy::Port), want(&[(5, "80")]));
        assert_eq!(counts(GroupBy::Remote), want(&[(3, "10.0.0.2"), (1, "0.0.0.0"), (1, "10.0.0.9")]));
        let by_state = [(2, "ESTABLISHED"), (1, "SYN_RECV"), (1, "CLOSE_WAIT"), (1, "LISTEN")];
        assert_eq!(counts(GroupBy::State), want(&by_state));
        assert_eq!(of(&snapshot, totals).iter().sum::<u64>(), 5);
    }
}
