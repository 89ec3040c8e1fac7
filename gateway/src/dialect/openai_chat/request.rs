//! What a chat request says, and the body that goes upstream for it. The pipeline's decode step parses; its call step
//! asks for the upstream's body.
//!
//! Policy reads here what the upstream will read: a body in which the two could differ (duplicate keys, another
//! spelling) is refused. What nobody here reads is passed on unseen.

mod asked;
mod content;
mod edit;
mod options;

use std::ops::Range;

use bytes::Bytes;

use self::{content::Content, options::UsagePlace};
use super::bound::InputSize;
use crate::dialect::{
    json_keys::{KeyError, KnownKey, KnownKeys},
    json_scan::{Cursor, Kind, ScanError, Surrogates},
    text_length::normalised_upper_bound,
};

pub use self::{
    asked::{AskedTier, Media, OutputMedia, SearchSize},
    edit::{Edits, LimitField},
};

/// The longest model name, in bytes.
pub const MAX_MODEL_NAME: usize = 256;

/// A chat request that is well formed as far as anybody here reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatRequest {
    body: Bytes,
    /// As the client names it: not yet a slug.
    pub model: String,
    pub stream: bool,
    /// The client itself asked for the usage chunk of a stream.
    pub include_usage: bool,
    pub max_tokens: Option<u64>,
    pub max_completion_tokens: Option<u64>,
    /// How many answers are asked for: `n`, 1 if it is absent.
    pub choices: u32,
    pub input: InputSize,
    pub tier: AskedTier,
    pub output_media: OutputMedia,
    pub web_search: Option<SearchSize>,
    /// The prompt is to be kept in the provider's cache for longer than by default.
    pub long_cache: bool,
    /// The strings of `metadata`.
    pub metadata: Vec<(String, String)>,
    /// The end user, if `user` is a string.
    pub user: Option<String>,
    /// Why no number bounds what this request may cost, in words for a message; `None` if one does.
    pub unbounded: Option<&'static str>,
    places: Places,
}

/// Where the members stand that may have to change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Places {
    model: Range<usize>,
    max_tokens: Option<Range<usize>>,
    max_completion_tokens: Option<Range<usize>>,
    usage: UsagePlace,
    /// Behind the last member's value: new members go here.
    end: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the body is not valid JSON: {0}")]
    Json(#[from] ScanError),
    #[error("the body must be a JSON object")]
    NotAnObject,
    #[error("`{field}` is missing")]
    Missing { field: &'static str },
    #[error("`{field}` must be {expected}")]
    Invalid {
        field: String,
        expected: &'static str,
    },
    #[error("`{field}` has more than {limit} elements")]
    TooMany { field: &'static str, limit: usize },
    #[error("`{field}` is given twice")]
    Duplicate { field: String },
    #[error("`{given}` is not a known field; did you mean `{known}`?")]
    CaseVariant { given: String, known: String },
}

impl ChatRequest {
    /// Checks the whole body and reads what policy needs of it.
    pub fn parse(body: Bytes) -> Result<Self, RequestError> {
        let mut cursor = Cursor::new(&body, Surrogates::Refuse)?;
        if cursor.peek()? != Kind::Object {
            return Err(RequestError::NotAnObject);
        }
        let mut draft = Draft::default();
        let mut keys = KnownKeys::<Field>::new();
        cursor.object(|cursor, key| {
            let field = keys.find(&key)?;
            draft.read_member(cursor, field)?;
            draft.end = cursor.position();
            Ok::<_, RequestError>(())
        })?;
        let text_upper = normalised_upper_bound(cursor.document(), cursor.has_unicode_escapes());
        cursor.finish()?;
        draft.complete(body, text_upper)
    }

    /// The body as the client sent it.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether a part may ask to be cached for longer, as Anthropic's `cache_control` does: `ttl` stands somewhere, or an
    /// escape that could hide it.
    pub fn may_set_cache_ttl(&self) -> bool {
        let body = &self.body[..];
        let has = |what: &[u8]| memchr::memmem::find(body, what).is_some();
        has(b"ttl") || has(b"\\u")
    }

    /// The most tokens one answer may have, by the client's word. Upstreams that take both fields differ in which they
    /// heed, so the larger counts.
    pub fn max_output_tokens(&self) -> Option<u64> {
        self.max_tokens.max(self.max_completion_tokens)
    }
}

/// The top-level members that are read.
#[derive(Clone, Copy)]
enum Field {
    Model,
    Messages,
    Stream,
    StreamOptions,
    MaxTokens,
    MaxCompletionTokens,
    Choices,
    Tools,
    Functions,
    ServiceTier,
    Modalities,
    WebSearchOptions,
    PromptCacheRetention,
    Metadata,
    User,
    // Members that take the cost out of every bound, in `options::unbounded_by`.
    SearchParameters,
    EnableSearch,
    Plugins,
    Models,
    Prediction,
    BestOf,
    ChatTemplate,
    ExtraBody,
    Speed,
    InferenceGeo,
}

impl KnownKey for Field {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "model" => Self::Model,
            "messages" => Self::Messages,
            "stream" => Self::Stream,
            "stream_options" => Self::StreamOptions,
            "max_tokens" => Self::MaxTokens,
            "max_completion_tokens" => Self::MaxCompletionTokens,
            "n" => Self::Choices,
            "tools" => Self::Tools,
            "functions" => Self::Functions,
            "service_tier" => Self::ServiceTier,
            "modalities" => Self::Modalities,
            "web_search_options" => Self::WebSearchOptions,
            "prompt_cache_retention" => Self::PromptCacheRetention,
            "metadata" => Self::Metadata,
            "user" => Self::User,
            "search_parameters" => Self::SearchParameters,
            "enable_search" => Self::EnableSearch,
            "plugins" => Self::Plugins,
            "models" => Self::Models,
            "prediction" => Self::Prediction,
            "best_of" => Self::BestOf,
            "chat_template" => Self::ChatTemplate,
            "extra_body" => Self::ExtraBody,
            "speed" => Self::Speed,
            "inference_geo" => Self::InferenceGeo,
            _ => return None,
        })
    }

    fn number(self) -> u32 {
        self as u32
    }
}

