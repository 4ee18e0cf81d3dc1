//! Hashes with a key of this run: hash maps for keys that others choose: a peer chooses addresses and ports, a process its name. With a hash that is
//! known beforehand they could choose many keys of one bucket, and each look would go through all of them.
//!
//! The hash (foldhash) is mixed with a key that each run draws anew, so that no list of colliding keys can be made
//! beforehand. It is no cryptographic hash: it is not meant to hold against somebody who measures the time of each
//! look. Keys that nobody chooses (cookies, addresses of the kernel, inode numbers, PIDs) take the cheaper
//! [`rustc_hash`].

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

use foldhash::{SharedSeed, fast::FoldHasher};

/// A map whose keys others choose.
pub type KeyedMap<K, V> = HashMap<K, V, Keyed>;
/// A set whose values others choose.
pub type KeyedSet<T> = HashSet<T, Keyed>;

/// The standard library takes its keys from the kernel's random numbers.
static KEY: LazyLock<(u64, SharedSeed)> = LazyLock::new(|| {
    let random = RandomState::new();
    (random.hash_one(0_u8), SharedSeed::from_u64(random.hash_one(1_u8)))
});

/// The hash with the key of this run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keyed;

impl BuildHasher for Keyed {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> FoldHasher<'static> {
        let (seed, shared) = &*KEY;
        FoldHasher::with_seed(*seed, shared)
    }
}

/// What stands for addresses of the kernel in output.
#[derive(Clone, Debug)]
pub enum Addresses {
    /// A hash with a key of this run, by which nothing can be told of the address: it would help to attack the kernel,
    /// which shows none itself (`lib/vsprintf.c`, `ptr_to_id`). SipHash, as there.
    Hashed(RandomState),
    /// The address itself.
    Raw,
}

impl Addresses {
    /// Hashes of this run, or the addresses themselves.
    #[must_use]
    pub fn new(raw: bool) -> Self {
        if raw { Self::Raw } else { Self::Hashed(RandomState::new()) }
    }

    /// What stands for this address; the same in all of a run.
    #[must_use]
    pub fn shown(&self, address: u64) -> u64 {
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
        assert_eq!(one.shown(address), one.clone().shown(address));
        assert!(one.shown(address) != address && one.shown(address) != other.shown(address));
        assert_ne!(one.shown(address), one.shown(address + 64));
        assert_eq!(Addresses::new(true).shown(address), address);
    }

    /// Keys that collide under one key do not under another: what somebody else finds out is of no use here.
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

    /// Addresses, ports, names: none of them is a key of a map whose hash is known beforehand.
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
                        // The value of a map may be anything.
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
