//! Lists: pages, order, search, filters.

use odock_tests::Stack;
use serde_json::json;

#[tokio::test]
async fn line_141_lists_are_paged_ordered_searched_and_filtered() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let path = tenant.path("/teams");
    for number in 0..7 {
        let name = format!(
            "{} {number}",
            if number % 2 == 0 { "Even" } else { "odd_%" }
        );
        tenant.admin.create(&path, &json!({ "name": name })).await?;
    }
    let names = async |query: &str| -> anyhow::Result<Vec<String>> {
        let teams = tenant.admin.list(&format!("{path}{query}")).await?;
        Ok(teams
            .iter()
            .filter_map(|team| team["name"].as_str())
            .map(str::to_owned)
            .collect())
    };
    let newest_first = names("").await?;
    assert_eq!(
        (newest_first.len(), newest_first.first().map(String::as_str)),
        (7, Some("Even 6"))
    );
    let mut oldest_first = newest_first.clone();
    oldest_first.reverse();
    assert_eq!(names("?sort=created_at").await?, oldest_first);
    for limit in [1, 2, 3] {
        assert_eq!(names(&format!("?limit={limit}")).await?, newest_first);
        assert_eq!(
            names(&format!("?limit={limit}&sort=created_at")).await?,
            oldest_first
        );
    }
    assert_eq!(names("?q=even").await?.len(), 4);
    // Signs that SQL's LIKE reads are themselves here.
    assert_eq!(names("?q=_%25").await?.len(), 3);
    assert_eq!(names("?q=%25").await?.len(), 3);
    assert!(names("?q=o_d").await?.is_empty());
    for wrong in ["?limit=0", "?limit=201", "?limit=x", "?sort=name"] {
        let answer = tenant.admin.get(&format!("{path}{wrong}")).await?;
        assert!(
            matches!(answer.status, 400 | 422),
            "{wrong}: {}",
            answer.text()
        );
    }
    tenant
        .admin
        .get(&format!("{path}?cursor=nonsense"))
        .await?
        .refused(400, "invalid_cursor")?;
    let one = tenant.admin.read(&format!("{path}?limit=1")).await?;
    let cursor = one["next_cursor"].as_str().unwrap_or_default();
    let other = stack.tenant().await?;
    let foreign = other
        .admin
        .get(&other.path(&format!("/teams?cursor={cursor}")))
        .await?;
    assert!(
        foreign.status == 400 || foreign.json()?["data"] == json!([]),
        "{}",
        foreign.text()
    );
    Ok(())
}

#[tokio::test]
async fn lists_take_a_field_as_filter() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let (one, two) = (
        tenant.key().await?,
        tenant
            .key_without_grants(&json!({ "type": "organisation" }))
            .await?,
    );
    tenant.grant(&two, "demo-fee").await?;
    let of_one = tenant
        .admin
        .list(&tenant.path(&format!("/grants?key_id={}", one.id)))
        .await?;
    assert_eq!(of_one.len(), 3);
    tenant
        .admin
        .act(&tenant.path(&format!("/keys/{}/revoke", two.id)))
        .await?
        .expect(200)?;
    let revoked = tenant
        .admin
        .list(&tenant.path("/keys?revoked=true"))
        .await?;
    assert_eq!(
        revoked
            .iter()
            .map(|key| key["id"].as_str())
            .collect::<Vec<_>>(),
        [Some(two.id.as_str())]
    );
    let user = json!({ "email": "find.me@example.org", "name": "Grace" });
    tenant.admin.create(&tenant.path("/users"), &user).await?;
    tenant
        .admin
        .create(
            &tenant.path("/users"),
            &json!({ "email": "other@example.org" }),
        )
        .await?;
    assert_eq!(
        tenant
            .admin
            .list(&tenant.path("/users?q=grace"))
            .await?
            .len(),
        1
    );
    Ok(())
}
