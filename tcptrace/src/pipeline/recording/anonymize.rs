//! Replaces names and addresses in a recording before anything else sees them: what comes after is anonymous because it knows
//! nothing else.
//!
//! The same name always becomes the same word. Ports, states, times, PIDs, UIDs, cookies and numbers of namespaces stay, and
//! so do the addresses that every host has (127.0.0.1, ::1 and the unspecified ones).

use std::{
    borrow::Cow,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use tcptrace_common::record::{Header as RecordHeader, Owner as RecordOwner, Socket as RecordSocket};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::frames::Frame;
use crate::{
    model::{
        anonymous,
        event::{Command, Owner},
        holders::{Holder, Holders},
        keyed::KeyedMap,
        place::{Container, Place, Pod, Sourced, Unit},
        processes::{ProcessAnswer, ProcessNames},
        snapshot::{NextHop, Snapshot},
    },
    pipeline::input::Input,
};

/// Most names of a kind that are told apart. Further ones share one word.
const MAX_NAMES: usize = 1 << 20;

/// Numbers for names, in the order in which they first occur.
#[derive(Debug)]
struct Numbers<T>(KeyedMap<T, u32>);

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Self(KeyedMap::default())
    }
}

impl<T: Hash + Eq> Numbers<T> {
    /// The number of a name, from 1; 0 if there is no room.
    fn of(&mut self, name: T) -> u32 {
        let next = self.0.len() as u32 + 1;
        if self.0.len() >= MAX_NAMES {
            return self.0.get(&name).copied().unwrap_or(0);
        }
        *self.0.entry(name).or_insert(next)
    }
}

/// Replaces names and addresses.
#[derive(Debug, Default)]
pub struct Anonymizer {
    hosts: Numbers<IpAddr>,
    processes: Numbers<Command>,
    executables: Numbers<String>,
    users: Numbers<String>,
    cgroups: Numbers<String>,
    units: Numbers<String>,
    containers: Numbers<String>,
    images: Numbers<String>,
    pods: Numbers<String>,
    namespaces: Numbers<String>,
    record: Vec<u8>,
}

impl Anonymizer {
    /// The same without names and addresses.
    pub fn frame<'a>(&'a mut self, frame: Frame<'a>) -> Frame<'a> {
        match frame {
            Frame::Input(input) => Frame::Input(self.input(input)),
            Frame::Cgroup(id, path) => Frame::Cgroup(id, path.map(|path| self.cgroup(&path))),
            Frame::Owner(owner) => Frame::Owner(self.owner(owner)),
            Frame::Refused(pid, start) => Frame::Refused(pid, start),
            Frame::Lost(inputs) => Frame::Lost(inputs),
            Frame::Sample(round) => Frame::Sample(round),
        }
    }

    fn input<'a>(&'a mut self, input: Input<'a>) -> Input<'a> {
        match input {
            Input::Record(record) => Input::Record(self.record(record)),
            Input::NetnsNames(names) => {
                let names = names.iter().map(|(inode, name)| (*inode, self.namespace(name)));
                Input::NetnsNames(Cow::Owned(names.collect()))
            }
            Input::Listed(kind, snapshot) => Input::Listed(kind, Cow::Owned(self.snapshot(snapshot.into_owned()))),
            Input::Process(question, answer) => Input::Process(question, Cow::Owned(self.answer(answer.into_owned()))),
            Input::Users(users) => {
                let users = users.iter().map(|(uid, name)| (*uid, format!("user-{}", self.users.of(name.clone()))));
                Input::Users(Cow::Owned(users.collect()))
            }
            Input::Services(_) => Input::Services(Cow::Owned(Vec::new())), // the ports stay
            Input::Host(address, name) => {
                let address = self.address(address);
                Input::Host(address, name.and_then(|_| anonymous::host(address)))
            }
            // Without names and addresses.
            Input::Clock(..)
            | Input::Read(_)
            | Input::Counters(_)
            | Input::ListingBegun
            | Input::ListingFailed(_)
            | Input::Evaluated(_)
            | Input::IntervalEnded(_)
            | Input::Finished(_)
            | Input::Released
            | Input::NamesAsked(_)
            | Input::Ended(_) => input,
        }
    }

    /// The bytes of a record; one that is too short to have an owner has no name either.
    fn record<'a>(&'a mut self, record: &'a [u8]) -> &'a [u8] {
        const SOCKET: usize = size_of::<RecordHeader>();
        const OWNER: usize = SOCKET + size_of::<RecordSocket>();
        let mut bytes = std::mem::take(&mut self.record);
        bytes.clear();
        bytes.extend_from_slice(record);
        if let Some((mut socket, _)) = bytes.get(SOCKET..).and_then(|rest| RecordSocket::read_from_prefix(rest).ok()) {
            for address in [&mut socket.local, &mut socket.remote] {
                *address = match self.address(crate::model::event::address(*address)) {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                    IpAddr::V6(v6) => v6.octets(),
                };
            }
            if let Some(place) = bytes.get_mut(SOCKET..OWNER) {
                place.copy_from_slice(socket.as_bytes());
            }
        }
        if let Some((mut owner, _)) = bytes.get(OWNER..).and_then(|rest| RecordOwner::read_from_prefix(rest).ok()) {
            if owner.pid != 0 {
                owner.comm = self.command(Command::new(owner.comm)).padded();
            }
            if let Some(place) = bytes.get_mut(OWNER..OWNER + size_of::<RecordOwner>()) {
                place.copy_from_slice(owner.as_bytes());
            }
        }
        self.record = bytes;
        &self.record
    }

