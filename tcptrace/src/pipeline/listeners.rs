//! Listeners from before the start, as the programs want to know them: connections that come in have no other link to
//! the process that listens for them.

use std::{collections::HashMap, net::IpAddr};

use tcptrace_common::{
    listener::{Listener, ListenerKey},
    record::{self, AF_INET, AF_INET6, owner_source},
};

use crate::model::{
    event::StartTicks, holders::Holder, snapshot::Snapshot, socket::ListedSocket, socket_filter::SocketFilter,
    state::State,
};

/// Where a listed listener listens.
#[must_use]
pub fn key(socket: &ListedSocket) -> ListenerKey {
    let address = match socket.local.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let family = if socket.ipv6 { AF_INET6 } else { AF_INET };
    ListenerKey { address, netns: socket.netns, port: socket.local.port(), family }
}

/// The listeners of a listing by where they listen. Those that several processes hold, or nobody that is known, are
/// `shared`: their connections are of one of several before one of these takes them. `selection` says whose are wanted.
pub fn seeds<Path: AsRef<str>>(
    snapshot: &Snapshot,
    selection: &SocketFilter,
    mut cgroup_of: impl FnMut(u64) -> Option<Path>,
) -> HashMap<ListenerKey, Listener> {
    let mut seeds: HashMap<ListenerKey, Listener> = HashMap::new();
    for socket in snapshot.sockets.iter().filter(|socket| socket.state == State::Listen) {
        let holders = snapshot.holders.as_ref().map_or(&[][..], |holders| holders.of(socket.handle));
        let first = holders.first();
        let is_shared = holders.iter().any(|holder| Some(holder.pid) != first.map(|first| first.pid));
        let is_wanted =
            holders.iter().any(|holder| selection.process_matches(holder.pid, holder.cgroup, &mut cgroup_of));
        let seed = seeds.entry(key(socket)).or_insert_with(|| Listener {
            owner: first.map(owner).unwrap_or_default(),
            shared: first.is_none().into(),
            ..Listener::default()
        });
        seed.owner_match |= u8::from(is_wanted);
        seed.sockets += 1;
        if is_shared || first.is_none_or(|first| first.pid != seed.owner.pid) {
            seed.shared = 1;
        }
    }
    seeds
}

fn owner(holder: &Holder) -> record::Owner {
    let mut comm = [0; 16];
    for (to, from) in comm.iter_mut().zip(holder.command.as_bytes()) {
        *to = *from;
    }
    record::Owner {
        cgroup: holder.cgroup.unwrap_or(0),
        start_ticks: holder.start.map_or(0, StartTicks::get),
        pid: holder.pid,
        uid: holder.uid,
        source: owner_source::LISTENER,
        comm,
        ..record::Owner::default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::model::{event::Command, holders::Holders, socket::Kind};

    fn listener(local: &str, handle: u64) -> ListedSocket {
        let local: SocketAddr = local.parse().unwrap();
        ListedSocket {
            cookie: Some(handle),
            handle,
            ipv6: local.is_ipv6(),
            send_queue: 128,
            uid: Some(0),
            ..ListedSocket::new(Kind::Full, State::Listen, 7, local, local)
        }
    }

    fn holder(handle: u64, pid: u32) -> Holder {
        let command = Command::new(*b"web\0\0\0\0\0\0\0\0\0\0\0\0\0");
        Holder { handle, pid, ns_pid: pid, fd: 3, uid: 33, cgroup: Some(9), start: None, command }
    }

    #[test]
    fn a_listener_is_its_only_holders_and_no_others() {
        let snapshot = Snapshot {
            sockets: vec![
                listener("127.0.0.1:80", 1),
                listener("0.0.0.0:81", 2),
                listener("[::]:82", 3),
                listener("[::]:82", 4),
                listener("127.0.0.1:83", 5),
            ],
            holders: Some(Holders::new(vec![
                holder(1, 10),
                holder(2, 10),
                holder(2, 11),
                holder(3, 10),
                holder(4, 12),
            ])),
            ..Snapshot::default()
        };
        let selection = SocketFilter { pids: vec![10], ..SocketFilter::default() };
        let seeds = seeds(&snapshot, &selection, |_| None::<&str>);
        let seed = |index: usize| seeds[&key(&snapshot.sockets[index])];
        assert_eq!((seed(0).owner.pid, seed(0).owner.uid, seed(0).shared, seed(0).owner_match), (10, 33, 0, 1));
        assert_eq!(&seed(0).owner.comm[..4], b"web\0");
        assert_eq!((seed(1).shared, seed(1).sockets), (1, 1), "two processes hold it");
        assert_eq!((seed(2).shared, seed(2).sockets), (1, 2), "SO_REUSEPORT");
        assert_eq!((seed(4).shared, seed(4).owner.pid), (1, 0), "nobody is known");
        assert_eq!(key(&snapshot.sockets[0]).address, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1]);
        assert_eq!((key(&snapshot.sockets[2]).family, key(&snapshot.sockets[2]).address), (AF_INET6, [0; 16]));
    }
}
