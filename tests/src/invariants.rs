//! DESIGN.md 14's checkers, asked of a running stack. What must hold in every committed state.

use odock_projector::check::{self, Depth};
use sqlx::PgPool;

/// Every invariant that the tables show, in one snapshot.
pub async fn assert_invariants(postgres: &PgPool) -> anyhow::Result<()> {
    let mut connection = postgres.acquire().await?;
    let violations = check::violations(&mut connection, Depth::Full).await?;
    anyhow::ensure!(violations.is_empty(), "{violations:#?}");
    let mispriced = check::mispriced(&mut connection).await?;
    anyhow::ensure!(mispriced.is_empty(), "{mispriced:#?}");
    Ok(())
}
