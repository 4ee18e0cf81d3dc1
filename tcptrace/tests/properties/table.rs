//! The table against the truth: random lives of sockets, their events, and listings at any point of the stream.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
};

use proptest::{bool, collection::vec, prelude::*, sample::Index};
use tcptrace::{
    model::{
        event::{Event, EventKind, Socket, StateSource, Transition},
        namespace::Namespace,
        notice::Reconciled,
        snapshot::Snapshot,
        socket::{Kind, ListedSocket, Timer, TimerKind},
        state::{State, StateSet},
    },
    table::Table,
};

use crate::support::listing;

/// How events and listings name sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    /// Both by address and cookie: BPF iterators.
    Iterators,
    /// Listings by cookie alone: sock_diag.
    SockDiag,
    /// The same, and a socket has no cookie before a listing shows it: before 5.12.
    LateCookies,
}

/// What a socket is at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Gone,
    Full(State),
    Mini(State),
}
use Shape::{Full, Gone, Mini};

#[derive(Debug)]
struct Life {
    sk: u64,
    cookie: u64,
    /// What it becomes, and when.
    steps: Vec<(u64, Shape)>,
}

impl Life {
    fn at(&self, time_ns: u64) -> Shape {
        self.steps.iter().rev().find(|(since_ns, _)| *since_ns <= time_ns).map_or(Gone, |(_, shape)| *shape)
    }

    /// No two sockets have the same ends.
    fn ends(&self) -> (SocketAddr, SocketAddr) {
        let remote = if self.steps[0].1 == Full(State::Listen) { "0.0.0.0:0" } else { "10.0.0.2:443" };
        (SocketAddr::new([10, 0, 0, 1].into(), u16::try_from(self.cookie).unwrap()), remote.parse().unwrap())
    }

    fn listed(&self, time_ns: u64, naming: Naming) -> Option<ListedSocket> {
        let (kind, state) = match self.at(time_ns) {
            Gone => return None,
            Full(state) => (Kind::Full, state),
            Mini(state) => (Kind::Mini, state),
        };
        let (local, remote) = self.ends();
        let timer = (kind == Kind::Mini).then_some(Timer { kind: TimerKind::TimeWait, left_ns: 1 });
        let sk = (naming == Naming::Iterators).then_some(self.sk);
        let socket = listing::socket(self.cookie, state, &local.to_string(), &remote.to_string());
        Some(ListedSocket { sk, cookie: Some(self.cookie), kind, timer, ..socket })
    }
}

/// A change of a socket that makes an event.
#[derive(Clone, Copy, Debug)]
struct Change {
    life: usize,
    time_ns: u64,
    old: State,
    new: Shape,
}

/// Changes come at multiples of this; all else between them.
const STEP_NS: u64 = 100;
/// Few addresses, so that they are used again.
const ADDRESSES: u64 = 4;

const fn between(step: usize) -> u64 {
    step as u64 * STEP_NS + STEP_NS / 2
}

fn next_shapes(shape: Shape) -> &'static [Shape] {
    use State::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent, TimeWait};
    match shape {
        Full(SynSent | SynRecv) => &[Full(Established), Full(Established), Gone],
        Full(Established) => &[Full(FinWait1), Full(CloseWait), Gone],
        Full(FinWait1) => &[Full(FinWait2), Full(Closing), Mini(TimeWait), Gone],
        Full(FinWait2) => &[Mini(FinWait2), Mini(TimeWait), Gone],
        Full(Closing) => &[Mini(TimeWait), Gone],
        Full(CloseWait) => &[Full(LastAck), Gone],
        Mini(FinWait2) => &[Mini(TimeWait), Gone],
        Full(Listen | LastAck) | Mini(_) => &[Gone],
        Full(other) => panic!("{other} is not entered"),
        Gone => &[Full(Listen), Full(SynSent), Full(SynRecv)],
    }
}

