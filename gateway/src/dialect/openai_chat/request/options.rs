//! The members of a chat request beside its content: what they may be, and which of them leave its cost without bound.

use std::ops::Range;

use odock_events::pricing::ServiceTier;

use super::{
    Field, MAX_MODEL_NAME, RequestError,
    asked::{AskedTier, OutputMedia, SearchSize},
};
use crate::dialect::{
    json_keys::{KnownKey, KnownKeys},
    json_scan::{Cursor, Kind},
};

/// The most answers one request may ask for; OpenAI's own limit.
const MAX_CHOICES: u32 = 128;

/// Labels that are longer, or more, than any provider takes are passed on and count for nothing here.
const LONGEST_LABEL: usize = 512;
const MOST_METADATA: usize = 64;

/// The highest output limit that is taken as one. No model comes near it, and every sum with it stays far from overflow.
const MAX_OUTPUT_LIMIT: u64 = u32::MAX as u64;

/// `max_tokens` or `max_completion_tokens`: `value` is `None` for an explicit null.
pub(super) struct Limit {
    pub(super) value: Option<u64>,
    pub(super) place: Range<usize>,
}

/// Where `stream_options.include_usage` is, or would have to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum UsagePlace {
    #[default]
    NoOptions,
    NullOptions(Range<usize>),
    /// Options without the member: it goes here, with a comma behind it unless the object is empty.
    Insert {
        at: usize,
        empty: bool,
    },
    /// The member is there and says no: null or false.
    Declined(Range<usize>),
    Asked,
}

pub(super) fn read_model(cursor: &mut Cursor<'_>) -> Result<(String, Range<usize>), RequestError> {
    const EXPECTED: &str = "a string of 1 to 256 bytes without control characters";
    if cursor.peek()? != Kind::String {
        return Err(RequestError::invalid("model", EXPECTED));
    }
    let text = cursor.string()?;
    if text.decoded_len == 0 || text.decoded_len > MAX_MODEL_NAME {
        return Err(RequestError::invalid("model", EXPECTED));
    }
    let model = cursor.decode(text).into_owned();
    if model.chars().any(char::is_control) {
        return Err(RequestError::invalid("model", EXPECTED));
    }
    Ok((model, text.quoted()))
}

/// `true`, or `false`, null and absent.
pub(super) fn read_flag(
    cursor: &mut Cursor<'_>,
    field: &'static str,
) -> Result<bool, RequestError> {
    let kind = cursor.peek()?;
    if !matches!(kind, Kind::True | Kind::False | Kind::Null) {
        return Err(RequestError::invalid(field, "true or false"));
    }
    cursor.skip()?;
    Ok(kind == Kind::True)
}

/// A string; anything else is nothing here.
pub(super) fn read_text(cursor: &mut Cursor<'_>) -> Result<Option<String>, RequestError> {
    if cursor.peek()? != Kind::String {
        cursor.skip()?;
        return Ok(None);
    }
    let text = cursor.string()?;
    if text.decoded_len > LONGEST_LABEL {
        return Ok(None);
    }
    Ok(Some(cursor.decode(text).into_owned()))
}

/// The members of `metadata` that are strings, the first of them where there are many. A name that is given twice is refused:
/// the upstream might read the other one.
pub(super) fn read_metadata(
    cursor: &mut Cursor<'_>,
) -> Result<Vec<(String, String)>, RequestError> {
    let mut members: Vec<(String, String)> = Vec::new();
    if cursor.peek()? != Kind::Object {
        cursor.skip()?;
        return Ok(members);
    }
    cursor.object(|cursor, key| {
        let name = key.decode();
        if members.iter().any(|(other, _)| *other == name) {
            let field = format!("metadata.{name}");
            return Err(RequestError::Duplicate { field });
        }
        let name = name.into_owned();
        if let Some(value) = read_text(cursor)?
            && members.len() < MOST_METADATA
            && name.len() <= LONGEST_LABEL
        {
            members.push((name, value));
        }
        Ok::<_, RequestError>(())
    })?;
    Ok(members)
}

