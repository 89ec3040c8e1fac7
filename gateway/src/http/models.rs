//! `GET /v1/models`: the models that the key may use.

use std::net::IpAddr;

use http::{Response, request::Parts};
use serde::Serialize;

use super::{body::AnswerBody, json};
use crate::{error::GatewayError, pipeline::early_gate, state::Gateway};

pub(crate) async fn list(
    gateway: &Gateway,
    head: &Parts,
    peer: IpAddr,
) -> Result<Response<AnswerBody>, GatewayError> {
    let caller = early_gate::caller(gateway, head, peer).await?;
    let tenant = caller.snapshot.tenant(caller.entry.key.organisation_id);
    let models = caller
        .entry
        .models
        .iter()
        .filter_map(|id| tenant?.model_by_id(*id));
    let mut data: Vec<ListedModel<'_>> = models
        .map(|model| ListedModel {
            id: &model.body.name,
            object: "model",
            created: 0,
            owned_by: tenant
                .and_then(|tenant| tenant.provider(model.body.provider_id))
                .map_or("", |provider| provider.body.kind.name()),
        })
        .collect();
    data.sort_unstable_by_key(|model| model.id);
    Ok(json::ok(&List {
        object: "list",
        data,
    }))
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<ListedModel<'a>>,
}

#[derive(Serialize)]
struct ListedModel<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}
