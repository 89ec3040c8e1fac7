//! `GET …/requests/{id}/explanation`: why a call was decided as it was. Everything in it is read back from the log and the
//! records: the settings as they stood, who set them, the price, what moved on each account, and what would be decided now.

use odock_events::{
    clock::Timestamp,
    envelope::{EntityKind, EntityRef},
    ids::UsageId,
    ledger::rule::Rule,
    payload::{key::KeyBody, model::ModelBody, provider::ProviderBody, usage::AccountUse},
    pricing::{Billed, Pricing, cost},
    state::{EntityRow, Key, Model, Provider},
};
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::crud::require_organisation;
use crate::{
    app::AppState,
    call::Call,
    error::ApiError,
    queries::{
        entity,
        history::{self, AsOf, Step},
        usage::{self, Recorded},
    },
    reply::Reply,
    shape::views,
};

pub(crate) async fn get(call: Call) -> Result<Reply, ApiError> {
    let organisation = call.organisation()?;
    let asked: String = call.path_id("request_id", "request")?;
    let mut connection = call.app.pool.acquire().await?;
    require_organisation(&mut connection, organisation).await?;
    // A request id is a label that a client may repeat; a usage id is not.
    let records = match asked.parse::<UsageId>() {
        Ok(id) => usage::recorded(&mut connection, organisation, None, Some(id)).await?,
        Err(_) => usage::recorded(&mut connection, organisation, Some(&asked), None).await?,
    };
    if records.is_empty() {
        return Err(ApiError::not_found("record of this request"));
    }
    let mut explained = Vec::with_capacity(records.len());
    for record in &records {
        let explaining = Explaining {
            app: &call.app,
            record,
            now: call.now,
        };
        explained.push(explaining.explain(&mut connection).await?);
    }
    let body = json!({ "request_id": asked, "records": explained });
    Ok(Reply::new(http::StatusCode::OK, body))
}

struct Explaining<'a> {
    app: &'a AppState,
    record: &'a Recorded,
    now: Timestamp,
}

