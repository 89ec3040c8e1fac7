//! Which accounts a call runs on: every active budget and quota of the key, its user, its team and its organisation, of the
//! model, its provider, the tags and the end user, in the window of the moment. Windows are remembered until they end,
//! because finding one takes calendar arithmetic.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use odock_events::{
    clock::Timestamp,
    ids::ProviderId,
    ledger::{rule::Rule, window::Window},
    payload::account::{AccountSpec, RuleId},
    state::{Key, Model},
};

use super::labels::Labels;
use crate::snapshot::Snapshot;

#[derive(Default)]
pub(crate) struct Accounts {
    /// By rule, with the rule's version: a changed rule is looked at anew.
    windows: Mutex<HashMap<RuleId, (u64, Window)>>,
}

/// Whose rules count.
pub(crate) struct Path<'a> {
    pub(crate) key: &'a Key,
    pub(crate) model: &'a Model,
    pub(crate) provider: ProviderId,
    pub(crate) labels: &'a Labels,
}

impl Accounts {
    pub(crate) fn on_path(
        &self,
        snapshot: &Snapshot,
        path: &Path<'_>,
        now: Timestamp,
    ) -> Vec<AccountSpec> {
        let key = path.key;
        let owners = [
            Some(key.id.0),
            key.body.user_id.map(|id| id.0),
            key.body.team_id.map(|id| id.0),
            Some(key.organisation_id.0),
            Some(path.model.id.0),
            Some(path.provider.0),
        ];
        let mut accounts = Vec::new();
        for owner in owners.into_iter().flatten() {
            self.add(snapshot.rules_of(owner), None, now, &mut accounts);
        }
        path.labels.each_owner(|owner, name| {
            let lookup = owner.lookup(key.organisation_id);
            let each = owner.is_each().then_some(name);
            self.add(snapshot.rules_of(lookup), each, now, &mut accounts);
        });
        accounts
    }

    fn add(
        &self,
        rules: &[std::sync::Arc<Rule>],
        each: Option<&str>,
        now: Timestamp,
        accounts: &mut Vec<AccountSpec>,
    ) {
        for rule in rules.iter().filter(|rule| rule.is_active()) {
            if let Some(window) = self.window(rule, now) {
                accounts.extend(rule.account(window, each, now));
            }
        }
    }

    fn window(&self, rule: &Rule, now: Timestamp) -> Option<Window> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, version) = (rule.id(), rule.version());
        if let Some((known, window)) = windows.get(&id) {
            let holds = window.start <= now && window.end.is_none_or(|end| now < end);
            let ended = rule.end_at().is_some_and(|end| now >= end);
            if *known == version && holds && !ended {
                return Some(*window);
            }
        }
        let window = rule.window_at(now)?;
        if windows.len() >= MOST_REMEMBERED {
            windows.clear();
        }
        windows.insert(id, (version, window));
        Some(window)
    }
}

const MOST_REMEMBERED: usize = 100_000;

#[cfg(test)]
mod tests {
    use odock_events::{
        ids::{BudgetId, KeyId, ModelId, OrganisationId, QuotaId, TeamId},
        payload::{
            account::Unit,
            budget::{BudgetBody, BudgetMode, Owner, Period, Raise, USD},
            key::{KeyBody, KeyType},
            quota::{Metric, QuotaBody},
            threshold::Thresholds,
        },
        state::{EntityRow, Row},
        units::{NanoUsd, Sha256Digest},
    };

    use super::*;
    use crate::pipeline::testing;

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

