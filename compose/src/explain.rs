//! `odock explain`: asks the admin why a call was decided as it was, and says it in words.

use std::{fmt::Write as _, fs, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use crate::{terminal::say, up::admin_client::AdminClient};

/// Say why a call was allowed or refused: key, limits, price, budgets, who set them, and what would be decided now.
///
/// By the request id of the answer's `x-request-id`, or by the usage id of `x-odock-usage-id`. Without the three options
/// the admin of the `odock up` in `--data-dir` is asked. A call that was refused before it reached for an upstream has no
/// record.
#[derive(Args)]
pub(crate) struct ExplainOptions {
    /// A request id, or a usage id `use_…`.
    id: String,
    /// Where `odock up` keeps its files.
    #[arg(
        long,
        env = "ODOCK_DATA_DIR",
        default_value = ".odock",
        value_name = "DIR"
    )]
    data_dir: PathBuf,
    #[arg(long, env = "ADMIN_URL", value_name = "URL")]
    admin_url: Option<String>,
    #[arg(
        long,
        env = "ADMIN_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    admin_token: Option<String>,
    /// The organisation `org_…` whose call it was.
    #[arg(long, value_name = "ID")]
    organisation: Option<String>,
    /// The API's answer as it is.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &ExplainOptions) -> anyhow::Result<()> {
    let place = Place::of(options)?;
    let id = &options.id;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    anyhow::ensure!(
        !id.is_empty() && id.len() <= 128 && id.bytes().all(fits),
        "`{id}` is no request id and no usage id"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let path = format!(
        "/organisations/{}/requests/{id}/explanation",
        place.organisation
    );
    let answer = runtime.block_on(async {
        let admin = AdminClient::new(&place.admin_url, &place.admin_token)?;
        admin.get(&path).await
    })?;
    let answer = answer.with_context(|| {
        format!("there is no record of `{id}` in {}: it never reached for an upstream, or it is another one's", place.organisation)
    })?;
    if options.json {
        say(serde_json::to_string_pretty(&answer)?);
    } else {
        say(in_words(&answer).trim_end());
    }
    Ok(())
}

/// Whom to ask about whom.
struct Place {
    admin_url: String,
    admin_token: String,
    organisation: String,
}

impl Place {
    fn of(options: &ExplainOptions) -> anyhow::Result<Self> {
        if let (Some(admin_url), Some(admin_token), Some(organisation)) = (
            options.admin_url.clone(),
            options.admin_token.clone(),
            options.organisation.clone(),
        ) {
            return Ok(Self {
                admin_url,
                admin_token,
                organisation,
            });
        }
        let path = options.data_dir.join("ready.json");
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "read {}: is `odock up` running there? Else give --admin-url, --admin-token and --organisation",
                path.display()
            )
        })?;
        let ready: Value = serde_json::from_str(&text).context("read ready.json")?;
        let member = |given: &Option<String>, name: &str| {
            let found = ready.get(name).and_then(Value::as_str);
            given
                .clone()
                .or_else(|| found.map(str::to_owned))
                .with_context(|| format!("ready.json has no {name}: give it as an option"))
        };
        Ok(Self {
            admin_url: member(&options.admin_url, "admin_url")?,
            admin_token: member(&options.admin_token, "admin_token")?,
            organisation: member(&options.organisation, "organisation_id")?,
        })
    }
}

fn in_words(answer: &Value) -> String {
    let mut text = String::new();
    let records = answer["records"].as_array();
    for (index, record) in records.into_iter().flatten().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        write_record(&mut text, record);
    }
    text
}

fn write_record(text: &mut String, record: &Value) {
    let usage = &record["usage"];
    // Writing into a string cannot fail.
    let _ = writeln!(
        text,
        "{} {} at {}: {} ({}), {} to {} of {}",
        plain(&usage["id"]),
        plain(&usage["route"]),
        plain(&usage["started_at"]),
        plain(&usage["status"]),
        plain(&usage["http_status"]),
        plain(&usage["model"]),
        plain(&usage["slug"]),
        plain(&usage["provider"]),
    );
    let tokens = &usage["tokens"];
    let _ = writeln!(
        text,
        "  {} tokens in, {} out, cost {} USD{}; decided by configuration {}",
        plain(&tokens["input"]),
        plain(&tokens["output"]),
        dollars(&usage["cost_nanos"]),
        if usage["estimated"] == true {
            " (estimated)"
        } else {
            ""
        },
        plain(&record["decided_at"]["config_version"]),
    );
    text.push_str("settings as they stood\n");
    for setting in record["settings"].as_array().into_iter().flatten() {
        let entity = &setting["entity"];
        let note = match (setting["gone"] == true, setting["changed_since"] == true) {
            (true, _) => ", deleted since",
            (false, true) => ", changed since",
            (false, false) => "",
        };
        let _ = writeln!(
            text,
            "  {} {} version {}{}{note}",
            plain(&entity["type"]),
            plain(&entity["id"]),
            plain(&setting["version"]),
            set_by(&setting["set"]),
        );
    }
    for limit in record["limits"].as_array().into_iter().flatten() {
        let scope = &limit["scope"];
        let (kind, id) = (plain(&scope["type"]), plain(&scope["id"]));
        let _ = writeln!(text, "  policies of {kind} {id}: {}", limit["policies"]);
    }
    let price = &record["price"];
    let _ = writeln!(
        text,
        "price version {} from {}{}",
        plain(&price["version"]),
        plain(&price["source"]),
        set_by(&price["set"]),
    );
    write_accounts(text, record);
    write_now(text, &record["now"], usage);
}

