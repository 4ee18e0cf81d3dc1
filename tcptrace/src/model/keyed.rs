//! Hash maps for keys that outsiders control: a peer chooses addresses and ports, a process its name. With a
//! predictable hash they could pick many keys of the same bucket, and each lookup would scan all of them.
//!
//! The hash (foldhash) is seeded at random in each run, so that colliding keys cannot be prepared in advance. It is not
//! cryptographic: it does not resist an attacker who measures the time of each lookup. Maps whose keys nobody controls
//! (cookies, kernel addresses, inode numbers, PIDs) use the cheaper [`rustc_hash`].

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use foldhash::{SharedSeed, fast::FoldHasher};

/// A map whose keys outsiders control.
pub type KeyedMap<K, V> = HashMap<K, V, Keyed>;
/// A set whose values outsiders control.
pub type KeyedSet<T> = HashSet<T, Keyed>;

/// The standard library seeds its `RandomState` from the kernel's random numbers.
static KEY: LazyLock<(u64, SharedSeed)> = LazyLock::new(|| {
    let random = RandomState::new();
    (random.hash_one(0_u8), SharedSeed::from_u64(random.hash_one(1_u8)))
});

/// The hasher with the seed of this run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keyed;

impl BuildHasher for Keyed {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> FoldHasher<'static> {
        let (seed, shared) = &*KEY;
        FoldHasher::with_seed(*seed, shared)
    }
}

/// How kernel addresses appear in output.
#[derive(Clone, Debug)]
pub enum Addresses {
    /// A hash seeded in each run, which reveals nothing about the address: kernel addresses help attackers, and the
    /// kernel itself hides them (`lib/vsprintf.c`, `ptr_to_id`). SipHash, as there.
    Hashed(RandomState),
    /// The address itself, unchanged.
    Raw,
}

impl Addresses {
    /// Raw addresses if `raw`, otherwise hashes with a new seed.
    #[must_use]
    pub fn new(raw: bool) -> Self {
        if raw { Self::Raw } else { Self::Hashed(RandomState::new()) }
    }

    /// The number to print for this address; the same throughout a run.
    #[must_use]
    pub fn printed(&self, address: u64) -> u64 {
        match self {
            Self::Hashed(key) => key.hash_one(address),
            Self::Raw => address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_hidden_and_the_same_in_a_run() {
        let (one, other) = (Addresses::new(false), Addresses::new(false));
        let address = 0xffff_8881_0a2b_3c40;
        assert_eq!(one.printed(address), one.clone().printed(address));
        assert!(one.printed(address) != address && one.printed(address) != other.printed(address));
        assert_ne!(one.printed(address), one.printed(address + 64));
        assert_eq!(Addresses::new(true).printed(address), address);
    }

    /// Keys that collide under one seed do not collide under another: collisions found elsewhere are of no use here.
    #[test]
    fn the_key_decides_which_collide() {
        let hash = |seed, key: u32| FoldHasherOf(seed).hash_one(key) as u16;
        let colliding: Vec<_> = (0_u32..1 << 22).filter(|key| hash(1, *key) == 0).collect();
        assert!(colliding.len() > 32);
        let buckets: HashSet<_> = colliding.iter().map(|key| hash(2, *key)).collect();
        assert!(buckets.len() > colliding.len() * 3 / 4, "{} of {}", buckets.len(), colliding.len());
        let own: HashSet<_> = colliding.iter().map(|key| Keyed.hash_one(key) as u16).collect();
        assert!(own.len() > colliding.len() * 3 / 4, "{} of {}", own.len(), colliding.len());
    }

    /// Outsiders control addresses, ports and names: none of them may be the key of a map with a predictable hash.
    #[test]
    fn no_key_that_others_choose_is_hashed_without_the_key() {
        const CHOSEN: [&str; 7] = ["SocketAddr", "IpAddr", "Command", "String", "Subject", "Whose", "Path"];
        let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() {
                    folders.push(entry);
                    continue;
                }
                files += 1;
                let text = std::fs::read_to_string(&entry).unwrap();
                for map in ["FxHashMap<", "FxHashSet<"] {
                    for (at, _) in text.match_indices(map) {
                        let line = text[at..].lines().next().unwrap_or_default();
                        // Values may be anything.
                        let key = line.split(", ").next().unwrap_or_default();
                        let key = if line.contains("<(") { line.split(')').next().unwrap_or_default() } else { key };
                        let chosen = CHOSEN.iter().find(|name| key.contains(**name));
                        assert!(chosen.is_none() || entry.ends_with("keyed.rs"), "{}: {line}", entry.display());
                    }
                }
            }
        }
        assert!(files > 100, "{files}");
    }

    struct FoldHasherOf(u64);

    impl BuildHasher for FoldHasherOf {
        type Hasher = FoldHasher<'static>;

        fn build_hasher(&self) -> FoldHasher<'static> {
            FoldHasher::with_seed(self.0, SharedSeed::global_fixed())
        }
    }
}