    fn budget(owner: Owner, active: bool) -> BudgetBody {
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
            rollover: false,
            thresholds: Thresholds::default(),
            raise: None,
            currency: USD.to_owned(),
        }
    }

    fn key(organisation: OrganisationId, id: KeyId, team: TeamId) -> Key {
        let body = KeyBody {
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
        };
        row(organisation, id, 1, body)
    }

    fn labels() -> Labels {
        Labels {
            tags: [("project".to_owned(), "apollo".to_owned())].into(),
            end_user: Some("alice".to_owned()),
        }
    }

    #[test]
    fn line_157_the_active_budgets_of_everybody_on_the_path_count_in_their_window() {
        let (organisation, team) = (OrganisationId::generate(), TeamId::generate());
        let (key_id, provider) = (KeyId::generate(), ProviderId::generate());
        let key = key(organisation, key_id, team);
        let model = testing::priced_model(None);
        let tag = |name: &str, value: Option<&str>| Owner::Tag {
            name: name.to_owned(),
            value: value.map(str::to_owned),
        };
        let user = |id: Option<&str>| Owner::EndUser {
            id: id.map(str::to_owned),
        };
        let on_path = [
            Owner::Key { id: key_id },
            Owner::Team { id: team },
            Owner::Organisation { id: organisation },
            Owner::Model { id: model.id },
            Owner::Provider { id: provider },
            tag("project", Some("apollo")),
            tag("project", None),
            user(Some("alice")),
            user(None),
        ];
        let beside = [
            Owner::Team {
                id: TeamId::generate(),
            },
            Owner::Model {
                id: ModelId::generate(),
            },
            tag("project", Some("gemini")),
            tag("stage", None),
            user(Some("bob")),
        ];
        let count = on_path.len();
        let active = on_path.into_iter().chain(beside).map(|owner| (owner, true));
        let inactive = [(Owner::Organisation { id: organisation }, false)];
        let rows = active.chain(inactive).map(|(owner, active)| {
            let id = BudgetId::generate();
            EntityRow::Budget(row(organisation, id, 1, budget(owner, active)))
        });
        let other = OrganisationId::generate();
        let foreign = row(other, BudgetId::generate(), 1, budget(user(None), true));
        let snapshot = Snapshot::of_rows(1, rows.chain([foreign.into()]));
        let accounts = Accounts::default();
        let labels = labels();
        let path = Path {
            key: &key,
            model: &model,
            provider,
            labels: &labels,
        };
        for (now, start, count) in [
            (DAY + 1, DAY, count),
            (DAY + 2, DAY, count),
            (2 * DAY, 2 * DAY, count),
            (3 * DAY + 1, 0, 0),
        ] {
            let found = accounts.on_path(&snapshot, &path, Timestamp(now));
            assert_eq!(found.len(), count, "at {now}");
            let in_window = |account: &AccountSpec| account.id.window_start == Timestamp(start);
            assert!(found.iter().all(in_window));
            let subjects = found.iter().filter(|account| !account.id.subject.is_nil());
            let names: Vec<String> = subjects.map(|account| account.owner.id_text()).collect();
            assert_eq!(names.len(), count.min(2));
            assert!(names.is_empty() || names == ["project=apollo", "alice"]);
        }
    }

    #[test]
    fn quotas_count_beside_budgets_in_their_own_unit_and_raises_end() {
        let organisation = OrganisationId::generate();
        let key = key(organisation, KeyId::generate(), TeamId::generate());
        let model = testing::priced_model(None);
        let quota = QuotaBody {
            name: None,
            owner: Owner::Key { id: key.id },
            metric: Metric::Errors,
            limit: 7,
            period: Period::Total,
            timezone: "UTC".to_owned(),
            start_at: None,
            end_at: None,
            active: true,
            rollover: false,
            thresholds: Thresholds::default(),
            raise: Some(Raise {
                amount: 3,
                until: Timestamp(DAY),
            }),
        };
        let quota = row(organisation, QuotaId::generate(), 1, quota);
        let snapshot = Snapshot::of_rows(1, [quota.into()]);
        let labels = Labels::default();
        let path = Path {
            key: &key,
            model: &model,
            provider: ProviderId::generate(),
            labels: &labels,
        };
        let accounts = Accounts::default();
        let limit = |now| {
            let found = accounts.on_path(&snapshot, &path, Timestamp(now));
            assert_eq!(
                (found[0].unit, found[0].mode),
                (Unit::Errors, BudgetMode::Postpaid)
            );
            found[0].limit
        };
        assert_eq!((limit(DAY - 1), limit(DAY)), (10, 7));
    }
}
