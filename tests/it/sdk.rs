//! Unmodified SDKs against the gateway. The clients are installed by `make setup`; without them these tests fail.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use odock_tests::{Stack, Tenant, place, tenant::token_pricing, wait::within};

#[tokio::test]
async fn line_009_the_openai_python_sdk_works_unmodified() -> anyhow::Result<()> {
    let python = client("python/bin/python")?;
    let stack = Stack::shared().await?;
    let (tenant, key) = sdk_tenant(&stack).await?;
    let said = run(
        &stack,
        &key,
        python,
        "openai_sdk.py",
        &[&tenant.organisation_id],
    )
    .await?;
    assert!(said.contains("all of it worked"), "{said}");
    Ok(())
}

#[tokio::test]
async fn line_009_the_openai_node_sdk_works_unmodified() -> anyhow::Result<()> {
    client("node/node_modules/openai/package.json")?;
    let stack = Stack::shared().await?;
    let (_, key) = sdk_tenant(&stack).await?;
    let modules = client("node")?;
    let said = run(
        &stack,
        &key,
        "node".into(),
        "openai_sdk.mjs",
        &[&modules.to_string_lossy()],
    )
    .await?;
    assert!(said.contains("all of it worked"), "{said}");
    Ok(())
}

async fn sdk_tenant(stack: &Stack) -> anyhow::Result<(Tenant, String)> {
    let mut tenant = stack.tenant().await?;
    for (name, slug) in [
        ("failing", "demo-error-500"),
        ("limited", "demo-fast@status=429,retry_after=1"),
        ("named otherwise", "demo-fast"),
        ("cut", "demo-cut-stream"),
    ] {
        tenant.add_model(name, slug, token_pricing()).await?;
    }
    let key = tenant.key().await?;
    tenant.key_budget(&key, 1_000_000_000).await?;
    Ok((tenant, key.secret))
}

/// A file of a client that `make setup` installs under the target folder.
fn client(path: &str) -> anyhow::Result<PathBuf> {
    let target = place::odock()?
        .parent()
        .and_then(|profile| profile.parent())
        .context("the target folder")?
        .to_owned();
    let path = target.join("clients").join(path);
    anyhow::ensure!(
        path.exists(),
        "{} is missing: run `make setup`",
        path.display()
    );
    Ok(path)
}

async fn run(
    stack: &Stack,
    key: &str,
    program: PathBuf,
    script: &str,
    arguments: &[&str],
) -> anyhow::Result<String> {
    let script = place::repository().join("tests/clients").join(script);
    let output = tokio::process::Command::new(program)
        .arg(script)
        .arg(format!("{}/v1", stack.gateway(0)?.url))
        .arg(key)
        .args(arguments)
        .env_remove("OPENAI_API_KEY")
        .env_remove("OPENAI_BASE_URL")
        .kill_on_drop(true)
        .output();
    let output = within("the client", Duration::from_secs(60), output).await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{said}\n{complained}");
    Ok(said)
}
