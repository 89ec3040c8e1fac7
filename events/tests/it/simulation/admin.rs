//! An admin: appends one command after the other, each until Postgres has its outcome.

use odock_events::log::{ManagementAppend, ManagementAppended};

use super::{
    guarded_log::GuardedLog,
    postgres::{Outcome, Postgres},
    random::Random,
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    pub(super) id: u64,
    pub(super) expected_version: u64,
}

impl Command {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            id: u64::from_le_bytes(bytes[..8].try_into().unwrap()),
            expected_version: u64::from_le_bytes(bytes[8..].try_into().unwrap()),
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        [self.id.to_le_bytes(), self.expected_version.to_le_bytes()].concat()
    }
}

#[derive(Debug, Default)]
pub(super) struct Admin {
    /// The command that is under way.
    current: Option<u64>,
    next: u64,
    generation: u64,
    turns_waited: u32,
    /// Told to the caller: done.
    pub(super) acknowledged: Vec<u64>,
}

impl Admin {
    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none()
    }

    pub(super) fn begin(&mut self) {
        if self.current.is_none() {
            self.next += 1;
            self.current = Some(self.next);
            self.turns_waited = 0;
        }
    }

    pub(super) async fn turn(
        &mut self,
        log: &GuardedLog,
        postgres: &Postgres,
        random: &mut Random,
    ) {
        let Some(id) = self.current else { return };
        match postgres.outcome(id) {
            Some(Outcome::Done) => {
                self.acknowledged.push(id);
                self.current = None;
                return;
            }
            // The caller hears 409 and sends another one.
            Some(Outcome::Rejected) => {
                self.current = None;
                return;
            }
            None => {}
        }
        if self.turns_waited > 0 {
            self.turns_waited -= 1;
            return;
        }
        let command = Command {
            id,
            expected_version: postgres.version,
        };
        let answer = log
            .append_management(&ManagementAppend {
                generation: self.generation,
                boundary: None,
                expected_version: command.expected_version,
                bytes: &command.to_bytes(),
            })
            .await
            .unwrap();
        if random.in_thousand(100) {
            // The answer is lost: it looks in Postgres first, later.
            self.turns_waited = 2;
            return;
        }
        match answer {
            ManagementAppended::Ok { .. } => self.turns_waited = 20,
            ManagementAppended::Conflict { .. } => self.turns_waited = 1,
            ManagementAppended::Closed => {}
            ManagementAppended::Stale { generation } => self.generation = generation,
        }
    }
}