impl Explaining<'_> {
    async fn explain(&self, connection: &mut PgConnection) -> Result<Value, ApiError> {
        let record = self.record;
        let position = history::position_of(connection, record.config_version).await?;
        // A version that is not there any more was taken back by a restore: the nearest that is known is what stands now.
        let at = position.unwrap_or(i64::MAX);
        let mut settings = Vec::new();
        let mut limits = Vec::new();
        for entity in self.entities() {
            let then = history::as_of(connection, entity, at).await?;
            if let Some(policies) = then.as_ref().and_then(|then| policies_of(&then.row)) {
                limits.push(json!({
                    "scope": { "type": entity.kind, "id": entity.id_text() },
                    "policies": policies,
                }));
            }
            settings.push(self.setting(connection, entity, then).await?);
        }
        let mut accounts = Vec::with_capacity(record.accounts.len());
        for used in &record.accounts {
            accounts.push(self.account(connection, used, at).await?);
        }
        Ok(json!({
            "usage": record.view,
            "decided_at": { "config_version": record.config_version, "position": position },
            "settings": settings,
            "limits": limits,
            "price": self.price(connection).await?,
            "accounts": accounts,
            "now": self.today(connection).await?,
        }))
    }

    /// Everything that had a say, each once.
    fn entities(&self) -> Vec<EntityRef> {
        let record = self.record;
        let mut entities: Vec<EntityRef> = vec![record.key_id.into()];
        entities.extend(record.user_id.map(EntityRef::from));
        entities.extend(record.team_id.map(EntityRef::from));
        entities.push(record.organisation_id.into());
        entities.push(record.model_id.into());
        entities.push(record.provider_id.into());
        let rules = record.accounts.iter().map(|used| used.account.id.rule);
        for rule in rules.map(EntityRef::from) {
            if !entities.contains(&rule) {
                entities.push(rule);
            }
        }
        entities
    }

    async fn setting(
        &self,
        connection: &mut PgConnection,
        entity: EntityRef,
        then: Option<AsOf>,
    ) -> Result<Value, ApiError> {
        let today = entity::find_any(connection, entity).await?;
        let versions = |row: &EntityRow| row.version();
        let changed = then.as_ref().map(|then| versions(&then.row)) != today.as_ref().map(versions);
        let mut setting = json!({
            "entity": { "type": entity.kind, "id": entity.id_text() },
            "changed_since": changed,
            "gone": today.is_none(),
        });
        if let Some(AsOf { row, set, made }) = then {
            setting["version"] = json!(row.version());
            setting["set"] = step(&set);
            setting["created"] = step(&made);
            if entity.kind != EntityKind::User {
                let mut view = views::one(self.app, row, self.now).await?;
                if let Some(view) = view.as_object_mut() {
                    // Of today, not of then.
                    view.remove("window");
                }
                setting["value"] = view;
            }
        }
        Ok(setting)
    }

    async fn price(&self, connection: &mut PgConnection) -> Result<Value, ApiError> {
        let record = self.record;
        let model = record.model_id.0;
        let Some(price) = history::price(connection, model, record.price_version).await? else {
            return Ok(json!({ "version": record.price_version, "source": "none" }));
        };
        let set = history::step_at(connection, model, price.position).await?;
        Ok(json!({
            "version": record.price_version,
            "source": price.source,
            "pricing": price.pricing,
            "set": set.as_ref().map(step),
        }))
    }

    async fn account(
        &self,
        connection: &mut PgConnection,
        used: &AccountUse,
        at: i64,
    ) -> Result<Value, ApiError> {
        let (record, account) = (self.record, &used.account);
        let entries = history::entries(connection, account.id, record.id.0).await?;
        let settled = entries.iter().find(|entry| entry.kind == "settle");
        let before = match settled {
            Some(entry) => {
                let place = (entry.position, entry.ordinal);
                Some(history::settled_before(connection, account.id, place).await?)
            }
            None => None,
        };
        let until = settled.map_or(at, |entry| entry.position);
        let grant = history::last_grant(connection, account.id, record.gateway_id, until).await?;
        let entries: Vec<Value> = entries
            .iter()
            .map(|entry| {
                json!({ "position": entry.position, "kind": entry.kind, "amount": entry.amount })
            })
            .collect();
        Ok(json!({
            "rule": { "type": account.id.rule.kind(), "id": account.id.rule.to_string() },
            "owner": account.owner,
            "window_start": account.id.window_start,
            "window_end": account.window_end,
            "unit": account.unit,
            "mode": account.mode,
            "limit": account.limit,
            "reserved": used.reserved,
            "settled": settled.map(|entry| entry.amount),
            "settled_before": before,
            "settled_after": before.zip(settled).map(|(before, entry)| before + entry.amount),
            "entries": entries,
            "lease": grant.map(|grant| json!({
                "gateway_id": record.gateway_id,
                "granted_in_all": grant.total,
                "last_grant": {
                    "position": grant.position,
                    "amount": grant.amount,
                    "at": Timestamp::from_datetime(grant.occurred_at),
                },
            })),
        }))
    }

    /// The same call, decided by what stands now.
    async fn today(&self, connection: &mut PgConnection) -> Result<Value, ApiError> {
        let record = self.record;
        let organisation = record.organisation_id;
        let key = entity::find::<KeyBody>(connection, organisation, record.key_id).await?;
        let model = entity::find::<ModelBody>(connection, organisation, record.model_id).await?;
        let provider = match &model {
            Some(model) => {
                let id = model.body.provider_id;
                entity::find::<ProviderBody>(connection, organisation, id).await?
            }
            None => None,
        };
        let (key_id, model_id) = (record.key_id.0, record.model_id.0);
        let granted = history::is_granted(connection, key_id, model_id).await?;
        let mut checks = vec![
            check("key", key_today(key.as_ref(), self.now)),
            check("model", model_today(model.as_ref(), &record.model)),
            check(
                "grant",
                if granted {
                    Ok(())
                } else {
                    Err("model_not_allowed".into())
                },
            ),
            check("provider", provider_today(provider.as_ref())),
        ];
        for used in &record.accounts {
            let room = self.room(connection, used).await?;
            let mut checked = check(used.account.id.rule.kind(), room);
            checked["id"] = json!(used.account.id.rule.to_string());
            checks.push(checked);
        }
        let allowed = checks.iter().all(|check| check["allows"] == true);
        let pricing = model
            .as_ref()
            .and_then(|model| model.body.price.pricing.as_deref());
        Ok(json!({
            "checks": checks,
            "allowed": allowed,
            "price_version": model.as_ref().map(|model| model.body.price.version),
            "cost_nanos": pricing.and_then(|pricing| self.cost(pricing)),
        }))
    }

    /// Whether what was reserved then has room now.
    async fn room(
        &self,
        connection: &mut PgConnection,
        used: &AccountUse,
    ) -> Result<Result<(), String>, ApiError> {
        let id = used.account.id;
        let row = entity::find_any(connection, id.rule.into()).await?;
        let Some(rule) = row.and_then(Rule::of_row) else {
            return Ok(Ok(()));
        };
        let window = rule.window_at(self.now).filter(|_| rule.is_active());
        let Some(window) = window.filter(|_| rule.mode().reserves()) else {
            return Ok(Ok(()));
        };
        let (uuid, start) = (rule.id().uuid(), window.start);
        let free = history::free_of(connection, uuid, id.subject, start).await?;
        let free = free.unwrap_or_else(|| rule.limit_at(self.now));
        if free >= used.reserved {
            return Ok(Ok(()));
        }
        let code = match rule {
            Rule::Budget(_) => "budget_exceeded",
            Rule::Quota(_) => "quota_exceeded",
        };
        let (reserved, unit) = (used.reserved, used.account.unit.name());
        Ok(Err(format!(
            "{code}: {free} {unit} are free, the call reserves {reserved}"
        )))
    }

    fn cost(&self, pricing: &Pricing) -> Option<i64> {
        let record = self.record;
        let used = Billed {
            tokens: &record.tokens,
            details: &record.details,
            units: record.units.as_ref(),
            pieces: &record.pieces,
            service_tier: record.service_tier,
        };
        cost(pricing, used).ok().map(|cost| cost.total.0)
    }
}