/// Lives by a script: at each step a socket is opened, or one of those that there are changes.
fn lives(script: &[(bool, Index, Index)]) -> (Vec<Life>, Vec<Change>) {
    let (mut lives, mut changes) = (Vec::<Life>::new(), Vec::new());
    for ((opens, which, what), time_ns) in script.iter().zip((1..).map(|step| step * STEP_NS)) {
        let alive: Vec<_> = (0..lives.len()).filter(|life| lives[*life].at(time_ns) != Gone).collect();
        let is_free =
            |sk: &u64| !alive.iter().any(|life| lives[*life].sk == *sk && matches!(lives[*life].at(time_ns), Full(_)));
        let life = match (1..=ADDRESSES).map(|address| 0xffff_8881_0000_0000 + address).find(is_free) {
            Some(sk) if *opens || alive.is_empty() => {
                lives.push(Life { sk, cookie: lives.len() as u64 + 1000, steps: Vec::new() });
                lives.len() - 1
            }
            _ => alive[which.index(alive.len())],
        };
        let old = lives[life].at(time_ns);
        let new = *what.get(next_shapes(old));
        lives[life].steps.push((time_ns, new));
        let old = match (old, new) {
            (Full(state), _) => state,
            (Gone, Full(State::SynRecv)) => State::Listen,
            (Gone, _) => State::Close,
            (Mini(_), _) => continue, // makes no event
        };
        changes.push(Change { life, time_ns, old, new });
    }
    (lives, changes)
}

/// A listing: when it is about to begin, begins, ends and is taken in, between which steps, and how many of the events
/// that have happened by the first and the last of these have not arrived yet.
#[derive(Clone, Debug)]
struct Looking {
    about_to: usize,
    begins: usize,
    ends: usize,
    taken_in: usize,
    late: (usize, usize),
    salt: u64,
}

impl Looking {
    /// When a socket is looked at.
    fn look_ns(&self, life: &Life) -> u64 {
        let steps = (self.ends - self.begins) as u64 + 1;
        between(self.begins) + (life.cookie.wrapping_mul(0x9e37_79b9) ^ self.salt) % steps * STEP_NS
    }
}

fn any_lookings(late: bool) -> impl Strategy<Value = Vec<([Index; 4], (usize, usize), u64)>> {
    let late = if late { 0..12usize } else { 0..1 };
    vec((any::<[Index; 4]>(), (late.clone(), late), any::<u64>()), 1..4)
}

/// One after the other, within `steps`.
fn lookings(parts: &[([Index; 4], (usize, usize), u64)], steps: usize) -> Vec<Looking> {
    let mut times: Vec<_> = parts.iter().flat_map(|(times, ..)| times.map(|time| time.index(steps + 1))).collect();
    times.sort_unstable();
    let looking = |(times, (_, late, salt)): (&[usize], &(_, (usize, usize), u64))| Looking {
        about_to: times[0],
        begins: times[1],
        ends: times[2],
        taken_in: times[3],
        late: *late,
        salt: *salt,
    };
    times.chunks(4).zip(parts).map(looking).collect()
}

/// The table and what it is compared with.
struct Run {
    naming: Naming,
    lives: Vec<Life>,
    changes: Vec<Change>,
    /// By change.
    lost: Vec<bool>,
    arrived: usize,
    clock_ns: u64,
    /// Since when a socket has a cookie.
    named_ns: HashMap<usize, u64>,
    table: Table,
    /// Events that were marked as such after a gap, by change.
    after_gap: Vec<usize>,
    /// What polls told, with the local port.
    told: Vec<(u16, State, State)>,
}

impl Run {
    fn new(naming: Naming, script: &[(bool, Index, Index)], lost: impl Fn(&Change) -> bool) -> Self {
        let (lives, changes) = lives(script);
        let lost = changes.iter().map(lost).collect();
        let table = Table::new(1000, StateSet::default(), true);
        let (named_ns, after_gap, told) = (HashMap::new(), Vec::new(), Vec::new());
        Self { naming, lives, changes, lost, arrived: 0, clock_ns: 0, named_ns, table, after_gap, told }
    }

