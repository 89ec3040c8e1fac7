//! Whose budgets a call is on: key, user, team, organisation; all must have room.

use odock_tests::{
    Stack,
    client::say,
    tenant::{FEE_NANOS, id},
};
use serde_json::json;

#[tokio::test]
async fn line_073_every_owner_and_period_makes_a_budget_that_counts() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let team = id(&tenant
        .admin
        .create(&tenant.path("/teams"), &json!({ "name": "t" }))
        .await?)?;
    let user = id(&tenant
        .admin
        .create(&tenant.path("/users"), &json!({ "email": "b@example.org" }))
        .await?)?;
    let key = tenant
        .key_with(&json!({ "type": "team", "team_id": team }))
        .await?;
    let owners = [
        ("organisation", tenant.organisation_id.clone()),
        ("team", team),
        ("user", user),
        ("key", key.id.clone()),
    ];
    for (owner, owner_id) in &owners {
        for period in ["daily", "weekly", "monthly", "quarterly", "total"] {
            let budget = tenant
                .budget(
                    owner,
                    owner_id,
                    10 * FEE_NANOS,
                    json!({ "period": period, "name": period }),
                )
                .await?;
            let shown = tenant
                .admin
                .read(&tenant.path(&format!("/budgets/{budget}")))
                .await?;
            assert_eq!(
                (&shown["period"], &shown["mode"], &shown["active"]),
                (&json!(period), &json!("hard"), &json!(true))
            );
            let window = &shown["window"];
            assert_eq!(window["free_nanos"], 10 * FEE_NANOS, "{shown}");
            assert_eq!(window["window_end"].is_null(), period == "total", "{shown}");
        }
    }
    let answer = stack
        .gateway(0)?
        .chat(&key.secret, &say("demo-fee", "hi"))
        .await?;
    answer.expect(200)?;
    let record = tenant
        .usage(answer.header("x-odock-usage-id").unwrap_or_default())
        .await?;
    // Organisation, team and key, five periods each; not the user's.
    assert_eq!(
        record["budget_ids"].as_array().map_or(0, Vec::len),
        15,
        "{record}"
    );
    for budget in tenant
        .admin
        .list(&tenant.path("/budgets?limit=200"))
        .await?
    {
        let budget_id = budget["id"].as_str().unwrap_or_default().to_owned();
        let settled = tenant.window(&budget_id).await?.settled;
        let expected = if budget["owner"]["type"] == "user" {
            0
        } else {
            FEE_NANOS
        };
        assert_eq!(settled, expected, "{budget}");
    }
    Ok(())
}

#[tokio::test]
async fn line_075_all_matching_budgets_must_have_room_and_the_denial_names_the_one_without()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let wide = tenant.key_budget(&key, 100 * FEE_NANOS).await?;
    let narrow = tenant
        .budget("key", &key.id, FEE_NANOS, json!({ "period": "weekly" }))
        .await?;
    let organisation = tenant
        .budget(
            "organisation",
            &tenant.organisation_id,
            5 * FEE_NANOS,
            json!({}),
        )
        .await?;
    let gateway = stack.gateway(0)?;
    gateway
        .chat(&key.secret, &say("demo-fee", "hi"))
        .await?
        .expect(200)?;
    let denied = gateway
        .chat(&key.secret, &say("demo-fee", "hi"))
        .await?
        .refused(402, "budget_exceeded")?;
    assert_eq!(denied["error"]["budget_id"], narrow, "{denied}");
    // The refused call left nothing behind on the others.
    for budget in [&wide, &narrow, &organisation] {
        let window = tenant.reclaimed(budget).await?;
        assert_eq!((window.settled, window.held), (FEE_NANOS, 0), "{budget}");
    }
    Ok(())
}

#[tokio::test]
async fn line_076_team_budgets_are_for_team_keys_and_user_budgets_for_user_keys()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let team = id(&tenant
        .admin
        .create(&tenant.path("/teams"), &json!({ "name": "t" }))
        .await?)?;
    let user = id(&tenant
        .admin
        .create(&tenant.path("/users"), &json!({ "email": "c@example.org" }))
        .await?)?;
    let member = json!({ "team_id": team, "user_id": user });
    tenant
        .admin
        .create(&tenant.path("/memberships"), &member)
        .await?;
    tenant.budget("team", &team, 0, json!({})).await?;
    let gateway = stack.gateway(0)?;
    let of_user = tenant
        .key_with(&json!({ "type": "user", "user_id": user }))
        .await?;
    gateway
        .chat(&of_user.secret, &say("demo-fee", "hi"))
        .await?
        .expect(200)?;
    let of_organisation = tenant.key().await?;
    gateway
        .chat(&of_organisation.secret, &say("demo-fee", "hi"))
        .await?
        .expect(200)?;
    let of_team = tenant
        .key_with(&json!({ "type": "team", "team_id": team }))
        .await?;
    let denied = gateway
        .chat(&of_team.secret, &say("demo-fee", "hi"))
        .await?
        .refused(402, "budget_exceeded")?;
    assert_eq!(
        denied["error"]["scope"],
        json!({ "type": "team", "id": team })
    );
    tenant.budget("user", &user, 0, json!({})).await?;
    gateway
        .chat(&of_user.secret, &say("demo-fee", "hi"))
        .await?
        .refused(402, "budget_exceeded")?;
    Ok(())
}

#[tokio::test]
async fn line_080_an_exhausted_budget_refuses_before_any_byte_goes_upstream() -> anyhow::Result<()>
{
    let stack = Stack::builder().start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    tenant.key_budget(&key, 0).await?;
    let gateway = stack.gateway(0)?;
    for _ in 0..3 {
        gateway
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await?
            .refused(402, "budget_exceeded")?;
        let stream = gateway.stream(&key.secret, &say("demo-fast", "hi")).await?;
        stream.whole().await?.refused(402, "budget_exceeded")?;
    }
    assert!(stack.demo.rows(0).await?.is_empty());
    assert!(tenant.all_usage().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_soft_budget_never_refuses_and_counts() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let budget = tenant
        .budget("key", &key.id, 2 * FEE_NANOS, json!({ "mode": "soft" }))
        .await?;
    for _ in 0..5 {
        let answer = stack
            .gateway(0)?
            .chat(&key.secret, &say("demo-fee", "hi"))
            .await?;
        answer.expect(200)?;
        tenant
            .usage(answer.header("x-odock-usage-id").unwrap_or_default())
            .await?;
    }
    let window = tenant.window(&budget).await?;
    assert_eq!(
        (window.settled, window.held, window.free),
        (5 * FEE_NANOS, 0, -3 * FEE_NANOS)
    );
    Ok(())
}