fn write_accounts(text: &mut String, record: &Value) {
    let accounts = record["accounts"].as_array();
    if accounts.is_none_or(Vec::is_empty) {
        text.push_str("no budget or quota on its path\n");
    }
    for account in accounts.into_iter().flatten() {
        let (rule, unit) = (&account["rule"], plain(&account["unit"]));
        let _ = writeln!(
            text,
            "{} {} of {}, {}, window from {}: limit {} {unit}",
            plain(&rule["type"]),
            plain(&rule["id"]),
            plain(&account["owner"]["type"]),
            plain(&account["mode"]),
            plain(&account["window_start"]),
            plain(&account["limit"]),
        );
        let _ = writeln!(
            text,
            "  reserved {}, settled {}: from {} to {}",
            plain(&account["reserved"]),
            plain(&account["settled"]),
            plain(&account["settled_before"]),
            plain(&account["settled_after"]),
        );
        let lease = &account["lease"];
        if !lease.is_null() {
            let grant = &lease["last_grant"];
            let _ = writeln!(
                text,
                "  out of the lease of {}: {} granted in all, the last {} at {}",
                plain(&lease["gateway_id"]),
                plain(&lease["granted_in_all"]),
                plain(&grant["amount"]),
                plain(&grant["at"]),
            );
        }
    }
}

fn write_now(text: &mut String, now: &Value, usage: &Value) {
    let verdict = if now["allowed"] == true {
        "allowed"
    } else {
        "refused"
    };
    let _ = writeln!(
        text,
        "now it would be {verdict}, and cost {} USD (then {})",
        dollars(&now["cost_nanos"]),
        dollars(&usage["cost_nanos"]),
    );
    let checks = now["checks"].as_array().into_iter().flatten();
    for check in checks.filter(|check| check["allows"] == false) {
        let id = check["id"].as_str().unwrap_or_default();
        let _ = writeln!(
            text,
            "  {} {id}: {}",
            plain(&check["what"]),
            plain(&check["why"])
        );
    }
}

fn set_by(step: &Value) -> String {
    if step.is_null() {
        return String::new();
    }
    let reason = match step["reason"].as_str() {
        Some(reason) => format!(" ({reason})"),
        None => String::new(),
    };
    let (by, at) = (plain(&step["by"]), plain(&step["at"]));
    format!(", set by {by} at {at}{reason}")
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn dollars(nanos: &Value) -> String {
    let nanos = nanos.as_i64();
    nanos.map_or_else(
        || "-".to_owned(),
        |nanos| odock_events::units::NanoUsd(nanos).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_known_is_said_and_what_is_not_is_a_dash() {
        let answer = json!({ "records": [{
            "usage": { "id": "use_1", "route": "/v1/chat/completions", "status": "completed", "http_status": 200,
                "model": "fast", "slug": "demo-fast", "provider": "custom", "started_at": "t0", "cost_nanos": 45_000,
                "tokens": { "input": 5, "output": 20 }, "estimated": true },
            "decided_at": { "config_version": 7 },
            "settings": [{ "entity": { "type": "key", "id": "key_1" }, "version": 2, "changed_since": true,
                "gone": false, "set": { "by": "system", "at": "t1", "reason": "a test" } }],
            "limits": [{ "scope": { "type": "key", "id": "key_1" }, "policies": { "ip": {} } }],
            "price": { "version": 1, "source": "model" },
            "accounts": [{ "rule": { "type": "budget", "id": "bud_1" }, "owner": { "type": "key" }, "mode": "hard",
                "unit": "nanos", "window_start": "w", "limit": 100, "reserved": 50, "settled": 45,
                "settled_before": 1, "settled_after": 46, "lease": null }],
            "now": { "allowed": false, "cost_nanos": null,
                "checks": [{ "what": "key", "allows": false, "why": "api_key_revoked" }] },
        }] });
        let text = in_words(&answer);
        for part in [
            "use_1 /v1/chat/completions at t0: completed (200), fast to demo-fast of custom",
            "cost 0.000045000 USD (estimated); decided by configuration 7",
            "key key_1 version 2, set by system at t1 (a test), changed since",
            "price version 1 from model\n",
            "reserved 50, settled 45: from 1 to 46",
            "now it would be refused, and cost - USD (then 0.000045000)",
            "  key : api_key_revoked",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}
