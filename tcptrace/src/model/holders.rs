//! Processes that hold sockets through file descriptors.

use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::event::{Command, Owner, OwnerSource, Process, ProcessId, StartTicks};

/// One file descriptor of a process that refers to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Identifies the socket: see [`ListedSocket::handle`](crate::model::socket::ListedSocket::handle).
    pub handle: u64,
    /// PID in the initial PID namespace, or in the one that tcptrace runs in.
    pub pid: u32,
    /// PID in the innermost namespace of the process: the PID inside its container.
    pub ns_pid: u32,
    /// Number of the descriptor in that process.
    pub fd: u32,
    /// Real UID of the process.
    pub uid: u32,
    /// Id of its cgroup in the v2 hierarchy; `None` if unknown.
    pub cgroup: Option<u64>,
    /// Start time of the process, if known.
    pub start: Option<StartTicks>,
    /// Command name (`comm`) of the process.
    pub command: Command,
}

impl Holder {
    /// Makes the process the owner of the socket.
    #[must_use]
    pub fn owner(&self, source: OwnerSource) -> Owner {
        Process::from(self).as_owner(source)
    }

    /// PID and start time.
    #[must_use]
    pub const fn id(&self) -> ProcessId {
        (self.pid, self.start)
    }
}

/// Holders by socket. Clones share the data, so that cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    all: Arc<Vec<Holder>>,
    /// Range of each socket's holders in `all`.
    places: Arc<FxHashMap<u64, (u32, u32)>>,
}

impl Holders {
    /// Sorts the holders by socket, then PID, then descriptor.
    #[must_use]
    pub fn new(mut all: Vec<Holder>) -> Self {
        all.sort_unstable_by_key(|holder| (holder.handle, holder.pid, holder.fd));
        let mut places = FxHashMap::with_capacity_and_hasher(all.len(), FxBuildHasher);
        let mut start = 0;
        for holders in all.chunk_by(|one, other| one.handle == other.handle) {
            let end = start + holders.len() as u32;
            places.insert(holders[0].handle, (start, end));
            start = end;
        }
        Self { all: Arc::new(all), places: Arc::new(places) }
    }

    /// Holders of the socket with this [`ListedSocket::handle`](crate::model::socket::ListedSocket::handle).
    #[must_use]
    pub fn of(&self, handle: u64) -> &[Holder] {
        match self.places.get(&handle) {
            Some(&(start, end)) if handle != 0 => self.all.get(start as usize..end as usize).unwrap_or_default(),
            _ => &[],
        }
    }

    /// All holders, sorted by socket.
    #[must_use]
    pub fn all(&self) -> &[Holder] {
        &self.all
    }
}

impl Serialize for Holders {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.all.as_slice().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Holders {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Vec::deserialize(from).map(Self::new)
    }
}
