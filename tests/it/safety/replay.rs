//! Rebuild from position 0 while traffic runs.

use odock_projector::rebuild::{self, Mode};
use odock_tests::{Stack, accounting::assert_accounted, invariants::assert_invariants};
use serde_json::json;

use crate::kills::Load;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_173_a_rebuild_from_position_0_gives_equal_digests_while_traffic_runs()
-> anyhow::Result<()> {
    let stack = Stack::builder().gateways(2).start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    tenant.key_budget(&key, 1_000_000_000).await?;
    let (load, keys) = (Load::new(), [&key]);
    let rebuild = async {
        let mut reports = Vec::new();
        for round in 0..3 {
            let team = json!({ "name": format!("team {round}") });
            tenant.admin.create(&tenant.path("/teams"), &team).await?;
            reports.push(rebuild::run(&stack.ready.postgres_url, Mode::Verify).await?);
        }
        load.stop();
        anyhow::Ok(reports)
    };
    let (reports, ..) = tokio::try_join!(
        rebuild,
        load.call_on(&stack, &keys, 0),
        load.call_on(&stack, &keys, 1)
    )?;
    let mut position = 0;
    for report in &reports {
        assert!(report.is_equal(), "{report}");
        assert!(
            report.position > position,
            "nothing happened in between: {report}"
        );
        position = report.position;
    }
    assert!(load.answered() > 0);
    assert_accounted(&stack).await?;
    let last = rebuild::run(&stack.ready.postgres_url, Mode::Verify).await?;
    assert!(
        last.is_equal() && last.usage_events > u64::from(load.answered()),
        "{last}"
    );
    assert_invariants(&stack.postgres).await
}