pub(super) fn read_limit(
    cursor: &mut Cursor<'_>,
    field: &'static str,
) -> Result<Limit, RequestError> {
    const EXPECTED: &str = "an integer from 1 to 4294967295";
    if !is_given(cursor, Kind::Number, field, EXPECTED)? {
        return Ok(Limit {
            value: None,
            place: cursor.locate()?,
        });
    }
    let place = cursor.number()?;
    let value = cursor.slice(place.clone()).parse().ok();
    if value.is_some_and(|value| (1..=MAX_OUTPUT_LIMIT).contains(&value)) {
        Ok(Limit { value, place })
    } else {
        Err(RequestError::invalid(field, EXPECTED))
    }
}

pub(super) fn read_choices(cursor: &mut Cursor<'_>) -> Result<Option<u32>, RequestError> {
    const EXPECTED: &str = "an integer from 1 to 128";
    if !is_given(cursor, Kind::Number, "n", EXPECTED)? {
        cursor.skip()?;
        return Ok(None);
    }
    let count = cursor
        .unsigned()?
        .and_then(|count| u32::try_from(count).ok());
    if count.is_some_and(|count| (1..=MAX_CHOICES).contains(&count)) {
        Ok(count)
    } else {
        Err(RequestError::invalid("n", EXPECTED))
    }
}

/// Whether the next value is one of `wanted`'s kind; null, which is as good as absent, is not. Any other is refused.
pub(super) fn is_given(
    cursor: &mut Cursor<'_>,
    wanted: Kind,
    field: &'static str,
    expected: &'static str,
) -> Result<bool, RequestError> {
    let kind = cursor.peek()?;
    if kind == wanted || kind == Kind::Null {
        Ok(kind == wanted)
    } else {
        Err(RequestError::invalid(field, expected))
    }
}

#[derive(Clone, Copy)]
struct IncludeUsage;

impl KnownKey for IncludeUsage {
    fn from_name(name: &str) -> Option<Self> {
        (name == "include_usage").then_some(Self)
    }

    fn number(self) -> u32 {
        0
    }
}

pub(super) fn read_stream_options(cursor: &mut Cursor<'_>) -> Result<UsagePlace, RequestError> {
    if !is_given(cursor, Kind::Object, "stream_options", "an object")? {
        return Ok(UsagePlace::NullOptions(cursor.locate()?));
    }
    let start = cursor.position();
    let mut keys = KnownKeys::<IncludeUsage>::new();
    let mut empty = true;
    let mut found = None;
    cursor
        .object(|cursor, key| {
            empty = false;
            if keys.find(&key)?.is_none() {
                cursor.skip()?;
                return Ok(());
            }
            let asked = read_flag_with_place(cursor)?;
            found = Some(asked);
            Ok(())
        })
        .map_err(|error: RequestError| error.within(|| "stream_options".to_owned()))?;
    Ok(found.unwrap_or(UsagePlace::Insert {
        at: start + 1,
        empty,
    }))
}

fn read_flag_with_place(cursor: &mut Cursor<'_>) -> Result<UsagePlace, RequestError> {
    cursor.peek()?;
    let start = cursor.position();
    if read_flag(cursor, "include_usage")? {
        Ok(UsagePlace::Asked)
    } else {
        Ok(UsagePlace::Declined(start..cursor.position()))
    }
}

/// The tier that is asked for; a name that no price list here knows is told by `None`.
pub(super) fn read_service_tier(
    cursor: &mut Cursor<'_>,
) -> Result<Option<AskedTier>, RequestError> {
    if !is_given(cursor, Kind::String, "service_tier", "a string")? {
        cursor.skip()?;
        return Ok(Some(AskedTier::Any));
    }
    let text = cursor.string()?;
    Ok(match &*cursor.decode(text) {
        "auto" => Some(AskedTier::Any),
        "default" | "standard_only" => Some(AskedTier::Tier(ServiceTier::Standard)),
        "flex" => Some(AskedTier::Tier(ServiceTier::Flex)),
        "priority" => Some(AskedTier::Tier(ServiceTier::Priority)),
        _ => None,
    })
}

