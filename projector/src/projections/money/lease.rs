//! Table `lease`: one row per account and gateway with three totals that only grow, under its account's lock.

use chrono::{DateTime, Utc};
use odock_events::{
    clock::Timestamp,
    ids::{BudgetId, GatewayId},
    payload::{account::AccountId, lease::LeaseTotals},
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{LeaseKey, account::names_of};
use crate::error::ProjectorError;

type Columns = (Uuid, DateTime<Utc>, Uuid, i64, i64, i64);

fn lease_of(
    (budget, start, gateway, granted, settled, returned): Columns,
) -> (LeaseKey, LeaseTotals) {
    let account = AccountId {
        budget: BudgetId(budget),
        window_start: Timestamp::from_datetime(start),
    };
    (
        (account, GatewayId(gateway)),
        LeaseTotals {
            granted,
            settled,
            returned,
        },
    )
}

/// Those of the leases that exist.
pub(super) async fn load(
    connection: &mut PgConnection,
    keys: &[LeaseKey],
) -> Result<Vec<(LeaseKey, LeaseTotals)>, ProjectorError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let accounts: Vec<AccountId> = keys.iter().map(|(account, _)| *account).collect();
    let (budgets, starts) = names_of(&accounts);
    let gateways: Vec<Uuid> = keys.iter().map(|(_, gateway)| gateway.0).collect();
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT l.budget_id, l.window_start, l.gateway_id, l.granted, l.settled, l.returned
         FROM lease l JOIN unnest($1::uuid[], $2::timestamptz[], $3::uuid[])
             AS wanted (budget_id, window_start, gateway_id)
             ON l.budget_id = wanted.budget_id AND l.window_start = wanted.window_start
                 AND l.gateway_id = wanted.gateway_id",
    )
    .bind(budgets)
    .bind(starts)
    .bind(gateways)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(lease_of).collect())
}

/// Every lease of these accounts.
pub(super) async fn load_of_accounts(
    connection: &mut PgConnection,
    accounts: &[AccountId],
) -> Result<Vec<(LeaseKey, LeaseTotals)>, ProjectorError> {
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
    let (budgets, starts) = names_of(accounts);
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT l.budget_id, l.window_start, l.gateway_id, l.granted, l.settled, l.returned
         FROM lease l JOIN unnest($1::uuid[], $2::timestamptz[])
             AS wanted (budget_id, window_start)
             ON l.budget_id = wanted.budget_id AND l.window_start = wanted.window_start",
    )
    .bind(budgets)
    .bind(starts)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(lease_of).collect())
}

pub(super) async fn write(
    connection: &mut PgConnection,
    leases: &[(LeaseKey, LeaseTotals, i64)],
) -> Result<(), ProjectorError> {
    if leases.is_empty() {
        return Ok(());
    }
    let accounts: Vec<AccountId> = leases.iter().map(|((account, _), ..)| *account).collect();
    let (budgets, starts) = names_of(&accounts);
    let gateways: Vec<Uuid> = leases.iter().map(|((_, gateway), ..)| gateway.0).collect();
    let granted: Vec<i64> = leases.iter().map(|(_, totals, _)| totals.granted).collect();
    let settled: Vec<i64> = leases.iter().map(|(_, totals, _)| totals.settled).collect();
    let returned: Vec<i64> = leases
        .iter()
        .map(|(_, totals, _)| totals.returned)
        .collect();
    let positions: Vec<i64> = leases.iter().map(|(.., position)| *position).collect();
    sqlx::query(
        "INSERT INTO lease (budget_id, window_start, gateway_id, granted, settled, returned, position)
         SELECT budget_id, window_start, gateway_id, granted, settled, returned, position
         FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::bigint[], $5::bigint[],
             $6::bigint[], $7::bigint[])
             AS new (budget_id, window_start, gateway_id, granted, settled, returned, position)
         ON CONFLICT (budget_id, window_start, gateway_id) DO UPDATE SET
             granted = EXCLUDED.granted, settled = EXCLUDED.settled,
             returned = EXCLUDED.returned, position = EXCLUDED.position",
    )
    .bind(budgets)
    .bind(starts)
    .bind(gateways)
    .bind(granted)
    .bind(settled)
    .bind(returned)
    .bind(positions)
    .execute(connection)
    .await?;
    Ok(())
}
