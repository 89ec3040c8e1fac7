//! Digests of tables: the sum modulo 2^256 of the SHA-256 of each row's text. The order of rows does not matter, and
//! a row more, less or other shows. Used by `rebuild`.

use std::{collections::BTreeMap, fmt};

use sqlx::PgConnection;

use crate::error::ProjectorError;

/// Rows that come in one answer.
const PAGE: i64 = 10_000;

/// A table's content in 32 bytes and a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    pub rows: u64,
    /// Little-endian limbs.
    sum: [u64; 4],
}

impl Digest {
    fn add(&mut self, hash: &[u8]) {
        self.rows += 1;
        let mut carry = false;
        for (limb, bytes) in self.sum.iter_mut().zip(hash.chunks_exact(8)) {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            let (sum, over) = limb.overflowing_add(u64::from_le_bytes(word));
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, over || over_again);
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sum
            .iter()
            .rev()
            .try_for_each(|limb| write!(f, "{limb:016x}"))
    }
}

/// One derived table: its name and the statement that opens a cursor over its rows' hashes, each with the partition that
/// the row is in.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    open: &'static str,
}

/// The digest of each partition by its name; of a table without partitions one, by the table's.
pub(crate) type Digests = BTreeMap<String, Digest>;

macro_rules! tables {
    ($($name:literal),* $(,)?) => {
        /// Every derived table. The schema is the connection's own: live or rebuilt.
        pub(crate) const TABLES: &[Table] = &[$(Table {
            name: $name,
            open: concat!(
                "DECLARE rows NO SCROLL CURSOR FOR
                 SELECT sha256(convert_to(t::text, 'UTF8')), c.relname::text FROM ",
                $name,
                " AS t JOIN pg_class c ON c.oid = t.tableoid"
            ),
        }),*];
    };
}

tables!(
    "boundary",
    "organisation",
    "team",
    "app_user",
    "membership",
    "provider",
    "provider_key",
    "model",
    "api_key",
    "api_key_rotation",
    "model_grant",
    "budget",
    "quota",
    "overlay",
    "price_version",
    "config_delta",
    "event",
    "gateway",
    "account",
    "lease",
    "ledger_entry",
    "usage",
    "usage_hourly",
    "usage_daily",
    "dead_letter",
);

/// The digests of one table, inside the caller's transaction.
pub(crate) async fn of(
    connection: &mut PgConnection,
    table: &Table,
) -> Result<Digests, ProjectorError> {
    let mut digests = Digests::new();
    sqlx::query(table.open).execute(&mut *connection).await?;
    loop {
        // Simple protocol: a cursor's statement cannot be bound.
        let page: Vec<(Vec<u8>, String)> = sqlx::query_as("FETCH 10000 FROM rows")
            .fetch_all(&mut *connection)
            .await?;
        for (hash, partition) in &page {
            match digests.get_mut(partition) {
                Some(digest) => digest.add(hash),
                None => digests.entry(partition.clone()).or_default().add(hash),
            }
        }
        if (page.len() as i64) < PAGE {
            break;
        }
    }
    sqlx::query("CLOSE rows").execute(connection).await?;
    if digests.is_empty() {
        digests.insert(table.name.to_owned(), Digest::default());
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_rows_does_not_matter_and_the_rows_do() {
        let (one, other) = ([0xff; 32], [0x81; 32]);
        let mut forward = Digest::default();
        forward.add(&one);
        forward.add(&other);
        let mut backward = Digest::default();
        backward.add(&other);
        backward.add(&one);
        assert_eq!(forward, backward);
        let mut twice = forward;
        twice.add(&other);
        assert_ne!(forward.to_string(), twice.to_string());
    }

    #[test]
    fn the_sum_carries_from_limb_to_limb() {
        let mut digest = Digest::default();
        let mut lowest = [0; 32];
        lowest[0] = 1;
        digest.add(&[0xff; 32]);
        digest.add(&lowest);
        assert_eq!(digest.to_string(), "0".repeat(64));
    }
}
