//! Aggregate mode: counts events instead of sending them. See [`tcptrace_common::aggregate`].

use aya_ebpf::{bindings::BPF_NOEXIST, maps::PerCpuHashMap};
use tcptrace_common::{
    aggregate::{CLOSE_FLAGS, CountKey, KIND_CLOSED, OTHER, OctaveTimes, UNKNOWN, bucket_of, by, close_flag},
    filter::part,
    record::KIND_TRANSITION,
    state::{self, CLOSE, ESTABLISHED, LISTEN, SYN_SENT, after_close, is_passive_open},
    tracked::TrackedSock,
};

use crate::{
    change::Change,
    config::config,
    counters::count,
    kernel::{sock::TcpSock, tuple::Tuple},
    maps::{COUNTS, GROUPS, TIMES},
};

/// Initial values of map entries, in read-only memory.
static NO_TIMES: OctaveTimes = OctaveTimes::NONE;
static NO_COUNT: u64 = 0;

/// Whether the programs count events instead of sending them.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    config!(aggregate) != by::OFF
}

/// Whether the filter or the grouping depends on the owners of sockets.
#[inline(always)]
pub(crate) fn needs_owner() -> bool {
    config!(filter.parts) & (part::PID | part::CGROUP) != 0 || config!(aggregate) == by::CGROUP
}

/// Whether the filter or the grouping depends on addresses.
#[inline(always)]
pub(crate) fn needs_addresses() -> bool {
    config!(filter.parts) & !(part::PID | part::CGROUP) != 0
        || config!(filter.netns) != 0
        || config!(filter.family) != 0
        || config!(aggregate) == by::PORT
        || needs_owner() // a new connection inherits the owner of the listener at its address
}

/// Counts an event other than a transition. For a listener or one of its requests, `listening` has the addresses.
#[inline(always)]
pub(crate) fn count_event(kind: u8, tracked: Option<&TrackedSock>, listening: Option<&Tuple>) {
    let group = match (config!(aggregate), listening, tracked) {
        (by::PORT, Some(tuple), _) => tuple.local_port.into(),
        (_, _, Some(tracked)) => group_of(tracked),
        _ => UNKNOWN,
    };
    add(&CountKey { group, kind, ..CountKey::default() }, None);
}

/// Counts a transition if it passes the filter, with the duration of the old state. Also counts a connection that closes.
/// `sock` is needed only for a passive open and a close.
#[inline(always)]
pub(crate) fn count_change(sock: Option<TcpSock>, tracked: &TrackedSock, tuple: &Tuple, change: &Change) {
    if !change.passes(tuple, tracked) {
        return;
    }
    let Change { old, flags, err, .. } = *change;
    let new = if change.new == CLOSE { after_close(old, err, flags) } else { change.new };
    let group = group_of(tracked);
    let key = CountKey { group, kind: KIND_TRANSITION, old, new, ..CountKey::default() };
    add(&key, time_in_old_ns(sock, tracked, change));
    if new == CLOSE
        && let Some(sock) = sock
    {
        let flag = |set: bool, flag: u16| if set { flag } else { 0 };
        let was_connected = state::CONNECTED & state::bit(old) != 0;
        let facts = flag(was_connected && sock.queues(flags).0 != 0, close_flag::UNREAD)
            | flag(old == SYN_SENT && sock.tuple().local_port != 0 && sock.unacked() == 1, close_flag::SENT_SYN);
        let flags = flags & CLOSE_FLAGS | facts;
        add(&CountKey { group, kind: KIND_CLOSED, old, err: err as u16, flags, ..CountKey::default() }, None);
    }
}

/// The duration that user space would derive from a record (`decode.rs`), if it was measured.
#[inline(always)]
fn time_in_old_ns(sock: Option<TcpSock>, tracked: &TrackedSock, change: &Change) -> Option<u64> {
    let &Change { old, new, entered_ns, now_ns, flags, .. } = change;
    if is_passive_open(old, flags) {
        let sock = sock?;
        let srtt_us8 = sock.srtt_us8();
        let is_measured = new == ESTABLISHED && srtt_us8 != 0 && tracked.syn_cookies == 0 && sock.total_retrans() == 0;
        return if is_measured { Some(u64::from(srtt_us8) * 125) } else { None };
    }
    if entered_ns != 0 && now_ns >= entered_ns { Some(now_ns - entered_ns) } else { None }
}

