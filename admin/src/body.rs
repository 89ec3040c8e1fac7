//! Reading a body: bounded, one JSON object, no member twice, no member that is not known, every error with the place
//! where it is. Called by every route that takes a body.

pub(crate) mod member;
pub(crate) mod strict;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use crate::error::{ApiError, Code};

/// The largest body.
pub(crate) const BODY_MAX: usize = 1024 * 1024;

/// The body as `T`. An empty body is an empty object.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let value = if bytes.iter().all(u8::is_ascii_whitespace) {
        Value::Object(serde_json::Map::new())
    } else {
        strict::parse(bytes)?
    };
    if !value.is_object() {
        return Err(ApiError::new(Code::InvalidBody, "expected a JSON object"));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let pointer = pointer(error.path());
        refuse(pointer, &error.into_inner().to_string())
    })
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        pointer.push('/');
        match segment {
            Segment::Seq { index } => pointer.push_str(&index.to_string()),
            Segment::Map { key } => pointer.push_str(&escape(key)),
            Segment::Enum { variant } => pointer.push_str(&escape(variant)),
            Segment::Unknown => pointer.push('?'),
        }
    }
    pointer
}

/// A member's name as RFC 6901 writes it.
pub(crate) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn refuse(mut pointer: String, message: &str) -> ApiError {
    let named = |prefix: &str| {
        message
            .strip_prefix(prefix)
            .and_then(|rest| rest.split('`').next())
            .map(escape)
    };
    if let Some(name) = named("unknown field `") {
        if !pointer.ends_with(&format!("/{name}")) {
            pointer = format!("{pointer}/{name}");
        }
        return ApiError::field(Code::UnknownField, pointer, "is not known here");
    }
    if let Some(name) = named("missing field `") {
        return ApiError::invalid(format!("{pointer}/{name}"), "is required");
    }
    // serde quotes what it found; these members may hold a secret that was put there in a wrong form.
    let secret = ["/value", "/envelope"]
        .iter()
        .any(|member| pointer.starts_with(member));
    let message = if secret {
        "has the wrong form"
    } else {
        message
    };
    ApiError::invalid(pointer, message)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{member::Member, *};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        name: String,
        #[serde(default)]
        value: Option<String>,
        #[serde(default)]
        note: Member<String>,
        #[serde(default)]
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        numbers: Vec<u64>,
    }

    fn error(text: &str) -> (Code, String, String) {
        let error = read::<Example>(text.as_bytes()).unwrap_err();
        let field = error
            .fields
            .first()
            .map(|f| f.field.clone())
            .unwrap_or_default();
        (error.code, field, error.detail)
    }

    #[test]
    fn every_error_has_its_place() {
        let place = |text| {
            let (code, field, _) = error(text);
            (code, field)
        };
        assert_eq!(place("{}"), (Code::ValidationFailed, "/name".into()));
        assert_eq!(
            place(r#"{"name":"a","x/y":1}"#),
            (Code::UnknownField, "/x~1y".into())
        );
        assert_eq!(
            place(r#"{"name":"a","inner":{"numbers":[1],"more":2}}"#),
            (Code::UnknownField, "/inner/more".into())
        );
        assert_eq!(
            place(r#"{"name":"a","inner":{"numbers":[1,"2"]}}"#),
            (Code::ValidationFailed, "/inner/numbers/1".into())
        );
        assert_eq!(
            place(r#"{"name":"a","inner":{"numbers":[1.5]}}"#),
            (Code::ValidationFailed, "/inner/numbers/0".into())
        );
        assert_eq!(place("[]"), (Code::InvalidBody, String::new()));
        assert_eq!(place("{"), (Code::InvalidBody, String::new()));
    }

    #[test]
    fn a_secret_in_a_wrong_form_is_not_quoted() {
        let (_, field, detail) = error(r#"{"name":"a","value":123456789}"#);
        assert_eq!(field, "/value");
        assert!(!detail.contains("123456789"), "{detail}");
    }

    #[test]
    fn absent_null_and_given_are_told_apart() {
        let note = |text: &str| read::<Example>(text.as_bytes()).unwrap().note;
        assert_eq!(note(r#"{"name":"a"}"#), Member::Absent);
        assert_eq!(note(r#"{"name":"a","note":null}"#), Member::Null);
        assert_eq!(
            note(r#"{"name":"a","note":"b"}"#),
            Member::Given("b".into())
        );
        let example = read::<Example>(br#"{"name":"a","inner":{"numbers":[1]}}"#).unwrap();
        assert_eq!((example.name.as_str(), example.value), ("a", None));
        assert_eq!(example.inner.unwrap().numbers, [1]);
    }
}
