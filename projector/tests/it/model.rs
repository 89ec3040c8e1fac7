//! The tables as the pure rules make them: the log is read back and folded in memory, by the fold of management state and the
//! books alone. Shares no SQL with what it is held against.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use odock_events::{
    codec::{self, Entry},
    envelope::{EntityRef, Envelope},
    ledger::{books::Books, rule::Rule},
    payload::{account::AccountId, lease::LeaseTotals},
    state::{
        EntityRow,
        fold::{self, Change},
    },
};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

/// What the log says there is.
#[derive(Default)]
struct Model {
    rows: BTreeMap<EntityRef, EntityRow>,
    books: Books,
    /// Usage events that are nothing, or cannot be.
    set_aside: usize,
}

impl Model {
    fn apply(&mut self, envelope: &Envelope) {
        let current = self.rows.get(&envelope.meta.entity).cloned();
        match fold::apply(current, envelope).unwrap() {
            Change::Put(row) => {
                if let Some(rule) = Rule::of_row((*row).clone()) {
                    let meta = &envelope.meta;
                    self.books.change_rule(&rule, meta.occurred_at, meta.id.0);
                }
                self.rows.insert(row.entity(), *row);
            }
            Change::Delete(entity) => {
                self.rows.remove(&entity);
            }
            Change::Nothing => {
                if self.books.apply(envelope).is_err() {
                    self.set_aside += 1;
                }
            }
        }
    }
}

/// One row of the log.
enum Item {
    Entry(Vec<u8>),
    Batch(Vec<u8>),
}

async fn of_the_log(database: &mut PgConnection) -> Model {
    let logged: Vec<(i64, Vec<u8>)> = sqlx::query_as("SELECT position, body FROM event_log")
        .fetch_all(&mut *database)
        .await
        .unwrap();
    let batches: Vec<(i64, Vec<u8>)> = sqlx::query_as("SELECT position, body FROM usage_batch")
        .fetch_all(database)
        .await
        .unwrap();
    let entries = logged.into_iter().map(|(at, body)| (at, Item::Entry(body)));
    let batches = batches
        .into_iter()
        .map(|(at, body)| (at, Item::Batch(body)));
    let items: BTreeMap<i64, Item> = entries.chain(batches).collect();
    let mut model = Model::default();
    for item in items.into_values() {
        match item {
            Item::Entry(body) => {
                for envelope in Entry::from_bytes(&body).unwrap().envelopes().unwrap() {
                    model.apply(&envelope);
                }
            }
            Item::Batch(body) => {
                let packed = zstd::stream::decode_all(body.as_slice()).unwrap();
                for event in codec::unpack_batch(&packed).unwrap() {
                    match codec::decode(&event) {
                        Ok(envelope) => model.apply(&envelope),
                        Err(_) => model.set_aside += 1,
                    }
                }
            }
        }
    }
    model
}

type AccountColumns = (
    Uuid,
    Uuid,
    DateTime<Utc>,
    String,
    i64,
    i64,
    i64,
    i64,
    i64,
    i64,
    bool,
    i16,
);

/// Holds every entity, account and lease of the tables against the fold of the log, as of one moment.
pub(crate) async fn assert_tables(database: &mut PgConnection, what: &str) {
    let mut transaction = database.begin().await.unwrap();
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .execute(&mut *transaction)
        .await
        .unwrap();
    assert_all(&mut transaction, what).await;
    transaction.commit().await.unwrap();
}

type Key = (Uuid, Uuid, DateTime<Utc>);

fn key(id: &AccountId) -> Key {
    (id.rule.uuid(), id.subject, id.window_start.to_datetime())
}

