//! Counts instead of sending. See [`tcptrace_common::aggregate`].

use aya_ebpf::{bindings::BPF_NOEXIST, maps::PerCpuHashMap};
use tcptrace_common::{
    aggregate::{ENDING_FLAGS, KIND_ENDING, Key, OTHER, Times, UNKNOWN, bucket, by, ending_flag},
    filter::part,
    record::KIND_TRANSITION,
    state::{self, CLOSE, ESTABLISHED, LISTEN, SYN_SENT, after_close, came_in},
    tracked::Memo,
};

use crate::{
    config::config,
    emit,
    kernel::sock::{TcpSock, Tuple},
    maps::{COUNTS, KEYS, TIMES},
    probes::transition::Change,
};

/// What the first event of its kind adds to, in read-only memory.
static NO_TIMES: Times = Times::NONE;
static NO_COUNT: u64 = 0;

/// Is this the mode in which nothing is sent?
#[inline(always)]
pub(crate) fn is_on() -> bool {
    config!(aggregate) != by::OFF
}

/// Does anything depend on whose the sockets are? Where nothing is sent it mostly does not.
#[inline(always)]
pub(crate) fn owner_matters() -> bool {
    config!(filter.parts) & (part::PID | part::CGROUP) != 0 || config!(aggregate) == by::CGROUP
}

/// Does anything depend on the addresses?
#[inline(always)]
pub(crate) fn addresses_matter() -> bool {
    config!(filter.parts) & !(part::PID | part::CGROUP) != 0
        || config!(filter.netns) != 0
        || config!(filter.family) != 0
        || config!(aggregate) == by::PORT
        || owner_matters() // a connection that comes in has its listener's owner
}

/// Counts an event that is no transition, of a socket with this memory; where a listener or one of its requests is
/// meant, `listening` has its addresses.
#[inline(always)]
pub(crate) fn event(kind: u8, memo: Option<&Memo>, listening: Option<&Tuple>) {
    let key = match (config!(aggregate), listening, memo) {
        (by::PORT, Some(tuple), _) => tuple.local_port.into(),
        (_, _, Some(memo)) => key_of(memo),
        _ => UNKNOWN,
    };
    count(&Key { key, kind, ..Key::default() }, None);
}

/// Counts a transition, the time that the old state lasted, and the end of the connection; the socket is asked where one
/// comes in or ends.
#[inline(always)]
pub(crate) fn transition(sock: Option<TcpSock>, memo: &Memo, change: &Change) {
    let Change { old, flags, err, .. } = *change;
    let new = if change.new == CLOSE { after_close(old, err, flags) } else { change.new };
    let key = key_of(memo);
    count(&Key { key, kind: KIND_TRANSITION, old, new, ..Key::default() }, time_in_old(sock, memo, change));
    if new == CLOSE
        && let Some(sock) = sock
    {
        let flag = |set: bool, flag: u16| if set { flag } else { 0 };
        let was_connected = state::CONNECTED & state::bit(old) != 0;
        let facts = flag(was_connected && sock.queues(flags).0 != 0, ending_flag::UNREAD)
            | flag(old == SYN_SENT && sock.tuple().local_port != 0 && sock.unacked() == 1, ending_flag::SENT_SYN);
        let flags = flags & ENDING_FLAGS | facts;
        count(&Key { key, kind: KIND_ENDING, old, err: err as u16, flags, ..Key::default() }, None);
    }
}

/// What user space makes of a record (`decode.rs`), where the time is measured.
#[inline(always)]
fn time_in_old(sock: Option<TcpSock>, memo: &Memo, change: &Change) -> Option<u64> {
    let &Change { old, new, left_ns, now_ns, flags, .. } = change;
    if came_in(old, flags) {
        let sock = sock?;
        let srtt_us8 = sock.srtt_us8();
        let is_measured = new == ESTABLISHED && srtt_us8 != 0 && memo.syn_cookies == 0 && sock.total_retrans() == 0;
        return if is_measured { Some(u64::from(srtt_us8) * 125) } else { None };
    }
    if left_ns != 0 && now_ns >= left_ns { Some(now_ns - left_ns) } else { None }
}

