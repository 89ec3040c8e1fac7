//! A hash map in shards behind `Arc`s: cloning shares them all, a change copies one. With a million keys a delta
//! copies a few hundred entries and the readers before it keep theirs.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    sync::Arc,
};

const SHARDS: usize = 1_024;

#[derive(Debug)]
pub(crate) struct ShardedMap<K, V> {
    shards: Vec<Arc<HashMap<K, V>>>,
    hasher: RandomState,
    length: usize,
}

impl<K, V> Clone for ShardedMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            shards: self.shards.clone(),
            hasher: self.hasher.clone(),
            length: self.length,
        }
    }
}

impl<K, V> Default for ShardedMap<K, V> {
    fn default() -> Self {
        let empty = Arc::new(HashMap::new());
        Self {
            shards: vec![empty; SHARDS],
            hasher: RandomState::new(),
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
        let index = self.shard_of(key);
        let shard = self.shards.get_mut(index)?;
        if !shard.contains_key(key) {
            return None;
        }
        Arc::make_mut(shard).get_mut(key)
    }

    /// The value of `key` to change in place, made first if there is none.
    pub(crate) fn get_or_insert(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let index = self.shard_of(&key);
        let shard = Arc::make_mut(&mut self.shards[index]);
        self.length += usize::from(!shard.contains_key(&key));
        shard.entry(key).or_default()
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let index = self.shard_of(&key);
        let old = Arc::make_mut(self.shards.get_mut(index)?).insert(key, value);
        self.length += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let index = self.shard_of(key);
        let shard = self.shards.get_mut(index)?;
        if !shard.contains_key(key) {
            return None;
        }
        let old = Arc::make_mut(shard).remove(key);
        self.length -= usize::from(old.is_some());
        old
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    fn shard_of<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        // The high bits: the shard's own map uses the low ones of its own hash.
        (self.hasher.hash_one(key) >> 48) as usize % SHARDS
    }
}

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
}
