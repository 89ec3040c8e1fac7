//! What all events of one command share: who, why, when, on whose word. Made from the request, put on by every rule.

use odock_events::{
    clock::Timestamp,
    envelope::{Actor, EntityRef, Envelope, Meta},
    ids::{CommandId, OrganisationId, TeamId},
    kind::Event,
};

use crate::{call::Call, error::ApiError};

const REASON_MAX: usize = 500;
const CHANGE_REF_MAX: usize = 100;
const TRACEPARENT_MAX: usize = 128;

#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub(crate) now: Timestamp,
    pub(crate) command_id: CommandId,
    pub(crate) organisation_id: Option<OrganisationId>,
    /// The configuration that the rule saw.
    pub(crate) config_version: Option<u64>,
    pub(crate) actor: Actor,
    pub(crate) reason: Option<String>,
    pub(crate) change_ref: Option<String>,
    pub(crate) correlation_id: String,
    pub(crate) traceparent: Option<String>,
}

impl Stamp {
    /// The part of the request; the rest is set by [`Stamp::of`].
    pub(crate) fn read(call: &Call) -> Result<Self, ApiError> {
        Ok(Self {
            now: call.now,
            command_id: CommandId::generate(),
            organisation_id: None,
            config_version: None,
            actor: call.principal.actor(),
            reason: call.text_header("x-odock-reason", REASON_MAX)?,
            change_ref: call.text_header("x-odock-change-ref", CHANGE_REF_MAX)?,
            correlation_id: call.request_id.clone(),
            traceparent: call
                .text_header("traceparent", TRACEPARENT_MAX)
                .unwrap_or(None),
        })
    }

    pub(crate) fn of(self, command_id: CommandId, organisation_id: Option<OrganisationId>) -> Self {
        Self {
            command_id,
            organisation_id,
            ..self
        }
    }

    /// An event of this command about an entity, as its `version`.
    pub(crate) fn envelope(
        &self,
        entity: impl Into<EntityRef>,
        version: u64,
        event: Event,
    ) -> Envelope {
        Envelope {
            meta: Meta {
                organisation_id: self.organisation_id,
                actor: self.actor.clone(),
                reason: self.reason.clone(),
                change_ref: self.change_ref.clone(),
                command_id: Some(self.command_id),
                correlation_id: Some(self.correlation_id.clone()),
                traceparent: self.traceparent.clone(),
                config_version: self.config_version,
                ..Meta::new(entity.into(), version, self.now)
            },
            event,
        }
    }

    /// As [`Stamp::envelope`], for what belongs to a team.
    pub(crate) fn team_envelope(
        &self,
        entity: impl Into<EntityRef>,
        version: u64,
        team: Option<TeamId>,
        event: Event,
    ) -> Envelope {
        let mut envelope = self.envelope(entity, version, event);
        envelope.meta.team_id = team;
        envelope
    }

    /// A stamp for the unit tests of rules.
    #[cfg(test)]
    pub(crate) fn for_testing(organisation_id: OrganisationId) -> Self {
        Self {
            now: "2026-11-24T12:00:00Z".parse().unwrap(),
            command_id: CommandId::generate(),
            organisation_id: Some(organisation_id),
            config_version: Some(1),
            actor: Actor::Service {
                name: "bootstrap".into(),
            },
            reason: Some("a test".into()),
            change_ref: None,
            correlation_id: "request-1".into(),
            traceparent: None,
        }
    }
}
