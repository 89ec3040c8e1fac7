//! Generations: whether Redis and Postgres still belong together, and the one way to bring them together again when
//! they do not. Looked at when a term begins and with every beat.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use odock_events::{
    clock::Clock,
    ids::GatewayId,
    log::{
        keys::Plane,
        redis::{RedisIdentity, RedisLog},
    },
};
use sqlx::{ConnectOptions as _, PgConnection};
use uuid::Uuid;

use crate::{
    checkpoint,
    config::Config,
    error::{ProjectorError, WentBack},
    head,
    term::Term,
};

mod raise;

/// Why the streams are not trusted, found by a task or at a term's begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suspicion {
    pub(crate) what: String,
    pub(crate) went_back: WentBack,
}

impl Suspicion {
    fn of_redis(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            went_back: WentBack::No,
        }
    }

    fn of_postgres(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            went_back: WentBack::Postgres,
        }
    }
}

/// What a term stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Established {
    pub(crate) generation: u64,
    /// The log's head at that moment.
    pub(crate) position: i64,
    /// When it was raised just now: the gateways that are open.
    pub(crate) raised_over: Option<BTreeSet<GatewayId>>,
}

/// The row of table `generation`.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) generation: u64,
    pub(crate) redis_run_id: String,
}

/// The text left in Redis after a commit: what Redis has seen of Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    generation: u64,
    position: i64,
}

impl Mark {
    fn to_text(self) -> String {
        format!("{}:{}", self.generation, self.position)
    }

    fn parse(text: &str) -> Option<Self> {
        let (generation, position) = text.split_once(':')?;
        Some(Self {
            generation: generation.parse().ok()?,
            position: position.parse().ok()?,
        })
    }
}

/// Returns the generation in force, raised first if Redis or Postgres is not what the other knows.
pub(crate) async fn establish(
    config: &Config,
    clock: &Arc<dyn Clock>,
    log: &RedisLog,
    suspicion: Option<Suspicion>,
) -> Result<Established, ProjectorError> {
    let mut database = config.postgres.connect().await?;
    let known = load(&mut database).await?;
    let identity = log.identity().await?;
    let suspicion = match suspicion {
        Some(suspicion) => Some(suspicion),
        None => suspect(&mut database, log, &known, &identity).await?,
    };
    let mut raised_over = None;
    let generation = match suspicion {
        None => known.generation,
        Some(suspicion) => {
            tracing::warn!(reason = %suspicion.what, "the streams begin a new generation");
            raised_over = Some(open_gateways(&mut database).await?);
            raise::raise(&mut database, clock, log, &known, &identity, &suspicion).await?
        }
    };
    let position = head::position(&mut database).await?;
    log.put_checkpoint(
        &Mark {
            generation,
            position,
        }
        .to_text(),
    )
    .await?;
    Ok(Established {
        generation,
        position,
        raised_over,
    })
}

/// Fails when Redis or the generation is not the term's any more.
pub(crate) async fn confirm(
    database: &mut PgConnection,
    term: &Term,
) -> Result<(), ProjectorError> {
    let known = load(database).await?;
    if known.generation != term.generation {
        return Err(ProjectorError::Fenced {
            what: format!("generation {} is in force", known.generation),
        });
    }
    let identity = term.log.identity().await?;
    match suspect_identity(&known, &identity, &planes(&term.log).await?) {
        None => Ok(()),
        Some(Suspicion { what, went_back }) => Err(ProjectorError::Estranged { what, went_back }),
    }
}

/// Leaves the last committed position in Redis, so that an older Postgres gives itself away.
pub(crate) async fn keep_checkpoint(term: Term) -> Result<(), ProjectorError> {
    let mut left = 0;
    loop {
        tokio::select! {
            () = term.stop.cancelled() => return Ok(()),
            () = term.signals.moved.notified() => {}
        }
        let position = term.signals.position();
        if position > left {
            let mark = Mark {
                generation: term.generation,
                position,
            };
            term.log.put_checkpoint(&mark.to_text()).await?;
            left = position;
        }
    }
}

async fn open_gateways(database: &mut PgConnection) -> Result<BTreeSet<GatewayId>, ProjectorError> {
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM gateway WHERE state = 'open'")
        .fetch_all(database)
        .await?;
    Ok(ids.into_iter().map(GatewayId).collect())
}

async fn load(database: &mut PgConnection) -> Result<Known, ProjectorError> {
    let (generation, redis_run_id): (i64, String) =
        sqlx::query_as("SELECT generation, redis_run_id FROM generation WHERE id = 1")
            .fetch_one(database)
            .await?;
    Ok(Known {
        generation: generation as u64,
        redis_run_id,
    })
}

