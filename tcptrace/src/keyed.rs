//! Hash maps for keys that others choose: a peer chooses addresses and ports, a process its name. With a hash that is
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
