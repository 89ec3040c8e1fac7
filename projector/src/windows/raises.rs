//! Ends temporary raises: from their time on, the accounts of a rule have the limit that the rule has without them.

use std::collections::BTreeSet;

use odock_events::{
    clock::Timestamp,
    kind::Event,
    ledger::rule::Rule,
    payload::{
        account::{AccountId, RuleId},
        lease::RaiseEnded,
    },
};
use sqlx::PgConnection;

use super::{PAGE, WindowTask};
use crate::{
    error::ProjectorError,
    projections::money::{IdColumns, Touched, id_of},
};

/// Ends a page of them; `None` when there was nothing to end.
pub(super) async fn end_some(task: &mut WindowTask<'_>) -> Result<Option<i64>, ProjectorError> {
    let over = find(task.database, task.now).await?;
    let rules: BTreeSet<RuleId> = over.iter().map(|id| id.rule).collect();
    let mut touched = Touched::default();
    for id in &over {
        touched.account(*id, None);
    }
    task.decide(touched, Some(rules), |deciding| {
        for account in over {
            let rule = deciding.rules.get(&account.rule);
            let is_over = rule
                .and_then(Rule::raise)
                .is_some_and(|raise| raise.until <= deciding.now);
            let limit = rule.map(Rule::limit).filter(|_| is_over);
            let row = deciding.money.books.accounts.get(&account);
            if let (Some(limit), Some(row)) = (limit, row)
                && !row.closed
                && row.limit != limit
            {
                deciding.decided(account, Event::RaiseEnded(RaiseEnded { account, limit }));
            }
        }
    })
    .await
}

/// Accounts whose rule had a raise that is over, and whose limit is not what it is without it.
async fn find(
    database: &mut PgConnection,
    now: Timestamp,
) -> Result<Vec<AccountId>, ProjectorError> {
    let rows: Vec<IdColumns> = sqlx::query_as(
        "SELECT a.rule_kind, a.rule_id, a.subject, a.window_start
         FROM (SELECT id, (body ->> 'amount_nanos')::bigint AS amount FROM budget
               WHERE (body -> 'raise' ->> 'until')::timestamptz <= $1
               UNION ALL
               SELECT id, (body ->> 'limit')::bigint FROM quota
               WHERE (body -> 'raise' ->> 'until')::timestamptz <= $1) AS raised
         JOIN account a ON a.rule_id = raised.id
         WHERE NOT a.closed AND a.limit_amount <> raised.amount
         LIMIT $2",
    )
    .bind(now.to_datetime())
    .bind(PAGE)
    .fetch_all(database)
    .await?;
    rows.into_iter().map(id_of).collect()
}
