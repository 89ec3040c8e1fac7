//! The starts of one journal, so that the owner of its stream in Redis can be told apart: this process, an earlier start
//! on the same disk, or a stranger on a copy of it.

use serde::{Deserialize, Serialize};

/// In order; the last one is the process that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Starts(Vec<Start>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Start {
    epoch: u64,
    /// Empty: this and every start before it, whose nonces are not kept.
    nonce: String,
    /// Where the journal went on: what an earlier start shipped lies below.
    first_seq: u64,
}

impl Starts {
    /// Adds the start that follows `epoch`.
    pub(super) fn add(&mut self, epoch: u64, nonce: &str, next_seq: u64) {
        if self.0.is_empty() && epoch > 0 {
            // Written before starts were kept.
            self.0.push(Start {
                epoch,
                nonce: String::new(),
                first_seq: 1,
            });
        }
        self.0.push(Start {
            epoch: epoch + 1,
            nonce: nonce.to_owned(),
            first_seq: next_seq,
        });
        if self.0.len() > KEPT {
            self.0.remove(0);
            if let Some(oldest) = self.0.first_mut() {
                oldest.nonce.clear();
            }
        }
    }

    /// The last seq that a process with this epoch and nonce can have shipped from this journal.
    pub(super) fn shipped_at_most_by(&self, epoch: u64, nonce: &str) -> u64 {
        let is_it = |start: &Start| match start.nonce.as_str() {
            "" => epoch <= start.epoch,
            // Postgres may know an owner by its epoch only.
            own => epoch == start.epoch && (nonce.is_empty() || nonce == own),
        };
        let mut starts = self.0.iter();
        match starts.find(|start| is_it(start)) {
            None => 0,
            Some(_) => starts
                .next()
                .map_or(u64::MAX, |following| following.first_seq.saturating_sub(1)),
        }
    }
}

/// An owner that is older than so many starts is known by its epoch.
const KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_start_shipped_at_most_what_lies_before_the_next_and_a_stranger_nothing() {
        let mut starts = Starts::default();
        starts.add(0, "a", 1);
        starts.add(1, "b", 11);
        starts.add(2, "c", 21);
        for (epoch, nonce, most) in [
            (1, "a", 10),
            (2, "b", 20),
            (2, "", 20),
            (3, "c", u64::MAX),
            (3, "x", 0),
            (2, "a", 0),
            (4, "c", 0),
        ] {
            assert_eq!(
                starts.shipped_at_most_by(epoch, nonce),
                most,
                "{epoch}:{nonce}"
            );
        }
    }

    #[test]
    fn old_starts_and_those_before_starts_were_kept_are_known_by_their_epoch() {
        let mut upgraded = Starts::default();
        upgraded.add(7, "new", 31);
        assert_eq!(upgraded.shipped_at_most_by(7, "forgotten"), 30);
        assert_eq!(upgraded.shipped_at_most_by(8, "another"), 0);
        let mut many = Starts::default();
        for epoch in 0..200 {
            many.add(epoch, &format!("n{epoch}"), epoch * 10 + 1);
        }
        assert_eq!(many.0.len(), KEPT);
        assert_eq!(many.shipped_at_most_by(5, "n4"), 1_370);
        assert_eq!(many.shipped_at_most_by(199, "n198"), 1_990);
        assert_eq!(many.shipped_at_most_by(199, "other"), 0);
    }
}
