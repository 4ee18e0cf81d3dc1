//! A bounded map that forgets what was not used for the longest time.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash},
};

use rustc_hash::FxBuildHasher;

/// A map of at most `max` entries in two generations. What is used moves to the younger one; when that is half of the map,
/// the older one is dropped. So an entry is forgotten only after at least `max / 2` others were used since.
#[derive(Debug)]
pub struct Generations<K, V, S = FxBuildHasher> {
    young: HashMap<K, V, S>,
    old: HashMap<K, V, S>,
    half: usize,
}

impl<K: Copy + Eq + Hash, V, S: BuildHasher + Default> Generations<K, V, S> {
    /// An empty map of at most `max` entries.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), half: (max / 2).max(1) }
    }

    /// The value of a key, which counts as used.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let value = self.old.remove(key)?;
            return Some(self.insert(*key, value));
        }
        self.young.get_mut(key)
    }

    /// The value of a key, which counts as used; a new one if there is none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let mut kept = None;
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            kept = self.old.remove(&key);
            self.old = std::mem::take(&mut self.young);
        }
        let old = &mut self.old;
        self.young.entry(key).or_insert_with(|| kept.or_else(|| old.remove(&key)).unwrap_or_else(make))
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: K, value: V) -> &mut V {
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.entry(key).insert_entry(value).into_mut()
    }

    /// Keeps the values for which `keeps` returns true.
    pub fn retain(&mut self, mut keeps: impl FnMut(&mut V) -> bool) {
        self.young.retain(|_, value| keeps(value));
        self.old.retain(|_, value| keeps(value));
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_makes_room() {
        let mut map = Generations::<_, _>::new(8);
        for key in 0..1000_u32 {
            map.insert(key, key * 2);
            assert_eq!(map.get(&0), Some(&mut 0), "used all the time");
            assert_eq!(*map.get_or_insert_with(2000, || key), 0, "likewise");
            assert!(map.len() <= 8, "{}", map.len());
        }
        assert_eq!(map.get(&999), Some(&mut 1998));
        assert_eq!(map.get(&998), Some(&mut 1996));
        assert_eq!(map.get(&500), None);
        map.insert(999, 1);
        assert_eq!(map.get(&999), Some(&mut 1));
        map.retain(|value| *value == 1);
        assert!(map.len() == 1 && !map.is_empty());
    }
}
