//! `POST /v1/keys/validate`: whether a key is valid, and whose it is.

use std::net::IpAddr;

use http::{Response, request::Parts};
use odock_events::{
    clock::Timestamp,
    ids::{KeyId, OrganisationId, TeamId, UserId},
    payload::key::KeyType,
};
use serde::Serialize;

use super::{body::AnswerBody, json};
use crate::{error::GatewayError, pipeline::early_gate, state::Gateway};

pub(crate) async fn validate(
    gateway: &Gateway,
    head: &Parts,
    peer: IpAddr,
) -> Result<Response<AnswerBody>, GatewayError> {
    let caller = early_gate::caller(gateway, head, peer).await?;
    let key = &caller.entry.key;
    Ok(json::ok(&ValidKey {
        valid: true,
        key_id: key.id,
        organisation_id: key.organisation_id,
        kind: key.body.kind,
        team_id: key.body.team_id,
        user_id: key.body.user_id,
        expires_at: key.body.expires_at,
    }))
}

#[derive(Serialize)]
struct ValidKey {
    valid: bool,
    key_id: KeyId,
    organisation_id: OrganisationId,
    #[serde(rename = "type")]
    kind: KeyType,
    team_id: Option<TeamId>,
    user_id: Option<UserId>,
    expires_at: Option<Timestamp>,
}
