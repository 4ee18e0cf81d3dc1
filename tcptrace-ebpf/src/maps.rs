//! All BPF maps. Sizes that depend on flags are placeholders here; user space sets them before loading.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, PerCpuHashMap, RingBuf},
};
use tcptrace_common::{
    aggregate::{CountKey, OctaveTimes},
    counters::Counters,
    filter::{MAX_PIDS, MAX_PREFIXES, PORT_WORDS, PrefixData},
    listener::{Listener, ListenerKey},
    listing::{HolderEntry, ListingRequest, SocketEntry},
    ring::{CpuRing, Slot},
    tracked::{TrackedSock, WAYS},
};

/// The slots of all CPUs' rings, one ring after another.
#[map]
pub(crate) static SLOTS: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Ring positions by CPU number.
#[map]
pub(crate) static CPU_RINGS: Array<CpuRing> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Counters of each CPU. Not part of [`CPU_RINGS`]: since 6.14 the verifier knows that a lookup with a constant index
/// succeeds, and skips the path on which it fails.
#[map]
pub(crate) static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// Wakes user space. Carries all records if CPUs have no rings.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Keys of the slots in [`TRACKED`], by set, see `tracked`.
#[map]
pub(crate) static TRACKED_KEYS: Array<[u64; WAYS as usize]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Tracked sockets by slot, then a spare one for each CPU. The map is page-aligned, so each fits a cache line.
#[map]
pub(crate) static TRACKED: Array<TrackedSock> = Array::with_max_entries(WAYS, BPF_F_MMAPABLE);

/// Listeners by address.
#[map]
pub(crate) static LISTENERS: HashMap<ListenerKey, Listener> = HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);

/// User space's request to the iterators.
#[map]
pub(crate) static REQUEST: Array<ListingRequest> = Array::with_max_entries(1, 0);

/// Scratch space for an entry of the socket iterator.
#[map]
pub(crate) static SOCKET_ENTRY: PerCpuArray<SocketEntry> = PerCpuArray::with_max_entries(1, 0);

/// Scratch space for an entry of the holder iterator.
#[map]
pub(crate) static HOLDER_ENTRY: PerCpuArray<HolderScratch> = PerCpuArray::with_max_entries(1, 0);

/// An entry and the task it describes. The iterator visits the descriptors of a task one after another, so the task's part
/// of the entry is filled in once.
#[repr(C)]
pub(crate) struct HolderScratch {
    /// Session id of the iterator run.
    pub(crate) session: u64,
    /// Address of the task.
    pub(crate) task: u64,
    pub(crate) entry: HolderEntry,
}

/// Filter: bitmaps of ports, one after another for each set.
#[map]
pub(crate) static FILTER_PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);

/// Filter: address prefixes.
#[map]
pub(crate) static FILTER_PREFIXES: LpmTrie<PrefixData, u8> = LpmTrie::with_max_entries(MAX_PREFIXES, BPF_F_NO_PREALLOC);

/// Filter: PIDs of owners.
#[map]
pub(crate) static FILTER_PIDS: HashMap<u32, u8> = HashMap::with_max_entries(MAX_PIDS, 0);

/// Aggregate mode: durations by octave. This map and the next two are preallocated.
#[map]
pub(crate) static TIMES: PerCpuHashMap<CountKey, OctaveTimes> = PerCpuHashMap::with_max_entries(1, 0);

/// Aggregate mode: counts of events without a duration.
#[map]
pub(crate) static COUNTS: PerCpuHashMap<CountKey, u64> = PerCpuHashMap::with_max_entries(1, 0);

/// Aggregate mode: the ports or cgroups that have a group of their own.
#[map]
pub(crate) static GROUPS: HashMap<u64, u8> = HashMap::with_max_entries(1, 0);
