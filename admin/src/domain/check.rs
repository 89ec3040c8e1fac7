//! Checks that many rules share: names, free text, JSON objects, policies.

use odock_events::{payload::JsonObject, policy::Policy};

use crate::error::ApiError;

pub(crate) const NAME_MAX: usize = 200;
const TEXT_MAX: usize = 1_000;
const OBJECT_MAX: usize = 64 * 1024;

/// A name: 1 to 200 characters on one line, without space around it.
pub(crate) fn name(field: &str, text: &str) -> Result<(), ApiError> {
    let length = text.chars().count();
    if !(1..=NAME_MAX).contains(&length) {
        return Err(ApiError::invalid(
            field,
            format!("must have 1 to {NAME_MAX} characters"),
        ));
    }
    if text.trim() != text {
        return Err(ApiError::invalid(
            field,
            "must not begin or end with white space",
        ));
    }
    no_control(field, text)
}

pub(crate) fn optional_name(field: &str, text: Option<&str>) -> Result<(), ApiError> {
    text.map_or(Ok(()), |text| name(field, text))
}

/// Free text on one line.
pub(crate) fn text(field: &str, text: Option<&str>) -> Result<(), ApiError> {
    let Some(text) = text else { return Ok(()) };
    if text.chars().count() > TEXT_MAX {
        return Err(ApiError::invalid(
            field,
            format!("must have at most {TEXT_MAX} characters"),
        ));
    }
    no_control(field, text)
}

fn no_control(field: &str, text: &str) -> Result<(), ApiError> {
    if text.chars().any(char::is_control) {
        return Err(ApiError::invalid(field, "must not have control characters"));
    }
    Ok(())
}

/// A JSON object that is kept as it is.
pub(crate) fn object(field: &str, object: &JsonObject) -> Result<(), ApiError> {
    let length = serde_json::to_string(object).map_or(usize::MAX, |text| text.len());
    if length > OBJECT_MAX {
        return Err(ApiError::invalid(
            field,
            format!("must have at most {OBJECT_MAX} bytes"),
        ));
    }
    Ok(())
}

/// Policies: the envelope as gateways read it. A member that nothing acts on would be a promise that is not kept.
pub(crate) fn policies(policies: &JsonObject) -> Result<(), ApiError> {
    object("/policies", policies)?;
    let Err(found) = Policy::read(policies) else {
        return Ok(());
    };
    let mut faults = crate::error::Faults::default();
    for fault in found {
        faults.add(format!("/policies{}", fault.pointer), fault.message);
    }
    faults.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_one_line_of_bounded_length() {
        assert!(name("/name", "Fräulein 7 – βeta").is_ok());
        assert!(name("/name", &"ü".repeat(200)).is_ok());
        for bad in ["", " a", "a ", "a\nb", "a\u{7f}", &"a".repeat(201)] {
            assert!(name("/name", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn line_058_every_policy_that_does_not_hold_is_named() {
        assert!(policies(&JsonObject::new()).is_ok());
        let fine = json!({ "ratelimit": { "requests": { "per_minute": 5 } } });
        assert!(policies(fine.as_object().unwrap()).is_ok());
        let given = json!({ "ip": { "blocklist": ["x"] }, "a/b": 1 });
        let error = policies(given.as_object().unwrap()).unwrap_err();
        let mut fields: Vec<_> = error
            .fields
            .iter()
            .map(|fault| fault.field.as_str())
            .collect();
        fields.sort_unstable();
        assert_eq!(fields, ["/policies/a~1b", "/policies/ip/blocklist/0"]);
    }
}