async fn assert_entities(database: &mut PgConnection, model: &Model, what: &str) {
    let mut rows = BTreeMap::new();
    for query in [
        "SELECT id, version, body FROM organisation",
        "SELECT id, version, body FROM team",
        "SELECT id, version, body FROM budget",
        "SELECT id, version, body FROM quota",
    ] {
        let found: Vec<(Uuid, i64, serde_json::Value)> = sqlx::query_as(query)
            .fetch_all(&mut *database)
            .await
            .unwrap();
        rows.extend(
            found
                .into_iter()
                .map(|(id, version, body)| (id, (version, body))),
        );
    }
    let wanted: BTreeMap<_, _> = model
        .rows
        .values()
        .map(|row| {
            (
                row.entity().id,
                (row.version() as i64, row.body_json().unwrap()),
            )
        })
        .collect();
    assert_same(&rows, &wanted, what, "entities");
}

type LeaseColumns = (Uuid, Uuid, DateTime<Utc>, Uuid, i64, i64, i64);

async fn assert_leases(database: &mut PgConnection, model: &Model, what: &str) {
    let found: Vec<LeaseColumns> = sqlx::query_as(
        "SELECT rule_id, subject, window_start, gateway_id, granted, settled, returned FROM lease",
    )
    .fetch_all(&mut *database)
    .await
    .unwrap();
    let found: BTreeMap<_, _> = found
        .into_iter()
        .map(
            |(rule, subject, start, gateway, granted, settled, returned)| {
                let totals = LeaseTotals {
                    granted,
                    settled,
                    returned,
                };
                (((rule, subject, start), gateway), totals)
            },
        )
        .collect();
    let wanted: BTreeMap<_, _> = model
        .books
        .leases
        .iter()
        .map(|((account, gateway), totals)| ((key(account), gateway.0), *totals))
        .collect();
    assert_same(&found, &wanted, what, "leases");
}

async fn assert_accounts(database: &mut PgConnection, model: &Model, what: &str) {
    let found: Vec<AccountColumns> = sqlx::query_as(
        "SELECT rule_id, subject, window_start, mode, limit_amount, held, settled, breached,
             carried_in, carried_out, closed, crossed FROM account",
    )
    .fetch_all(&mut *database)
    .await
    .unwrap();
    let found: BTreeMap<_, _> = found
        .into_iter()
        .map(
            |(
                rule,
                subject,
                start,
                mode,
                limit,
                held,
                settled,
                breached,
                into,
                out,
                closed,
                crossed,
            )| {
                let figures = [
                    limit,
                    held,
                    settled,
                    breached,
                    into,
                    out,
                    i64::from(crossed),
                ];
                ((rule, subject, start), (mode, figures, closed))
            },
        )
        .collect();
    let wanted: BTreeMap<_, _> = model
        .books
        .accounts
        .iter()
        .map(|(id, row)| {
            let (into, out) = (row.carried_in, row.carried_out);
            let crossed = i64::from(row.crossed);
            let figures = [
                row.limit,
                row.held,
                row.settled,
                row.breached,
                into,
                out,
                crossed,
            ];
            (key(id), (row.mode.name().to_owned(), figures, row.closed))
        })
        .collect();
    assert_same(&found, &wanted, what, "accounts");
}

async fn assert_all(database: &mut PgConnection, what: &str) {
    let model = of_the_log(database).await;
    assert_entities(database, &model, what).await;
    assert_leases(database, &model, what).await;
    assert_accounts(database, &model, what).await;
    let letters: i64 = sqlx::query_scalar("SELECT count(*) FROM dead_letter")
        .fetch_one(database)
        .await
        .unwrap();
    assert_eq!(letters, model.set_aside as i64, "{what}: dead letters");
}

/// Shows what differs, and not all that there is.
fn assert_same<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    found: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
    what: &str,
    of: &str,
) {
    let keys: std::collections::BTreeSet<&K> = found.keys().chain(wanted.keys()).collect();
    let different: Vec<_> = keys
        .into_iter()
        .map(|key| (key, found.get(key), wanted.get(key)))
        .filter(|(_, found, wanted)| found != wanted)
        .collect();
    assert!(
        different.is_empty(),
        "{what}: {of}, in the table and by the rules: {different:#?}"
    );
}
