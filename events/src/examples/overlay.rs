//! The example of an overlay.

use super::{AT, id};
use crate::{
    clock::Timestamp,
    ids::KeyId,
    payload::overlay::{OverlayBody, OverlayScope},
};

pub(super) fn body() -> OverlayBody {
    OverlayBody {
        name: Some("launch".into()),
        scope: OverlayScope::Key { id: KeyId(id(11)) },
        percent: 200,
        starts_at: AT,
        ends_at: Timestamp(AT.0 + 86_400_000_000),
    }
}
