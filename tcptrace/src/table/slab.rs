//! Connections by key, in the order in which they came. They lie in blocks, so that one that comes or goes takes no memory
//! of its own, and a table that grows moves none of them.

use rustc_hash::FxHashMap;

use crate::table::connection::Connection;

/// Connections in a block.
const BLOCK: usize = 64;
/// The place of none.
const NONE: u32 = u32::MAX;

/// The key of a connection, in a form that leaves no gap beside a place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(Rust, packed(4))]
struct Key(u64);

/// Where a connection is, until it is removed.
#[derive(Clone, Copy)]
pub(super) struct Place(u32);

struct Slot {
    key: u64,
    /// The places of those that came before and after it; of a free slot, `newer` is the next free one.
    older: u32,
    newer: u32,
    connection: Option<Connection>,
}

// With its part of the map a connection takes 140 to 158 bytes.
const _: () = assert!(size_of::<Slot>() == 128);

/// Connections by key.
pub(super) struct Slab {
    places: FxHashMap<Key, u32>,
    blocks: Vec<Vec<Slot>>,
    /// For each block, the time until which there is nothing to look at in it; 0 where there is, or may be.
    quiet_until_ns: Vec<u64>,
    free: u32,
    oldest: u32,
    newest: u32,
}

impl Slab {
    pub(super) fn new() -> Self {
        let (places, blocks, quiet_until_ns) = Default::default();
        Self { places, blocks, quiet_until_ns, free: NONE, oldest: NONE, newest: NONE }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// How many connections there is memory for.
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

    /// To be changed, after which there may be something to look at.
    pub(super) fn at_mut(&mut self, Place(place): Place) -> Option<&mut Connection> {
        self.quiet_until_ns[place as usize / BLOCK] = 0;
        self.slot(place).connection.as_mut()
    }

    pub(super) fn get(&self, key: u64) -> Option<&Connection> {
        self.at(self.find(key)?)
    }

    /// See [`Slab::at_mut`].
    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut Connection> {
        self.at_mut(self.find(key)?)
    }

    /// Adds a connection as the newest, in place of the one that had its key.
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
        if let Some(before) = self.places.insert(Key(key), place) {
            self.release(before);
        }
    }

    pub(super) fn remove(&mut self, key: u64) -> Option<Connection> {
        let place = self.places.remove(&Key(key))?;
        self.release(place)
    }

    /// Takes what is at a place out of the order, and makes the place free.
    fn release(&mut self, place: u32) -> Option<Connection> {
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

    /// The one that came first, with its key.
    pub(super) fn oldest(&self) -> Option<(u64, &Connection)> {
        let slot = self.blocks.get(self.oldest as usize / BLOCK)?.get(self.oldest as usize % BLOCK)?;
        Some((slot.key, slot.connection.as_ref()?))
    }

    /// Gives the memory of the last blocks back, where most of them are free, and that of the map.
    pub(super) fn tidy(&mut self) {
        /// As much is always kept.
        const FEW: usize = if cfg!(test) { 1 } else { 16 };
        if self.blocks.len() <= FEW || self.places.len() * 4 > self.room() {
            return;
        }
        let old = std::mem::replace(self, Self::new());
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
        *self = Self::new();
    }

    /// All of them with their keys, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Connection)> {
        self.blocks.iter().flatten().filter_map(|slot| Some((slot.key, slot.connection.as_ref()?)))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Connection> {
        self.iter().map(|(_, connection)| connection)
    }

    /// Changes all of them in a way that gives no reason to look at them.
    pub(super) fn for_each(&mut self, change: impl FnMut(&mut Connection)) {
        self.blocks.iter_mut().flatten().filter_map(|slot| slot.connection.as_mut()).for_each(change);
    }

    /// Those for which `keeps` is true stay; it may change them.
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

    /// Shows those to `look` that were changed since the last call, or were not quiet then for as long: it gives the time
    /// until which one is quiet if nothing happens to it, or 0 where it is not. The others are passed over a block at a
    /// time.
    pub(super) fn look(&mut self, now_ns: u64, mut look: impl FnMut(&mut Connection) -> u64) {
        for (block, until_ns) in self.blocks.iter_mut().zip(&mut self.quiet_until_ns) {
            if *until_ns <= now_ns {
                *until_ns = block
                    .iter_mut()
                    .filter_map(|slot| slot.connection.as_mut())
                    .map(&mut look)
                    .min()
                    .unwrap_or(u64::MAX);
            }
        }
    }

    /// Those that were not quiet when they were looked at last, or were changed since, and some others.
    pub(super) fn restless(&self) -> impl Iterator<Item = &Connection> {
        let blocks = self.blocks.iter().zip(&self.quiet_until_ns).filter(|(_, until_ns)| **until_ns == 0);
        blocks.flat_map(|(block, _)| block).filter_map(|slot| slot.connection.as_ref())
    }
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

    /// One that has a name of its own in `time_ns`.
    fn connection(time_ns: u64) -> Connection {
        let end = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
        let state = State::Established;
        let socket = Socket::new(state, end, end);
        let event = Event::new(time_ns, socket, EventKind::OwnerChanged);
        Connection::of_event(&event, state, &mut AllRoles::default())
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Remove(u64),
        RemoveOldest,
        Change(u64),
        /// Keeps those whose key leaves another rest than this by 3.
        Retain(u64),
        /// So many ns later.
        Look(u64),
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
            2 => (0..400_u64).prop_map(Step::Look),
            1 => Just(Step::Tidy),
        ]
    }

    proptest! {
        /// Beside a list. Each connection is quiet until its `since_ns`.
        #[test]
        fn they_are_found_kept_in_order_and_looked_at(steps in prop::collection::vec(step(), 1..600)) {
            let (mut sockets, mut model, mut now_ns) = (Slab::new(), Vec::<(u64, u64)>::new(), 0);
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
                        if let (Some(changed), Some((_, since_ns))) = (sockets.get_mut(key), known) {
                            (changed.since_ns, *since_ns) = (time_ns, time_ns);
                        }
                    }
                    Step::Retain(rest) => {
                        model.retain(|(_, since_ns)| since_ns % 3 != rest);
                        sockets.retain(|known| known.since_ns % 3 != rest);
                    }
                    Step::Tidy => sockets.tidy(),
                    Step::Look(ns) => {
                        now_ns += ns;
                        sockets.look(now_ns, |known| if known.since_ns <= now_ns { 0 } else { known.since_ns });
                        let mut due: Vec<_> = model.iter().filter(|(_, since_ns)| *since_ns <= now_ns).collect();
                        let mut found: Vec<_> = sockets.restless().map(|known| known.since_ns).collect();
                        found.retain(|since_ns| *since_ns <= now_ns);
                        found.sort_unstable();
                        due.sort_unstable_by_key(|(_, since_ns)| *since_ns);
                        prop_assert_eq!(found, due.into_iter().map(|(_, since_ns)| *since_ns).collect::<Vec<_>>());
                    }
                }
                prop_assert_eq!(sockets.len(), model.len());
                prop_assert!(model.iter().all(|(key, since_ns)| sockets.get(*key).unwrap().since_ns == *since_ns));
            }
            let mut left: Vec<_> = sockets.iter().map(|(key, known)| (key, known.since_ns)).collect();
            left.sort_unstable();
            model.sort_unstable();
            prop_assert_eq!(left, model);
        }
    }
}
