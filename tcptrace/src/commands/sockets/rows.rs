//! The rows of `tcptrace sockets`: the wanted sockets of a listing in order, with their holders and half-open requests, and
//! counts of them by state, process and so on.

use std::{
    cell::RefCell,
    cmp::Ordering,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    cli::args::GroupBy,
    commands::lookup::HolderLookup,
    model::{
        age::{Age, AgeSource},
        event::{Command, ProcessId},
        filter::{ConnectionFacts, Filter, ListedSubject},
        holders::Holder,
        keyed::{KeyedMap, KeyedSet},
        place::Place,
        processes::ProcessNames,
        snapshot::Snapshot,
        socket::{Kind, ListedSocket, listener_addresses},
        state::{State, StateCounts},
    },
    render::fields::family,
    sys::cgroup::names::CgroupNames,
};

/// Cgroups of processes, looked up on demand and cached.
pub struct Cgroups {
    find: Box<dyn Fn(u32) -> Option<String> + Send + Sync>,
    by_pid: Mutex<KeyedMap<u32, Option<Arc<CgroupNames>>>>,
    read: Option<ReadHolder>,
    by_process: Mutex<KeyedMap<ProcessId, Arc<HolderNames>>>,
}

/// Reads the names of a process that holds a socket.
pub type ReadHolder = Box<dyn Fn(&Holder) -> HolderNames + Send + Sync>;

/// Names of a process that holds a socket.
#[derive(Clone, Debug, Default)]
pub struct HolderNames {
    /// Name of its UID.
    pub user: Option<String>,
    /// The process itself; `None` if it is gone, or another one has its PID.
    pub process: Option<ProcessNames>,
    /// Where it runs.
    pub place: Option<Arc<Place>>,
}

impl Cgroups {
    /// `find` returns the path of a process's cgroup.
    #[must_use]
    pub fn new(find: Box<dyn Fn(u32) -> Option<String> + Send + Sync>) -> Self {
        Self { find, by_pid: Mutex::default(), read: None, by_process: Mutex::default() }
    }

    /// Also reads the names of the processes, each once.
    #[must_use]
    pub fn reading(self, read: ReadHolder) -> Self {
        Self { read: Some(read), ..self }
    }

    /// The names of a process, as far as they were read.
    pub(super) fn names_of(&self, holder: &Holder) -> Arc<HolderNames> {
        let mut by_process = self.by_process.lock().unwrap_or_else(PoisonError::into_inner);
        let read = || Arc::new(self.read.as_ref().map_or_else(HolderNames::default, |read| read(holder)));
        Arc::clone(by_process.entry(holder.id()).or_insert_with(read))
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
    /// The descriptors that processes have of the socket at the other end. `None` if that is not on this host, or is not known.
    pub peer: Option<&'a [Holder]>,
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
        by_process(self.holders)
    }

    /// True if more than one process holds it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.processes().nth(1).is_some()
    }
}

/// Descriptors by process.
pub(super) fn by_process(holders: &[Holder]) -> impl Iterator<Item = &[Holder]> {
    holders.chunk_by(|one, other| one.pid == other.pid)
}

/// Adds the holders of the socket at the other end: of the only one of the listing that has the same two ends, swapped. Where
/// NAT translates an address, or two namespaces use the same ones, there is none.
pub fn add_peers<'a>(rows: &mut [Row<'a>], snapshot: &'a Snapshot) {
    let Some(holders) = &snapshot.holders else { return };
    let key = |netns: u32, one: SocketAddr, other: SocketAddr| {
        // Loopback does not leave its namespace.
        (Some(netns).filter(|_| one.ip().is_loopback() || other.ip().is_loopback()), one, other)
    };
    let mut by_ends: KeyedMap<_, Option<&ListedSocket>> = KeyedMap::default();
    let connections = snapshot.sockets.iter().filter(|socket| socket.state != State::Listen);
    for socket in connections {
        let same_ends = by_ends.entry(key(socket.netns, socket.local, socket.remote));
        same_ends.and_modify(|first| *first = None).or_insert(Some(socket));
    }
    let at = |netns, one, other| by_ends.get(&key(netns, one, other)).copied().flatten();
    for row in rows.iter_mut().filter(|row| !row.is_listener()) {
        let ListedSocket { netns, local, remote, .. } = *row.socket;
        let other = at(netns, local, remote).and_then(|_| at(netns, remote, local));
        row.peer = other.map(|other| holders.of(other.handle));
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
            peer: None,
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
        (true, _) if socket.is_unlisted => HeldBy::Unknown,
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
    /// A process that holds them by its PID, or its user.
    Number(u32),
    /// A port.
    Port(u16),
    /// An address.
    Address(IpAddr),
    /// A name: of a command, a family, a network namespace, a unit, a container or a pod.
    Name(String),
    /// The path of a cgroup in which a process holds them.
    Cgroup(String),
    /// Their holder or its cgroup is not known.
    Unknown,
    /// Only the kernel holds them.
    Kernel,
    /// Their holder is in no unit, container or pod.
    None,
}

