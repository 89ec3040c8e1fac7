//! The price catalogue that is shipped with the binary: known models with type, capabilities, sizes and list prices.
//! Asked when a model is created or updated without a price of its own, by its routes, and by imports.
//!
//! `catalogue/models.tsv` is built by `catalogue/build.py`; its first line says from what and when. It stays text: an entry
//! is found by bisection and only then read, so that the catalogue costs neither a start nor memory.

use std::sync::LazyLock;

use odock_events::{
    payload::{
        model::{Capability, ModelConfig, ModelType},
        provider::ProviderType,
    },
    pricing::Pricing,
};
use serde::{Deserialize, Serialize};

/// The entry with this id, `<vendor>/<slug>`.
#[must_use]
pub fn get(id: &str) -> Option<Entry> {
    let line = lines_from(first_at_or_after(id)).next()?;
    (line.id == id).then(|| line.read()).flatten()
}

/// The entry of a model by its provider's type on the wire and the slug that goes upstream, both exact. Only for types that
/// name one vendor: what a `custom` provider serves by a name is not known.
#[must_use]
pub fn find(provider_type: ProviderType, slug: &str) -> Option<Entry> {
    let entry = get(&format!("{}/{slug}", provider_type.name()))?;
    (entry.provider_type == provider_type).then_some(entry)
}

/// What to look for; absent parts match everything.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// A part of the id, in lower case.
    pub text: Option<String>,
    pub provider_type: Option<String>,
    pub vendor: Option<String>,
    pub kind: Option<String>,
    /// Only ids after this one.
    pub after: Option<String>,
}

/// Entries that match, in the order of their ids.
pub fn search(search: &Search) -> impl Iterator<Item = Entry> + '_ {
    let start = match &search.after {
        Some(id) => first_at_or_after(id),
        None => 0,
    };
    let member = |name: &str, value: &Option<String>| {
        let value = value.as_ref()?;
        Some(format!(
            "\"{name}\":{}",
            serde_json::Value::from(value.as_str())
        ))
    };
    let provider_type = member("provider_type", &search.provider_type);
    let kind = member("type", &search.kind);
    lines_from(start)
        .filter(move |line| {
            let has = |wanted: &Option<String>| {
                wanted
                    .as_ref()
                    .is_none_or(|wanted| line.json.contains(wanted.as_str()))
            };
            let vendor = line.id.split_once('/').map_or("", |(vendor, _)| vendor);
            search.after.as_deref() != Some(line.id)
                && search
                    .vendor
                    .as_deref()
                    .is_none_or(|wanted| wanted == vendor)
                && has(&provider_type)
                && has(&kind)
                && search
                    .text
                    .as_ref()
                    .is_none_or(|text| line.id.to_lowercase().contains(text.as_str()))
        })
        .filter_map(|line| line.read())
}

/// Which catalogue this is.
#[must_use]
pub fn head() -> &'static Head {
    &HEAD
}

/// The first line of the file; the rest of it is for the reader.
#[derive(Debug, Deserialize)]
pub struct Head {
    /// The date of its prices, `YYYY-MM-DD`.
    pub version: String,
    /// Where the facts come from.
    pub source: String,
    pub models: usize,
}

/// One known model.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Entry {
    /// `<vendor>/<slug>`.
    #[serde(skip_deserializing)]
    pub id: String,
    /// Whose prices these are; one that none of our provider types names is reached by a `custom` provider.
    pub vendor: String,
    pub provider_type: ProviderType,
    pub slug: String,
    #[serde(rename = "type")]
    pub kind: ModelType,
    pub capabilities: Vec<Capability>,
    /// `context_window` is the most input tokens that the provider takes.
    pub config: ModelConfig,
    pub pricing: Pricing,
    /// What the vendor bills and `pricing` cannot say. What of it a call can bring about is in `pricing.unpriced` too.
    #[serde(default)]
    pub gaps: Vec<String>,
}

/// A line that is not read yet.
struct Line {
    id: &'static str,
    json: &'static str,
}

impl Line {
    fn read(&self) -> Option<Entry> {
        let entry: Entry = serde_json::from_str(self.json).ok()?;
        Some(Entry {
            id: self.id.to_owned(),
            ..entry
        })
    }
}

/// Where in the body the first line begins whose id is not before this one.
fn first_at_or_after(id: &str) -> usize {
    let bytes = BODY.as_bytes();
    let (mut low, mut high) = (0, bytes.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let before = bytes.get(low..middle).unwrap_or_default();
        let start = memchr::memrchr(b'\n', before).map_or(low, |place| low + place + 1);
        let rest = bytes.get(start..).unwrap_or_default();
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = rest.get(..length).unwrap_or_default();
        let key = memchr::memchr(b'\t', line).and_then(|tab| line.get(..tab));
        if key.unwrap_or(line) < id.as_bytes() {
            low = (start + length + 1).min(bytes.len());
        } else {
            high = start;
        }
    }
    low
}

fn lines_from(start: usize) -> impl Iterator<Item = Line> {
    let body = BODY.get(start..).unwrap_or_default();
    body.lines().filter_map(|line| {
        let (id, json) = line.split_once('\t')?;
        Some(Line { id, json })
    })
}

const FILE: &str = include_str!("../catalogue/models.tsv");

static BODY: LazyLock<&str> = LazyLock::new(|| FILE.split_once('\n').map_or("", |(_, body)| body));

#[expect(
    clippy::expect_used,
    reason = "the file is compiled in, and a test of this file fails when it does not parse"
)]
static HEAD: LazyLock<Head> = LazyLock::new(|| {
    let line = FILE.lines().next().unwrap_or_default();
    serde_json::from_str(line).expect("the head of models.tsv parses")
});

#[cfg(test)]
mod tests;
