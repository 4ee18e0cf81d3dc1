//! Decides in the kernel whether an event goes to user space. See [`tcptrace_common::filter`].

use aya_ebpf::maps::lpm_trie::Key;
use tcptrace_common::{
    filter::{PORT_WORDS_PER_SET, PrefixData, SET_ANY, SET_LOCAL, SET_REMOTE, part},
    record::owner_source,
    state,
    tracked::{Memo, owner_match},
};

use crate::{
    config::config,
    emit::count,
    kernel::sock::Tuple,
    maps::{FILTER_PORTS, FILTER_PREFIXES},
    mem,
};

/// Bits of a whole key of the prefix trie.
const PREFIX_BITS: u32 = 8 * size_of::<PrefixData>() as u32;

/// Does an event pass that concerns the states that `states` gives (bits of [`state::bit`]), and a socket with these
/// addresses and this memory? What does not pass is counted.
#[inline(always)]
pub(crate) fn passes(states: impl FnOnce() -> u16, tuple: &Tuple, memo: Option<&Memo>) -> bool {
    let pass = states_pass(states)
        && netns_passes(tuple)
        && family_passes(tuple)
        && owner_passes(memo)
        && (config!(filter.parts) & !(part::PID | part::CGROUP) == 0 || sets_pass(tuple));
    if !pass {
        count_filtered();
    }
    pass
}

/// May a transition pass, by its states? What does not is counted. Asked first, since it takes nothing of the socket.
#[inline(always)]
pub(crate) fn may_pass((old, new): (u8, u8)) -> bool {
    let becomes = if new == state::CLOSE { state::bit(state::TIME_WAIT) | state::bit(state::FIN_WAIT2) } else { 0 };
    let pass = states_pass(|| state::bit(old) | state::bit(new) | becomes);
    if !pass {
        count_filtered();
    }
    pass
}

/// Is the time of this transition of use? It is where the transition may pass, or the new state's end may. Without branches,
/// each of which the verifier would follow to the end of the program.
#[inline(always)]
pub(crate) fn is_timed((old, new): (u8, u8)) -> bool {
    let all = mem::is_zero(config!(filter.states).into());
    all | u64::from(config!(told) >> (old & 31) | config!(timed) >> (new & 31)) & 1 != 0
}

#[inline(always)]
pub(crate) fn count_filtered() {
    // SAFETY: a place within the counters.
    count(|counters| unsafe { &raw mut (*counters).filtered });
}

/// May events of mini-sockets pass, or of what becomes one?
#[inline(always)]
pub(crate) fn minis_may_pass() -> bool {
    states_pass(|| state::bit(state::TIME_WAIT) | state::bit(state::FIN_WAIT2) | state::bit(state::CLOSE))
}

/// Must the event of a socket without a local port wait until the port is chosen?
#[inline(always)]
pub(crate) fn waits_for_port(tuple: &Tuple) -> bool {
    if tuple.local_port != 0 {
        return false;
    }
    let parts = config!(filter.parts);
    parts & part::LOCAL_PORT != 0 || parts & part::ANY_PORT != 0 && !has_port(SET_ANY, tuple.remote_port)
}

/// Bits of the states that a request socket, which half of the kernel's code calls SYN_RECV, counts as.
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
    wanted == 0 || wanted == tuple.shown_family()
}

#[inline(always)]
fn owner_passes(memo: Option<&Memo>) -> bool {
    config!(filter.parts) & (part::PID | part::CGROUP) == 0
        || memo.is_some_and(|memo| memo.owner_matches != owner_match::NO)
        || config!(filter.unknown_owner_passes) != 0
            && memo.is_none_or(|memo| memo.owner.source == owner_source::UNKNOWN)
}

/// Not inlined: where there are no ports and prefixes, as mostly, it is the larger part of many programs.
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
    let address = (u128::from(address[0]) | u128::from(address[1]) << 64).to_le_bytes();
    FILTER_PREFIXES.get(Key::new(PREFIX_BITS, PrefixData { set, address })).is_some()
}
