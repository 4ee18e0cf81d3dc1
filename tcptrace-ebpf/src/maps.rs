//! The maps. Their sizes here are placeholders where user space sets them by flag.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, PerCpuHashMap, RingBuf},
};
use tcptrace_common::{
    aggregate::{Key, Times},
    filter::{MAX_PIDS, MAX_PREFIXES, PORT_WORDS, PrefixData},
    listener::{Listener, ListenerKey},
    listing::{HolderEntry, Request, SocketEntry},
    ring::{Counters, Cpu, Slot},
    tracked::{Memo, WAYS},
};

/// The records for user space: the rings of all CPUs, one after another.
#[map]
pub(crate) static SLOTS: Array<Slot> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The CPUs by number: how far their rings are written and read.
#[map]
pub(crate) static CPUS: Array<Cpu> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Counters of each CPU. Not in [`CPUS`]: from 6.14 on the verifier knows that a place with a constant number is there, and
/// spares itself to follow what would happen else.
#[map]
pub(crate) static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// Wakes user space, and takes all records where CPUs have no rings.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Whose the places of [`MEMOS`] are, see `tracked`.
#[map]
pub(crate) static MEMO_KEYS: Array<[u64; WAYS as usize]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What is remembered of each socket, and behind that a memo for each CPU. On pages of its own, and so each in one line of
/// the cache.
#[map]
pub(crate) static MEMOS: Array<Memo> = Array::with_max_entries(WAYS, BPF_F_MMAPABLE);

/// Listeners by address.
#[map]
pub(crate) static LISTENERS: HashMap<ListenerKey, Listener> = HashMap::with_max_entries(1 << 16, BPF_F_NO_PREALLOC);

/// What the iterators are to do.
#[map]
pub(crate) static REQUEST: Array<Request> = Array::with_max_entries(1, 0);

/// Where the entry for a socket is put together.
#[map]
pub(crate) static SOCKET_ENTRY: PerCpuArray<SocketEntry> = PerCpuArray::with_max_entries(1, 0);

/// Where the entry for a holder is put together.
#[map]
pub(crate) static HOLDER_ENTRY: PerCpuArray<HolderDraft> = PerCpuArray::with_max_entries(1, 0);

/// An entry, and whose it is: the descriptors of one task come one after another, and its part stays the same.
#[repr(C)]
pub(crate) struct HolderDraft {
    /// Number of the iterator's run.
    pub(crate) session: u64,
    /// Address of the task.
    pub(crate) task: u64,
    /// The entry.
    pub(crate) entry: HolderEntry,
}

/// Filter: bitmaps of ports, one after another for each set.
#[map]
pub(crate) static FILTER_PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);

/// Filter: prefixes of addresses.
#[map]
pub(crate) static FILTER_PREFIXES: LpmTrie<PrefixData, u8> = LpmTrie::with_max_entries(MAX_PREFIXES, BPF_F_NO_PREALLOC);

/// Filter: PIDs.
#[map]
pub(crate) static FILTER_PIDS: HashMap<u32, u8> = HashMap::with_max_entries(MAX_PIDS, 0);

/// Aggregate mode: the times of transitions. Preallocated, as are the next two.
#[map]
pub(crate) static TIMES: PerCpuHashMap<Key, Times> = PerCpuHashMap::with_max_entries(1, 0);

/// Aggregate mode: how often what has no time happened.
#[map]
pub(crate) static COUNTS: PerCpuHashMap<Key, u64> = PerCpuHashMap::with_max_entries(1, 0);

/// Aggregate mode: the ports or cgroups that are counted apart.
#[map]
pub(crate) static KEYS: HashMap<u64, u8> = HashMap::with_max_entries(1, 0);
