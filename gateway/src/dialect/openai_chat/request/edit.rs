//! The body that goes upstream: the client's bytes with a handful of members spliced in or over.

use std::ops::Range;

use bytes::Bytes;

use super::{ChatRequest, options::UsagePlace};
use crate::dialect::json_write::{write_number, write_string};

/// What the upstream is to get that differs from what the client sent.
#[derive(Clone, Copy, Debug)]
pub struct Edits<'a> {
    /// The upstream's name of the model.
    pub slug: &'a str,
    /// The highest output limit that the gateway lets this request have: put over a higher one that the client gave,
    /// and into `limit_field` where it gave none. A lower one stays.
    pub inject_max_tokens: Option<u64>,
    pub limit_field: LimitField,
    /// Ask for the usage chunk of a stream. Without effect on a request that does not stream or asks for it itself.
    pub ask_for_usage: bool,
}

/// Which member carries an output limit that the client did not give. Newer OpenAI models refuse `max_tokens`, many
/// compatible servers know nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitField {
    MaxTokens,
    MaxCompletionTokens,
}

impl ChatRequest {
    /// The client's bytes except for the edits; the same buffer when there is nothing to change.
    pub fn upstream_body(&self, edits: &Edits<'_>) -> Bytes {
        let mut splices = self.splices(edits);
        splices.sort_unstable_by_key(|splice| splice.as_ref().map_or(usize::MAX, Splice::start));
        if splices.iter().all(Option::is_none) {
            return self.body.clone();
        }
        let mut out = Vec::with_capacity(self.body.len() + edits.slug.len() + MEMBERS_LENGTH);
        let mut copied = 0;
        for splice in splices.iter().flatten() {
            out.extend_from_slice(self.body.get(copied..splice.start()).unwrap_or_default());
            splice.write(&mut out);
            copied = splice.place.end;
        }
        out.extend_from_slice(self.body.get(copied..).unwrap_or_default());
        Bytes::from(out)
    }

    /// At most one splice for each place, in no order. Those at the same place, behind the last member, are one.
    fn splices<'a>(&self, edits: &Edits<'a>) -> [Option<Splice<'a>>; 5] {
        let places = &self.places;
        let model =
            (self.model != edits.slug).then(|| Splice::over(&places.model, New::Model(edits.slug)));
        let limits = edits
            .inject_max_tokens
            .map_or_else(LimitEdits::default, |limit| {
                self.limit_edits(limit, edits.limit_field)
            });
        let (usage, usage_member) = if edits.ask_for_usage && self.stream {
            usage_edit(&places.usage)
        } else {
            (None, false)
        };
        let appended = New::Members {
            limit: limits.appended,
            usage: usage_member,
        };
        let append = (limits.appended.is_some() || usage_member)
            .then(|| Splice::over(&(places.end..places.end), appended));
        [
            model,
            limits.max_tokens,
            limits.max_completion_tokens,
            usage,
            append,
        ]
    }

    fn limit_edits<'a>(&self, limit: u64, field: LimitField) -> LimitEdits<'a> {
        let over = |given: Option<u64>, place: Option<&Range<usize>>, when_null: bool| {
            let place = place.filter(|_| given.map_or(when_null, |given| given > limit));
            place.map(|place| Splice::over(place, New::Number(limit)))
        };
        let none_given = self.max_output_tokens().is_none();
        let places = &self.places;
        let (old_null, new_null) = match field {
            LimitField::MaxTokens => (none_given, false),
            LimitField::MaxCompletionTokens => (false, none_given),
        };
        let max_tokens = over(self.max_tokens, places.max_tokens.as_ref(), old_null);
        let max_completion_tokens = over(
            self.max_completion_tokens,
            places.max_completion_tokens.as_ref(),
            new_null,
        );
        let appended = (none_given && max_tokens.is_none() && max_completion_tokens.is_none())
            .then_some((field, limit));
        LimitEdits {
            max_tokens,
            max_completion_tokens,
            appended,
        }
    }
}

#[derive(Default)]
struct LimitEdits<'a> {
    max_tokens: Option<Splice<'a>>,
    max_completion_tokens: Option<Splice<'a>>,
    appended: Option<(LimitField, u64)>,
}

/// The splice within the options the client gave, or whether the options have to be appended.
fn usage_edit<'a>(place: &UsagePlace) -> (Option<Splice<'a>>, bool) {
    match place {
        UsagePlace::Asked => (None, false),
        UsagePlace::NoOptions => (None, true),
        UsagePlace::NullOptions(place) => {
            (Some(Splice::over(place, New::Text(USAGE_OPTIONS))), false)
        }
        UsagePlace::Declined(place) => (Some(Splice::over(place, New::Text("true"))), false),
        UsagePlace::Insert { at, empty } => {
            let text = if *empty {
                "\"include_usage\":true"
            } else {
                "\"include_usage\":true,"
            };
            (Some(Splice::over(&(*at..*at), New::Text(text))), false)
        }
    }
}

struct Splice<'a> {
    place: Range<usize>,
    new: New<'a>,
}

enum New<'a> {
    Model(&'a str),
    Number(u64),
    Text(&'static str),
    /// Whole members behind the last one.
    Members {
        limit: Option<(LimitField, u64)>,
        usage: bool,
    },
}

impl<'a> Splice<'a> {
    fn over(place: &Range<usize>, new: New<'a>) -> Self {
        Self {
            place: place.clone(),
            new,
        }
    }

    fn start(&self) -> usize {
        self.place.start
    }

    fn write(&self, out: &mut Vec<u8>) {
        match &self.new {
            New::Model(slug) => write_string(out, slug),
            New::Number(number) => write_number(out, *number),
            New::Text(text) => out.extend_from_slice(text.as_bytes()),
            New::Members { limit, usage } => {
                if let Some((field, limit)) = limit {
                    out.extend_from_slice(match field {
                        LimitField::MaxTokens => b",\"max_tokens\":",
                        LimitField::MaxCompletionTokens => b",\"max_completion_tokens\":",
                    });
                    write_number(out, *limit);
                }
                if *usage {
                    out.extend_from_slice(b",\"stream_options\":");
                    out.extend_from_slice(USAGE_OPTIONS.as_bytes());
                }
            }
        }
    }
}

const USAGE_OPTIONS: &str = "{\"include_usage\":true}";

/// Room for the members that may be appended, so that the body is built in one allocation.
const MEMBERS_LENGTH: usize = 128;
