//! Which keys were changed lately, so that a call whose key is no longer in the snapshot knows whether it is still the same.

use std::collections::VecDeque;

use odock_events::ids::KeyId;

use crate::snapshot::Touched;

#[derive(Default)]
pub(super) struct Changes {
    last: VecDeque<(u64, Touched)>,
    /// All changes above this version are here.
    complete_above: u64,
}

impl Changes {
    pub(super) fn add(&mut self, version: u64, touched: Touched) {
        self.last.push_back((version, touched));
        if self.last.len() > KEPT
            && let Some((version, _)) = self.last.pop_front()
        {
            self.complete_above = version;
        }
    }

    /// A whole new snapshot: what led to it is not known.
    pub(super) fn restart(&mut self, version: u64) {
        self.last.clear();
        self.complete_above = version;
    }

    pub(super) fn none_since(&self, version: u64, key: KeyId) -> bool {
        let is_it = |touched: &Touched| match touched {
            Touched::Key { id, .. } => *id == key,
            Touched::AnyKey => true,
        };
        let mut later = self.last.iter().filter(|(changed, _)| *changed > version);
        version >= self.complete_above && !later.any(|(_, touched)| is_it(touched))
    }
}

const KEPT: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_unchanged_while_nothing_about_it_is_known_and_everything_would_be() {
        let mut changes = Changes::default();
        let (one, other) = (KeyId::generate(), KeyId::generate());
        let key = |id| Touched::Key { id, secret: None };
        changes.restart(10);
        changes.add(11, key(other));
        changes.add(12, key(one));
        assert!(!changes.none_since(10, one) && changes.none_since(12, one));
        assert!(
            !changes.none_since(9, other),
            "what came before is not known"
        );
        changes.add(13, Touched::AnyKey);
        assert!(!changes.none_since(12, one) && changes.none_since(13, one));
        for version in 14..14 + KEPT as u64 {
            changes.add(version, key(other));
        }
        assert!(!changes.none_since(12, one) && changes.none_since(13, one));
        changes.add(20_000, key(other));
        assert!(!changes.none_since(13, one) && changes.none_since(14, one));
    }
}