#[inline(always)]
fn key_of(memo: &Memo) -> u64 {
    match config!(aggregate) {
        by::PORT => memo.netns_or_service.into(),
        by::CGROUP => memo.owner.cgroup,
        _ => UNKNOWN,
    }
}

/// Where a socket opens or comes in it shows which of its ports is the service's; of one from before the start that is
/// not known. To be called whether the event passes the filter or not.
#[inline(always)]
pub(crate) fn learn_service(memo: &mut Memo, tuple: &Tuple, old: u8, new: u8, flags: u16) {
    if config!(aggregate) != by::PORT {
        return;
    }
    if old == LISTEN || new == LISTEN || came_in(old, flags) {
        memo.netns_or_service = tuple.local_port.into();
    } else if new == SYN_SENT {
        memo.netns_or_service = tuple.remote_port.into();
    }
}

/// Counts what has this key, whose octave is 0, and its time if it has one.
#[inline(always)]
fn count(key: &Key, ns: Option<u64>) {
    let states = u64::from(key.old) << 8 | u64::from(key.new) << 16;
    let kind = u64::from(key.kind) | states | u64::from(key.err) << 32 | u64::from(key.flags) << 48;
    count_kind(key.key, kind, ns.unwrap_or(NO_TIME));
}

/// Stands for no time.
const NO_TIME: u64 = u64::MAX;

/// Counts what has the key of these two words, with or without a time. Where there is no room for the time, the event is
/// counted without it. A global function of the object: the verifier goes through it by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_kind(key: u64, kind: u64, ns: u64) -> u64 {
    let mut key = Key {
        key,
        kind: kind as u8,
        old: (kind >> 8) as u8,
        new: (kind >> 16) as u8,
        octave: 0,
        err: (kind >> 32) as u16,
        flags: (kind >> 48) as u16,
    };
    if ns != NO_TIME {
        let (octave, slot) = bucket(ns);
        key.octave = octave;
        if let Some(times) = cell(&TIMES, &NO_TIMES, &mut key) {
            // SAFETY: this CPU's own value; the slot is within it.
            unsafe {
                *(*times).counts.get_unchecked_mut(slot) += 1;
                if ns > (*times).max_ns {
                    (*times).max_ns = ns;
                }
            }
            return 0;
        }
        key.octave = 0;
    }
    if let Some(counted) = cell(&COUNTS, &NO_COUNT, &mut key) {
        // SAFETY: this CPU's own value.
        unsafe { *counted += 1 };
    }
    0
}

/// This CPU's value for `key`, made now if there is room; else that for all other keys. What finds no room is counted.
#[inline(always)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "by value it would be copied to the stack first")]
fn cell<V>(map: &PerCpuHashMap<Key, V>, blank: &'static V, key: &mut Key) -> Option<*mut V> {
    let found = map.get_ptr_mut(&*key);
    if found.is_some() {
        return found;
    }
    if !has_room_for(key.key) {
        key.key = OTHER;
        if key.kind != KIND_ENDING {
            // SAFETY: a place within the counters.
            emit::count(|counters| unsafe { &raw mut (*counters).other_keys });
        }
        let found = map.get_ptr_mut(&*key);
        if found.is_some() {
            return found;
        }
    }
    let _ = map.insert(&*key, blank, BPF_NOEXIST.into()); // fails where another CPU made it just now, or there is no room
    let found = map.get_ptr_mut(&*key);
    if found.is_none() {
        // SAFETY: a place within the counters.
        emit::count(|counters| unsafe { &raw mut (*counters).counts_full });
    }
    found
}

/// Is the port or cgroup counted apart? The first ones are.
#[inline(always)]
fn has_room_for(key: u64) -> bool {
    config!(aggregate) == by::TRANSITION
        || key == UNKNOWN
        || key == OTHER
        || KEYS.get_ptr(key).is_some()
        || KEYS.insert(key, 0, 0).is_ok()
}
