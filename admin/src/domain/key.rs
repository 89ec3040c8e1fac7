//! Virtual keys: owner, life, rotation in place. Only the hash and the mask of a secret are in any event.

use odock_events::{
    clock::Timestamp,
    envelope::Envelope,
    ids::KeyId,
    kind::Event,
    payload::{
        Nothing,
        key::{KeyBody, KeyRotated, KeyType},
    },
    secret_key::SecretKey,
    state::Key,
};

use super::{check, deleted, no_such, one, time, unchanged};
use crate::{
    body::member::{Member, refuse_fixed},
    command::{Decision, stamp::Stamp},
    error::{ApiError, Code, Faults},
    shape::key::{KeyCreate, KeyPatch, KeyRotate},
};

/// Whether the owner that is asked for is in this organisation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owners {
    pub(crate) team: bool,
    pub(crate) user: bool,
}

pub(crate) fn create(
    stamp: &Stamp,
    id: KeyId,
    asked: &KeyCreate,
    owners: Owners,
    secret: &SecretKey,
) -> Result<Decision, ApiError> {
    let mut faults = Faults::default();
    check_owner(asked, owners, &mut faults)?;
    faults.take(check::optional_name("/name", asked.name.as_deref()))?;
    let policies = asked.policies.clone().unwrap_or_default();
    faults.take(check::policies(&policies))?;
    let zone = time::zone("/timezone", asked.timezone.as_deref().unwrap_or(time::UTC));
    let Some((zone, timezone)) = faults.take(zone)? else {
        return Err(faults
            .finish()
            .err()
            .unwrap_or_else(|| ApiError::internal("no fault")));
    };
    let expires_at = asked
        .expires_at
        .as_deref()
        .map(|text| expiry(text, &zone, stamp.now));
    let expires_at = faults.take(expires_at.transpose())?.flatten();
    faults.finish()?;
    let body = KeyBody {
        kind: asked.kind,
        team_id: asked.team_id,
        user_id: asked.user_id,
        name: asked.name.clone(),
        secret_sha256: secret.sha256(),
        key_preview: secret.preview(),
        revoked: false,
        rotation_count: 0,
        last_rotated_at: None,
        expires_at,
        timezone,
        policies,
    };
    let event = Event::KeyCreated(body);
    let mut decision = one(None, stamp.team_envelope(id, 1, asked.team_id, event))?;
    decision.secret = Some(secret.clone());
    Ok(decision)
}

pub(crate) fn update(stamp: &Stamp, row: Key, asked: &KeyPatch) -> Result<Decision, ApiError> {
    refuse_fixed("/type", &asked.kind)?;
    refuse_fixed("/team_id", &asked.team_id)?;
    refuse_fixed("/user_id", &asked.user_id)?;
    let timezone = asked
        .timezone
        .or(&row.body.timezone, || time::UTC.to_owned());
    let (zone, timezone) = time::zone("/timezone", &timezone)?;
    let body = KeyBody {
        name: asked.name.or_cleared(row.body.name.as_ref()),
        expires_at: match &asked.expires_at {
            Member::Absent => row.body.expires_at,
            Member::Null => None,
            Member::Given(text) => Some(expiry(text, &zone, stamp.now)?),
        },
        timezone,
        policies: asked.policies.or(&row.body.policies, Default::default),
        ..row.body.clone()
    };
    let mut faults = Faults::default();
    faults.take(check::optional_name("/name", body.name.as_deref()))?;
    faults.take(check::policies(&body.policies))?;
    faults.finish()?;
    let envelope = next(stamp, &row, Event::KeyUpdated(body));
    one(Some(row.into()), envelope)
}

/// Same key, new secret. The old one is dead once every gateway has applied it.
pub(crate) fn rotate(
    stamp: &Stamp,
    row: Key,
    asked: &KeyRotate,
    secret: &SecretKey,
) -> Result<Decision, ApiError> {
    if row.body.revoked {
        return Err(ApiError::new(
            Code::KeyRevoked,
            "a revoked key cannot be rotated",
        ));
    }
    let (zone, _) = time::zone("/timezone", &row.body.timezone)?;
    let expires_at = match &asked.expires_at {
        Member::Null => None,
        Member::Given(text) => Some(expiry(text, &zone, stamp.now)?),
        Member::Absent if row.body.expires_at.is_some_and(|at| at <= stamp.now) => {
            let message = "the key has expired: give a new expiry, or null for none";
            return Err(ApiError::invalid("/expires_at", message));
        }
        Member::Absent => row.body.expires_at,
    };
    let rotated = KeyRotated {
        secret_sha256: secret.sha256(),
        key_preview: secret.preview(),
        expires_at,
        previous_key_preview: row.body.key_preview.clone(),
        previous_expires_at: row.body.expires_at,
    };
    let envelope = next(stamp, &row, Event::KeyRotated(rotated));
    let mut decision = one(Some(row.into()), envelope)?;
    decision.secret = Some(secret.clone());
    Ok(decision)
}

