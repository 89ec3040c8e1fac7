//! Closes windows a minute after their end: no grant from them any more. What gateways still hold of them comes back
//! by itself; what is in flight settles as ever.

use odock_events::{
    clock::Timestamp,
    kind::Event,
    ledger::grant::CLOSE_AFTER_WINDOW_SECONDS,
    payload::{account::AccountId, lease::WindowClosed},
};
use sqlx::PgConnection;

use super::{PAGE, WindowTask};
use crate::{
    error::ProjectorError,
    projections::money::{IdColumns, Touched, id_of},
};

/// Closes a page of windows; `None` when there was nothing to close.
pub(super) async fn close_some(task: &mut WindowTask<'_>) -> Result<Option<i64>, ProjectorError> {
    let over = find(task.database, task.now).await?;
    let mut touched = Touched::default();
    for id in &over {
        touched.account(*id, None);
    }
    task.decide(touched, None, |deciding| {
        for account in over {
            let row = deciding.money.books.accounts.get(&account);
            if row.is_some_and(|row| !row.closed) {
                deciding.decided(account, Event::WindowClosed(WindowClosed { account }));
            }
        }
    })
    .await
}

async fn find(
    database: &mut PgConnection,
    now: Timestamp,
) -> Result<Vec<AccountId>, ProjectorError> {
    let ended_before = Timestamp(now.0 - CLOSE_AFTER_WINDOW_SECONDS * 1_000_000);
    let rows: Vec<IdColumns> = sqlx::query_as(
        "SELECT rule_kind, rule_id, subject, window_start FROM account
         WHERE NOT closed AND window_end <= $1 ORDER BY window_end LIMIT $2",
    )
    .bind(ended_before.to_datetime())
    .bind(PAGE)
    .fetch_all(database)
    .await?;
    rows.into_iter().map(id_of).collect()
}
