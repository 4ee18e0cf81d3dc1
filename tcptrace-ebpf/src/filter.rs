//! Decides whether an event goes to user space. See [`tcptrace_common::filter`].

use aya_ebpf::maps::lpm_trie::Key;
use tcptrace_common::{
    filter::{MAX_CGROUPS, PORT_WORDS_PER_SET, PrefixData, SET_ANY, SET_LOCAL, SET_REMOTE, part},
    record::owner_source,
    state,
    tracked::{TrackedSock, owner_match},
};

use crate::{
    config::{config, config_array},
    counters::count,
    kernel::{
        task,
        tuple::{Tuple, bytes_of},
    },
    maps::{FILTER_PIDS, FILTER_PORTS, FILTER_PREFIXES},
    mem,
};

/// Bits of a whole key of the prefix trie.
const PREFIX_BITS: u32 = 8 * size_of::<PrefixData>() as u32;

/// Whether an event passes: by its states (bits of [`state::bit`]), the socket's addresses, and its owner. Counts it if not.
#[inline(always)]
pub(crate) fn passes(states: impl FnOnce() -> u16, tuple: &Tuple, tracked: Option<&TrackedSock>) -> bool {
    let pass = states_pass(states)
        && netns_passes(tuple)
        && family_passes(tuple)
        && owner_passes(tracked)
        && (config!(filter.parts) & !(part::PID | part::CGROUP) == 0 || sets_pass(tuple));
    if !pass {
        count!(filtered);
    }
    pass
}

/// Whether a transition may pass, judged by its states alone. Counts it if not. Checked first, since it reads nothing of the
/// socket.
#[inline(always)]
pub(crate) fn transition_may_pass((old, new): (u8, u8)) -> bool {
    let becomes = if new == state::CLOSE { state::bit(state::TIME_WAIT) | state::bit(state::FIN_WAIT2) } else { 0 };
    let pass = states_pass(|| state::bit(old) | state::bit(new) | becomes);
    if !pass {
        count!(filtered);
    }
    pass
}

/// Whether the time of a transition is needed: the transition or the end of the new state may pass. Free of branches, each
/// of which the verifier would follow to the end of the program.
#[inline(always)]
pub(crate) fn needs_time((old, new): (u8, u8)) -> bool {
    let all = mem::is_zero(config!(filter.states).into());
    all | u64::from(config!(reported_states) >> (old & 31) | config!(timed_states) >> (new & 31)) & 1 != 0
}

/// Whether events of mini-sockets, or of sockets that become one, may pass.
#[inline(always)]
pub(crate) fn mini_sockets_may_pass() -> bool {
    states_pass(|| state::bit(state::TIME_WAIT) | state::bit(state::FIN_WAIT2) | state::bit(state::CLOSE))
}

/// Whether the event of a socket without a local port must wait until the kernel chooses one.
#[inline(always)]
pub(crate) fn needs_local_port(tuple: &Tuple) -> bool {
    if tuple.local_port != 0 {
        return false;
    }
    let parts = config!(filter.parts);
    parts & part::LOCAL_PORT != 0 || parts & part::ANY_PORT != 0 && !has_port(SET_ANY, tuple.remote_port)
}

/// The state of a request socket, which half of the kernel's code calls SYN_RECV.
pub(crate) const HALF_OPEN: u16 = state::bit(state::SYN_RECV);

#[inline(always)]
fn states_pass(states: impl FnOnce() -> u16) -> bool {
    let wanted = config!(filter.states);
    wanted == 0 || wanted & states() != 0
}

#[inline(always)]
fn netns_passes(tuple: &Tuple) -> bool {
    let wanted = config!(filter.netns);
    wanted == 0 || wanted == tuple.netns
}

#[inline(always)]
fn family_passes(tuple: &Tuple) -> bool {
    let wanted = config!(filter.family);
    wanted == 0 || wanted == tuple.effective_family()
}

#[inline(always)]
fn owner_passes(tracked: Option<&TrackedSock>) -> bool {
    config!(filter.parts) & (part::PID | part::CGROUP) == 0
        || tracked.is_some_and(|tracked| tracked.owner_match != owner_match::NO)
        || config!(filter.unknown_owner_passes) != 0
            && tracked.is_none_or(|tracked| tracked.owner.source == owner_source::UNKNOWN)
}

/// Not inlined: it would be the larger part of many programs, and most filters have neither ports nor prefixes.
#[inline(never)]
fn sets_pass(tuple: &Tuple) -> bool {
    ports_pass(tuple) && addresses_pass(tuple)
}

#[inline(always)]
fn ports_pass(tuple: &Tuple) -> bool {
    let parts = config!(filter.parts);
    (parts & part::LOCAL_PORT == 0 || has_port(SET_LOCAL, tuple.local_port))
        && (parts & part::REMOTE_PORT == 0 || has_port(SET_REMOTE, tuple.remote_port))
        && (parts & part::ANY_PORT == 0 || has_port(SET_ANY, tuple.local_port) || has_port(SET_ANY, tuple.remote_port))
}

#[inline(always)]
fn has_port(set: u8, port: u16) -> bool {
    let word = u32::from(set) * PORT_WORDS_PER_SET + u32::from(port >> 6);
    FILTER_PORTS.get(word).is_some_and(|bits| bits >> (port & 63) & 1 != 0)
}

#[inline(always)]
fn addresses_pass(tuple: &Tuple) -> bool {
    let parts = config!(filter.parts);
    (parts & part::LOCAL_ADDRESS == 0 || has_address(SET_LOCAL, tuple.local))
        && (parts & part::REMOTE_ADDRESS == 0 || has_address(SET_REMOTE, tuple.remote))
        && (parts & part::ANY_ADDRESS == 0 || has_address(SET_ANY, tuple.local) || has_address(SET_ANY, tuple.remote))
}

#[inline(always)]
fn has_address(set: u8, address: [u64; 2]) -> bool {
    FILTER_PREFIXES.get(Key::new(PREFIX_BITS, PrefixData { set, address: bytes_of(address) })).is_some()
}

/// Whether a task of this process passes the filter by PID and cgroup.
#[inline(always)]
pub(crate) fn task_passes(pid: u32, task: impl FnOnce() -> u64) -> bool {
    let parts = config!(filter.parts);
    if parts & part::PID != 0 && FILTER_PIDS.get_ptr(pid).is_none() {
        return false;
    }
    parts & part::CGROUP == 0 || is_in_cgroups(task())
}

/// Whether the filter names this PID.
#[inline(always)]
pub(crate) fn names_pid(pid: u32) -> bool {
    config!(filter.parts) & part::PID != 0 && FILTER_PIDS.get_ptr(pid).is_some()
}

/// Whether the task is in one of the filter's cgroups, or below one. Not inlined: the unrolled loop would be most of the
/// object.
#[inline(never)]
fn is_in_cgroups(task: u64) -> bool {
    let Some(cgroup) = task::cgroup(task) else {
        return false;
    };
    for index in 0..MAX_CGROUPS {
        let id = config_array!(filter.cgroups[index]);
        if id == 0 {
            return false;
        }
        if task::ancestor_id(cgroup, config_array!(filter.cgroup_levels[index])) == Some(id) {
            return true;
        }
    }
    false
}
