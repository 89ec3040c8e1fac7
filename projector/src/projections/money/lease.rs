//! Table `lease`: one row per account and gateway with three totals that only grow, under its account's lock.

use odock_events::{
    ids::GatewayId,
    payload::{account::AccountId, lease::LeaseTotals},
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{LeaseKey, account::names_of};
use crate::error::ProjectorError;

/// The place of the account in what was asked for, and the lease.
type Columns = (i64, Uuid, i64, i64, i64);

fn lease_of(
    accounts: &[AccountId],
    (place, gateway, granted, settled, returned): Columns,
) -> Option<(LeaseKey, LeaseTotals)> {
    let account = accounts.get(usize::try_from(place - 1).ok()?)?;
    let totals = LeaseTotals {
        granted,
        settled,
        returned,
    };
    Some(((*account, GatewayId(gateway)), totals))
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
    let names = names_of(&accounts);
    let gateways: Vec<Uuid> = keys.iter().map(|(_, gateway)| gateway.0).collect();
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT wanted.place, l.gateway_id, l.granted, l.settled, l.returned
         FROM lease l JOIN unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::uuid[]) WITH ORDINALITY
             AS wanted (rule_id, subject, window_start, gateway_id, place)
             USING (rule_id, subject, window_start, gateway_id)",
    )
    .bind(names.rules)
    .bind(names.subjects)
    .bind(names.starts)
    .bind(gateways)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| lease_of(&accounts, row))
        .collect())
}

/// Every lease of these accounts.
pub(super) async fn load_of_accounts(
    connection: &mut PgConnection,
    accounts: &[AccountId],
) -> Result<Vec<(LeaseKey, LeaseTotals)>, ProjectorError> {
    if accounts.is_empty() {
        return Ok(Vec::new());
    }
    let names = names_of(accounts);
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT wanted.place, l.gateway_id, l.granted, l.settled, l.returned
         FROM lease l JOIN unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) WITH ORDINALITY
             AS wanted (rule_id, subject, window_start, place)
             USING (rule_id, subject, window_start)",
    )
    .bind(names.rules)
    .bind(names.subjects)
    .bind(names.starts)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| lease_of(accounts, row))
        .collect())
}

pub(super) async fn write(
    connection: &mut PgConnection,
    leases: &[(LeaseKey, LeaseTotals, i64)],
) -> Result<(), ProjectorError> {
    if leases.is_empty() {
        return Ok(());
    }
    let accounts: Vec<AccountId> = leases.iter().map(|((account, _), ..)| *account).collect();
    let names = names_of(&accounts);
    let gateways: Vec<Uuid> = leases.iter().map(|((_, gateway), ..)| gateway.0).collect();
    let granted: Vec<i64> = leases.iter().map(|(_, totals, _)| totals.granted).collect();
    let settled: Vec<i64> = leases.iter().map(|(_, totals, _)| totals.settled).collect();
    let returned: Vec<i64> = leases
        .iter()
        .map(|(_, totals, _)| totals.returned)
        .collect();
    let positions: Vec<i64> = leases.iter().map(|(.., position)| *position).collect();
    sqlx::query(
        "INSERT INTO lease (rule_id, subject, window_start, gateway_id, granted, settled, returned,
             position)
         SELECT rule_id, subject, window_start, gateway_id, granted, settled, returned, position
         FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::uuid[], $5::bigint[],
             $6::bigint[], $7::bigint[], $8::bigint[])
             AS new (rule_id, subject, window_start, gateway_id, granted, settled, returned, position)
         ON CONFLICT (rule_id, subject, window_start, gateway_id) DO UPDATE SET
             granted = EXCLUDED.granted, settled = EXCLUDED.settled,
             returned = EXCLUDED.returned, position = EXCLUDED.position",
    )
    .bind(names.rules)
    .bind(names.subjects)
    .bind(names.starts)
    .bind(gateways)
    .bind(granted)
    .bind(settled)
    .bind(returned)
    .bind(positions)
    .execute(connection)
    .await?;
    Ok(())
}
