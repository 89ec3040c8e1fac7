//! Raising a generation: new keys are seeded from Postgres, and only then opened. There is no other recovery.

use redis::{Script, pipe};

use super::{
    LogError, boundary_field,
    keys::{Keys, Plane},
    redis::{RedisLog, Reply},
};
use crate::ids::{GatewayId, OrganisationId};

/// What Postgres knows, for the keys of a new generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GenerationSeed {
    /// Above Postgres' number, every generation key and the Unix time in ms.
    pub generation: u64,
    /// The management stream goes on after this seq.
    pub management_seq: u64,
    pub versions: Vec<(Option<OrganisationId>, u64)>,
    /// Gateway, epoch, nonce (empty: any process with that epoch may go on).
    pub owners: Vec<(GatewayId, u64, String)>,
    pub watermarks: Vec<(GatewayId, u64)>,
    /// The config stream goes on after this version.
    pub config_version: u64,
}

/// How long the keys of an old generation are kept, in seconds.
const OLD_KEYS_LIVE: i64 = 24 * 60 * 60;

impl RedisLog {
    /// Seeds the keys of a new generation, opens it, and lets the old one's keys expire. Repeating it is harmless:
    /// what is open already is left alone.
    pub async fn raise_generation(&self, seed: &GenerationSeed) -> Result<(), LogError> {
        let old = self.generation(Plane::Management).await?;
        // The management plane last: an admin that gets through finds everything else open.
        let mut closed = Vec::new();
        for plane in [Plane::Config, Plane::Usage, Plane::Management] {
            if self.generation(plane).await? != Some(seed.generation) {
                closed.push(plane);
            }
        }
        for plane in &closed {
            match plane {
                Plane::Config => self.seed_config(seed).await?,
                Plane::Usage => self.seed_usage(seed).await?,
                Plane::Management => self.seed_management(seed).await?,
            }
        }
        for plane in closed {
            self.open(plane, seed.generation).await?;
        }
        if let Some(old) = old.filter(|old| *old != seed.generation) {
            self.expire(old, seed).await?;
        }
        Ok(())
    }

    async fn seed_management(&self, seed: &GenerationSeed) -> Result<(), LogError> {
        let keys = Keys::new(seed.generation);
        let mut versions: Vec<(String, u64)> = seed
            .versions
            .iter()
            .map(|(boundary, version)| (boundary_field(*boundary), *version))
            .collect();
        versions.push(("#seq".to_owned(), seed.management_seq));
        let mut commands = pipe();
        commands.del(keys.versions()).ignore();
        for chunk in versions.chunks(1_000) {
            commands.hset_multiple(keys.versions(), chunk).ignore();
        }
        let () = commands.query_async(&mut self.connection.clone()).await?;
        Ok(())
    }

    async fn seed_usage(&self, seed: &GenerationSeed) -> Result<(), LogError> {
        let keys = Keys::new(seed.generation);
        let mut commands = pipe();
        commands
            .del(keys.owner())
            .ignore()
            .del(keys.watermarks())
            .ignore();
        for (gateway, epoch, nonce) in &seed.owners {
            commands
                .hset(
                    keys.owner(),
                    gateway.to_string(),
                    format!("{epoch}:{nonce}"),
                )
                .ignore();
        }
        for (gateway, seq) in &seed.watermarks {
            commands
                .hset(keys.watermarks(), gateway.to_string(), *seq)
                .ignore();
        }
        let () = commands.query_async(&mut self.connection.clone()).await?;
        Ok(())
    }

    /// An empty stream whose next id is the version after the one in Postgres.
    async fn seed_config(&self, seed: &GenerationSeed) -> Result<(), LogError> {
        if seed.config_version == 0 {
            return Ok(());
        }
        let key = Keys::new(seed.generation).config();
        let id = format!("0-{}", seed.config_version);
        let mut commands = pipe();
        commands.del(&key).ignore();
        commands.xadd(&key, &id, &[("seed", "1")]).ignore();
        commands.cmd("XDEL").arg(&key).arg(&id).ignore();
        let () = commands.query_async(&mut self.connection.clone()).await?;
        Ok(())
    }

    async fn open(&self, plane: Plane, generation: u64) -> Result<(), LogError> {
        let reply: Vec<String> = Script::new(include_str!("open_generation.lua"))
            .key(plane.generation_key())
            .arg(generation)
            .invoke_async(&mut self.connection.clone())
            .await?;
        match Reply::of(&reply)? {
            ("OK", _) => Ok(()),
            _ => Err(LogError::Answer(format!(
                "a higher generation is open: {}",
                reply.join(" ")
            ))),
        }
    }

    async fn expire(&self, old: u64, seed: &GenerationSeed) -> Result<(), LogError> {
        let keys = Keys::new(old);
        let mut names = vec![
            keys.management(),
            keys.versions(),
            keys.owner(),
            keys.watermarks(),
            keys.config(),
            keys.gateways(),
        ];
        let mut gateways = self.usage_owners(old).await?;
        gateways.extend(seed.owners.iter().map(|(gateway, ..)| *gateway));
        names.extend(gateways.into_iter().map(|gateway| keys.usage(gateway)));
        let mut commands = pipe();
        for name in names {
            commands.expire(name, OLD_KEYS_LIVE).ignore();
        }
        let () = commands.query_async(&mut self.connection.clone()).await?;
        Ok(())
    }
}