/// What an answer may hold beside text.
pub(super) fn read_modalities(cursor: &mut Cursor<'_>) -> Result<OutputMedia, RequestError> {
    const EXPECTED: &str = "an array of strings";
    let mut media = OutputMedia::default();
    if !is_given(cursor, Kind::Array, "modalities", EXPECTED)? {
        cursor.skip()?;
        return Ok(media);
    }
    cursor.array(|cursor, _| {
        if cursor.peek()? != Kind::String {
            return Err(RequestError::invalid("modalities", EXPECTED));
        }
        let text = cursor.string()?;
        match &*cursor.decode(text) {
            "text" => {}
            "audio" => media.audio = true,
            "image" => media.image = true,
            _ => media.unknown = true,
        }
        Ok(())
    })?;
    Ok(media)
}

/// `web_search_options`: how much the provider may read for the answer; absent, null and false ask for no search.
pub(super) fn read_web_search(cursor: &mut Cursor<'_>) -> Result<Option<SearchSize>, RequestError> {
    let kind = cursor.peek()?;
    if matches!(kind, Kind::Null | Kind::False) {
        cursor.skip()?;
        return Ok(None);
    }
    let mut size = Some(SearchSize::Medium);
    if kind != Kind::Object {
        cursor.skip()?;
        return Ok(size);
    }
    let mut keys = KnownKeys::<SearchContextSize>::new();
    cursor
        .object(|cursor, key| {
            if keys.find(&key)?.is_none() || cursor.peek()? != Kind::String {
                cursor.skip()?;
                return Ok(());
            }
            let text = cursor.string()?;
            size = Some(match &*cursor.decode(text) {
                "low" => SearchSize::Low,
                "medium" => SearchSize::Medium,
                _ => SearchSize::High,
            });
            Ok(())
        })
        .map_err(|error: RequestError| error.within(|| "web_search_options".to_owned()))?;
    Ok(size)
}

/// Whether the prompt is to be kept in the provider's cache for longer than by default.
pub(super) fn read_cache_retention(cursor: &mut Cursor<'_>) -> Result<bool, RequestError> {
    if !is_given(cursor, Kind::String, "prompt_cache_retention", "a string")? {
        cursor.skip()?;
        return Ok(false);
    }
    let text = cursor.string()?;
    Ok(!matches!(&*cursor.decode(text), "in_memory" | "in-memory"))
}

#[derive(Clone, Copy)]
struct SearchContextSize;

impl KnownKey for SearchContextSize {
    fn from_name(name: &str) -> Option<Self> {
        (name == "search_context_size").then_some(Self)
    }

    fn number(self) -> u32 {
        0
    }
}

/// Members that leave the cost open as soon as they are there and neither null nor false.
pub(super) fn unbounded_by(
    cursor: &mut Cursor<'_>,
    field: Field,
) -> Result<Option<&'static str>, RequestError> {
    let absent = matches!(cursor.peek()?, Kind::Null | Kind::False);
    cursor.skip()?;
    Ok(if absent { None } else { reason(field) })
}

fn reason(field: Field) -> Option<&'static str> {
    match field {
        Field::SearchParameters => {
            Some("`search_parameters` lets the provider search at a price of its own")
        }
        Field::EnableSearch => {
            Some("`enable_search` lets the provider search at a price of its own")
        }
        Field::Plugins => Some("`plugins` are run by the provider at a price of their own"),
        Field::Models => {
            Some("`models` lets the provider answer with another model at another price")
        }
        Field::Prediction => Some("`prediction` is billed for tokens beyond the output limit"),
        Field::BestOf => Some("`best_of` generates more answers than `n`"),
        Field::ChatTemplate => Some("`chat_template` can make the input longer than the body"),
        Field::ExtraBody => Some("`extra_body` can add input that is not in the body"),
        Field::Speed => Some("`speed` is billed at a multiple of the price"),
        Field::InferenceGeo => Some("`inference_geo` is billed at a multiple of the price"),
        Field::Model
        | Field::Messages
        | Field::Stream
        | Field::StreamOptions
        | Field::MaxTokens
        | Field::MaxCompletionTokens
        | Field::Choices
        | Field::Tools
        | Field::Functions
        | Field::Metadata
        | Field::User
        | Field::ServiceTier
        | Field::Modalities
        | Field::WebSearchOptions
        | Field::PromptCacheRetention => None,
    }
}
