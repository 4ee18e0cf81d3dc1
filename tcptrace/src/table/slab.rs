//! Connections by key, in order of insertion. They lie in blocks: adding or removing one allocates nothing, and a
//! growing table moves none.

use hashbrown::HashTable;
use rustc_hash::FxHashMap;

use crate::table::{compact::Ends, connection::Connection};

const BLOCK: usize = 64;
/// Marks the absence of a place.
const NONE: u32 = u32::MAX;

/// Key of a connection, packed so that no padding follows before a place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(Rust, packed(4))]
struct Key(u64);

/// Index of a connection; valid until it is removed.
#[derive(Clone, Copy)]
pub(super) struct Place(u32);

struct Slot {
    key: u64,
    /// Places of the neighbours in insertion order; in a free slot, `newer` is the next free one.
    older: u32,
    newer: u32,
    connection: Option<Connection>,
}

// Including its share of the map, a connection takes 140 to 158 bytes.
const _: () = assert!(size_of::<Slot>() == 128);

/// Connections by key, in order of insertion.
pub(super) struct Slab {
    places: FxHashMap<Key, u32>,
    blocks: Vec<Vec<Slot>>,
    /// By block: time until which no connection in it needs evaluation; 0 if one may need it now.
    quiet_until_ns: Vec<u64>,
    free: u32,
    oldest: u32,
    newest: u32,
    /// Places of the connections by their two ends, 6 to 12 bytes each; `None` if nobody looks for these.
    by_ends: Option<HashTable<u32>>,
}

impl Slab {
    pub(super) fn new() -> Self {
        let (places, blocks, quiet_until_ns) = Default::default();
        Self { places, blocks, quiet_until_ns, free: NONE, oldest: NONE, newest: NONE, by_ends: None }
    }

    /// Also finds connections by their ends.
    pub(super) fn by_ends() -> Self {
        Self { by_ends: Some(HashTable::new()), ..Self::new() }
    }

    /// An empty one that finds connections in the same ways.
    fn emptied(&self) -> Self {
        if self.by_ends.is_some() { Self::by_ends() } else { Self::new() }
    }

    /// The connection with these ends; `None` if there are several.
    pub(super) fn with_ends(&self, ends: &Ends) -> Option<&Connection> {
        let index = self.by_ends.as_ref()?;
        let mut found = index.iter_hash(ends.hash()).filter_map(|place| self.at(Place(*place)));
        let mut found = found.by_ref().filter(|known| known.ends() == *ends);
        found.next().filter(|_| found.next().is_none())
    }

    fn index(&mut self, place: u32) {
        let Self { by_ends: Some(index), blocks, .. } = self else { return };
        let ends = |place: u32| ends_in(blocks, place);
        if let Some(own) = ends(place).filter(Ends::are_both_known) {
            index.insert_unique(own.hash(), place, |place| ends(*place).map_or(0, |ends| ends.hash()));
        }
    }

    fn forget_ends(&mut self, place: u32, ends: &Ends) {
        if let Some(index) = &mut self.by_ends
            && ends.are_both_known()
            && let Ok(found) = index.find_entry(ends.hash(), |other| *other == place)
        {
            found.remove();
        }
    }

