//! Windows whose calls reserve nothing and that are full: gateways are told, so that the next call is refused. Told by the
//! usage task when a window fills, and again every few seconds, because a message may be lost and a gateway may be new.

use std::collections::{BTreeMap, BTreeSet};

use odock_events::{
    clock::Timestamp,
    ids::GatewayId,
    ledger::books::Account,
    log::messages::{ControlMessage, FullAccount},
    payload::account::AccountId,
};
use sqlx::PgConnection;

use crate::{
    error::ProjectorError,
    projections::money::{IdColumns, Money, id_of},
};

/// Accounts in one message.
const MOST: usize = 256;

/// To every live gateway: which of the accounts that the transaction has changed are full.
pub(crate) fn messages(
    money: &Money,
    live: &BTreeSet<GatewayId>,
) -> Vec<(GatewayId, ControlMessage)> {
    let full: Vec<FullAccount> = money
        .changed()
        .filter_map(|id| full_account(id, money.books.accounts.get(&id)?))
        .collect();
    to_all(&full, live)
}

fn full_account(account: AccountId, row: &Account) -> Option<FullAccount> {
    row.is_full().then(|| FullAccount {
        account,
        carried: row.carried_in - row.carried_out,
        settled: row.settled,
        resets_at: row.window_end,
    })
}

fn to_all(full: &[FullAccount], live: &BTreeSet<GatewayId>) -> Vec<(GatewayId, ControlMessage)> {
    let of = |gateway: &GatewayId| {
        let gateway = *gateway;
        full.chunks(MOST).map(move |some| {
            let accounts = some.to_vec();
            (gateway, ControlMessage::Full { accounts })
        })
    };
    live.iter().flat_map(of).collect()
}

/// To every live gateway: every account that is full now.
pub(crate) async fn all(
    connection: &mut PgConnection,
    live: &BTreeSet<GatewayId>,
) -> Result<Vec<(GatewayId, ControlMessage)>, ProjectorError> {
    type Columns = (
        String,
        uuid::Uuid,
        uuid::Uuid,
        chrono::DateTime<chrono::Utc>,
        Option<chrono::DateTime<chrono::Utc>>,
        i64,
        i64,
    );
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT rule_kind, rule_id, subject, window_start, window_end,
             carried_in - carried_out, settled
         FROM account WHERE mode = 'postpaid' AND NOT closed
             AND settled >= limit_amount + carried_in - carried_out
         ORDER BY window_end LIMIT $1",
    )
    .bind(MOST_TOLD)
    .fetch_all(connection)
    .await?;
    let mut full = BTreeMap::new();
    for (kind, rule, subject, start, end, carried, settled) in rows {
        let columns: IdColumns = (kind, rule, subject, start);
        let account = id_of(columns)?;
        let resets_at = end.map(Timestamp::from_datetime);
        full.insert(
            account,
            FullAccount {
                account,
                carried,
                settled,
                resets_at,
            },
        );
    }
    let full: Vec<FullAccount> = full.into_values().collect();
    Ok(to_all(&full, live))
}

/// Accounts that are told of again each time.
const MOST_TOLD: i64 = 10_000;
