//! Turns the inputs of a session into chunks, with the names that they need.

use std::{borrow::Cow, cell::RefCell, rc::Rc};

use tcptrace_common::record::{Header as RecordHeader, Owner as RecordOwner, Socket as RecordSocket};
use zerocopy::FromBytes;

use super::{
    chunk::{ChunkKind, MAX_RAW, RawChunk},
    frames::{Frame, Frames},
};
use crate::{
    analysis::rates::meter::Round,
    model::{
        event::{Command, Owner, OwnerSource, StartTicks},
        holders::Holder,
        keyed::{Addresses, KeyedMap, KeyedSet},
        names::Names,
        processes::{ProcessAnswer, ProcessQuestion},
        snapshot::Snapshot,
    },
    pipeline::input::Input,
};

/// A chunk is full with this many bytes before compression.
const FULL: usize = 1 << 20;
/// Maximum number of cgroups, and of processes, that are remembered as written; then all are forgotten and written
/// again when they occur.
const MAX_NAMED: usize = 65_536;

/// A name that the session looked up: what recordings need besides the inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// The path of a cgroup by its id.
    Cgroup(u64, Option<String>),
    /// A process, by PID and start time, could not be asked for.
    Refused(u32, Option<StartTicks>),
}

/// The names that were looked up since the last input.
pub type NameLog = Rc<RefCell<Vec<Name>>>;

/// A process: PID, start time and command name, which changes with its program.
type Process = (u32, Option<StartTicks>, Command);

/// Collects inputs until they are a chunk.
#[derive(Debug)]
pub struct Encoder {
    frames: Frames,
    /// How kernel addresses are hidden: a recording has the numbers that the outputs of the run have.
    addresses: Addresses,
    names: NameLog,
    cgroups: KeyedMap<u64, Option<String>>,
    /// Processes that were asked for.
    processes: KeyedSet<Process>,
    netns: Vec<(u32, String)>,
    /// Time of the first and of the last input, in ns.
    times: (u64, u64),
    last_cgroup: u64,
    last_process: Option<Process>,
}

impl Encoder {
    /// An encoder for a run that begins at `now_ns`. The session's look-ups are logged in `names`.
    #[must_use]
    pub fn new(addresses: Addresses, names: NameLog, now_ns: u64) -> Self {
        Self {
            frames: Frames::default(),
            addresses,
            names,
            cgroups: KeyedMap::default(),
            processes: KeyedSet::default(),
            netns: Vec::new(),
            times: (now_ns, now_ns),
            last_cgroup: 0,
            last_process: None,
        }
    }

    /// Adds an input that the session has taken, after the names that it needs.
    pub fn add(&mut self, input: &Input<'_>, names: &mut Names) {
        match input {
            Input::Record(record) => self.add_record(record, names),
            other => self.add_rare(other, names),
        }
    }

    fn add_record(&mut self, record: &[u8], names: &mut Names) {
        const OWNER: usize = size_of::<RecordHeader>() + size_of::<RecordSocket>();
        // The owner stands at the same place in all records.
        let owner = record.get(OWNER..).and_then(|rest| RecordOwner::read_from_prefix(rest).ok());
        let mut new = None;
        if let Some((owner, _)) = owner.filter(|(owner, _)| owner.pid != 0) {
            let process = (owner.pid, StartTicks::new(owner.start_ticks), Command::new(owner.comm));
            if owner.cgroup != self.last_cgroup || self.last_process != Some(process) {
                (self.last_cgroup, self.last_process) = (owner.cgroup, Some(process));
                self.name_cgroup(owner.cgroup, names);
                new = Some((process, owner.uid, owner.cgroup));
            }
        }
        self.write_names();
        // A record that does not decode has no address either; the replay counts it as the run did.
        if let Ok((header, _)) = RecordHeader::read_from_prefix(record) {
            self.at(header.time_ns);
            let hidden = if header.sk == 0 { 0 } else { self.addresses.printed(header.sk) };
            let stored = self.frames.record(record);
            let place = std::mem::offset_of!(RecordHeader, sk);
            if let Some(sk) = stored.get_mut(place..place + 8) {
                sk.copy_from_slice(&hidden.to_ne_bytes());
            }
        }
        if let Some((process, uid, cgroup)) = new {
            self.name_process(process, uid, cgroup, names);
        }
    }

    fn add_rare(&mut self, input: &Input<'_>, names: &mut Names) {
        match input {
            Input::Listed(kind, snapshot) => {
                let holders =
                    snapshot.holders.iter().flat_map(|holders| holders.all()).map(|holder| {
                        ((holder.pid, holder.start, holder.command), holder.uid, holder.cgroup.unwrap_or(0))
                    });
                let owners = snapshot.sockets.iter().filter_map(|socket| socket.owner);
                let owners = owners.map(|owner| ((owner.pid, owner.start, owner.command), owner.uid, owner.cgroup));
                let processes = holders.chain(owners);
                processes.clone().for_each(|(_, _, cgroup)| self.name_cgroup(cgroup, names));
                self.write_names();
                self.at(snapshot.ended_ns);
                self.frame(&Frame::Input(Input::Listed(*kind, Cow::Owned(self.hidden(snapshot)))));
                processes.for_each(|(process, uid, cgroup)| self.name_process(process, uid, cgroup, names));
            }
            other => {
                if let Some(time_ns) = other.time_ns() {
                    self.at(time_ns);
                }
                if let Input::NetnsNames(names) = other {
                    self.netns = names.to_vec();
                }
                self.write_names();
                self.frame(&Frame::Input(other.clone()));
            }
        }
    }

