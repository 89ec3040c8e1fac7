//! The policies of a snapshot, read once when it is built, by the id of what carries them. Teams are kept here too:
//! a gateway decides nothing else by them.

use std::sync::Arc;

use odock_events::{
    clock::Timestamp,
    ids::{OverlayId, TeamId},
    payload::JsonObject,
    policy::Policy,
    state::{EntityRow, Overlay, Team},
};
use uuid::Uuid;

use super::sharded::ShardedMap;
use crate::limits::{
    gates::WHOLE,
    scope::{ScopeId, ScopePolicy},
};

#[derive(Debug, Clone, Default)]
pub struct Policies {
    scopes: ShardedMap<Uuid, Arc<ScopePolicy>>,
    /// Those with a policy: the snapshot file needs the whole row.
    teams: ShardedMap<TeamId, Arc<Team>>,
    /// By what they scale.
    overlays: ShardedMap<Uuid, Arc<[Arc<Overlay>]>>,
    overlay_scopes: ShardedMap<OverlayId, Uuid>,
}

impl Policies {
    /// No scope has a policy: no call has to look any further.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scopes.len() == 0
    }

    #[must_use]
    pub fn of(&self, id: Uuid) -> Option<&ScopePolicy> {
        self.scopes.get(&id).map(|policy| &**policy)
    }

    /// What of its limits a scope has at a moment, in percent: several overlays multiply.
    #[must_use]
    pub fn percent(&self, id: Uuid, now: Timestamp) -> u64 {
        if self.overlay_scopes.len() == 0 {
            return WHOLE;
        }
        let in_force = self.overlays_of(id).iter().filter(|overlay| {
            let body = &overlay.body;
            body.starts_at <= now && now < body.ends_at
        });
        in_force.fold(WHOLE, |percent, overlay| {
            percent.saturating_mul(u64::from(overlay.body.percent)) / WHOLE
        })
    }

    fn overlays_of(&self, id: Uuid) -> &[Arc<Overlay>] {
        self.overlays.get(&id).map_or(&[], |overlays| overlays)
    }

    pub(super) fn put_overlay(&mut self, row: Overlay) {
        self.remove_overlay(row.id);
        let scope = row.body.scope.uuid();
        self.overlay_scopes.insert(row.id, scope);
        let mut overlays = self.overlays_of(scope).to_vec();
        let place = overlays.partition_point(|overlay| overlay.id < row.id);
        overlays.insert(place, Arc::new(row));
        self.overlays.insert(scope, overlays.into());
    }

    pub(super) fn remove_overlay(&mut self, id: OverlayId) {
        let Some(scope) = self.overlay_scopes.remove(&id) else {
            return;
        };
        let others = self.overlays_of(scope).iter();
        let others: Arc<[Arc<Overlay>]> =
            others.filter(|overlay| overlay.id != id).cloned().collect();
        if others.is_empty() {
            self.overlays.remove(&scope);
        } else {
            self.overlays.insert(scope, others);
        }
    }

    /// Takes the envelope of a row in. An empty one is none.
    pub(super) fn put(&mut self, scope: ScopeId, envelope: &JsonObject) {
        let policy = match Policy::read(envelope) {
            Ok(policy) if policy.is_empty() => {
                self.remove(scope.id);
                return;
            }
            Ok(policy) => Some(policy),
            Err(faults) => {
                let fault = faults.first().map_or("", |fault| fault.pointer.as_str());
                tracing::error!(
                    scope = scope.kind.name(),
                    scope_id = %scope.id.simple(),
                    fault,
                    "a policy does not read: nothing is allowed by it"
                );
                None
            }
        };
        let policy = ScopePolicy { scope, policy };
        self.scopes.insert(scope.id, Arc::new(policy));
    }

    pub(super) fn remove(&mut self, id: Uuid) {
        self.scopes.remove(&id);
    }

    pub(super) fn put_team(&mut self, row: Team) {
        let scope = ScopeId::team(row.id, row.organisation_id);
        self.put(scope, &row.body.policies);
        if self.of(row.id.0).is_some() {
            self.teams.insert(row.id, Arc::new(row));
        } else {
            self.teams.remove(&row.id);
        }
    }

    pub(super) fn remove_team(&mut self, id: TeamId) {
        self.remove(id.0);
        self.teams.remove(&id);
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = EntityRow> + '_ {
        let teams = self.teams.values();
        let teams = teams.map(|team| EntityRow::Team((**team).clone()));
        let overlays = self.overlays.values().flat_map(|overlays| overlays.iter());
        teams.chain(overlays.map(|overlay| EntityRow::Overlay((**overlay).clone())))
    }
}
