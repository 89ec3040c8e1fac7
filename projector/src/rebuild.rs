//! Rebuild: folds the log from position 0 into a schema of its own by the same code as live, and compares both, table
//! by table. `odock rebuild` runs it. Decisions are in the log and are not made again; nothing is sent to anybody.

use std::{collections::BTreeSet, fmt, str::FromStr as _, time::Duration};

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::time::Instant;

use crate::{
    digest::{self, Digest, Digests, TABLES},
    error::ProjectorError,
    head,
    leadership::LOCK_KEY,
};

mod replay;

/// What becomes of the rebuilt tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are compared with the live ones and dropped.
    Verify,
    /// They take the live ones' place, which are kept in schema `odock_before`. No projector may be active.
    Replace,
}

/// One table, or one partition of a table that has some, live and rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReport {
    pub name: String,
    pub live: Digest,
    pub rebuilt: Digest,
}

/// What a rebuild found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The log's head to which both were folded.
    pub position: i64,
    pub tables: Vec<TableReport>,
    /// Usage events folded.
    pub usage_events: u64,
    pub took: Duration,
}

impl Report {
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.tables.iter().all(|table| table.live == table.rebuilt)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for TableReport {
            name,
            live,
            rebuilt,
        } in &self.tables
        {
            let verdict = if live == rebuilt {
                "equal"
            } else {
                "DIFFERENT"
            };
            writeln!(
                f,
                "{name:<18} {:>10} rows {:>10} rebuilt  {verdict}",
                live.rows, rebuilt.rows
            )?;
        }
        let verdict = if self.is_equal() {
            "equal"
        } else {
            "DIFFERENT"
        };
        write!(
            f,
            "{verdict} at position {}: {} usage events in {:.1} s",
            self.position,
            self.usage_events,
            self.took.as_secs_f64()
        )
    }
}

/// Rebuilds the derived tables of a database up to its log's head.
pub async fn run(postgres_url: &str, mode: Mode) -> anyhow::Result<Report> {
    let options = PgConnectOptions::from_str(postgres_url)?;
    Ok(rebuild(&options, mode).await?)
}

async fn rebuild(options: &PgConnectOptions, mode: Mode) -> Result<Report, ProjectorError> {
    let began = Instant::now();
    let mut live = options
        .clone()
        .application_name("odock-rebuild")
        .connect()
        .await?;
    if mode == Mode::Replace {
        lead(&mut live).await?;
    }
    let mut rebuilt = open_schema(options, mode).await?;
    let (position, digests) = digest_live(&mut live).await?;
    let usage_events = replay::to(&mut rebuilt, position).await?;
    let mut tables = Vec::with_capacity(TABLES.len());
    let mut transaction = rebuilt.begin().await?;
    for (table, live) in TABLES.iter().zip(digests) {
        let rebuilt = digest::of(&mut transaction, table).await?;
        tables.extend(compared(&live, &rebuilt));
    }
    transaction.commit().await?;
    match mode {
        Mode::Verify => drop_schema(&mut rebuilt).await?,
        Mode::Replace => replace(&mut live).await?,
    }
    Ok(Report {
        position,
        tables,
        usage_events,
        took: began.elapsed(),
    })
}

/// Each partition that either has, in the order of their names. An empty table has none, and goes by its own name.
fn compared(live: &Digests, rebuilt: &Digests) -> Vec<TableReport> {
    let names: BTreeSet<&String> = live.keys().chain(rebuilt.keys()).collect();
    let of = |digests: &Digests, name: &String| digests.get(name).copied().unwrap_or_default();
    names
        .into_iter()
        .map(|name| TableReport {
            name: name.clone(),
            live: of(live, name),
            rebuilt: of(rebuilt, name),
        })
        .collect()
}

