//! The log in memory as its clients see it: answers get lost, and rules can be left out.

use odock_events::{
    ids::GatewayId,
    log::{
        EventLog as _, LogError, ManagementAppend, ManagementAppended, UsageAppend, UsageAppended,
        generation::GenerationSeed, memory::MemoryLog,
    },
};

use super::Guards;

pub(super) struct GuardedLog {
    pub(super) memory: MemoryLog,
    /// Changes when the server starts again.
    pub(super) run_id: u64,
    /// The projector's note of its last commit; `None` in an empty Redis.
    pub(super) checkpoint: Option<u64>,
    /// A restart is noticed before anything is read again, as it ends the reader's connection; otherwise some turns
    /// later.
    pub(super) restarts_are_noticed: bool,
    guards: Guards,
}

impl GuardedLog {
    pub(super) fn new(guards: Guards, restarts_are_noticed: bool) -> Self {
        Self {
            memory: MemoryLog::default(),
            run_id: 1,
            checkpoint: None,
            restarts_are_noticed,
            guards,
        }
    }

    /// FLUSHALL: the same process, empty.
    pub(super) fn wipe(&mut self) {
        self.memory.wipe();
        self.checkpoint = None;
        if !self.guards.generation {
            // Without generations nothing tells an empty Redis from a new one.
            self.memory.raise_generation(&GenerationSeed {
                generation: 1,
                ..GenerationSeed::default()
            });
        }
    }

    /// The last entries of both streams were not on disk.
    pub(super) fn restart_without_tail(
        &mut self,
        gateway: GatewayId,
        usage: usize,
        management: usize,
    ) {
        self.memory.lose_tail(gateway, usage);
        self.memory.lose_management_tail(management);
        self.run_id += 1;
    }

    pub(super) fn owner(&self, gateway: GatewayId) -> Option<(u64, String)> {
        self.memory.usage_owner(gateway)
    }

    pub(super) async fn append_usage(
        &self,
        append: &UsageAppend<'_>,
    ) -> Result<UsageAppended, LogError> {
        let mut append = *append;
        if !self.guards.generation {
            append.generation = self.memory.generation().unwrap_or(0);
        }
        if !self.guards.base {
            append.base = 0;
        }
        if !self.guards.owner {
            (append.epoch, append.nonce) = (u64::MAX, "anybody");
        }
        let answer = self.memory.append_usage(&append).await?;
        match answer {
            UsageAppended::Gap { top } if !self.guards.contiguity && append.first > top + 1 => {
                append.base = append.first - 1;
                self.memory.append_usage(&append).await
            }
            answer => Ok(answer),
        }
    }

    pub(super) async fn append_management(
        &self,
        append: &ManagementAppend<'_>,
    ) -> Result<ManagementAppended, LogError> {
        let mut append = *append;
        if !self.guards.generation {
            append.generation = self.memory.generation().unwrap_or(0);
        }
        self.memory.append_management(&append).await
    }
}
