//! Lists: limit, cursor, sort, search and filters, read once for every list there is. A cursor is bound to the list, the
//! order and the filters it was made for.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use odock_events::units::Sha256Digest;
use serde_json::{Value, json};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use crate::{
    call::Call,
    error::{ApiError, Code},
    reply::Reply,
};

/// What a list can be asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListSpec {
    /// Whether `q` finds by a part of the name.
    pub(crate) searchable: bool,
    pub(crate) filters: &'static [Filter],
}

impl ListSpec {
    /// Of things with names.
    pub(crate) const fn searchable(filters: &'static [Filter]) -> Self {
        Self {
            searchable: true,
            filters,
        }
    }
}

/// `<name>=<value>`: one condition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filter {
    pub(crate) name: &'static str,
    /// The condition up to where its value goes, such as `team_id = `.
    pub(crate) sql: &'static str,
    pub(crate) takes: Takes,
}

impl Filter {
    /// By a name that is a column.
    pub(crate) const NAME: Self = Self::new("name", "name = ", Takes::Text);

    pub(crate) const fn new(name: &'static str, sql: &'static str, takes: Takes) -> Self {
        Self { name, sql, takes }
    }
}

/// What a filter's value must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Takes {
    /// An id with this prefix; empty: with any.
    Id(&'static str),
    /// An id with this prefix that ends a subquery: the condition has an open bracket.
    Within(&'static str),
    Text,
    Flag,
    Number,
    Time,
}

/// A value of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Id(Uuid),
    Within(Uuid),
    Text(String),
    Flag(bool),
    Number(i64),
    Time(odock_events::clock::Timestamp),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    OldestFirst,
    NewestFirst,
}

impl Order {
    /// How a row compares to the cursor to come after it.
    pub(crate) fn beyond(self) -> &'static str {
        match self {
            Self::OldestFirst => " > ",
            Self::NewestFirst => " < ",
        }
    }

    pub(crate) fn direction(self) -> &'static str {
        match self {
            Self::OldestFirst => " ASC",
            Self::NewestFirst => " DESC",
        }
    }
}

/// Where a page ended: the value of the sort column and what breaks ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) key: i64,
    pub(crate) tie: Uuid,
}

/// One request for a page.
#[derive(Debug)]
pub(crate) struct ListQuery {
    pub(crate) limit: usize,
    pub(crate) order: Order,
    pub(crate) after: Option<Place>,
    pub(crate) search: Option<String>,
    pub(crate) wanted: Vec<(&'static Filter, Wanted)>,
    binding: String,
}

const LIMIT: usize = 50;
const LIMIT_MAX: usize = 200;

impl ListQuery {
    pub(crate) fn read(call: &Call, spec: &ListSpec) -> Result<Self, ApiError> {
        Self::of(&call.path, &call.query, spec)
    }

    fn of(path: &str, query: &[(String, String)], spec: &ListSpec) -> Result<Self, ApiError> {
        let mut list = Self {
            limit: LIMIT,
            order: Order::NewestFirst,
            after: None,
            search: None,
            wanted: Vec::new(),
            binding: String::new(),
        };
        let mut cursor = None;
        let mut bound: Vec<(&str, &str)> = Vec::new();
        for (name, value) in query {
            match name.as_str() {
                "limit" => list.limit = limit(value)?,
                "cursor" => cursor = Some(value),
                "sort" => list.order = order(value)?,
                "q" if spec.searchable => list.search = Some(value.to_lowercase()),
                other => list.wanted.push(wanted(spec, other, value)?),
            }
            if !matches!(name.as_str(), "limit" | "cursor") {
                bound.push((name, value));
            }
        }
        bound.sort_unstable();
        let mut binding = Sha256Digest::of(format!("{path}\n{bound:?}").as_bytes()).to_string();
        binding.truncate(16);
        list.binding = binding;
        list.after = cursor.map(|cursor| list.place(cursor)).transpose()?;
        Ok(list)
    }

    fn place(&self, cursor: &str) -> Result<Place, ApiError> {
        let place = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| {
            let text = String::from_utf8(bytes).ok()?;
            let mut parts = text.split('.');
            let place = Place {
                key: parts.next()?.parse().ok()?,
                tie: Uuid::try_parse(parts.next()?).ok()?,
            };
            (parts.next()? == self.binding && parts.next().is_none()).then_some(place)
        });
        place.ok_or_else(|| {
            let detail = "take the cursor from next_cursor of the same list, sort and filters";
            ApiError::new(Code::InvalidCursor, detail)
        })
    }

    fn cursor(&self, place: Place) -> String {
        let Place { key, tie } = place;
        URL_SAFE_NO_PAD.encode(format!("{key}.{}.{}", tie.simple(), self.binding))
    }

    /// Adds the filters' conditions to a statement that has a WHERE.
    pub(crate) fn push_filters(&self, sql: &mut QueryBuilder<Postgres>) {
        for (filter, wanted) in &self.wanted {
            sql.push(" AND ").push(filter.sql);
            match wanted {
                Wanted::Id(id) => sql.push_bind(*id),
                Wanted::Within(id) => sql.push_bind(*id).push(")"),
                Wanted::Text(text) => sql.push_bind(text.clone()),
                Wanted::Flag(flag) => sql.push_bind(*flag),
                Wanted::Number(number) => sql.push_bind(*number),
                Wanted::Time(time) => sql.push_bind(time.to_datetime()),
            };
        }
    }

    /// One row more than the page has, to know whether there is a next one.
    pub(crate) fn rows(&self) -> i64 {
        self.limit as i64 + 1
    }

