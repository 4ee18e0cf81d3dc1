//! Splits an expression into a [`SocketFilter`], which the BPF programs can apply, and the rest.

use super::{
    eval::{Lookup, Subject},
    expr::{Expr, NetnsId, Pattern, Test},
    fields::{End, Number, Text, Which},
};
use crate::model::{
    socket_filter::{Ends, Prefix, SocketFilter},
    state::{State, StateSet},
};

/// An expression in two parts. What it selects passes both; what passes both is selected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// What a [`SocketFilter`] decides. It lets everything pass that the expression selects.
    pub sockets: SocketFilter,
    /// Networks in which the local and the remote address lie: all but those that the rest excludes.
    pub outside: Ends<Prefix>,
    /// The network namespace, if the expression selects a single one.
    pub netns: Option<NetnsId>,
    /// What remains to be decided about that which passes; `None` if nothing.
    pub rest: Option<Expr>,
}

/// Most PIDs and cgroups that are taken out of an expression; more stay in the rest.
const MAX_PIDS: usize = tcptrace_common::filter::MAX_PIDS as usize;
const MAX_CGROUPS: usize = tcptrace_common::filter::MAX_CGROUPS;
const MAX_PREFIXES: usize = tcptrace_common::filter::MAX_PREFIXES as usize;

impl Filter {
    /// True if the rest allows it.
    pub fn rest_selects(&self, subject: &dyn Subject, lookup: &mut dyn Lookup) -> bool {
        self.rest.as_ref().is_none_or(|rest| rest.selects(subject, lookup))
    }

    /// What the BPF programs decide: the socket filter, and of excluded networks what fits into their tables.
    #[must_use]
    pub fn kernel(&self) -> SocketFilter {
        let mut kernel = self.sockets.clone();
        let addresses = &mut kernel.addresses;
        let mut room =
            MAX_PREFIXES.saturating_sub(addresses.local.len() + addresses.remote.len() + addresses.any.len());
        for (slot, outside) in
            [(&mut addresses.local, &self.outside.local), (&mut addresses.remote, &self.outside.remote)]
        {
            if slot.is_empty() && outside.len() <= room {
                slot.clone_from(outside);
                room -= outside.len();
            }
        }
        kernel
    }

    /// True if the BPF programs get networks that the rest excludes.
    #[must_use]
    pub fn excludes_networks(&self) -> bool {
        let Ends { local, remote, any } = &self.outside;
        !(local.is_empty() && remote.is_empty() && any.is_empty())
    }

    /// True if everything passes.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.rest.is_none() && self.netns.is_none() && self.sockets == SocketFilter::default()
    }
}

impl Expr {
    /// Splits it into what a [`SocketFilter`] decides, and the rest.
    #[must_use]
    pub fn lower(&self) -> Filter {
        let mut filter = Filter::default();
        let parts = match self.clone().simplified(false) {
            Self::All(parts) => parts,
            other => vec![other],
        };
        let rest: Vec<_> = parts.into_iter().filter(|part| !filter.take(part)).collect();
        // A part that is not taken as it is may still say what to leave out beforehand.
        for part in &rest {
            filter.narrow(part);
        }
        filter.rest = (!rest.is_empty()).then(|| Self::all(rest));
        filter
    }

    /// What is true of all events of both ends of a connection if this is true of one of them: it is about either end, and
    /// nothing that differs from event to event. Everything where nothing is left.
    #[must_use]
    pub fn of_connection(&self) -> Self {
        fn of(part: Expr) -> Expr {
            match part {
                Expr::All(parts) => Expr::all(parts.into_iter().map(of)),
                Expr::Any(parts) => {
                    let parts: Vec<_> = parts.into_iter().map(of).collect();
                    if parts.iter().any(Expr::is_everything) { Expr::everything() } else { Expr::any(parts) }
                }
                Expr::Test(Test::Port(_, ranges)) => Expr::Test(Test::Port(End::Either, ranges)),
                Expr::Test(Test::Address(_, prefixes)) => Expr::Test(Test::Address(End::Either, prefixes)),
                Expr::Test(Test::Endpoint(_, places)) => Expr::Test(Test::Endpoint(End::Either, places)),
                Expr::Test(Test::Family(family)) => Expr::Test(Test::Family(family)),
                Expr::Not(inner) => match *inner {
                    Expr::Test(
                        Test::Port(End::Either, _) | Test::Address(End::Either, _) | Test::Endpoint(End::Either, _),
                    ) => Expr::Not(inner),
                    _ => Expr::everything(),
                },
                Expr::Test(_) => Expr::everything(),
            }
        }
        of(self.clone().simplified(false))
    }