    /// Changes a connection in a way that may change its ends.
    pub(super) fn change(&mut self, place: Place, change: impl FnOnce(&mut Connection)) {
        let Some(known) = self.at_mut(place) else { return };
        let before = known.ends();
        change(known);
        if known.ends() != before {
            self.forget_ends(place.0, &before);
            self.index(place.0);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Number of connections that fit in the allocated memory.
    pub(super) fn room(&self) -> usize {
        self.blocks.len() * BLOCK
    }

    pub(super) fn find(&self, key: u64) -> Option<Place> {
        self.places.get(&Key(key)).map(|place| Place(*place))
    }

    fn slot(&mut self, place: u32) -> &mut Slot {
        &mut self.blocks[place as usize / BLOCK][place as usize % BLOCK]
    }

    pub(super) fn at(&self, Place(place): Place) -> Option<&Connection> {
        self.blocks[place as usize / BLOCK][place as usize % BLOCK].connection.as_ref()
    }

    /// Mutable access, after which the connection may need evaluation.
    pub(super) fn at_mut(&mut self, Place(place): Place) -> Option<&mut Connection> {
        self.quiet_until_ns[place as usize / BLOCK] = 0;
        self.slot(place).connection.as_mut()
    }

    pub(super) fn get(&self, key: u64) -> Option<&Connection> {
        self.at(self.find(key)?)
    }

    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut Connection> {
        self.at_mut(self.find(key)?)
    }

    /// Inserts a connection as the newest, replacing any with the same key.
    pub(super) fn insert(&mut self, key: u64, connection: Connection) {
        let slot = Slot { key, older: self.newest, newer: NONE, connection: Some(connection) };
        let place = if self.free == NONE {
            if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
                self.blocks.push(Vec::with_capacity(BLOCK));
                self.quiet_until_ns.push(0);
            }
            let block = self.blocks.len() - 1;
            self.blocks[block].push(slot);
            (block * BLOCK + self.blocks[block].len() - 1) as u32
        } else {
            let place = self.free;
            self.free = std::mem::replace(self.slot(place), slot).newer;
            place
        };
        self.quiet_until_ns[place as usize / BLOCK] = 0;
        match self.newest {
            NONE => self.oldest = place,
            newest => self.slot(newest).newer = place,
        }
        self.newest = place;
        self.index(place);
        if let Some(before) = self.places.insert(Key(key), place) {
            self.release(before);
        }
    }

    pub(super) fn remove(&mut self, key: u64) -> Option<Connection> {
        let place = self.places.remove(&Key(key))?;
        self.release(place)
    }

    /// Unlinks a place and frees it.
    fn release(&mut self, place: u32) -> Option<Connection> {
        if self.by_ends.is_some()
            && let Some(ends) = ends_in(&self.blocks, place)
        {
            self.forget_ends(place, &ends);
        }
        let free = self.free;
        let slot = self.slot(place);
        let (older, newer) = (slot.older, std::mem::replace(&mut slot.newer, free));
        let connection = slot.connection.take();
        self.free = place;
        match older {
            NONE => self.oldest = newer,
            older => self.slot(older).newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slot(newer).older = older,
        }
        connection
    }

    /// The oldest connection, with its key.
    pub(super) fn oldest(&self) -> Option<(u64, &Connection)> {
        let slot = self.blocks.get(self.oldest as usize / BLOCK)?.get(self.oldest as usize % BLOCK)?;
        Some((slot.key, slot.connection.as_ref()?))
    }

    /// Frees trailing blocks if most of them are unused, and shrinks the map.
    pub(super) fn shrink(&mut self) {
        /// Minimum number of blocks that are kept.
        const FEW: usize = if cfg!(test) { 1 } else { 16 };
        if self.blocks.len() <= FEW || self.places.len() * 4 > self.room() {
            return;
        }
        let empty = self.emptied();
        let old = std::mem::replace(self, empty);
        let mut place = old.oldest;
        let mut blocks: Vec<Vec<Option<Slot>>> =
            old.blocks.into_iter().map(|block| block.into_iter().map(Some).collect()).collect();
        while place != NONE {
            let Some(slot) = blocks[place as usize / BLOCK][place as usize % BLOCK].take() else { return };
            place = slot.newer;
            if let Some(connection) = slot.connection {
                self.insert(slot.key, connection);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = self.emptied();
    }

    /// All connections with their keys, unordered.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Connection)> {
        self.blocks.iter().flatten().filter_map(|slot| Some((slot.key, slot.connection.as_ref()?)))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Connection> {
        self.iter().map(|(_, connection)| connection)
    }

    /// Modifies all connections in a way that never requires evaluation.
    pub(super) fn for_each(&mut self, change: impl FnMut(&mut Connection)) {
        self.blocks.iter_mut().flatten().filter_map(|slot| slot.connection.as_mut()).for_each(change);
    }

    /// Keeps the connections for which `keeps` returns true; it may modify them.
    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&mut Connection) -> bool) {
        self.quiet_until_ns.fill(0);
        for place in 0..(self.blocks.len() * BLOCK) as u32 {
            let slot = self.blocks[place as usize / BLOCK].get_mut(place as usize % BLOCK);
            let Some(Slot { key, connection: Some(connection), .. }) = slot else { continue };
            if !keeps(connection) {
                let key = *key;
                self.remove(key);
            }
        }
    }

    /// Calls `evaluate` for the connections that were modified since the last call, or whose quiet time has passed. It
    /// returns the time until which a connection needs no evaluation unless it is modified, or 0 if it needs one each
    /// time. Quiet blocks are skipped as a whole.
    pub(super) fn evaluate(&mut self, now_ns: u64, mut evaluate: impl FnMut(&mut Connection) -> u64) {
        for (block, until_ns) in self.blocks.iter_mut().zip(&mut self.quiet_until_ns) {
            if *until_ns <= now_ns {
                *until_ns = block
                    .iter_mut()
                    .filter_map(|slot| slot.connection.as_mut())
                    .map(&mut evaluate)
                    .min()
                    .unwrap_or(u64::MAX);
            }
        }
    }

    /// The connections that were not quiet at the last evaluation, or were modified since, and some others.
    pub(super) fn to_evaluate(&self) -> impl Iterator<Item = &Connection> {
        let blocks = self.blocks.iter().zip(&self.quiet_until_ns).filter(|(_, until_ns)| **until_ns == 0);
        blocks.flat_map(|(block, _)| block).filter_map(|slot| slot.connection.as_ref())
    }
}

fn ends_in(blocks: &[Vec<Slot>], place: u32) -> Option<Ends> {
    let slot = blocks.get(place as usize / BLOCK)?.get(place as usize % BLOCK)?;
    slot.connection.as_ref().map(Connection::ends)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{
            event::{Event, EventKind, Socket},
            state::State,
        },
        table::roles::AllRoles,
    };