    fn event(&self, change: &Change) -> Event {
        let life = &self.lives[change.life];
        let (new, source) = match change.new {
            Gone => (State::Close, StateSource::Observed),
            Full(state) => (state, StateSource::Observed),
            Mini(state) => (state, StateSource::Inferred),
        };
        let is_named = self.naming != Naming::LateCookies
            || self.named_ns.get(&change.life).is_some_and(|named_ns| *named_ns < change.time_ns);
        let (local, remote) = life.ends();
        Event {
            cpu: Some(0),
            ..Event::new(
                change.time_ns,
                Socket {
                    sk: Some(life.sk),
                    cookie: is_named.then_some(life.cookie),
                    netns: Some(listing::NETNS),
                    ipv6: false,
                    state: change.old,
                    local,
                    remote,
                    flags: 0,
                },
                EventKind::Transition(Transition { source, ..Transition::new(change.old, new) }),
            )
        }
    }

    /// Events arrive, up to those of `until_ns` but for the last `late`.
    fn arrive(&mut self, until_ns: u64, late: usize) {
        let happened = self.changes.partition_point(|change| change.time_ns <= until_ns);
        while self.arrived + late < happened {
            if !self.lost[self.arrived] {
                let mut event = self.event(&self.changes[self.arrived]);
                self.table.ingest(&mut event);
                self.after_gap.extend(event.after_gap.then_some(self.arrived));
            }
            self.arrived += 1;
        }
    }

    fn look(&mut self, looking: &Looking) -> Reconciled {
        self.arrive(between(looking.about_to), looking.late.0);
        self.table.begin_listing();
        let mut sockets = Vec::new();
        // Events that come before a socket is looked at are without its cookie, those after have it.
        for (index, life) in self.lives.iter().enumerate() {
            let look_ns = looking.look_ns(life);
            if let Some(socket) = life.listed(look_ns, self.naming) {
                self.named_ns.entry(index).or_insert(look_ns);
                sockets.push(socket);
            }
        }
        sockets.sort_by_key(|socket| socket.cookie.map(|cookie| cookie.wrapping_mul(looking.salt | 1)));
        self.clock_ns += 2; // no listing begins when another ends
        let snapshot = Snapshot {
            started_ns: between(looking.begins) + self.clock_ns,
            ended_ns: between(looking.ends) + self.clock_ns + 1,
            sockets,
            namespaces: vec![Namespace { inode: listing::NETNS, ..Namespace::default() }],
            ..Snapshot::default()
        };
        self.arrive(between(looking.taken_in), looking.late.1);
        let told = &mut self.told;
        let reconciled = self.table.reconcile(
            &snapshot,
            |_, _| true,
            |event| {
                let EventKind::Transition(transition) = event.what else { panic!("{event:?}") };
                assert_eq!((event.cpu, transition.source), (None, StateSource::Polled));
                told.push((event.socket.local.port(), transition.old, transition.new));
            },
        );
        for (port, _, new) in &self.told {
            let life = &self.lives[usize::from(*port) - 1000];
            let now = life.at(snapshot.ended_ns);
            assert!(now == Gone || *new == State::TimeWait && now == Mini(State::TimeWait), "{new} of {life:?}");
        }
        reconciled
    }

    /// Sockets that the table has, by local port, full ones or mini-sockets. None is there twice.
    fn found(&self, minis: bool) -> BTreeMap<u16, State> {
        let mut found = BTreeMap::new();
        for known in self
            .table
            .connections()
            .filter(|known| (known.handle() == Some(0) || known.expires_ns().is_some()) == minis)
        {
            assert_eq!(found.insert(known.local().port(), known.state), None, "twice: {known:?}");
        }
        found
    }

    /// The same in truth.
    fn truth(&self, minis: bool, time_ns: u64) -> BTreeMap<u16, State> {
        let alive = self.lives.iter().filter_map(|life| match life.at(time_ns) {
            Full(state) if !minis => Some((life.ends().0.port(), state)),
            Mini(state) if minis => Some((life.ends().0.port(), state)),
            _ => None,
        });
        alive.collect()
    }