async fn planes(log: &RedisLog) -> Result<[Option<u64>; 3], ProjectorError> {
    Ok([
        log.generation(Plane::Management).await?,
        log.generation(Plane::Usage).await?,
        log.generation(Plane::Config).await?,
    ])
}

async fn suspect(
    database: &mut PgConnection,
    log: &RedisLog,
    known: &Known,
    identity: &RedisIdentity,
) -> Result<Option<Suspicion>, ProjectorError> {
    // First of all the signs of an older Postgres: gateways then hold leases that it does not know.
    if let Some(suspicion) = suspect_postgres(database, log, known, identity).await? {
        return Ok(Some(suspicion));
    }
    if let Some(suspicion) = suspect_identity(known, identity, &planes(log).await?) {
        return Ok(Some(suspicion));
    }
    let folded = checkpoint::open(database, checkpoint::MANAGEMENT, known.generation).await?;
    // A new generation's stream is not there before its first entry.
    let top = log.management_top(known.generation).await?;
    Ok(top
        .is_some_and(|top| top < folded)
        .then(|| Suspicion::of_redis("the management stream lost its end")))
}

fn suspect_identity(
    known: &Known,
    identity: &RedisIdentity,
    planes: &[Option<u64>; 3],
) -> Option<Suspicion> {
    if known.generation == 0 {
        return Some(Suspicion::of_redis("there was none before"));
    }
    if identity.run_id != known.redis_run_id {
        return Some(Suspicion::of_redis("redis is another process than before"));
    }
    if planes.iter().any(|plane| *plane != Some(known.generation)) {
        return Some(Suspicion::of_redis(
            "redis holds another generation or none",
        ));
    }
    let mark = identity.checkpoint.as_deref().and_then(Mark::parse);
    match mark {
        Some(mark) if mark.generation == known.generation => None,
        Some(_) | None => Some(Suspicion::of_redis(
            "redis does not hold what was left in it",
        )),
    }
}

async fn suspect_postgres(
    database: &mut PgConnection,
    log: &RedisLog,
    known: &Known,
    identity: &RedisIdentity,
) -> Result<Option<Suspicion>, ProjectorError> {
    let position = head::position(database).await?;
    let mark = identity.checkpoint.as_deref().and_then(Mark::parse);
    if mark.is_some_and(|mark| mark.position > position || mark.generation > known.generation) {
        return Ok(Some(Suspicion::of_postgres(
            "postgres is older than redis has seen it",
        )));
    }
    // Watermarks before checkpoints: another projector that is still at work moves the checkpoint first.
    let mut acknowledged = BTreeMap::new();
    for (gateway, _) in checkpoint::usage_streams(database).await? {
        let watermark = log.watermark(known.generation, gateway).await?.unwrap_or(0);
        acknowledged.insert(gateway, watermark);
    }
    for (gateway, folded) in checkpoint::usage_streams(database).await? {
        let acknowledged = acknowledged.get(&gateway).copied().unwrap_or(0);
        if acknowledged > folded {
            let what = format!("{gateway} was acknowledged up to {acknowledged}, not {folded}");
            return Ok(Some(Suspicion::of_postgres(what)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known {
            generation: 7,
            redis_run_id: "a".into(),
        }
    }

    fn identity(run_id: &str, checkpoint: Option<&str>) -> RedisIdentity {
        RedisIdentity {
            run_id: run_id.into(),
            checkpoint: checkpoint.map(Into::into),
        }
    }

    #[test]
    fn redis_as_it_was_left_is_trusted() {
        let planes = [Some(7); 3];
        assert_eq!(
            suspect_identity(&known(), &identity("a", Some("7:12")), &planes),
            None
        );
    }

    #[test]
    fn every_sign_of_another_redis_is_seen() {
        let planes = [Some(7); 3];
        let suspicious = |identity: RedisIdentity, planes: &[Option<u64>; 3]| {
            suspect_identity(&known(), &identity, planes).is_some()
        };
        assert!(suspicious(identity("b", Some("7:12")), &planes));
        assert!(suspicious(identity("a", None), &planes));
        assert!(suspicious(identity("a", Some("6:12")), &planes));
        assert!(suspicious(identity("a", Some("nonsense")), &planes));
        assert!(suspicious(
            identity("a", Some("7:12")),
            &[Some(7), None, Some(7)]
        ));
    }
}
