//! The table against the router that is made from it, without any store.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use http::{StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::app::{AppState, TEST_TOKEN};

const METHODS: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];

struct Answer {
    status: StatusCode,
    problem: Value,
    content_type: String,
}

async fn send(router: &Router, method: &Method, path: &str, token: &str, body: Vec<u8>) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, token)
        .header(header::IF_MATCH, "\"1\"")
        .body(Body::from(body))
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    assert!(response.headers().contains_key("x-request-id"));
    let content_type = response.headers()[header::CONTENT_TYPE]
        .to_str()
        .unwrap()
        .to_owned();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let problem = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Answer {
        status,
        problem,
        content_type,
    }
}

/// A path with ids that are ids of their kind.
fn concrete(path: &str) -> String {
    let id = "0".repeat(32);
    let prefixes = [
        ("users/", "user"),
        ("teams/", "team"),
        ("memberships/", "mem"),
        ("providers/", "prov"),
        ("provider-keys/", "pkey"),
        ("models/", "mdl"),
        ("keys/", "key"),
        ("grants/", "grant"),
        ("budgets/", "bud"),
        ("usage/", "use"),
        ("commands/", "cmd"),
    ];
    let prefix = prefixes
        .iter()
        .find(|(part, _)| path.contains(&format!("/{part}{{id}}")));
    let own = prefix.map_or("x", |(_, prefix)| *prefix);
    path.replace("{organisation_id}", &format!("org_{id}"))
        .replace("{id}", &format!("{own}_{id}"))
}

#[tokio::test]
async fn every_route_but_the_probes_wants_the_token() {
    let router = router(AppState::for_testing().await);
    for route in table() {
        if route.access == Access::Public {
            continue;
        }
        for token in ["", "Bearer", "Bearer adm_x", "Basic eDp5", "bearer  x"] {
            let answer = send(
                &router,
                &route.method,
                &concrete(route.path),
                token,
                b"{".to_vec(),
            )
            .await;
            assert_eq!(
                answer.status,
                StatusCode::UNAUTHORIZED,
                "{} {}",
                route.method,
                route.path
            );
            assert_eq!(answer.problem["code"], "unauthorized");
            assert_eq!(answer.content_type, "application/problem+json");
        }
    }
}

#[tokio::test]
async fn what_is_not_in_the_table_is_not_served() {
    let service = router(AppState::for_testing().await);
    let mut there: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let routes = table();
    for route in &routes {
        there
            .entry(route.path)
            .or_default()
            .insert(route.method.to_string());
    }
    let token = format!("Bearer {TEST_TOKEN}");
    for (path, methods) in there {
        for method in METHODS
            .iter()
            .filter(|method| !methods.contains(method.as_str()))
        {
            let answer = send(&service, method, &concrete(path), &token, Vec::new()).await;
            assert_eq!(
                answer.status,
                StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}"
            );
            assert_eq!(answer.problem["code"], "method_not_allowed");
        }
    }
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/organisations/",
        "/api/v2/status",
        "//health",
    ] {
        let answer = send(&service, &Method::GET, path, &token, Vec::new()).await;
        assert_eq!(answer.problem["code"], "not_found", "{path}");
    }
}

#[tokio::test]
async fn without_stores_changes_are_refused_and_bodies_are_judged() {
    let router = router(AppState::for_testing().await);
    let token = format!("Bearer {TEST_TOKEN}");
    let base = concrete("/api/v1/organisations/{organisation_id}");
    let code = async |path: &str, body: &[u8]| {
        let answer = send(
            &router,
            &Method::POST,
            &format!("{base}{path}"),
            &token,
            body.to_vec(),
        )
        .await;
        answer.problem["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(
        code("/teams", br#"{"name":"red"}"#).await,
        "log_unavailable"
    );
    assert_eq!(
        code("/teams", br#"{"name":"red","nome":"x"}"#).await,
        "unknown_field"
    );
    assert_eq!(
        code("/teams", br#"{"name":"red","name":"x"}"#).await,
        "invalid_body"
    );
    assert_eq!(code("/teams", br#"{"name":7}"#).await, "validation_failed");
    assert_eq!(
        code("/teams?wait=some", br#"{"name":"red"}"#).await,
        "validation_failed"
    );
    assert_eq!(code("/keys/key_1/revoke", b"").await, "not_found");
    let longest = format!(r#"{{"name":"{}"}}"#, "x".repeat(crate::body::BODY_MAX));
    assert_eq!(code("/teams", longest.as_bytes()).await, "body_too_large");
    let health = send(&router, &Method::GET, "/health", "", Vec::new()).await;
    assert_eq!(health.status, StatusCode::OK);
    let ready = send(&router, &Method::GET, "/ready", "", Vec::new()).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
}