/// A request while its members come in.
#[derive(Default)]
struct Draft {
    model: Option<(String, Range<usize>)>,
    content: Content,
    has_messages: bool,
    stream: bool,
    usage: UsagePlace,
    max_tokens: Option<options::Limit>,
    max_completion_tokens: Option<options::Limit>,
    choices: Option<u32>,
    tier: Option<AskedTier>,
    output_media: OutputMedia,
    web_search: Option<SearchSize>,
    long_cache: bool,
    metadata: Vec<(String, String)>,
    user: Option<String>,
    end: usize,
}

impl Draft {
    fn read_member(
        &mut self,
        cursor: &mut Cursor<'_>,
        field: Option<Field>,
    ) -> Result<(), RequestError> {
        let Some(field) = field else {
            cursor.skip()?;
            return Ok(());
        };
        match field {
            Field::Model => self.model = Some(options::read_model(cursor)?),
            Field::Messages => {
                self.has_messages = true;
                self.content.read_messages(cursor)?;
            }
            Field::Stream => self.stream = options::read_flag(cursor, "stream")?,
            Field::StreamOptions => self.usage = options::read_stream_options(cursor)?,
            Field::MaxTokens => self.max_tokens = Some(options::read_limit(cursor, "max_tokens")?),
            Field::MaxCompletionTokens => {
                self.max_completion_tokens =
                    Some(options::read_limit(cursor, "max_completion_tokens")?);
            }
            Field::Choices => self.choices = options::read_choices(cursor)?,
            Field::Tools => self.content.read_tools(cursor)?,
            Field::Functions => self.content.read_functions(cursor)?,
            Field::ServiceTier => {
                let tier = options::read_service_tier(cursor)?;
                self.tier = Some(tier.unwrap_or(AskedTier::Unknown));
            }
            Field::Modalities => self.output_media = options::read_modalities(cursor)?,
            Field::WebSearchOptions => self.web_search = options::read_web_search(cursor)?,
            Field::PromptCacheRetention => {
                self.long_cache = options::read_cache_retention(cursor)?;
            }
            Field::Metadata => self.metadata = options::read_metadata(cursor)?,
            Field::User => self.user = options::read_text(cursor)?,
            Field::SearchParameters
            | Field::EnableSearch
            | Field::Plugins
            | Field::Models
            | Field::Prediction
            | Field::BestOf
            | Field::ChatTemplate
            | Field::ExtraBody
            | Field::Speed
            | Field::InferenceGeo => {
                self.content
                    .mark_unbounded(options::unbounded_by(cursor, field)?);
            }
        }
        Ok(())
    }

    fn complete(mut self, body: Bytes, text_upper: u64) -> Result<ChatRequest, RequestError> {
        let (model, model_place) = self.model.ok_or(RequestError::Missing { field: "model" })?;
        if !self.has_messages {
            return Err(RequestError::Missing { field: "messages" });
        }
        if self.output_media.unknown {
            let why = "`modalities` has one that has no price";
            self.content.mark_unbounded(Some(why));
        }
        let value = |limit: &Option<options::Limit>| limit.as_ref().and_then(|limit| limit.value);
        Ok(ChatRequest {
            body,
            model,
            stream: self.stream,
            include_usage: matches!(self.usage, UsagePlace::Asked),
            max_tokens: value(&self.max_tokens),
            max_completion_tokens: value(&self.max_completion_tokens),
            choices: self.choices.unwrap_or(1),
            unbounded: self.content.unbounded(),
            input: self.content.size(text_upper),
            tier: self.tier.unwrap_or(AskedTier::Any),
            output_media: self.output_media,
            web_search: self.web_search,
            long_cache: self.long_cache,
            metadata: self.metadata,
            user: self.user,
            places: Places {
                model: model_place,
                max_tokens: self.max_tokens.map(|limit| limit.place),
                max_completion_tokens: self.max_completion_tokens.map(|limit| limit.place),
                usage: self.usage,
                end: self.end,
            },
        })
    }
}

impl RequestError {
    fn invalid(field: impl Into<String>, expected: &'static str) -> Self {
        Self::Invalid {
            field: field.into(),
            expected,
        }
    }

    /// Puts the place of an object before the name of its member.
    fn within(self, place: impl FnOnce() -> String) -> Self {
        match self {
            Self::Duplicate { field } => Self::Duplicate {
                field: format!("{}.{field}", place()),
            },
            Self::CaseVariant { given, known } => {
                let place = place();
                Self::CaseVariant {
                    given: format!("{place}.{given}"),
                    known: format!("{place}.{known}"),
                }
            }
            Self::Invalid { field, expected } if field.is_empty() => Self::Invalid {
                field: place(),
                expected,
            },
            Self::Invalid { field, expected } => Self::Invalid {
                field: format!("{}.{field}", place()),
                expected,
            },
            Self::Json(_) | Self::NotAnObject | Self::Missing { .. } | Self::TooMany { .. } => self,
        }
    }
}

impl From<KeyError> for RequestError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Duplicate(field) => Self::Duplicate { field },
            KeyError::CaseVariant { given, known } => Self::CaseVariant { given, known },
        }
    }
}

#[cfg(test)]
mod tests;
