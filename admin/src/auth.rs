//! Who calls, and whether they may: the token to a [`Principal`], and the one place where permissions are decided.

use odock_events::{envelope::Actor, ids::OrganisationId, units::Sha256Digest};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::error::{ApiError, Code};

/// What a route asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// No token: probes only.
    Public,
    Needs(Permission),
}

/// One right: to do something with one kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Permission {
    pub(crate) action: Action,
    pub(crate) resource: Resource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Read,
    Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Resource {
    Organisation,
    Team,
    User,
    Membership,
    Provider,
    ProviderKey,
    Model,
    Key,
    Grant,
    Budget,
    Quota,
    Overlay,
    Usage,
    Event,
    Command,
    Status,
    /// The description of the API and its public key.
    Api,
}

impl Resource {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Team => "team",
            Self::User => "user",
            Self::Membership => "membership",
            Self::Provider => "provider",
            Self::ProviderKey => "provider_key",
            Self::Model => "model",
            Self::Key => "key",
            Self::Grant => "grant",
            Self::Budget => "budget",
            Self::Quota => "quota",
            Self::Overlay => "overlay",
            Self::Usage => "usage",
            Self::Event => "event",
            Self::Command => "command",
            Self::Status => "status",
            Self::Api => "api",
        }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    /// Nobody in particular, on a public route.
    Anonymous,
    /// The token of the first administrator: everything, everywhere.
    Bootstrap { token: Sha256Digest },
}

impl Principal {
    /// As events name it.
    pub(crate) fn actor(&self) -> Actor {
        match self {
            Self::Anonymous => Actor::System,
            Self::Bootstrap { .. } => Actor::Service {
                name: "bootstrap".to_owned(),
            },
        }
    }

    /// Whose idempotency keys these are.
    pub(crate) fn token(&self) -> Option<Sha256Digest> {
        match self {
            Self::Anonymous => None,
            Self::Bootstrap { token } => Some(*token),
        }
    }
}

/// The tokens that are known, as digests.
pub(crate) struct Credentials {
    bootstrap: Sha256Digest,
}

impl Credentials {
    pub(crate) fn new(bootstrap: &SecretString) -> Self {
        Self {
            bootstrap: Sha256Digest::of(bootstrap.expose_secret().as_bytes()),
        }
    }

    /// The caller behind `Authorization: Bearer …`. Absent, malformed and unknown get one and the same answer, and the
    /// digests are compared in constant time.
    pub(crate) fn authenticate(&self, headers: &http::HeaderMap) -> Result<Principal, ApiError> {
        let mut values = headers.get_all(http::header::AUTHORIZATION).iter();
        let token = values.next().and_then(|value| bearer(value.as_bytes()));
        let presented = Sha256Digest::of(token.unwrap_or_default());
        let known = bool::from(presented.0.ct_eq(&self.bootstrap.0));
        if known && values.next().is_none() {
            Ok(Principal::Bootstrap { token: presented })
        } else {
            Err(ApiError::new(
                Code::Unauthorized,
                "give Authorization: Bearer <admin token>",
            ))
        }
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// Whether `principal` may do this in `organisation` (`None`: on the platform). Denied unless a rule here allows it.
pub(crate) fn authorize(
    principal: &Principal,
    permission: Permission,
    organisation: Option<OrganisationId>,
) -> Result<(), ApiError> {
    match principal {
        Principal::Bootstrap { .. } => Ok(()),
        Principal::Anonymous => {
            tracing::debug!(?permission, ?organisation, "denied");
            Err(ApiError::new(Code::Forbidden, "this needs an admin token"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_with(values: &[&[u8]]) -> Result<Principal, Code> {
        let token = SecretString::from(format!("adm_{}", "x".repeat(40)));
        let mut headers = http::HeaderMap::new();
        for value in values {
            let value = http::HeaderValue::from_bytes(value).unwrap();
            headers.append(http::header::AUTHORIZATION, value);
        }
        Credentials::new(&token)
            .authenticate(&headers)
            .map_err(|error| error.code)
    }

    #[test]
    fn only_the_token_itself_is_let_in() {
        let good = format!("Bearer adm_{}", "x".repeat(40));
        assert!(try_with(&[good.as_bytes()]).is_ok());
        assert!(
            try_with(&[good.to_lowercase().as_bytes()]).is_ok(),
            "the scheme has no case"
        );
        let longer = format!("{good}x");
        let bad: [&[&[u8]]; 8] = [
            &[],
            &[b""],
            &[b"Bearer "],
            &[b"Bearer adm_"],
            &[b"Basic eDp5"],
            &[b"Bearer \xff\xfe"],
            &[longer.as_bytes()],
            &[good.as_bytes(), b"Bearer other"],
        ];
        for values in bad {
            assert_eq!(try_with(values), Err(Code::Unauthorized), "{values:?}");
        }
    }

    #[test]
    fn nobody_is_denied() {
        let permission = Permission {
            action: Action::Read,
            resource: Resource::Team,
        };
        let denied = authorize(&Principal::Anonymous, permission, None).unwrap_err();
        assert_eq!(denied.code, Code::Forbidden);
    }
}