    /// The answer from at most `rows()` rows, each with its place.
    pub(crate) fn reply(&self, mut rows: Vec<(Place, Value)>) -> Reply {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next = rows
            .last()
            .filter(|_| more)
            .map(|(place, _)| self.cursor(*place));
        let data: Vec<Value> = rows.into_iter().map(|(_, value)| value).collect();
        Reply::new(
            http::StatusCode::OK,
            json!({ "data": data, "next_cursor": next }),
        )
    }
}

fn limit(text: &str) -> Result<usize, ApiError> {
    let limit = text
        .parse()
        .ok()
        .filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| ApiError::invalid("?limit", format!("expected 1 to {LIMIT_MAX}")))
}

fn order(text: &str) -> Result<Order, ApiError> {
    match text {
        "created_at" => Ok(Order::OldestFirst),
        "-created_at" => Ok(Order::NewestFirst),
        _ => Err(ApiError::invalid(
            "?sort",
            "expected created_at or -created_at",
        )),
    }
}

fn wanted(spec: &ListSpec, name: &str, value: &str) -> Result<(&'static Filter, Wanted), ApiError> {
    let filter = spec.filters.iter().find(|filter| filter.name == name);
    let field = format!("?{name}");
    let Some(filter) = filter else {
        return Err(ApiError::field(
            Code::UnknownField,
            field,
            "this list has no such filter",
        ));
    };
    let refuse = |message: String| ApiError::invalid(field, message);
    let wanted = match filter.takes {
        Takes::Text if value.contains('\0') => return Err(refuse("has a NUL".into())),
        Takes::Text => Wanted::Text(value.to_owned()),
        Takes::Id(prefix) => Wanted::Id(
            id(prefix, value).ok_or_else(|| refuse(format!("expected an id `{prefix}_…`")))?,
        ),
        Takes::Within(prefix) => Wanted::Within(
            id(prefix, value).ok_or_else(|| refuse(format!("expected an id `{prefix}_…`")))?,
        ),
        Takes::Flag => Wanted::Flag(
            value
                .parse()
                .map_err(|_| refuse("expected true or false".into()))?,
        ),
        Takes::Number => Wanted::Number(
            value
                .parse()
                .map_err(|_| refuse("expected a whole number".into()))?,
        ),
        Takes::Time => Wanted::Time(
            value
                .parse()
                .map_err(|_| refuse("expected an RFC 3339 time".into()))?,
        ),
    };
    Ok((filter, wanted))
}

fn id(prefix: &str, text: &str) -> Option<Uuid> {
    let (given, hex) = text.rsplit_once('_')?;
    let fits = (prefix.is_empty() || prefix == given) && hex.len() == 32;
    fits.then(|| Uuid::try_parse(hex).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: ListSpec = ListSpec {
        searchable: true,
        filters: &[
            Filter {
                name: "team_id",
                sql: "team_id = ",
                takes: Takes::Id("team"),
            },
            Filter {
                name: "revoked",
                sql: "revoked = ",
                takes: Takes::Flag,
            },
        ],
    };

    fn query(pairs: &[(&str, &str)]) -> Result<ListQuery, Code> {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        ListQuery::of("/api/v1/x", &pairs, &SPEC).map_err(|error| error.code)
    }

    #[test]
    fn a_cursor_holds_for_its_own_list_only() {
        let first = query(&[("sort", "created_at"), ("revoked", "true")]).unwrap();
        let place = Place {
            key: -5,
            tie: Uuid::from_u128(7),
        };
        let cursor = first.cursor(place);
        let again = query(&[
            ("revoked", "true"),
            ("limit", "1"),
            ("sort", "created_at"),
            ("cursor", &cursor),
        ]);
        assert_eq!(again.unwrap().after, Some(place));
        for other in [
            vec![("cursor", cursor.as_str())],
            vec![
                ("sort", "created_at"),
                ("revoked", "false"),
                ("cursor", &cursor),
            ],
            vec![
                ("sort", "created_at"),
                ("revoked", "true"),
                ("cursor", "bm9uZQ"),
            ],
            vec![("cursor", "not base64!")],
            vec![("cursor", "")],
        ] {
            assert_eq!(query(&other).unwrap_err(), Code::InvalidCursor, "{other:?}");
        }
    }

    #[test]
    fn what_a_list_does_not_know_is_refused() {
        for (name, value) in [
            ("limit", "0"),
            ("limit", "201"),
            ("limit", "x"),
            ("sort", "name"),
        ] {
            assert_eq!(
                query(&[(name, value)]).unwrap_err(),
                Code::ValidationFailed,
                "{name}"
            );
        }
        assert_eq!(
            query(&[("team_id", "key_0")]).unwrap_err(),
            Code::ValidationFailed
        );
        assert_eq!(
            query(&[("revoke", "true")]).unwrap_err(),
            Code::UnknownField
        );
    }

    #[test]
    fn there_is_a_next_page_only_when_a_row_more_was_found() {
        let list = query(&[("limit", "2")]).unwrap();
        let row = |key| {
            (
                Place {
                    key,
                    tie: Uuid::nil(),
                },
                json!(key),
            )
        };
        assert_eq!(
            list.reply(vec![row(1), row(2)]).body["next_cursor"],
            Value::Null
        );
        let reply = list.reply(vec![row(1), row(2), row(3)]);
        assert_eq!(reply.body["data"], json!([1, 2]));
        let cursor = reply.body["next_cursor"].as_str().unwrap();
        assert_eq!(query(&[("cursor", cursor)]).unwrap().after.unwrap().key, 2);
    }
}
