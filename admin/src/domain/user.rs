//! Users: name and e-mail are sealed under the person's own key before any event carries them.

use odock_events::{
    ids::UserId,
    kind::Event,
    payload::{
        Nothing,
        user::{UserBody, UserRole, UserStatus},
    },
    personal::SubjectKey,
    state::User,
};

use super::{changed, check, created, deleted};
use crate::{
    body::member::Member,
    command::{Decision, stamp::Stamp},
    error::{ApiError, Faults},
    person::{EMAIL, NAME},
    shape::user::{UserCreate, UserPatch},
};

const EMAIL_MAX: usize = 320;

pub(crate) fn create(
    stamp: &Stamp,
    id: UserId,
    asked: &UserCreate,
    key: &SubjectKey,
) -> Result<Decision, ApiError> {
    validate(Some(&asked.email), asked.name.as_deref())?;
    let seal = |field, text: &str| key.seal(field, text).map_err(ApiError::internal);
    let body = UserBody {
        email: seal(EMAIL, &asked.email)?,
        name: asked
            .name
            .as_deref()
            .map(|name| seal(NAME, name))
            .transpose()?,
        role: asked.role.unwrap_or(UserRole::User),
        status: UserStatus::Active,
    };
    created(stamp, id, Event::UserCreated(body))
}

pub(crate) fn update(
    stamp: &Stamp,
    row: User,
    asked: &UserPatch,
    key: &SubjectKey,
) -> Result<Decision, ApiError> {
    let given = |member: &Member<String>| match member {
        Member::Given(text) => Some(text.clone()),
        Member::Absent | Member::Null => None,
    };
    if asked.email == Member::Null {
        return Err(ApiError::invalid("/email", "cannot be null"));
    }
    let (email, name) = (given(&asked.email), given(&asked.name));
    validate(email.as_deref(), name.as_deref())?;
    let seal = |field, text: &str| key.seal(field, text).map_err(ApiError::internal);
    let body = UserBody {
        email: match email {
            Some(email) => seal(EMAIL, &email)?,
            None => row.body.email.clone(),
        },
        name: match name {
            Some(name) => Some(seal(NAME, &name)?),
            None => row.body.name.clone().filter(|_| asked.name.is_absent()),
        },
        role: asked.role.or(&row.body.role, || UserRole::User),
        status: row.body.status,
    };
    changed(stamp, row.into(), Event::UserUpdated(body))
}

pub(crate) fn delete(
    stamp: &Stamp,
    row: User,
    referrer: Option<String>,
) -> Result<Decision, ApiError> {
    deleted(stamp, row.into(), referrer, Event::UserDeleted(Nothing {}))
}

fn validate(email: Option<&str>, name: Option<&str>) -> Result<(), ApiError> {
    let mut faults = Faults::default();
    if email.is_some_and(|email| !is_address(email)) {
        faults.add("/email", "is no e-mail address");
    }
    faults.take(check::optional_name("/name", name))?;
    faults.finish()
}

/// What can be delivered to is for a mail server to say; this only refuses what cannot be an address.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    !local.is_empty()
        && !domain.is_empty()
        && text.len() <= EMAIL_MAX
        && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use odock_events::{ids::OrganisationId, personal::SubjectKeys};

    use super::*;
    use crate::{body, domain::testing::after};

    #[test]
    fn no_event_carries_a_name_or_an_address_in_plain() {
        let stamp = Stamp::for_testing(OrganisationId::generate());
        let id = UserId::generate();
        let keys = SubjectKeys::new(&[7; 32]).unwrap();
        let (key, wrapped) = keys.new_subject(id.0).unwrap();
        let asked: UserCreate =
            body::read(br#"{"email":"alice@example.com","name":"Alice Doe"}"#).unwrap();
        let decision = create(&stamp, id, &asked, &key).unwrap();
        let bytes = odock_events::codec::encode(&decision.envelopes[0]).unwrap();
        let holds = |text: &str| {
            bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        };
        assert!(!holds("alice") && !holds("Alice"));
        let row = after::<UserBody>(&decision);
        let person = crate::person::open(&keys, id, Some(&wrapped), &row.body);
        assert_eq!(person.email.as_deref(), Some("alice@example.com"));
        assert_eq!(person.name.as_deref(), Some("Alice Doe"));

        let patch: UserPatch = body::read(br#"{"name":null,"role":"manager"}"#).unwrap();
        let row = after::<UserBody>(&update(&stamp, row, &patch, &key).unwrap());
        assert_eq!(
            (row.body.name.clone(), row.body.role),
            (None, UserRole::Manager)
        );
        let person = crate::person::open(&keys, id, Some(&wrapped), &row.body);
        assert_eq!(person.email.as_deref(), Some("alice@example.com"));
        assert!(
            crate::person::open(&keys, id, None, &row.body)
                .email
                .is_none()
        );
    }

    #[test]
    fn addresses_have_two_sides_and_no_spaces() {
        assert!(is_address("a@b"));
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a b@c",
            "a@b\n",
            &format!("{}@b", "a".repeat(320)),
        ] {
            assert!(!is_address(bad), "{bad:?}");
        }
    }
}
