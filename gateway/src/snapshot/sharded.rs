//! A hash map in shards behind `Arc`s: cloning shares them all, a change copies one. With a million keys a delta
//! copies a few hundred entries and the readers before it keep theirs.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::Arc,
};

const SHARDS: usize = 1_024;

#[derive(Debug)]
pub(crate) struct ShardedMap<K, V> {
    shards: Arc<[Arc<HashMap<K, V, IdHashing>>]>,
    hashing: IdHashing,
    length: usize,
}

impl<K, V> Clone for ShardedMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            shards: self.shards.clone(),
            hashing: self.hashing,
            length: self.length,
        }
    }
}

impl<K, V> Default for ShardedMap<K, V> {
    fn default() -> Self {
        let hashing = IdHashing {
            seed: RandomState::new().hash_one(SHARDS),
        };
        let empty = Arc::new(HashMap::with_hasher(hashing));
        Self {
            shards: vec![empty; SHARDS].into(),
            hashing,
            length: 0,
        }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> ShardedMap<K, V> {
    pub(crate) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.shards
            .get(self.shard_of(key))
            .and_then(|shard| shard.get(key))
    }

    /// A value to change in place. Its shard is copied first if an older clone shares it.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        // Nothing is copied for a key that is not there.
        self.get(key)?;
        let index = self.shard_of(key);
        Arc::make_mut(Arc::make_mut(&mut self.shards).get_mut(index)?).get_mut(key)
    }

    /// The value of `key` to change in place, made first if there is none.
    pub(crate) fn get_or_insert(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let index = self.shard_of(&key);
        let shard = Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[index]);
        self.length += usize::from(!shard.contains_key(&key));
        shard.entry(key).or_default()
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let index = self.shard_of(&key);
        let old = Arc::make_mut(Arc::make_mut(&mut self.shards).get_mut(index)?).insert(key, value);
        self.length += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.get(key)?;
        let index = self.shard_of(key);
        let old = Arc::make_mut(Arc::make_mut(&mut self.shards).get_mut(index)?).remove(key);
        self.length -= usize::from(old.is_some());
        old
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Some key that is in the map, the first from the place of this one on.
    pub(crate) fn near(&self, key: &K) -> Option<&K> {
        let from = self.shard_of(key);
        let shards = self.shards.iter().cycle().skip(from).take(SHARDS);
        shards
            .flat_map(|shard| shard.keys())
            .find(|there| *there != key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    fn shard_of<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        // The high bits: the shard's own map uses the low ones of its own hash.
        (self.hashing.hash_one(key) >> 48) as usize % SHARDS
    }
}

/// A fast hash for ids and digests: they are random and ours, nobody can choose them so that they collide.
#[derive(Clone, Copy, Debug)]
struct IdHashing {
    seed: u64,
}

impl BuildHasher for IdHashing {
    type Hasher = IdHasher;
    fn build_hasher(&self) -> IdHasher {
        IdHasher(self.seed)
    }
}

struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // Both halves of the product: every bit of the word reaches every part of the hash.
        let product = u128::from(self.0 ^ word) * MULTIPLIER;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Odd, and its bits without a pattern: the golden ratio's.
const MULTIPLIER: u128 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_it_had() {
        let mut map = ShardedMap::default();
        for number in 0..5_000 {
            map.insert(number, number);
        }
        let before = map.clone();
        map.insert(7, 70);
        assert_eq!(map.remove(&8), Some(8));
        *map.get_mut(&9).unwrap() += 81;
        assert_eq!(map.get_mut(&8), None);
        assert_eq!((before.get(&9), map.get(&9)), (Some(&9), Some(&90)));
        assert_eq!(
            (before.get(&7), before.get(&8), before.len()),
            (Some(&7), Some(&8), 5_000)
        );
        assert_eq!(
            (map.get(&7), map.get(&8), map.len()),
            (Some(&70), None, 4_999)
        );
        assert_eq!(map.iter().count(), 4_999);
    }

    #[test]
    fn ids_spread_over_the_shards() {
        let mut map = ShardedMap::default();
        for number in 0..100 * SHARDS as u128 {
            // Made in the same millisecond, as a batch of keys is: only the last bits differ.
            map.insert(
                uuid::Uuid::from_u128((0x0193_54d0_e7f0_7000 << 64) + number),
                (),
            );
        }
        let sizes = map.shards.iter().map(|shard| shard.len());
        let (least, most) = (sizes.clone().min().unwrap(), sizes.max().unwrap());
        assert!(least > 40 && most < 180, "{least} to {most} around 100");
    }
}