    fn address(&mut self, address: IpAddr) -> IpAddr {
        let address = address.to_canonical();
        let is_everywhere = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].contains(&address);
        if address.is_unspecified() || is_everywhere {
            return address;
        }
        let number = self.hosts.of(address);
        match address {
            // It stays a loopback address, since those do not leave their namespace.
            IpAddr::V4(v4) if v4.is_loopback() => Ipv4Addr::from(0x7f80_0000 | (number % (1 << 23))).into(),
            address => anonymous::address(number.wrapping_sub(1), address.is_ipv4()),
        }
    }

    fn end(&mut self, end: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.address(end.ip()), end.port())
    }

    fn command(&mut self, command: Command) -> Command {
        if command.as_bytes().is_empty() {
            return command;
        }
        let mut bytes = [0; 16];
        let name = format!("process-{}", self.processes.of(command)); // at most 15 bytes
        bytes.iter_mut().zip(name.bytes()).for_each(|(to, byte)| *to = byte);
        Command::new(bytes)
    }

    fn owner(&mut self, owner: Owner) -> Owner {
        Owner { command: self.command(owner.command), ..owner }
    }

    fn executable(&mut self, path: String) -> String {
        format!("/executable-{}", self.executables.of(path))
    }

    fn namespace(&mut self, name: &str) -> String {
        format!("namespace-{}", self.namespaces.of(name.to_owned()))
    }

    fn unit(&mut self, name: &str) -> String {
        // What kind of unit it is says nothing about whose.
        let kind = ["service", "scope", "slice", "socket"].into_iter().find(|kind| name.ends_with(&format!(".{kind}")));
        format!("unit-{}.{}", self.units.of(name.to_owned()), kind.unwrap_or("service"))
    }

    fn container(&mut self, name: &str) -> String {
        format!("container-{}", self.containers.of(name.to_owned()))
    }

    fn pod(&mut self, name: &str) -> String {
        format!("pod-{}", self.pods.of(name.to_owned()))
    }

    /// The path of a cgroup; it still ends with its unit, if it has one.
    fn cgroup(&mut self, path: &str) -> String {
        if path == "/" {
            return path.to_owned();
        }
        let unit = Place::from_cgroup(path).unit.map(|unit| self.unit(&unit.name));
        let number = self.cgroups.of(path.to_owned());
        unit.map_or_else(|| format!("/cgroup-{number}"), |unit| format!("/cgroup-{number}/{unit}"))
    }

    fn place(&mut self, place: &Place) -> Place {
        let Place { cgroup, unit, container, pod } = place;
        type Name = Option<Sourced<Box<str>>>;
        let mut named = |name: &Name, rename: fn(&mut Self, &str) -> String| {
            name.as_ref().map(|name| Sourced::new(rename(self, &name.value).into(), name.source))
        };
        let container = container.as_ref().map(|container| Container {
            id: named(&container.id, Self::container),
            runtime: container.runtime,
            name: named(&container.name, Self::container),
            image: named(&container.image, |this, name| format!("image-{}", this.images.of(name.to_owned()))),
        });
        let pod = pod.as_ref().map(|pod| Pod {
            uid: named(&pod.uid, Self::pod),
            name: named(&pod.name, Self::pod),
            namespace: named(&pod.namespace, Self::namespace),
            container: named(&pod.container, Self::container),
        });
        let unit = unit.as_ref().map(|Unit { name, manager }| Unit { name: self.unit(name).into(), manager: *manager });
        Place { cgroup: self.cgroup(cgroup).into(), unit, container, pod }
    }

    fn answer(&mut self, answer: ProcessAnswer) -> ProcessAnswer {
        let names = answer.names.map(|names| ProcessNames {
            command: self.command(names.command),
            executable: names.executable.map(|path| self.executable(path)),
            args: None,
            ns_pid: names.ns_pid,
            parent: names.parent.map(|(pid, command)| (pid, self.command(command))),
        });
        ProcessAnswer { names, place: answer.place.map(|place| Arc::new(self.place(&place))) }
    }

    fn snapshot(&mut self, snapshot: Snapshot) -> Snapshot {
        let mut snapshot = snapshot;
        for socket in &mut snapshot.sockets {
            (socket.local, socket.remote) = (self.end(socket.local), self.end(socket.remote));
            socket.owner = socket.owner.map(|owner| self.owner(owner));
        }
        snapshot.holders = snapshot.holders.map(|holders| {
            let all = holders.all().iter();
            Holders::new(all.map(|holder| Holder { command: self.command(holder.command), ..*holder }).collect())
        });
        for namespace in &mut snapshot.namespaces {
            namespace.name = namespace.name.as_deref().map(|name| self.namespace(name));
        }
        for hop in &mut snapshot.next_hops {
            *hop = NextHop { remote: self.address(hop.remote), hop: self.address(hop.hop), ..*hop };
        }
        snapshot
    }
}