    /// Makes sure that the path of a cgroup is in the recording.
    fn name_cgroup(&mut self, cgroup: u64, names: &mut Names) {
        if cgroup != 0 && !self.cgroups.contains_key(&cgroup) {
            let path = names.cgroup(cgroup).map(str::to_owned);
            self.write_name(Name::Cgroup(cgroup, path));
        }
    }

    /// Makes sure that the names of a process will be in the recording: after the input for which the session may have asked
    /// for them itself.
    fn name_process(&mut self, process: Process, uid: u32, cgroup: u64, names: &mut Names) {
        let (pid, start, command) = process;
        if pid != 0 && start.is_some() && !self.processes.contains(&process) {
            self.write_names();
            let owner = Owner { pid, uid, cgroup, start, command, source: OwnerSource::Holder };
            let is_settled = names.processes.is_settled(&owner);
            if self.names.borrow_mut().drain(..).any(|name| name == Name::Refused(pid, start)) {
                return; // asked for again the next time
            }
            self.processes.insert(process);
            self.frame(&Frame::Owner(owner));
            if is_settled && let Some(known) = names.processes.of(&owner).filter(|known| known.names.is_some()) {
                // What another file of the recording has already.
                let answer = ProcessAnswer { names: known.names.as_deref().cloned(), place: known.place.clone() };
                self.frame(&Frame::Input(Input::Process(
                    ProcessQuestion { id: (pid, start), cgroup },
                    Cow::Owned(answer),
                )));
            }
        }
    }

    /// Writes what the session has looked up.
    fn write_names(&mut self) {
        if self.names.borrow().is_empty() {
            return;
        }
        let names = std::mem::take(&mut *self.names.borrow_mut());
        names.into_iter().for_each(|name| self.write_name(name));
    }

    /// Writes a name, unless it is known already.
    fn write_name(&mut self, name: Name) {
        if self.cgroups.len().max(self.processes.len()) >= MAX_NAMED {
            self.cgroups.clear();
            self.processes.clear();
        }
        match name {
            Name::Cgroup(id, path) => {
                if self.cgroups.get(&id) != Some(&path) {
                    self.cgroups.insert(id, path.clone());
                    self.frame(&Frame::Cgroup(id, path));
                }
            }
            Name::Refused(pid, start) => self.frame(&Frame::Refused(pid, start)),
        }
    }

    /// A listing without kernel addresses.
    fn hidden(&self, snapshot: &Snapshot) -> Snapshot {
        let hidden = |number: u64| if number == 0 { 0 } else { self.addresses.printed(number) };
        let mut snapshot = snapshot.clone();
        for socket in &mut snapshot.sockets {
            socket.sk = socket.sk.map(hidden);
            socket.handle = hidden(socket.handle);
        }
        snapshot.holders = snapshot.holders.map(|holders| {
            let all = holders.all().iter().map(|holder| Holder { handle: hidden(holder.handle), ..*holder });
            crate::model::holders::Holders::new(all.collect())
        });
        snapshot
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        if self.frames.frame(frame) > MAX_RAW - 2 * FULL {
            // Such a listing cannot be read again.
            let inputs = self.frames.take().map_or(0, |(_, inputs)| inputs);
            self.lose(inputs);
        }
    }

    fn at(&mut self, time_ns: u64) {
        if self.frames.inputs == 0 {
            self.times = (time_ns, time_ns);
        }
        self.times = (self.times.0.min(time_ns), self.times.1.max(time_ns));
    }

    /// Adds a sample of the kernel's counters.
    pub fn sample(&mut self, round: &Round) {
        self.at(round.mono_ns);
        self.frame(&Frame::Sample(Cow::Borrowed(round)));
    }

    /// True if a chunk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.frames.len() >= FULL
    }

    /// What came since the last chunk; `None` if nothing did.
    pub fn take(&mut self) -> Option<RawChunk> {
        let (first, last) = self.times;
        self.times = (last, last);
        let (bytes, inputs) = self.frames.take()?;
        Some(RawChunk { kind: ChunkKind::Inputs, times: first..=last, inputs, bytes })
    }

    /// Takes the memory of a chunk that was written, for the next one.
    pub fn reuse(&mut self, buffer: Vec<u8>) {
        self.frames.reuse(buffer);
    }

    /// Notes that the last chunk, with so many inputs, could not be written.
    pub fn lose(&mut self, inputs: u64) {
        self.frames.frame(&Frame::Lost(inputs));
    }

    /// Begins a file: all names are written, again.
    pub fn restart(&mut self, names: &Names) {
        self.cgroups.clear();
        self.processes.clear();
        self.last_process = None;
        let users = names.users.iter().map(|(uid, name)| (*uid, name.clone())).collect();
        self.frame(&Frame::Input(Input::Users(users)));
        let services = names.services.iter().map(|(port, name)| (*port, name.clone())).collect();
        self.frame(&Frame::Input(Input::Services(services)));
        let netns = std::mem::take(&mut self.netns);
        self.frame(&Frame::Input(Input::NetnsNames(Cow::Borrowed(&netns))));
        self.netns = netns;
    }
}