pub(crate) fn revoke(stamp: &Stamp, row: Key) -> Result<Decision, ApiError> {
    if row.body.revoked {
        return Ok(unchanged(row.into()));
    }
    let envelope = next(stamp, &row, Event::KeyRevoked(Nothing {}));
    one(Some(row.into()), envelope)
}

pub(crate) fn unrevoke(stamp: &Stamp, row: Key) -> Result<Decision, ApiError> {
    if !row.body.revoked {
        return Ok(unchanged(row.into()));
    }
    let envelope = next(stamp, &row, Event::KeyUnrevoked(Nothing {}));
    one(Some(row.into()), envelope)
}

pub(crate) fn delete(
    stamp: &Stamp,
    row: Key,
    referrer: Option<String>,
) -> Result<Decision, ApiError> {
    deleted(stamp, row.into(), referrer, Event::KeyDeleted(Nothing {}))
}

fn next(stamp: &Stamp, row: &Key, event: Event) -> Envelope {
    stamp.team_envelope(row.id, row.version + 1, row.body.team_id, event)
}

fn expiry(text: &str, zone: &jiff::tz::TimeZone, now: Timestamp) -> Result<Timestamp, ApiError> {
    let at = time::moment("/expires_at", text, zone)?;
    if at <= now {
        return Err(ApiError::invalid("/expires_at", "must lie in the future"));
    }
    Ok(at)
}

