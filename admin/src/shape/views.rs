//! Rows as answers show them. Users are decrypted, budgets and quotas get their window here, a page of them with one query.

use std::collections::HashMap;

use odock_events::{
    clock::Timestamp,
    envelope::EntityKind,
    ledger::rule::Rule,
    personal::WrappedKey,
    state::{EntityRow, User},
};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    budget::BudgetView, grant::GrantView, key::KeyView, membership::MembershipView,
    model::ModelView, organisation::OrganisationView, overlay::OverlayView, provider::ProviderView,
    provider_key::ProviderKeyView, quota::QuotaView, rule, team::TeamView, user::UserView,
};
use crate::{
    app::AppState,
    error::ApiError,
    person,
    queries::{
        account::{self, AccountRow},
        private,
    },
};

/// One row.
pub(crate) async fn one(app: &AppState, row: EntityRow, now: Timestamp) -> Result<Value, ApiError> {
    let mut views = many(app, vec![row], now).await?;
    views
        .pop()
        .ok_or_else(|| ApiError::internal("a row has no view"))
}

/// Rows in their order.
pub(crate) async fn many(
    app: &AppState,
    rows: Vec<EntityRow>,
    now: Timestamp,
) -> Result<Vec<Value>, ApiError> {
    let beside = Beside::load(app, &rows, now).await?;
    rows.into_iter()
        .map(|row| beside.view(app, row, now))
        .collect()
}

/// The path of an entity.
pub(crate) fn location(row: &EntityRow) -> String {
    let organisation = row.organisation_id();
    let base = format!("/api/v1/organisations/{organisation}");
    match plural(row.entity().kind) {
        Some(plural) => format!("{base}/{plural}/{}", row.entity().id_text()),
        None => base,
    }
}

fn plural(kind: EntityKind) -> Option<&'static str> {
    match kind {
        EntityKind::Team => Some("teams"),
        EntityKind::User => Some("users"),
        EntityKind::Membership => Some("memberships"),
        EntityKind::Provider => Some("providers"),
        EntityKind::ProviderKey => Some("provider-keys"),
        EntityKind::Model => Some("models"),
        EntityKind::Key => Some("keys"),
        EntityKind::Grant => Some("grants"),
        EntityKind::Budget => Some("budgets"),
        EntityKind::Quota => Some("quotas"),
        EntityKind::Overlay => Some("overlays"),
        EntityKind::Usage => Some("usage"),
        EntityKind::Organisation | EntityKind::Gateway | EntityKind::Command => None,
    }
}

/// What rows need from other tables.
struct Beside {
    subject_keys: HashMap<Uuid, WrappedKey>,
    accounts: HashMap<Uuid, AccountRow>,
}

impl Beside {
    async fn load(app: &AppState, rows: &[EntityRow], now: Timestamp) -> Result<Self, ApiError> {
        let mut subjects = Vec::new();
        let mut windows = Vec::new();
        for row in rows {
            if let EntityRow::User(user) = row {
                subjects.push(user.id.0);
            }
            if let Some(rule) = Rule::of_row(row.clone())
                && !rule.owner().is_each()
                && let Some(window) = rule.window_at(now)
            {
                windows.push((rule.id().uuid(), window.start));
            }
        }
        let mut beside = Self {
            subject_keys: HashMap::new(),
            accounts: HashMap::new(),
        };
        if !subjects.is_empty() {
            let mut connection = app.pool.acquire().await?;
            beside.subject_keys = private::subject_keys(&mut connection, &subjects).await?;
        }
        if !windows.is_empty() {
            let mut connection = app.pool.acquire().await?;
            beside.accounts = account::of_windows(&mut connection, &windows).await?;
        }
        Ok(beside)
    }

    fn view(&self, app: &AppState, row: EntityRow, now: Timestamp) -> Result<Value, ApiError> {
        match row {
            EntityRow::Organisation(row) => json(OrganisationView::from(row)),
            EntityRow::Team(row) => json(TeamView::from(row)),
            EntityRow::User(row) => json(self.user(app, &row)),
            EntityRow::Membership(row) => json(MembershipView::from(row)),
            EntityRow::Provider(row) => json(ProviderView::from(row)),
            EntityRow::ProviderKey(row) => json(ProviderKeyView::from(row)),
            EntityRow::Model(row) => json(ModelView::from(row)),
            EntityRow::Key(row) => json(KeyView::from(row)),
            EntityRow::Grant(row) => json(GrantView::from(row)),
            EntityRow::Budget(row) => {
                let window = self.window(&Rule::Budget(row.clone()), now);
                json(BudgetView::new(row, window))
            }
            EntityRow::Quota(row) => {
                let window = self.window(&Rule::Quota(row.clone()), now);
                json(QuotaView::new(row, window))
            }
            EntityRow::Overlay(row) => json(OverlayView::from(row)),
        }
    }

    fn user(&self, app: &AppState, row: &User) -> UserView {
        let wrapped = self.subject_keys.get(&row.id.0);
        UserView::new(
            row,
            person::open(&app.subject_keys, row.id, wrapped, &row.body),
        )
    }

    /// The window that is open now, of a rule that has one for all.
    fn window(&self, of: &Rule, now: Timestamp) -> Option<Value> {
        if of.owner().is_each() {
            return None;
        }
        let account = self.accounts.get(&of.id().uuid());
        let account = account.copied().unwrap_or_default();
        let window = of.window_at(now)?;
        Some(rule::window(of.unit(), window, of.limit_at(now), &account))
    }
}

fn json(view: impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(view).map_err(ApiError::internal)
}