/// The number of sockets that have something in common.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they have in common.
    pub common: Common,
    /// What else, if they are counted by two things.
    pub second: Option<Common>,
    /// Command name of the process, if counted by process.
    pub command: Option<Command>,
    /// Number of sockets.
    pub sockets: u64,
    /// Number in each state.
    pub by_state: StateCounts,
}

/// What a row has in common with others; `holder` is one of its processes.
fn common(by: GroupBy, row: &Row<'_>, holder: Option<&Holder>, cgroups: &Cgroups) -> Common {
    let socket = row.socket;
    let of_holder = |common: &dyn Fn(&Holder) -> Common| match (row.held_by, holder) {
        (HeldBy::Kernel, _) => Common::Kernel,
        (_, None) => Common::Unknown,
        (_, Some(holder)) => common(holder),
    };
    let of_cgroup = |name: &dyn Fn(&CgroupNames) -> Common| {
        of_holder(&|holder| cgroups.of(holder.pid).map_or(Common::Unknown, |names| name(&names)))
    };
    let named = |name: Option<&str>| name.map_or(Common::None, |name| Common::Name(name.to_owned()));
    match by {
        GroupBy::State => Common::State(socket.state),
        GroupBy::Port => Common::Port(socket.local.port()),
        GroupBy::RemotePort => Common::Port(socket.remote.port()),
        GroupBy::Local => Common::Address(socket.local.ip()),
        GroupBy::Remote => Common::Address(socket.remote.ip()),
        GroupBy::Family => Common::Name(family(socket.ipv6).to_owned()),
        GroupBy::Netns => match row.netns_name {
            Some(name) => Common::Name(name.to_owned()),
            None => Common::Number(socket.netns),
        },
        GroupBy::Pid => of_holder(&|holder| Common::Number(holder.pid)),
        GroupBy::Comm => of_holder(&|holder| Common::Name(holder.command.to_text().into_owned())),
        GroupBy::Uid => of_holder(&|holder| Common::Number(holder.uid)),
        GroupBy::Cgroup => of_cgroup(&|names| Common::Cgroup(names.path.clone())),
        GroupBy::Unit => of_cgroup(&|names| named(names.unit.as_deref())),
        GroupBy::Container => of_cgroup(&|names| named(names.container_id.as_deref())),
        GroupBy::Pod => of_cgroup(&|names| named(names.pod_uid.as_deref())),
    }
}

const fn is_of_holders(by: GroupBy) -> bool {
    use GroupBy::{Cgroup, Comm, Container, Pid, Pod, Uid, Unit};
    matches!(by, Pid | Comm | Uid | Cgroup | Unit | Container | Pod)
}