fn check_owner(asked: &KeyCreate, owners: Owners, faults: &mut Faults) -> Result<(), ApiError> {
    let (team, user) = (asked.team_id.is_some(), asked.user_id.is_some());
    let (needs_team, needs_user) = match asked.kind {
        KeyType::Organisation => (false, false),
        KeyType::Team => (true, false),
        KeyType::User => (false, true),
    };
    for (field, given, needed) in [
        ("/team_id", team, needs_team),
        ("/user_id", user, needs_user),
    ] {
        if given && !needed {
            faults.add(field, "must be absent with this type");
        }
        if needed && !given {
            faults.add(field, "is required with this type");
        }
    }
    if team && needs_team && !owners.team {
        faults.take::<()>(Err(no_such("/team_id", "team")))?;
    }
    if user && needs_user && !owners.user {
        faults.take::<()>(Err(no_such("/user_id", "user")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use odock_events::ids::{OrganisationId, TeamId, UserId};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        body,
        domain::testing::{after, kinds},
    };

    const BOTH: Owners = Owners {
        team: true,
        user: true,
    };

    fn stamp() -> Stamp {
        Stamp::for_testing(OrganisationId::generate())
    }

    fn make(text: &Value, owners: Owners) -> Result<Decision, ApiError> {
        let asked: KeyCreate = body::read(text.to_string().as_bytes())?;
        create(
            &stamp(),
            KeyId::generate(),
            &asked,
            owners,
            &SecretKey::generate(),
        )
    }

    fn field(text: &Value, owners: Owners) -> String {
        make(text, owners).err().unwrap().fields[0].field.clone()
    }

    #[test]
    fn the_owner_is_exactly_what_the_type_needs() {
        let (team, user) = (TeamId::generate(), UserId::generate());
        assert!(make(&json!({ "type": "organisation" }), BOTH).is_ok());
        assert!(make(&json!({ "type": "team", "team_id": team }), BOTH).is_ok());
        assert!(make(&json!({ "type": "user", "user_id": user }), BOTH).is_ok());
        assert_eq!(
            field(&json!({ "type": "organisation", "team_id": team }), BOTH),
            "/team_id"
        );
        assert_eq!(field(&json!({ "type": "team" }), BOTH), "/team_id");
        assert_eq!(
            field(
                &json!({ "type": "user", "user_id": user, "team_id": team }),
                BOTH
            ),
            "/team_id"
        );
        let none = Owners {
            team: false,
            user: false,
        };
        assert_eq!(
            field(&json!({ "type": "team", "team_id": team }), none),
            "/team_id"
        );
        assert_eq!(
            field(&json!({ "type": "user", "user_id": user }), none),
            "/user_id"
        );
        assert_eq!(
            field(&json!({ "type": "user", "user_id": "team_1" }), BOTH),
            "/user_id"
        );
    }

    #[test]
    fn a_secret_is_in_no_event() {
        let decision = make(&json!({ "type": "organisation" }), BOTH).unwrap();
        let secret = decision.secret.clone().unwrap();
        let bytes = odock_events::codec::encode(&decision.envelopes[0]).unwrap();
        let middle = &secret.expose().as_bytes()[10..40];
        assert!(!bytes.windows(middle.len()).any(|window| window == middle));
        let row = after::<KeyBody>(&decision);
        assert_eq!(row.body.secret_sha256, secret.sha256());
        assert_eq!(row.body.key_preview, secret.preview());
    }

    #[test]
    fn an_expiry_lies_in_the_future_of_its_zone() {
        let with = |at: &str| {
            let text =
                json!({ "type": "organisation", "expires_at": at, "timezone": "Asia/Tokyo" });
            make(&text, BOTH).map(|decision| after::<KeyBody>(&decision).body.expires_at.unwrap())
        };
        // Now is 12:00 in UTC, 21:00 in Tokyo.
        assert!(with("2026-11-24T20:59:59").is_err());
        assert_eq!(
            with("2026-11-24T21:00:01").unwrap().to_string(),
            "2026-11-24T12:00:01.000000Z"
        );
        assert!(with("2026-11-24T12:00:00Z").is_err());
        let zone = json!({ "type": "organisation", "timezone": "Nowhere/At_All" });
        assert_eq!(field(&zone, BOTH), "/timezone");
    }

    #[test]
    fn revoking_is_idempotent_and_blocks_rotation() {
        let stamp = stamp();
        let row: Key = after(&make(&json!({ "type": "organisation" }), BOTH).unwrap());
        let stamp = Stamp {
            organisation_id: Some(row.organisation_id),
            ..stamp
        };
        assert!(unrevoke(&stamp, row.clone()).unwrap().envelopes.is_empty());
        let decision = revoke(&stamp, row).unwrap();
        assert_eq!(kinds(&decision), ["key.revoked"]);
        let row: Key = after(&decision);
        assert!(revoke(&stamp, row.clone()).unwrap().envelopes.is_empty());
        let asked: KeyRotate = body::read(b"").unwrap();
        let refused = rotate(&stamp, row.clone(), &asked, &SecretKey::generate());
        assert_eq!(refused.err().unwrap().code, Code::KeyRevoked);
        let row: Key = after(&unrevoke(&stamp, row).unwrap());
        assert_eq!((row.version, row.body.revoked), (3, false));
    }

    #[test]
    fn a_rotation_keeps_the_key_and_counts() {
        let expires = "2026-12-01T00:00:00Z";
        let row: Key = after(
            &make(
                &json!({ "type": "organisation", "name": "ci", "expires_at": expires }),
                BOTH,
            )
            .unwrap(),
        );
        let stamp = Stamp::for_testing(row.organisation_id);
        let secret = SecretKey::generate();
        let keep: KeyRotate = body::read(b"").unwrap();
        let rotated: Key = after(&rotate(&stamp, row.clone(), &keep, &secret).unwrap());
        assert_eq!((rotated.id, rotated.body.rotation_count), (row.id, 1));
        assert_eq!(rotated.body.expires_at, row.body.expires_at);
        assert_eq!(rotated.body.secret_sha256, secret.sha256());
        assert_eq!(rotated.body.last_rotated_at, Some(stamp.now));
        let none: KeyRotate = body::read(br#"{"expires_at":null}"#).unwrap();
        let rotated: Key = after(&rotate(&stamp, rotated, &none, &SecretKey::generate()).unwrap());
        assert_eq!(
            (rotated.body.expires_at, rotated.body.rotation_count),
            (None, 2)
        );
        let past: KeyRotate = body::read(br#"{"expires_at":"2026-11-24T11:59:59Z"}"#).unwrap();
        assert!(rotate(&stamp, rotated, &past, &SecretKey::generate()).is_err());
        let late = Stamp {
            now: "2027-01-01T00:00:00Z".parse().unwrap(),
            ..stamp
        };
        assert!(rotate(&late, row, &keep, &SecretKey::generate()).is_err());
    }
}
