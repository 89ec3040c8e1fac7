//! What a call says about itself for those who pay: tags and the end user. Taken from the body's `metadata` and `user`, and
//! from headers, which win: a proxy in front of the gateway may set them whatever its clients send.

use std::collections::BTreeMap;

use http::HeaderMap;
use odock_events::payload::budget::Owner;

use crate::{
    dialect::openai_chat::request::ChatRequest,
    error::{Code, GatewayError},
};

/// `name=value,name=value`; may be given several times.
pub(crate) const TAGS: &str = "x-odock-tags";
pub(crate) const END_USER: &str = "x-odock-end-user";

const MOST_TAGS: usize = 16;
const LONGEST_NAME: usize = 64;
const LONGEST_VALUE: usize = 256;

/// Of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) end_user: Option<String>,
}

impl Labels {
    /// Of the body what can be a label counts, because there it may be anything; a header that cannot be read is refused.
    pub(crate) fn of(headers: &HeaderMap, request: &ChatRequest) -> Result<Self, GatewayError> {
        let mut labels = Self::default();
        for (name, value) in &request.metadata {
            if is_name(name) && is_value(value) && labels.tags.len() < MOST_TAGS {
                labels.tags.insert(name.clone(), value.clone());
            }
        }
        labels.end_user = request.user.clone().filter(|user| is_value(user));
        for header in headers.get_all(TAGS) {
            let text = header.to_str().map_err(|_| refused(TAGS_RULE))?;
            for pair in text
                .split(',')
                .map(str::trim)
                .filter(|pair| !pair.is_empty())
            {
                let (name, value) = pair.split_once('=').ok_or_else(|| refused(TAGS_RULE))?;
                let (name, value) = (name.trim(), value.trim());
                if !is_name(name) || !is_value(value) {
                    return Err(refused(TAGS_RULE));
                }
                labels.tags.insert(name.to_owned(), value.to_owned());
            }
        }
        if labels.tags.len() > MOST_TAGS {
            return Err(refused(TAGS_RULE));
        }
        let mut users = headers.get_all(END_USER).iter();
        if let Some(header) = users.next() {
            let text = header.to_str().ok().map(str::trim);
            let user = text.filter(|user| is_value(user) && users.next().is_none());
            labels.end_user = Some(user.ok_or_else(|| refused(END_USER_RULE))?.to_owned());
        }
        Ok(labels)
    }

    /// The owners of rules that count this call by name, each with the name of the one that is meant: for every tag that
    /// value and each value, for the end user that one and each one.
    pub(crate) fn each_owner(&self, mut see: impl FnMut(&Owner, &str)) {
        for (name, value) in &self.tags {
            for only in [Some(value.clone()), None] {
                let owner = Owner::Tag {
                    name: name.clone(),
                    value: only,
                };
                see(&owner, value);
            }
        }
        if let Some(user) = &self.end_user {
            for only in [Some(user.clone()), None] {
                see(&Owner::EndUser { id: only }, user);
            }
        }
    }
}

const TAGS_RULE: &str = "`x-odock-tags` must be `name=value` pairs with commas between them: at most 16, a name of up to 64 \
     letters, digits, `_`, `.` and `-`, a value of up to 256 characters";
const END_USER_RULE: &str = "`x-odock-end-user` must be one name of up to 256 characters";

fn refused(rule: &'static str) -> GatewayError {
    GatewayError::new(Code::InvalidRequest, rule)
}

fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_part)
}

fn is_value(value: &str) -> bool {
    (1..=LONGEST_VALUE).contains(&value.len()) && !value.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn labels(
        body: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Labels, GatewayError> {
        let body = format!(r#"{{"model":"m","messages":[]{body}}}"#);
        let request = ChatRequest::parse(body.into()).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        Labels::of(&map, &request)
    }

    fn tag(labels: &Labels, name: &str) -> String {
        labels.tags.get(name).cloned().unwrap_or_default()
    }

    #[test]
    fn headers_win_over_the_body() {
        let body = r#","user":"bob","metadata":{"project":"apollo","team":"blue","n":5}"#;
        let found = labels(body, &[]).unwrap();
        assert_eq!(found.end_user.as_deref(), Some("bob"));
        assert_eq!(
            (tag(&found, "project"), found.tags.len()),
            ("apollo".into(), 2)
        );
        let headers = [
            ("x-odock-tags", "project=gemini, stage=test"),
            ("x-odock-tags", "x.y=1"),
            ("x-odock-end-user", " alice "),
        ];
        let found = labels(body, &headers).unwrap();
        assert_eq!(found.end_user.as_deref(), Some("alice"));
        assert_eq!(
            (tag(&found, "project"), tag(&found, "team")),
            ("gemini".into(), "blue".into())
        );
        assert_eq!(
            (tag(&found, "stage"), tag(&found, "x.y")),
            ("test".into(), "1".into())
        );
    }

    #[test]
    fn a_header_that_does_not_read_is_refused_and_odd_metadata_is_not() {
        for header in ["project", "=x", "a b=c", "project="] {
            let error = labels("", &[("x-odock-tags", header)]).unwrap_err();
            assert_eq!(error.code(), Code::InvalidRequest, "{header}");
        }
        assert!(labels("", &[("x-odock-end-user", "")]).is_err());
        assert!(labels("", &[("x-odock-end-user", "a"), ("x-odock-end-user", "b")]).is_err());
        let odd = labels(r#","user":5,"metadata":{"a b":"c","":"d","ok":"e"}"#, &[]).unwrap();
        assert_eq!((odd.tags.len(), odd.end_user), (1, None));
    }

    #[test]
    fn a_call_counts_for_its_value_and_for_each_value() {
        let found = labels("", &[("x-odock-tags", "p=1"), ("x-odock-end-user", "u")]).unwrap();
        let mut seen = Vec::new();
        found.each_owner(|owner, name| seen.push((owner.id_text(), name.to_owned())));
        let seen: Vec<(&str, &str)> = seen.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(seen, [("p=1", "1"), ("p", "1"), ("u", "u"), ("", "u")]);
    }
}