/// Keeps every projector from becoming active for as long as the connection lives.
async fn lead(connection: &mut PgConnection) -> Result<(), ProjectorError> {
    let locked: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(LOCK_KEY)
        .fetch_one(connection)
        .await?;
    if locked {
        Ok(())
    } else {
        Err(ProjectorError::Fenced {
            what: "stop the projectors before replacing tables".into(),
        })
    }
}

/// An empty set of derived tables, and a connection that sees them before the live ones. One rebuild at a time: the
/// schema has one name, and a second one waits for the first's lock.
async fn open_schema(
    options: &PgConnectOptions,
    mode: Mode,
) -> Result<PgConnection, ProjectorError> {
    let options = options.clone().application_name("odock-rebuild").options([
        ("search_path", "odock_rebuild,public"),
        ("synchronous_commit", "off"),
    ]);
    let mut connection = options.connect().await?;
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(LOCK_KEY + 1)
        .execute(&mut connection)
        .await?;
    drop_schema(&mut connection).await?;
    sqlx::query("CREATE SCHEMA odock_rebuild")
        .execute(&mut connection)
        .await?;
    sqlx::query("SELECT create_derived_tables()")
        .execute(&mut connection)
        .await?;
    if mode == Mode::Verify {
        // Nobody looks anything up in tables that are compared and dropped.
        sqlx::raw_sql(
            "DROP INDEX odock_rebuild.usage_started, odock_rebuild.usage_organisation,
                 odock_rebuild.usage_key, odock_rebuild.usage_id, odock_rebuild.usage_request,
                 odock_rebuild.event_organisation, odock_rebuild.event_entity,
                 odock_rebuild.ledger_entry_account",
        )
        .execute(&mut connection)
        .await?;
    }
    Ok(connection)
}

async fn drop_schema(connection: &mut PgConnection) -> Result<(), ProjectorError> {
    sqlx::raw_sql("SET client_min_messages = warning; DROP SCHEMA IF EXISTS odock_rebuild CASCADE")
        .execute(connection)
        .await?;
    Ok(())
}

/// All live digests and the log's head, as of one moment.
async fn digest_live(connection: &mut PgConnection) -> Result<(i64, Vec<Digests>), ProjectorError> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .execute(&mut *transaction)
        .await?;
    let position = head::position(&mut transaction).await?;
    let mut digests = Vec::with_capacity(TABLES.len());
    for table in TABLES {
        digests.push(digest::of(&mut transaction, table).await?);
    }
    transaction.commit().await?;
    Ok((position, digests))
}

/// Puts the rebuilt tables into the live ones' place.
async fn replace(connection: &mut PgConnection) -> Result<(), ProjectorError> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT position FROM log_head WHERE id = 1 FOR UPDATE")
        .execute(&mut *transaction)
        .await?;
    sqlx::raw_sql(
        "SET LOCAL client_min_messages = warning;
         DROP SCHEMA IF EXISTS odock_before CASCADE;
         CREATE SCHEMA odock_before;
         DO $$
         DECLARE
             moved name;
         BEGIN
             FOR moved IN SELECT live.tablename FROM pg_tables live
                 JOIN pg_tables rebuilt USING (tablename)
                 WHERE live.schemaname = 'public' AND rebuilt.schemaname = 'odock_rebuild'
             LOOP
                 EXECUTE format('ALTER TABLE public.%I SET SCHEMA odock_before', moved);
             END LOOP;
             FOR moved IN SELECT tablename FROM pg_tables
                 WHERE schemaname = 'public' AND tablename LIKE 'usage\\_2%'
             LOOP
                 EXECUTE format('ALTER TABLE public.%I SET SCHEMA odock_before', moved);
             END LOOP;
             FOR moved IN SELECT tablename FROM pg_tables WHERE schemaname = 'odock_rebuild' LOOP
                 EXECUTE format('ALTER TABLE odock_rebuild.%I SET SCHEMA public', moved);
             END LOOP;
         END $$;
         DROP SCHEMA odock_rebuild",
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}