/// Counts rows by one or two things; the largest group comes first. A socket that several processes hold counts once for each
/// of them, or once for each of their cgroups, users and so on.
pub fn count(rows: &[Row<'_>], by: &[GroupBy], cgroups: &Cgroups) -> Vec<Group> {
    let (Some(&first), second) = (by.first(), by.get(1).copied()) else { return Vec::new() };
    let has_holders = by.iter().any(|by| is_of_holders(*by));
    let mut groups: KeyedMap<(Common, Option<Common>), Group> = KeyedMap::default();
    let mut of_row = Vec::new();
    for row in rows {
        let key = |holder: Option<&Holder>| {
            let command = holder.filter(|_| by.contains(&GroupBy::Pid)).map(|holder| holder.command);
            let second = second.map(|second| common(second, row, holder, cgroups));
            ((common(first, row, holder, cgroups), second), command)
        };
        if has_holders && row.held_by == HeldBy::Processes {
            of_row.extend(row.processes().map(|descriptors| key(descriptors.first())));
            of_row.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            of_row.dedup_by(|(one, _), (other, _)| one == other);
        } else {
            of_row.push(key(None));
        }
        for (key, command) in of_row.drain(..) {
            if !groups.contains_key(&key) {
                let (common, second) = key.clone();
                let empty = Group { common, second, command, sockets: 0, by_state: StateCounts::default() };
                groups.insert(key.clone(), empty);
            }
            let Some(group) = groups.get_mut(&key) else { continue };
            group.sockets += 1;
            group.by_state[row.socket.state.index()] += 1;
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_unstable_by(|one, other| {
        let rest = || (&one.common, &one.second).cmp(&(&other.common, &other.second));
        other.sockets.cmp(&one.sockets).then_with(rest)
    });
    groups
}

/// What groups are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKey {
    /// The number of sockets.
    Sockets,
    /// The first or second thing that they are counted by.
    Common(usize),
}

/// Sorts groups by these keys, each with whether the largest comes first.
pub fn sort_groups(groups: &mut [Group], keys: &[(GroupKey, bool)]) {
    groups.sort_by(|one, other| {
        let compare = |key: &(GroupKey, bool)| {
            let order = match key.0 {
                GroupKey::Sockets => one.sockets.cmp(&other.sockets),
                GroupKey::Common(0) => one.common.cmp(&other.common),
                GroupKey::Common(_) => one.second.cmp(&other.second),
            };
            if key.1 { order.reverse() } else { order }
        };
        keys.iter().map(compare).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
}

/// Keeps the rows that have been in their state for at least `least_ns`; returns how many were left out because that is not
/// known. A lower bound below it says nothing.
pub fn keep_older(rows: &mut Vec<Row<'_>>, least_ns: u64) -> u64 {
    let mut unknown = 0;
    rows.retain(|row| match row.age {
        Some(age) if age.ns >= least_ns => true,
        Some(age) if age.source != AgeSource::LowerBound => false,
        _ => {
            unknown += 1;
            false
        }
    });
    unknown
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
                let groups = count(rows, &[by], &cgroups());
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
        let pairs = |by: [GroupBy; 2], keys: &[(GroupKey, bool)]| {
            of(&snapshot, |rows| {
                let mut groups = count(rows, &by, &cgroups());
                sort_groups(&mut groups, keys);
                let name = |group: &Group| format!("{} {}", group.common, group.second.as_ref().unwrap());
                groups.iter().map(|group| (group.sockets, name(group))).collect::<Vec<_>>()
            })
        };
        let by_state_and_port = [(2, "ESTABLISHED 80"), (1, "SYN_RECV 80"), (1, "CLOSE_WAIT 80"), (1, "LISTEN 80")];
        assert_eq!(pairs([GroupBy::State, GroupBy::Port], &[]), want(&by_state_and_port));
        // Processes 1 and 3 of one socket are in one cgroup: it counts once there.
        let by_cgroup = pairs([GroupBy::Cgroup, GroupBy::State], &[(GroupKey::Common(1), true)]);
        assert!(by_cgroup.contains(&(1, "/1 LISTEN".to_owned())), "{by_cgroup:?}");
        let pids: Vec<_> = pairs([GroupBy::Pid, GroupBy::Remote], &[(GroupKey::Common(0), true)]);
        assert!(
            pids.is_sorted_by_key(|(_, name)| name.starts_with(char::is_numeric)),
            "kernel, unknown, then PIDs: {pids:?}"
        );
    }

    #[test]
    fn only_sockets_that_are_known_to_be_older_are_kept() {
        let aged = |handle, entered_ns| ListedSocket {
            entered_ns,
            ..socket(handle, State::CloseWait, "10.0.0.1:1", "10.0.0.2:1")
        };
        let sockets = vec![aged(1, Some(10)), aged(2, Some(90)), aged(3, None)];
        let snapshot = Snapshot { sockets, ended_ns: 100, ..Snapshot::default() };
        let kept = |least_ns| {
            of(&snapshot, |rows| {
                let mut rows = rows.to_vec();
                let unknown = keep_older(&mut rows, least_ns);
                (rows.iter().map(|row| row.socket.handle).collect::<Vec<_>>(), unknown)
            })
        };
        assert_eq!(kept(90), (vec![1], 1));
        assert_eq!(kept(91), (vec![], 1));
        assert_eq!(kept(10), (vec![1, 2], 1));
    }
}
