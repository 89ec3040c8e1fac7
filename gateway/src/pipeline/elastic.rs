//! How a stream under an elastic budget is paid for: a chunk of output at a time, the next one before the last is used
//! up. Made by `pipeline::reserve`, used by `response::stream`.

use odock_events::{ledger::purse::Want, payload::account::AccountSpec};

/// Output tokens of one chunk, for each choice.
const CHUNK_TOKENS: u64 = 512;

/// What a stream has reserved on elastic budgets, and how it goes on. With its input reserved first, all chunks together
/// are a bound of what they cover: a token of output costs the same wherever it stands.
#[derive(Clone, Debug)]
pub(crate) struct Chunks {
    accounts: Vec<AccountSpec>,
    /// Output tokens that are reserved.
    covered: u64,
    /// Of one chunk.
    tokens: u64,
    /// What one chunk costs at most, in nanos.
    price: i64,
    /// The stream ends by itself here.
    most: Option<u64>,
}

impl Chunks {
    /// Covers the first chunk. `most` is the limit of the whole output, if there is one.
    pub(crate) fn first(accounts: Vec<AccountSpec>, choices: u32, most: Option<u64>) -> Self {
        let tokens = CHUNK_TOKENS.saturating_mul(u64::from(choices.max(1)));
        Self {
            accounts,
            covered: most.map_or(tokens, |most| most.min(tokens)),
            tokens,
            price: 0,
            most,
        }
    }

    pub(crate) fn set_price(&mut self, price: i64) {
        self.price = price;
    }

    /// Output tokens of one chunk.
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens
    }

    pub(crate) fn covered(&self) -> u64 {
        self.covered
    }

    /// How far the next chunk reaches, once four fifths of this one are produced and there is more to come.
    pub(crate) fn due(&self, produced: u64) -> Option<u64> {
        let begin = self.covered.saturating_sub(self.tokens / 5);
        let next = self.covered.saturating_add(self.tokens);
        let to = self.most.map_or(next, |most| most.min(next));
        (produced >= begin && to > self.covered).then_some(to)
    }

    /// What the next chunk takes of each account: the price of a whole one, also of the last.
    pub(crate) fn wants(&self) -> Vec<Want> {
        let of = |account: &AccountSpec| Want {
            account: account.clone(),
            amount: self.price,
        };
        self.accounts.iter().map(of).collect()
    }

    pub(crate) fn taken(&mut self, to: u64) {
        self.covered = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_chunk_is_due_at_four_fifths_of_the_last() {
        let mut chunks = Chunks::first(Vec::new(), 1, None);
        assert_eq!((chunks.covered(), chunks.due(409)), (512, None));
        assert_eq!(chunks.due(410), Some(1_024));
        chunks.taken(1_024);
        assert_eq!((chunks.due(921), chunks.due(922)), (None, Some(1_536)));
    }

    #[test]
    fn a_stream_with_a_limit_ends_there() {
        let mut chunks = Chunks::first(Vec::new(), 1, Some(600));
        assert_eq!(chunks.due(512), Some(600));
        chunks.taken(600);
        assert_eq!(chunks.due(600), None);
        assert_eq!(Chunks::first(Vec::new(), 1, Some(100)).covered(), 100);
        assert_eq!(Chunks::first(Vec::new(), 1, Some(100)).due(100), None);
    }

    #[test]
    fn each_choice_has_a_chunk() {
        let chunks = Chunks::first(Vec::new(), 4, None);
        assert_eq!((chunks.covered(), chunks.due(1_639)), (2_048, Some(4_096)));
    }
}
