//! Which accounts a call runs on: every active budget of the key, its user, its team and its organisation, in the window
//! of the moment. Windows are remembered until they end, because finding one takes calendar arithmetic.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use odock_events::{
    clock::Timestamp,
    ids::BudgetId,
    ledger::window::{Window, window_at},
    payload::account::{AccountId, AccountSpec, Unit},
    state::{Budget, Key},
};

use crate::snapshot::Snapshot;

#[derive(Default)]
pub(crate) struct Accounts {
    /// By budget, with the budget's version: a changed budget is looked at anew.
    windows: Mutex<HashMap<BudgetId, (u64, Window)>>,
}

impl Accounts {
    pub(crate) fn on_path(
        &self,
        snapshot: &Snapshot,
        key: &Key,
        now: Timestamp,
    ) -> Vec<AccountSpec> {
        let owners = [
            Some(key.id.0),
            key.body.user_id.map(|id| id.0),
            key.body.team_id.map(|id| id.0),
            Some(key.organisation_id.0),
        ];
        let budgets = owners
            .into_iter()
            .flatten()
            .flat_map(|owner| snapshot.budgets_of(owner));
        let active = budgets.filter(|budget| budget.body.active);
        active
            .filter_map(|budget| Some(account(budget, self.window(budget, now)?)))
            .collect()
    }

    fn window(&self, budget: &Budget, now: Timestamp) -> Option<Window> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((version, window)) = windows.get(&budget.id) {
            let holds = window.start <= now && window.end.is_none_or(|end| now < end);
            let ended = budget.body.end_at.is_some_and(|end| now >= end);
            if *version == budget.version && holds && !ended {
                return Some(*window);
            }
        }
        let window = window_at(&budget.body, now)?;
        if windows.len() >= MOST_REMEMBERED {
            windows.clear();
        }
        windows.insert(budget.id, (budget.version, window));
        Some(window)
    }
}

/// The account of a budget's window.
pub(crate) fn account(budget: &Budget, window: Window) -> AccountSpec {
    AccountSpec {
        id: AccountId {
            budget: budget.id,
            window_start: window.start,
        },
        organisation_id: budget.organisation_id,
        owner: budget.body.owner,
        unit: Unit::Nanos,
        mode: budget.body.mode,
        limit: budget.body.amount_nanos,
        window_end: window.end,
    }
}

const MOST_REMEMBERED: usize = 100_000;

#[cfg(test)]
mod tests {
    use odock_events::{
        ids::{KeyId, OrganisationId, TeamId},
        payload::{
            budget::{BudgetBody, BudgetMode, BudgetOwner, Period},
            key::{KeyBody, KeyType},
        },
        state::{EntityRow, Row},
        units::{NanoUsd, Sha256Digest},
    };

    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn row<I, B>(organisation_id: OrganisationId, id: I, version: u64, body: B) -> Row<I, B> {
        let at = Timestamp(0);
        Row {
            id,
            organisation_id,
            version,
            created_at: at,
            updated_at: at,
            body,
        }
    }

    fn budget(owner: BudgetOwner, active: bool) -> BudgetBody {
        BudgetBody {
            name: None,
            owner,
            period: Period::Daily,
            amount_nanos: NanoUsd(5),
            mode: BudgetMode::Hard,
            timezone: "UTC".to_owned(),
            start_at: None,
            end_at: Some(Timestamp(3 * DAY + 1)),
            active,
        }
    }

    #[test]
    fn the_active_budgets_of_everybody_on_the_path_count_in_their_window() {
        let (organisation, team) = (OrganisationId::generate(), TeamId::generate());
        let key_id = KeyId::generate();
        let key = row(
            organisation,
            key_id,
            1,
            KeyBody {
                kind: KeyType::Team,
                team_id: Some(team),
                user_id: None,
                name: None,
                secret_sha256: Sha256Digest([0; 32]),
                key_preview: String::new(),
                revoked: false,
                rotation_count: 0,
                last_rotated_at: None,
                expires_at: None,
                timezone: "UTC".to_owned(),
                policies: serde_json::Map::new(),
            },
        );
        let owners = [
            (BudgetOwner::Key { id: key_id }, true),
            (BudgetOwner::Team { id: team }, true),
            (BudgetOwner::Organisation { id: organisation }, true),
            (BudgetOwner::Organisation { id: organisation }, false),
            (
                BudgetOwner::Team {
                    id: TeamId::generate(),
                },
                true,
            ),
        ];
        let rows = owners.map(|(owner, active)| {
            EntityRow::Budget(row(
                organisation,
                BudgetId::generate(),
                1,
                budget(owner, active),
            ))
        });
        let snapshot = Snapshot::of_rows(1, rows);
        let accounts = Accounts::default();
        for (now, start, count) in [
            (DAY + 1, DAY, 3),
            (DAY + 2, DAY, 3),
            (2 * DAY, 2 * DAY, 3),
            (3 * DAY + 1, 0, 0),
        ] {
            let found = accounts.on_path(&snapshot, &key, Timestamp(now));
            assert_eq!(found.len(), count, "at {now}");
            assert!(
                found
                    .iter()
                    .all(|account| account.id.window_start == Timestamp(start))
            );
        }
    }
}