    /// The same with negations at the tests only (De Morgan's laws hold in three-valued logic), and with tests of one field
    /// that are joined by OR as one test.
    fn simplified(self, is_negated: bool) -> Self {
        match (self, is_negated) {
            (Self::Not(inner), _) => inner.simplified(!is_negated),
            (Self::All(parts), false) | (Self::Any(parts), true) => {
                Self::all(parts.into_iter().map(|part| part.simplified(is_negated)))
            }
            (Self::Any(parts), false) | (Self::All(parts), true) => {
                let mut merged: Vec<Self> = Vec::new();
                for part in parts.into_iter().map(|part| part.simplified(is_negated)) {
                    let parts = if let Self::Any(parts) = part { parts } else { vec![part] };
                    for part in parts {
                        if !merged.iter_mut().any(|other| other.absorb(&part)) {
                            merged.push(part);
                        }
                    }
                }
                Self::any(merged)
            }
            (test, false) => test,
            (test, true) => Self::Not(Box::new(test)),
        }
    }

    /// Joins a test of the same field with OR, if both are such.
    fn absorb(&mut self, other: &Self) -> bool {
        let (Self::Test(own), Self::Test(other)) = (self, other) else { return false };
        match (own, other) {
            (Test::State(which, all), Test::State(other, more)) if which == other => {
                *all = all.iter().chain(more.iter()).collect();
            }
            (Test::Port(end, all), Test::Port(other, more)) if end == other => all.extend(more),
            (Test::Address(end, all), Test::Address(other, more)) if end == other => all.extend(more),
            (Test::Number(number, all), Test::Number(other, more)) if number == other => all.extend(more),
            _ => return false,
        }
        true
    }
}

/// The complement of a set of port ranges. 0, a local port that is not known yet, is in none; as a remote port, that of a
/// listener, it is in each.
fn complement(ranges: &[(u16, u16)], is_local: bool) -> Vec<(u16, u16)> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let (mut next, mut others) = (u32::from(is_local), Vec::new());
    for (first, last) in sorted {
        if next < u32::from(first) {
            others.push((next as u16, first - 1));
        }
        next = next.max(u32::from(last) + 1);
    }
    if let Ok(next) = u16::try_from(next) {
        others.push((next, u16::MAX));
    }
    others
}

fn intersection(one: &[(u16, u16)], other: &[(u16, u16)]) -> Vec<(u16, u16)> {
    let both = one.iter().flat_map(|a| other.iter().map(move |b| (a.0.max(b.0), a.1.min(b.1))));
    both.filter(|(first, last)| first <= last).collect()
}

/// Restricts a set, where empty means all. Returns false if nothing would be left, which a set cannot express.
fn restrict(set: &mut Vec<(u16, u16)>, to: &[(u16, u16)]) -> bool {
    let left = if set.is_empty() { to.to_vec() } else { intersection(set, to) };
    let fits = !left.is_empty();
    if fits {
        *set = left;
    }
    fits
}

impl Filter {
    /// Takes a part over whole, if the socket filter decides it exactly.
    fn take(&mut self, part: &Expr) -> bool {
        let (test, is_negated) = match part {
            Expr::Test(test) => (test, false),
            Expr::Not(inner) => match inner.as_ref() {
                Expr::Test(test) => (test, true),
                _ => return false,
            },
            _ => return false,
        };
        let sockets = &mut self.sockets;
        match (test, is_negated) {
            (Test::State(Which::Either, states), false) if sockets.states.is_empty() && !states.is_empty() => {
                sockets.states = *states;
                true
            }
            (Test::Port(End::Local, ranges), false) => restrict(&mut sockets.ports.local, ranges),
            (Test::Port(End::Remote, ranges), false) => restrict(&mut sockets.ports.remote, ranges),
            (Test::Port(End::Either, ranges), false) if sockets.ports.any.is_empty() => {
                restrict(&mut sockets.ports.any, ranges)
            }
            (Test::Port(end, ranges), true) => {
                let (mut local, mut remote) = (sockets.ports.local.clone(), sockets.ports.remote.clone());
                let fits = (*end == End::Remote || restrict(&mut local, &complement(ranges, true)))
                    && (*end == End::Local || restrict(&mut remote, &complement(ranges, false)));
                if fits {
                    (sockets.ports.local, sockets.ports.remote) = (local, remote);
                }
                fits
            }
            (Test::Address(end, prefixes), false) if prefixes.len() <= MAX_PREFIXES && !prefixes.is_empty() => {
                let slot = address_slot(sockets, *end);
                let is_free = slot.is_empty();
                if is_free {
                    slot.clone_from(prefixes);
                }
                is_free
            }
            (Test::Family(family), false) if [0, *family].contains(&sockets.family) => {
                sockets.family = *family;
                true
            }
            (Test::Netns(wanted), false) if self.netns.is_none() => match wanted.as_slice() {
                [one] => {
                    self.netns = Some(one.clone());
                    true
                }
                _ => false,
            },
            (Test::Number(Number::Pid, ranges), false) => {
                let pids: Option<Vec<u32>> = ranges
                    .iter()
                    .map(|(first, last)| u32::try_from(*first).ok().filter(|pid| u64::from(*pid) == *last))
                    .collect();
                let pids = pids.filter(|pids| !pids.is_empty() && pids.len() <= MAX_PIDS);
                let is_free = sockets.pids.is_empty() && sockets.cgroups.is_empty();
                is_free && pids.map(|pids| sockets.pids = pids).is_some()
            }
            (Test::Text(Text::Cgroup, Pattern::Below(paths)), false) if paths.len() <= MAX_CGROUPS => {
                // By the same process: the socket filter would want one that is both.
                let is_free = sockets.pids.is_empty() && sockets.cgroups.is_empty();
                if is_free {
                    sockets.cgroups.clone_from(paths);
                }
                is_free
            }
            _ => false,
        }
    }