/// Who did something, when and why.
fn step(step: &Step) -> Value {
    let meta = &step.envelope.meta;
    json!({
        "position": step.position,
        "event_id": meta.id,
        "kind": step.envelope.kind(),
        "at": meta.occurred_at,
        "by": meta.actor.to_string(),
        "reason": meta.reason,
        "change_ref": meta.change_ref,
        "request_id": meta.correlation_id,
    })
}

fn check(what: &str, outcome: Result<(), String>) -> Value {
    json!({ "what": what, "allows": outcome.is_ok(), "why": outcome.err() })
}

fn key_today(key: Option<&Key>, now: Timestamp) -> Result<(), String> {
    let key = key.ok_or("unauthorized: the key is deleted")?;
    if key.body.revoked {
        return Err("api_key_revoked".into());
    }
    if key.body.expires_at.is_some_and(|at| at <= now) {
        return Err("api_key_expired".into());
    }
    Ok(())
}

fn model_today(model: Option<&Model>, name: &str) -> Result<(), String> {
    match model {
        None => Err("model_not_found: it is deleted".into()),
        Some(model) if model.body.name != name => Err(format!(
            "model_not_found: it is called {} now",
            model.body.name
        )),
        Some(_) => Ok(()),
    }
}

fn provider_today(provider: Option<&Provider>) -> Result<(), String> {
    match provider {
        None => Err("provider_not_configured".into()),
        Some(provider) if !provider.body.enabled => Err("provider_disabled".into()),
        Some(_) => Ok(()),
    }
}

/// The policies that an entity carries, if it carries any.
fn policies_of(row: &EntityRow) -> Option<Value> {
    let policies = match row {
        EntityRow::Organisation(row) => &row.body.policies,
        EntityRow::Team(row) => &row.body.policies,
        EntityRow::Model(row) => &row.body.policies,
        EntityRow::Key(row) => &row.body.policies,
        _ => return None,
    };
    (!policies.is_empty()).then(|| json!(policies))
}
