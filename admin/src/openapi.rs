//! `OpenAPI` 3.1 of the management API, made from the route table and the types on the wire.

pub(crate) mod shapes;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::{
    ToSchema,
    openapi::{RefOr, schema::Schema},
};

use crate::{auth::Access, error::Problem, receipt::Receipt, router::Route};

/// What the document says of a route beside its path.
pub(crate) struct Described {
    pub(crate) summary: &'static str,
    pub(crate) body: Option<SchemaOf>,
    pub(crate) reply: Option<SchemaOf>,
    pub(crate) is_list: bool,
    pub(crate) changes: bool,
    pub(crate) if_match: Option<bool>,
    pub(crate) parameters: Vec<&'static str>,
    pub(crate) status: u16,
}

impl Described {
    pub(crate) fn new(summary: &'static str) -> Self {
        Self {
            summary,
            body: None,
            reply: None,
            is_list: false,
            changes: false,
            if_match: None,
            parameters: Vec::new(),
            status: 200,
        }
    }
}

/// A type's schema with those it refers to.
pub(crate) struct SchemaOf {
    name: String,
    all: Vec<(String, RefOr<Schema>)>,
}

impl SchemaOf {
    pub(crate) fn of<T: ToSchema>() -> Self {
        let name = T::name().into_owned();
        let mut all = vec![(name.clone(), T::schema())];
        T::schemas(&mut all);
        Self { name, all }
    }

    fn reference(&self) -> Value {
        json!({ "$ref": format!("#/components/schemas/{}", self.name) })
    }
}

/// The whole document.
pub(crate) fn document(routes: &[Route]) -> Value {
    let mut schemas: BTreeMap<String, Value> = BTreeMap::new();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let (problem, receipt) = (SchemaOf::of::<Problem>(), SchemaOf::of::<Receipt>());
    let used = routes
        .iter()
        .flat_map(|route| [&route.described.body, &route.described.reply]);
    for schema in used.flatten().chain([&problem, &receipt]) {
        for (name, schema) in &schema.all {
            schemas.insert(
                name.clone(),
                serde_json::to_value(schema).unwrap_or_default(),
            );
        }
    }
    for route in routes {
        let methods = paths.entry(route.path).or_default();
        methods.insert(
            route.method.as_str().to_lowercase(),
            operation(route, &problem, &receipt),
        );
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Odock management API",
            "version": "1",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "admin_token": { "type": "http", "scheme": "bearer" } },
        },
        "security": [{ "admin_token": [] }],
    })
}

fn operation(route: &Route, problem: &SchemaOf, receipt: &SchemaOf) -> Value {
    let described = &route.described;
    let mut operation = json!({
        "summary": described.summary,
        "operationId": operation_id(route),
        "parameters": parameters(route),
        "responses": responses(described, problem, receipt),
    });
    if let Some(body) = &described.body {
        operation["requestBody"] = json!({
            "required": true, "content": { "application/json": { "schema": body.reference() } },
        });
    }
    match route.access {
        Access::Public => operation["security"] = json!([]),
        Access::Needs(permission) => {
            operation["tags"] = json!([permission.resource.name()]);
        }
    }
    operation
}

fn operation_id(route: &Route) -> String {
    let words = route.path.split(['/', '-', '.']).filter(|word| {
        !word.is_empty() && !matches!(*word, "api" | "v1" | "{organisation_id}" | "json")
    });
    let words: Vec<&str> = words.map(|word| word.trim_matches(['{', '}'])).collect();
    let one = if route.path.ends_with("{organisation_id}") {
        "_id"
    } else {
        ""
    };
    format!(
        "{}_{}{one}",
        route.method.as_str().to_lowercase(),
        words.join("_")
    )
}

fn responses(described: &Described, problem: &SchemaOf, receipt: &SchemaOf) -> Value {
    let mut responses = Map::new();
    let mut good = json!({ "description": "It worked" });
    if let Some(reply) = &described.reply {
        let mut schema = reply.reference();
        if described.is_list {
            schema = json!({
                "type": "object",
                "required": ["data", "next_cursor"],
                "properties": {
                    "data": { "type": "array", "items": schema },
                    "next_cursor": { "type": ["string", "null"] },
                },
            });
        }
        if described.changes {
            let with =
                json!({ "type": "object", "properties": { "receipt": receipt.reference() } });
            schema = json!({ "allOf": [schema, with] });
        }
        good["content"] = json!({ "application/json": { "schema": schema } });
    }
    responses.insert(described.status.to_string(), good);
    if described.changes {
        let schema = json!({
            "type": "object",
            "required": ["command_id", "status", "status_url"],
            "properties": {
                "command_id": { "type": "string" },
                "status": { "const": "pending" },
                "status_url": { "type": "string" },
            },
        });
        let accepted = json!({
            "description": "It may happen yet; status_url tells",
            "content": { "application/json": { "schema": schema } },
        });
        responses.insert("202".to_owned(), accepted);
    }
    let bad = json!({
        "description": "What was wrong",
        "content": { "application/problem+json": { "schema": problem.reference() } },
    });
    responses.insert("default".to_owned(), bad);
    Value::Object(responses)
}

fn parameters(route: &Route) -> Vec<Value> {
    let described = &route.described;
    let text = || json!({ "type": "string" });
    let query =
        |name: &str, schema: Value| json!({ "name": name, "in": "query", "schema": schema });
    let header = |name: &str, required: bool| json!({ "name": name, "in": "header", "required": required, "schema": text() });
    let mut all: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": text() }))
        .collect();
    all.extend(described.parameters.iter().map(|name| query(name, text())));
    if described.is_list {
        let limit = json!({ "type": "integer", "minimum": 1, "maximum": 200, "default": 50 });
        let sort = json!({ "enum": ["created_at", "-created_at"], "default": "-created_at" });
        all.extend([
            query("limit", limit),
            query("cursor", text()),
            query("sort", sort),
        ]);
    }
    if described.changes {
        let seconds = json!({ "type": "integer", "minimum": 0, "maximum": 30, "default": 5 });
        all.extend([
            query("wait", json!({ "const": "all" })),
            query("wait_seconds", seconds),
        ]);
        all.extend([
            header("x-odock-reason", false),
            header("x-odock-change-ref", false),
        ]);
        if route.method == http::Method::POST {
            all.push(header("Idempotency-Key", false));
        }
    }
    if let Some(required) = described.if_match {
        all.push(header("If-Match", required));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::router::table;

    #[test]
    fn the_document_is_as_reviewed() {
        insta::assert_json_snapshot!("openapi", document(&table()));
    }

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let routes = table();
        let document = document(&routes);
        let mut there = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                there.insert((method.to_uppercase(), path.clone()));
                let id = operation["operationId"].as_str().unwrap().to_owned();
                assert!(ids.insert(id.clone()), "{id} twice");
            }
        }
        let expected: BTreeSet<_> = routes
            .iter()
            .map(|route| (route.method.to_string(), route.path.to_owned()))
            .collect();
        assert_eq!(there, expected);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        found.insert(reference.clone());
                    }
                    members.values().for_each(|value| references(value, found));
                }
                Value::Array(values) => values.iter().for_each(|value| references(value, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let document = document(&table());
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
