//! Rows as answers show them. Users are decrypted and budgets get their window here, a page of them with one query.

use std::collections::HashMap;

use odock_events::{
    clock::Timestamp,
    envelope::EntityKind,
    ledger::window::window_at,
    personal::WrappedKey,
    state::{Budget, EntityRow, User},
};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    budget::{BudgetView, WindowView},
    grant::GrantView,
    key::KeyView,
    membership::MembershipView,
    model::ModelView,
    organisation::OrganisationView,
    overlay::OverlayView,
    provider::ProviderView,
    provider_key::ProviderKeyView,
    team::TeamView,
    user::UserView,
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
            if let EntityRow::Budget(budget) = row
                && let Some(window) = window_at(&budget.body, now)
            {
                windows.push((budget.id.0, window.start));
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
            EntityRow::Budget(row) => json(self.budget(row, now)),
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

    fn budget(&self, row: Budget, now: Timestamp) -> BudgetView {
        let account = self.accounts.get(&row.id.0).copied().unwrap_or_default();
        let window = window_at(&row.body, now)
            .map(|window| WindowView::new(window, row.body.amount_nanos, account));
        BudgetView::new(row, window)
    }
}

fn json(view: impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(view).map_err(ApiError::internal)
}