    /// A connection that `time_ns` identifies.
    fn connection(time_ns: u64) -> Connection {
        let end = |port: u64| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port as u16);
        let state = State::Established;
        let socket = Socket::new(state, end(time_ns % 50), end(1));
        let event = Event::new(time_ns, socket, EventKind::OwnerChanged);
        Connection::of_event(&event, state, &mut AllRoles::default())
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Remove(u64),
        RemoveOldest,
        Change(u64),
        /// Keeps those whose key modulo 3 is not this.
        Retain(u64),
        /// Evaluates this many ns later.
        Evaluate(u64),
        Tidy,
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = 0..200_u64;
        prop_oneof![
            8 => key.clone().prop_map(Step::Insert),
            4 => key.clone().prop_map(Step::Remove),
            1 => Just(Step::RemoveOldest),
            4 => key.prop_map(Step::Change),
            1 => (0..3_u64).prop_map(Step::Retain),
            2 => (0..400_u64).prop_map(Step::Evaluate),
            1 => Just(Step::Tidy),
        ]
    }

    proptest! {
        /// Compares the slab with a list. Each connection is quiet until its `since_ns`.
        #[test]
        fn they_are_found_kept_in_order_and_looked_at(steps in prop::collection::vec(step(), 1..600)) {
            let (mut sockets, mut model, mut now_ns) = (Slab::by_ends(), Vec::<(u64, u64)>::new(), 0);
            for (nth, step) in steps.into_iter().enumerate() {
                let time_ns = now_ns + nth as u64 * 7 % 300;
                match step {
                    Step::Insert(key) => {
                        model.retain(|(other, _)| *other != key);
                        model.push((key, time_ns));
                        sockets.insert(key, connection(time_ns));
                    }
                    Step::Remove(key) => {
                        let was = model.iter().position(|(other, _)| *other == key).map(|at| model.remove(at).1);
                        prop_assert_eq!(sockets.remove(key).map(|known| known.since_ns), was);
                    }
                    Step::RemoveOldest => {
                        let oldest = sockets.oldest().map(|(key, known)| (key, known.since_ns));
                        prop_assert_eq!(oldest, model.first().copied());
                        if let Some((key, _)) = oldest {
                            sockets.remove(key);
                            model.remove(0);
                        }
                    }
                    Step::Change(key) => {
                        let known = model.iter_mut().find(|(other, _)| *other == key);
                        prop_assert_eq!(known.is_some(), sockets.get(key).is_some());
                        if let (Some(place), Some((_, since_ns))) = (sockets.find(key), known) {
                            *since_ns = time_ns;
                            sockets.change(place, |changed| {
                                changed.since_ns = time_ns;
                                changed.set_local(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 7 + key as u16));
                            });
                        }
                    }
                    Step::Retain(rest) => {
                        model.retain(|(_, since_ns)| since_ns % 3 != rest);
                        sockets.retain(|known| known.since_ns % 3 != rest);
                    }
                    Step::Tidy => sockets.shrink(),
                    Step::Evaluate(ns) => {
                        now_ns += ns;
                        sockets.evaluate(now_ns, |known| if known.since_ns <= now_ns { 0 } else { known.since_ns });
                        let mut due: Vec<_> = model.iter().filter(|(_, since_ns)| *since_ns <= now_ns).collect();
                        let mut found: Vec<_> = sockets.to_evaluate().map(|known| known.since_ns).collect();
                        found.retain(|since_ns| *since_ns <= now_ns);
                        found.sort_unstable();
                        due.sort_unstable_by_key(|(_, since_ns)| *since_ns);
                        prop_assert_eq!(found, due.into_iter().map(|(_, since_ns)| *since_ns).collect::<Vec<_>>());
                    }
                }
                prop_assert_eq!(sockets.len(), model.len());
                prop_assert!(model.iter().all(|(key, since_ns)| sockets.get(*key).unwrap().since_ns == *since_ns));
                let all: Vec<_> = sockets.values().map(Connection::ends).collect();
                let index = sockets.by_ends.as_ref().unwrap();
                prop_assert_eq!(index.len(), all.iter().filter(|ends| ends.are_both_known()).count());
                for ends in all.iter().filter(|ends| ends.are_both_known()) {
                    let is_only = all.iter().filter(|other| *other == ends).count() == 1;
                    prop_assert_eq!(sockets.with_ends(ends).is_some(), is_only);
                }
            }
            let mut left: Vec<_> = sockets.iter().map(|(key, known)| (key, known.since_ns)).collect();
            left.sort_unstable();
            model.sort_unstable();
            prop_assert_eq!(left, model);
        }
    }
}
