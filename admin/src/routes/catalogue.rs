//! The price catalogue: list, one entry, what an organisation has of it, imports, updates of prices.

use std::collections::BTreeSet;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use odock_events::{
    ids::{ModelId, OrganisationId, ProviderId},
    payload::{model::ModelBody, provider::ProviderType},
};
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::crud::require_organisation;
use crate::{
    call::Call,
    catalogue::{self, Entry, Search},
    command::{self, Command, Decision, snapshot::Snapshot},
    domain::{
        catalogue::{self as rules, BATCH_MAX, Known, Priced},
        model::Around,
    },
    error::{ApiError, Code},
    queries::{entity, references},
    reply::Reply,
    shape::catalogue::{ModelImport, PricingDiffView, PricingUpdate},
};

/// The parameters of a list beside `limit` and `cursor`.
pub(crate) const FILTERS: &[&str] = &["q", "provider_type", "vendor", "type"];

/// For an organisation's list also what it has already.
pub(crate) const ORGANISATION_FILTERS: &[&str] = &[
    "q",
    "provider_type",
    "vendor",
    "type",
    "provider_id",
    "filter",
];

const LIMIT: usize = 50;
const LIMIT_MAX: usize = 200;

pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let query = Query::read(&call, FILTERS)?;
    let entries = catalogue::search(&query.search).take(query.limit + 1);
    Ok(query.reply(entries.map(|entry| shown(&entry)).collect()))
}

pub(crate) async fn get(call: Call) -> Result<Reply, ApiError> {
    let id: String = call.path_id("id", "entry of the catalogue")?;
    let entry = catalogue::get(&id);
    let entry = entry.ok_or_else(|| ApiError::not_found("entry of the catalogue"))?;
    Ok(Reply::new(http::StatusCode::OK, shown(&entry)))
}

/// The catalogue beside what the organisation has of it.
pub(crate) async fn list_for(call: Call) -> Result<Reply, ApiError> {
    let organisation = call.organisation()?;
    let query = Query::read(&call, ORGANISATION_FILTERS)?;
    let provider: Option<ProviderId> = match call.parameter("provider_id") {
        Some(text) => Some(
            text.parse()
                .map_err(|_| ApiError::invalid("?provider_id", "expected an id `prov_…`"))?,
        ),
        None => None,
    };
    let wanted = match call.parameter("filter") {
        None | Some("all") => None,
        Some("existing") => Some(true),
        Some("new") => Some(false),
        Some(_) => {
            let message = "expected `all`, `new` or `existing`";
            return Err(ApiError::invalid("?filter", message));
        }
    };
    let mut connection = call.app.pool.acquire().await?;
    require_organisation(&mut connection, organisation).await?;
    let there = references::models_of_catalogue(&mut connection, organisation, provider).await?;
    drop(connection);
    let (ids, slugs): (BTreeSet<_>, BTreeSet<_>) = there.into_iter().unzip();
    let exists =
        |entry: &Entry| ids.contains(&Some(entry.id.clone())) || slugs.contains(&entry.slug);
    let entries = catalogue::search(&query.search)
        .map(|entry| (exists(&entry), entry))
        .filter(|(exists, _)| wanted.is_none_or(|wanted| wanted == *exists))
        .take(query.limit + 1)
        .map(|(exists, entry)| {
            let mut entry = shown(&entry);
            if let Some(members) = entry.as_object_mut() {
                members.insert("existing".to_owned(), Value::Bool(exists));
            }
            entry
        });
    Ok(query.reply(entries.collect()))
}

fn shown(entry: &Entry) -> Value {
    let mut shown = json!(entry);
    if let Some(members) = shown.as_object_mut() {
        let head = catalogue::head();
        members.insert("catalogue_version".to_owned(), json!(head.version));
        members.insert("catalogue_source".to_owned(), json!(head.source));
    }
    shown
}

/// What a list is asked for.
struct Query {
    search: Search,
    limit: usize,
}

impl Query {
    fn read(call: &Call, filters: &[&str]) -> Result<Self, ApiError> {
        let mut query = Self {
            search: Search::default(),
            limit: LIMIT,
        };
        for (name, value) in &call.query {
            match name.as_str() {
                "limit" => query.limit = limit(value)?,
                "cursor" => query.search.after = Some(place(value)?),
                "q" => query.search.text = Some(value.to_lowercase()),
                "provider_type" => query.search.provider_type = Some(value.clone()),
                "vendor" => query.search.vendor = Some(value.clone()),
                "type" => query.search.kind = Some(value.clone()),
                other if filters.contains(&other) => {}
                other => {
                    let message = "this list has no such filter";
                    return Err(ApiError::field(
                        Code::UnknownField,
                        format!("?{other}"),
                        message,
                    ));
                }
            }
        }
        Ok(query)
    }

    /// A page of what was found, one more than it shows having been looked for.
    fn reply(&self, mut entries: Vec<Value>) -> Reply {
        let more = entries.len() > self.limit;
        entries.truncate(self.limit);
        let last = entries.last().and_then(|entry| entry["id"].as_str());
        let next_cursor = last.filter(|_| more).map(|id| URL_SAFE_NO_PAD.encode(id));
        let body = json!({ "data": entries, "next_cursor": next_cursor });
        Reply::new(http::StatusCode::OK, body)
    }
}