    /// All events have arrived; then, with one more listing, mini-sockets are right as well.
    fn check_at_the_end(&mut self) {
        let steps = self.lives.iter().flat_map(|life| &life.steps).map(|(time_ns, _)| time_ns / STEP_NS).max();
        let end = usize::try_from(steps.unwrap_or_default()).unwrap();
        self.arrive(between(end), 0);
        assert_eq!(self.found(false), self.truth(false, between(end)));
        let last = end + 1;
        self.look(&Looking { about_to: last, begins: last, ends: last, taken_in: last, late: (0, 0), salt: 0 });
        for minis in [false, true] {
            assert_eq!(self.found(minis), self.truth(minis, between(last)));
        }
    }
}

fn any_script() -> impl Strategy<Value = Vec<(bool, Index, Index)>> {
    vec((bool::weighted(0.3), any::<Index>(), any::<Index>()), 1..60)
}

fn any_naming() -> impl Strategy<Value = (Naming, bool)> {
    // Where names come late, events must not.
    prop_oneof![
        any::<bool>().prop_map(|late| (Naming::Iterators, late)),
        any::<bool>().prop_map(|late| (Naming::SockDiag, late)),
        Just((Naming::LateCookies, false)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Attached at some time, then listed: nothing is lost, immortal or there twice.
    #[test]
    fn sockets_from_before_the_start_are_known_once(
        script in any_script(),
        ((naming, late), parts) in any_naming().prop_flat_map(|naming| (Just(naming), any_lookings(naming.1))),
        attached in any::<Index>(),
    ) {
        let lookings = lookings(&parts, script.len());
        let attached = between(attached.index(lookings[0].about_to + 1));
        let mut run = Run::new(naming, &script, |change| change.time_ns < attached);
        for (index, looking) in lookings.iter().enumerate() {
            let reconciled = run.look(looking);
            if !late {
                prop_assert_eq!(run.found(false), run.truth(false, between(looking.taken_in)));
                prop_assert!(index == 0 || reconciled == Reconciled::default(), "{reconciled:?}: nothing was lost");
            }
        }
        run.check_at_the_end();
        prop_assert!(run.after_gap.is_empty(), "nothing was lost");
        if attached < STEP_NS && !late {
            let over = run.lives.iter().filter(|life| {
                life.steps.iter().any(|(_, shape)| matches!(shape, Mini(_))) && life.at(u64::MAX) == Gone
            });
            let over: Vec<_> = over.map(|life| life.ends().0.port()).collect();
            let mut told: Vec<_> = run.told.iter().filter(|told| told.2 == State::Close).map(|told| told.0).collect();
            told.sort_unstable();
            prop_assert_eq!(told, over, "each end of a mini-socket is told once");
        }
    }

    /// Events were lost before a listing began: it makes up for them.
    #[test]
    fn a_listing_heals_what_was_lost_before_it(
        script in any_script(),
        ((naming, late), parts) in any_naming().prop_flat_map(|naming| (Just(naming), any_lookings(naming.1))),
        losses in vec(bool::weighted(0.4), 60),
    ) {
        let lookings = lookings(&parts, script.len());
        let last = lookings.last().unwrap();
        let is_lost = |change: &Change| {
            change.time_ns < between(last.about_to) && losses[usize::try_from(change.time_ns / STEP_NS).unwrap() - 1]
        };
        let mut run = Run::new(naming, &script, is_lost);
        lookings.iter().for_each(|looking| _ = run.look(looking));
        if !late {
            prop_assert_eq!(run.found(false), run.truth(false, between(last.taken_in)));
        }
        run.check_at_the_end();
        for marked in &run.after_gap {
            let life = run.changes[*marked].life;
            let lost: BTreeSet<_> = (0..*marked).filter(|at| run.lost[*at]).map(|at| run.changes[at].life).collect();
            prop_assert!(lost.contains(&life), "nothing of {:?} was lost", run.lives[life]);
        }
    }
}
