//! What is committed: each gateway's events, the commands, the checkpoints and the generation.

use std::collections::HashMap;

use odock_events::{ids::GatewayId, log::generation::GenerationSeed};

use super::gateway::{Record, Start};

#[derive(Clone, Debug, Default)]
pub(super) struct Postgres {
    pub(super) generation: u64,
    pub(super) redis_run_id: u64,
    /// Counts commits: the note that the projector leaves in Redis.
    pub(super) commits: u64,
    pub(super) usage: HashMap<GatewayId, UsageStream>,
    pub(super) management_seq: u64,
    pub(super) version: u64,
    /// Command and its outcome, in order.
    pub(super) commands: Vec<(u64, Outcome)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Rejected,
}

#[derive(Clone, Debug, Default)]
pub(super) struct UsageStream {
    pub(super) checkpoint: u64,
    pub(super) records: Vec<Record>,
    pub(super) owner: Option<Start>,
}

impl Postgres {
    pub(super) fn checkpoint(&self, gateway: GatewayId) -> u64 {
        self.usage
            .get(&gateway)
            .map_or(0, |stream| stream.checkpoint)
    }

    pub(super) fn take(&mut self, gateway: GatewayId, records: &[Record], checkpoint: u64) {
        let stream = self.usage.entry(gateway).or_default();
        for record in records {
            if let Record::Opened(start) = record {
                stream.owner = Some(*start);
            }
            stream.records.push(*record);
        }
        stream.checkpoint = checkpoint;
    }

    pub(super) fn outcome(&self, command: u64) -> Option<Outcome> {
        let found = self.commands.iter().find(|(id, _)| *id == command);
        found.map(|(_, outcome)| *outcome)
    }

    pub(super) fn seed(&self) -> GenerationSeed {
        let owners = self.usage.iter().filter_map(|(gateway, stream)| {
            let start = stream.owner?;
            Some((*gateway, start.epoch, start.nonce.to_string()))
        });
        let watermarks = self
            .usage
            .iter()
            .map(|(gateway, stream)| (*gateway, stream.checkpoint));
        GenerationSeed {
            generation: self.generation,
            management_seq: self.management_seq,
            versions: vec![(None, self.version)],
            owners: owners.collect(),
            watermarks: watermarks.collect(),
            config_version: 0,
        }
    }
}
