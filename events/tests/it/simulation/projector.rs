//! A projector: reads into memory, commits later, and may be overtaken between the two.

use odock_events::{
    codec,
    ids::GatewayId,
    log::{EventLog as _, ManagementEntry},
};

use super::{
    Guards,
    admin::Command,
    gateway::Record,
    guarded_log::GuardedLog,
    postgres::{Outcome, Postgres},
    random::Random,
};

#[derive(Debug, Default)]
pub(super) struct Projector {
    usage: Option<UsageRead>,
    management: Option<(u64, Vec<ManagementEntry>)>,
}

#[derive(Debug)]
struct UsageRead {
    gateway: GatewayId,
    generation: u64,
    from: u64,
    to: u64,
    records: Vec<Record>,
}

impl Projector {
    pub(super) async fn turn(
        &mut self,
        log: &mut GuardedLog,
        postgres: &mut Postgres,
        gateway: GatewayId,
        guards: Guards,
        random: &mut Random,
    ) {
        let noticed = log.restarts_are_noticed && log.run_id != postgres.redis_run_id;
        if guards.generation && (noticed || random.in_thousand(300)) {
            raise_if_redis_is_another(log, postgres);
        }
        match self.usage.take() {
            None => self.usage = read_usage(log, postgres, gateway, guards, random).await,
            Some(read) => commit_usage(log, postgres, &read, guards),
        }
        match self.management.take() {
            None => {
                let after = postgres.management_seq;
                let entries = log
                    .memory
                    .read_management(postgres.generation, after, 3)
                    .await
                    .unwrap();
                self.management = Some((postgres.generation, entries));
            }
            Some((generation, entries)) => {
                for entry in entries {
                    if generation == postgres.generation || !guards.compare_and_set {
                        commit_command(log, postgres, &entry, guards);
                    }
                }
            }
        }
    }
}

/// Closed, another process, or not what was left there: the next generation begins with what Postgres has.
fn raise_if_redis_is_another(log: &mut GuardedLog, postgres: &mut Postgres) {
    let same = log.memory.generation() == Some(postgres.generation)
        && log.run_id == postgres.redis_run_id
        && log.checkpoint == Some(postgres.commits);
    if same {
        return;
    }
    // A restored Postgres knows an old number.
    let open = log.memory.generation().unwrap_or(0);
    postgres.generation = postgres.generation.max(open) + 1;
    postgres.redis_run_id = log.run_id;
    log.memory.raise_generation(&postgres.seed());
    log.checkpoint = Some(postgres.commits);
}

async fn read_usage(
    log: &mut GuardedLog,
    postgres: &Postgres,
    gateway: GatewayId,
    guards: Guards,
    random: &mut Random,
) -> Option<UsageRead> {
    let from = postgres.checkpoint(gateway);
    let count = random.between(1, 4) as usize;
    let entries = log
        .memory
        .read_usage(postgres.generation, gateway, from, count)
        .await
        .unwrap();
    let mut read = UsageRead {
        gateway,
        generation: postgres.generation,
        from,
        to: from,
        records: Vec::new(),
    };
    for entry in entries {
        if entry.first > read.to + 1 && guards.contiguity {
            // A hole above the checkpoint: one of the two went back.
            log.checkpoint = None;
            break;
        }
        let events = codec::unpack_batch(&entry.bytes).unwrap();
        let known = if guards.slicing {
            (read.to + 1).saturating_sub(entry.first)
        } else {
            0
        };
        let new = events.iter().skip(known as usize);
        read.records.extend(new.map(|it| Record::from_bytes(it)));
        read.to = entry.last;
    }
    (read.to > from).then_some(read)
}

fn commit_usage(log: &mut GuardedLog, postgres: &mut Postgres, read: &UsageRead, guards: Guards) {
    let stands =
        postgres.checkpoint(read.gateway) == read.from && postgres.generation == read.generation;
    if !stands && guards.compare_and_set {
        return;
    }
    postgres.take(read.gateway, &read.records, read.to);
    leave_note(log, postgres);
    log.memory
        .trim_usage(read.gateway, read.to.min(postgres.checkpoint(read.gateway)));
}

fn commit_command(
    log: &mut GuardedLog,
    postgres: &mut Postgres,
    entry: &ManagementEntry,
    guards: Guards,
) {
    if entry.seq != postgres.management_seq + 1 && guards.compare_and_set {
        return;
    }
    let command = Command::from_bytes(&entry.bytes);
    postgres.management_seq = entry.seq;
    if postgres.outcome(command.id).is_none() || !guards.compare_and_set {
        let outcome = if command.expected_version == postgres.version {
            postgres.version += 1;
            Outcome::Done
        } else {
            Outcome::Rejected
        };
        postgres.commands.push((command.id, outcome));
    }
    leave_note(log, postgres);
}

/// The note does not follow into a Redis that is not the one this commit was read from.
fn leave_note(log: &mut GuardedLog, postgres: &mut Postgres) {
    let known = log.checkpoint == Some(postgres.commits);
    postgres.commits += 1;
    if known {
        log.checkpoint = Some(postgres.commits);
    }
}