fn limit(value: &str) -> Result<usize, ApiError> {
    let limit = value.parse().ok();
    limit
        .filter(|limit| (1..=LIMIT_MAX).contains(limit))
        .ok_or_else(|| ApiError::invalid("?limit", format!("expected 1 to {LIMIT_MAX}")))
}

/// A cursor is the id that a page ended with.
fn place(cursor: &str) -> Result<String, ApiError> {
    let id = URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    id.filter(|id| catalogue::get(id).is_some()).ok_or_else(|| {
        let detail = "take the cursor from next_cursor of the same list";
        ApiError::new(Code::InvalidCursor, detail)
    })
}

pub(crate) async fn import(call: Call) -> Result<Reply, ApiError> {
    let organisation = call.organisation()?;
    let import = Import {
        asked: call.json()?,
    };
    command::run(&call, Some(organisation), &import).await
}

struct Import {
    asked: ModelImport,
}

#[async_trait]
impl Command for Import {
    async fn decide(&self, at: &mut Snapshot<'_>) -> Result<Decision, ApiError> {
        let organisation = at.organisation()?;
        let asked = &self.asked;
        let slug = |id: &str| id.split_once('/').map(|(_, slug)| slug.to_owned());
        let slugs: Vec<String> = asked
            .entries
            .iter()
            .filter_map(|entry| slug(&entry.catalogue_id))
            .collect();
        let names: Vec<String> = asked
            .entries
            .iter()
            .filter_map(|entry| entry.name.clone().or_else(|| slug(&entry.catalogue_id)))
            .collect();
        let around = Around {
            provider: at.find(asked.provider_id).await?,
            provider_key: at.find(asked.provider_key_id).await?,
            taken: false,
        };
        let connection = &mut *at.connection;
        let names = references::model_names_there(connection, organisation, &names).await?;
        let provider = asked.provider_id;
        let slugs =
            references::model_slugs_there(connection, organisation, provider, &slugs).await?;
        let known = Known {
            around,
            names: names.into_iter().collect(),
            slugs: slugs.into_iter().collect(),
        };
        rules::import(at.stamp, asked, &known)
    }

    fn is_batch(&self) -> bool {
        true
    }
}

pub(crate) async fn update_pricing(call: Call) -> Result<Reply, ApiError> {
    let organisation = call.organisation()?;
    let asked: PricingUpdate = call.json()?;
    if !asked.dry_run {
        let update = Update { asked };
        return command::run(&call, Some(organisation), &update).await;
    }
    let mut connection = call.app.pool.acquire().await?;
    require_organisation(&mut connection, organisation).await?;
    let models = models(&mut connection, organisation, asked.model_ids.as_deref()).await?;
    let mut data = Vec::new();
    for (row, provider) in &models {
        let diff = rules::diff(row, *provider)?;
        if diff.updates {
            data.push(diff);
        }
    }
    Reply::ok(&PricingDiffView {
        catalogue_version: catalogue::head().version.clone(),
        data,
    })
}

struct Update {
    asked: PricingUpdate,
}

#[async_trait]
impl Command for Update {
    async fn decide(&self, at: &mut Snapshot<'_>) -> Result<Decision, ApiError> {
        let organisation = at.organisation()?;
        let ids = self.asked.model_ids.as_deref();
        let models = models(at.connection, organisation, ids).await?;
        rules::update_pricing(at.stamp, models)
    }

    fn is_batch(&self) -> bool {
        true
    }
}

/// How one model's price differs from the catalogue's.
pub(crate) async fn diff(call: Call) -> Result<Reply, ApiError> {
    let organisation = call.organisation()?;
    let id: ModelId = call.path_id("id", "model")?;
    let mut connection = call.app.pool.acquire().await?;
    let models = models(&mut connection, organisation, Some(&[id])).await?;
    drop(connection);
    let (row, provider) = models.first().ok_or_else(|| ApiError::not_found("model"))?;
    Reply::ok(&rules::diff(row, *provider)?)
}

/// The models of an update, every one of which must be there: those that are named, or all.
async fn models(
    connection: &mut PgConnection,
    organisation: OrganisationId,
    ids: Option<&[ModelId]>,
) -> Result<Vec<Priced>, ApiError> {
    let wanted: Option<Vec<Uuid>> = ids.map(|ids| ids.iter().map(|id| id.0).collect());
    let most = BATCH_MAX as i64 + 1;
    let found =
        references::models_with_providers(connection, organisation, wanted.as_deref(), most)
            .await?;
    if found.len() > BATCH_MAX {
        let message = format!("more than {BATCH_MAX} models: name up to {BATCH_MAX} at a time");
        return Err(ApiError::invalid("/model_ids", message));
    }
    if let Some(wanted) = &wanted {
        let there: BTreeSet<Uuid> = found.iter().map(|(id, _)| *id).collect();
        if let Some(index) = wanted.iter().position(|id| !there.contains(id)) {
            let field = format!("/model_ids/{index}");
            return Err(ApiError::invalid(
                field,
                "there is no such model in this organisation",
            ));
        }
    }
    let mut models = Vec::with_capacity(found.len());
    for (id, kind) in found {
        let provider = ProviderType::ALL
            .into_iter()
            .find(|known| known.name() == kind);
        let row = entity::find::<ModelBody>(connection, organisation, ModelId(id)).await?;
        models.extend(row.map(|row| (row, provider)));
    }
    Ok(models)
}