    /// Restricts the socket filter to what `part` implies.
    fn narrow(&mut self, part: &Expr) {
        let sockets = &mut self.sockets;
        if sockets.states.is_empty()
            && let Some(states) =
                implied(part, &|test, is_negated| states_of(test, is_negated), &|mut a: StateSet, b| {
                    a = a.iter().chain(b.iter()).collect();
                    a
                })
        {
            sockets.states = states;
        }
        for end in [End::Local, End::Remote, End::Either] {
            let ports = implied(part, &|test, is_negated| ports_of(test, is_negated, end), &joined);
            let slot = match end {
                End::Local => &mut sockets.ports.local,
                End::Remote => &mut sockets.ports.remote,
                End::Either => &mut sockets.ports.any,
            };
            if let Some(ports) = ports.filter(|ports| !ports.is_empty() && slot.is_empty()) {
                *slot = ports;
            }
            let prefixes = implied(part, &|test, is_negated| prefixes_of(test, is_negated, end), &joined);
            let slot = address_slot(sockets, end);
            let fits = |prefixes: &Vec<_>| !prefixes.is_empty() && prefixes.len() <= MAX_PREFIXES && slot.is_empty();
            if let Some(prefixes) = prefixes.filter(fits) {
                *slot = prefixes;
            }
        }
        for (end, slot) in [(End::Local, &mut self.outside.local), (End::Remote, &mut self.outside.remote)] {
            if let Some(prefixes) = implied(part, &|test, is_negated| outside(test, is_negated, end), &joined)
                && slot.is_empty()
            {
                *slot = prefixes;
            }
        }
    }
}

/// All but the networks that a test excludes, as networks: the programs look addresses up in a trie, not in a list.
fn outside(test: &Test, is_negated: bool, wanted: End) -> Option<Vec<Prefix>> {
    match test {
        Test::Address(end, prefixes) if is_negated && [wanted, End::Either].contains(end) => {
            Prefix::all_but(prefixes, MAX_PREFIXES / 4)
        }
        _ => None,
    }
}

fn joined<T>(mut one: Vec<T>, other: Vec<T>) -> Vec<T> {
    one.extend(other);
    one
}

fn address_slot(sockets: &mut SocketFilter, end: End) -> &mut Vec<Prefix> {
    match end {
        End::Local => &mut sockets.addresses.local,
        End::Remote => &mut sockets.addresses.remote,
        End::Either => &mut sockets.addresses.any,
    }
}

/// A set that everything lies in which `part` selects: of AND the set of one part, of OR those of all. `None` if there is none.
/// Negations are at the tests only.
fn implied<T>(part: &Expr, of_test: &dyn Fn(&Test, bool) -> Option<T>, join: &dyn Fn(T, T) -> T) -> Option<T> {
    match part {
        Expr::Test(test) => of_test(test, false),
        Expr::Not(inner) => match inner.as_ref() {
            Expr::Test(test) => of_test(test, true),
            _ => None,
        },
        Expr::All(parts) => parts.iter().find_map(|part| implied(part, of_test, join)),
        Expr::Any(parts) => {
            let mut sets = parts.iter().map(|part| implied(part, of_test, join));
            let first = sets.next()??;
            sets.try_fold(first, |all, set| Some(join(all, set?)))
        }
    }
}

/// The states that a test implies. A transition out of a state and into another is about both.
fn states_of(test: &Test, is_negated: bool) -> Option<StateSet> {
    let Test::State(which, states) = test else { return None };
    let states: StateSet = match (which, is_negated) {
        (_, false) => *states,
        // Neither of the two states of a transition is one of these, so both are others.
        (_, true) => State::ALL.into_iter().filter(|state| !states.contains(*state)).collect(),
    };
    (!states.is_empty()).then_some(states)
}

fn ports_of(test: &Test, is_negated: bool, wanted: End) -> Option<Vec<(u16, u16)>> {
    match test {
        Test::Port(end, ranges) if *end == wanted && !is_negated => Some(ranges.clone()),
        Test::Port(end, ranges) if *end == wanted && *end != End::Either => {
            Some(complement(ranges, *end == End::Local)).filter(|others| !others.is_empty())
        }
        Test::Endpoint(end, places) if *end == wanted && !is_negated => {
            Some(places.iter().map(|(_, range)| *range).collect())
        }
        _ => None,
    }
}

fn prefixes_of(test: &Test, is_negated: bool, wanted: End) -> Option<Vec<Prefix>> {
    match test {
        Test::Address(end, prefixes) if *end == wanted && !is_negated => Some(prefixes.clone()),
        Test::Endpoint(end, places) if *end == wanted && !is_negated => {
            Some(places.iter().map(|(prefix, _)| *prefix).collect())
        }
        _ => None,
    }
}
