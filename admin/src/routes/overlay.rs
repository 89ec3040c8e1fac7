//! `…/overlays`.

use async_trait::async_trait;
use odock_events::{
    ids::OverlayId,
    payload::{
        key::KeyBody,
        model::ModelBody,
        overlay::{OverlayBody, OverlayScope},
        team::TeamBody,
    },
    state::Overlay,
};

use super::crud::{Changeable, Resource};
use crate::{
    command::{Decision, snapshot::Snapshot},
    domain::overlay,
    error::ApiError,
    page::{Filter, ListSpec, Takes},
    shape::overlay::{OverlayCreate, OverlayPatch},
};

const FILTERS: &[Filter] = &[
    Filter::NAME,
    Filter::new("scope_id", "scope_id = ", Takes::Id("")),
    Filter::new("scope_type", "scope_kind = ", Takes::Text),
];

#[async_trait]
impl Resource for OverlayBody {
    type Create = OverlayCreate;
    const NOUN: &'static str = "overlay";
    const LIST: ListSpec = ListSpec::searchable(FILTERS);

    async fn create(at: &mut Snapshot<'_>, asked: &OverlayCreate) -> Result<Decision, ApiError> {
        let scope_known = match asked.scope {
            OverlayScope::Organisation { id } => id == at.organisation()?,
            OverlayScope::Team { id } => at.has::<TeamBody>(id).await?,
            OverlayScope::Key { id } => at.has::<KeyBody>(id).await?,
            OverlayScope::Model { id } => at.has::<ModelBody>(id).await?,
        };
        overlay::create(at.stamp, OverlayId::generate(), asked, scope_known)
    }

    async fn delete(at: &mut Snapshot<'_>, row: Overlay) -> Result<Decision, ApiError> {
        overlay::delete(at.stamp, row)
    }
}

#[async_trait]
impl Changeable for OverlayBody {
    type Patch = OverlayPatch;

    async fn update(
        at: &mut Snapshot<'_>,
        row: Overlay,
        asked: &OverlayPatch,
    ) -> Result<Decision, ApiError> {
        overlay::update(at.stamp, row, asked)
    }
}