#[inline(always)]
fn group_of(tracked: &TrackedSock) -> u64 {
    match config!(aggregate) {
        by::PORT => tracked.netns_or_service_port.into(),
        by::CGROUP => tracked.owner.cgroup,
        _ => UNKNOWN,
    }
}

/// Records which port is the service port when a socket connects, listens or is accepted. Unknown for sockets older than
/// the tracer. Call this whether or not the event passes the filter.
#[inline(always)]
pub(crate) fn infer_service_port(tracked: &mut TrackedSock, tuple: &Tuple, old: u8, new: u8, flags: u16) {
    if config!(aggregate) != by::PORT {
        return;
    }
    if old == LISTEN || new == LISTEN || is_passive_open(old, flags) {
        tracked.netns_or_service_port = tuple.local_port.into();
    } else if new == SYN_SENT {
        tracked.netns_or_service_port = tuple.remote_port.into();
    }
}

/// Adds an event to the counts of a key, whose octave is 0.
#[inline(always)]
fn add(key: &CountKey, ns: Option<u64>) {
    let states = u64::from(key.old) << 8 | u64::from(key.new) << 16;
    let kind = u64::from(key.kind) | states | u64::from(key.err) << 32 | u64::from(key.flags) << 48;
    add_event(key.group, kind, ns.unwrap_or(NO_TIME));
}

/// Passed instead of a duration.
const NO_TIME: u64 = u64::MAX;

/// Adds an event, with its key packed into two words. If there is no room for its duration, counts the event without it. A
/// global function, which the verifier checks on its own.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn add_event(group: u64, kind: u64, ns: u64) -> u64 {
    let mut key = CountKey {
        group,
        kind: kind as u8,
        old: (kind >> 8) as u8,
        new: (kind >> 16) as u8,
        octave: 0,
        err: (kind >> 32) as u16,
        flags: (kind >> 48) as u16,
    };
    if ns != NO_TIME {
        let (octave, bucket) = bucket_of(ns);
        key.octave = octave;
        if let Some(times) = value_of(&TIMES, &NO_TIMES, &mut key) {
            // SAFETY: the value of this CPU; the bucket is within it.
            unsafe {
                *(*times).counts.get_unchecked_mut(bucket) += 1;
                if ns > (*times).max_ns {
                    (*times).max_ns = ns;
                }
            }
            return 0;
        }
        key.octave = 0;
    }
    if let Some(count) = value_of(&COUNTS, &NO_COUNT, &mut key) {
        // SAFETY: the value of this CPU.
        unsafe { *count += 1 };
    }
    0
}

/// This CPU's value for a key, created if there is room, else the value for [`OTHER`]. Counts the event if there is none.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "by value it would be copied to the stack first")]
fn value_of<V>(map: &PerCpuHashMap<CountKey, V>, initial: &'static V, key: &mut CountKey) -> Option<*mut V> {
    let found = map.get_ptr_mut(&*key);
    if found.is_some() {
        return found;
    }
    if !has_room_for(key.group) {
        key.group = OTHER;
        if key.kind != KIND_CLOSED {
            count!(other_keys);
        }
        let found = map.get_ptr_mut(&*key);
        if found.is_some() {
            return found;
        }
    }
    let _ = map.insert(&*key, initial, BPF_NOEXIST.into()); // fails if another CPU was faster, or the map is full
    let found = map.get_ptr_mut(&*key);
    if found.is_none() {
        count!(counts_full);
    }
    found
}

/// Whether a port or cgroup has a group of its own. The first ones have.
#[inline(always)]
fn has_room_for(group: u64) -> bool {
    config!(aggregate) == by::TRANSITION
        || group == UNKNOWN
        || group == OTHER
        || GROUPS.get_ptr(group).is_some()
        || GROUPS.insert(group, 0, 0).is_ok()
}
