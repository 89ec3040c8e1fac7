//! A key that is revoked while a call is on its way: before the last look, between it and the upstream, and after.

use http::Response;
use odock_events::payload::usage::UsageStatus;

use super::{
    super::{
        admit, authenticate, call, decode, early_gate, final_gate, grant, pre_auth_gate, reserve,
        start,
    },
    harness::{self, Harness, request},
    *,
};
use crate::{error::GatewayError, http::body::AnswerBody, response, state::Gateway};

#[tokio::test]
async fn a_revoked_key_is_noticed_before_the_upstream_is_called() {
    let harness = Harness::start().await;
    let (mut sender, body) = harness.open_upload().await;
    harness.revoke();
    let answer = harness::finish_upload(&mut sender, body).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(code(&answer.json()), "api_key_revoked");
    assert_eq!(harness.calls(), 0);
    assert!(harness.records().await.is_empty());
}

/// The steps of `complete_chat`, with the revocation where no look at the key follows.
async fn revoked_after_the_last_look(
    harness: &Harness,
    gateway: &Gateway,
    inbound: Inbound,
) -> Result<Response<AnswerBody>, GatewayError> {
    let admitted = admit::admit(gateway, inbound)?;
    let addressed = pre_auth_gate::pass(gateway, admitted)?;
    let authenticated = authenticate::call(gateway, addressed).await?;
    let passed = early_gate::pass(gateway, authenticated).await?;
    let decoded = decode::decode(gateway, passed).await?;
    let granted = grant::grant(gateway, decoded)?;
    let limited = final_gate::pass(gateway, granted).await?;
    let reserved = reserve::reserve(gateway, limited).await?;
    let started = start::start(gateway, reserved).await?;
    harness.revoke();
    let called = call::call(gateway, started).await?;
    response::answer(gateway, called).await
}

#[tokio::test]
async fn a_key_that_is_revoked_after_the_last_look_reaches_no_upstream() {
    let harness = Arc::new(Harness::start().await);
    let shared = Arc::clone(&harness);
    let address = harness
        .serve(move |gateway, inbound| {
            let harness = Arc::clone(&shared);
            async move { revoked_after_the_last_look(&harness, &gateway, inbound).await }
        })
        .await;
    let answer = harness.post_to(address, &request("fast")).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(code(&answer.json()), "api_key_revoked");
    assert_eq!(harness.calls(), 0);
    let (_, usage) = harness.only_record().await;
    assert_eq!(usage.status, UsageStatus::ClientClosed);
}

#[tokio::test]
async fn a_call_that_waits_for_its_answer_ends_with_its_key() {
    let harness = Harness::start().await;
    let waiting = harness.post_in_background(&request("hang"));
    harness
        .wait_until(|harness| harness.running_upstream_calls() == 1)
        .await;
    harness.revoke();
    let answer = waiting.await.unwrap();
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(code(&answer.json()), "api_key_revoked");
    harness
        .wait_until(|harness| harness.running_upstream_calls() == 0)
        .await;
    let (meta, usage) = harness.only_record().await;
    assert!(meta.estimated);
    assert_eq!(
        (usage.status, usage.http_status),
        (UsageStatus::ClientClosed, 401)
    );
}
