//! What `up` says at the terminal: the links, the key and a call that works, and then a short line now and then.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

use super::{admin_client::AdminClient, ready::Ready};
use crate::terminal::say;

pub(crate) fn announce(ready: &Ready, data_dir: &str) {
    say("");
    say(format_args!(
        "  gateway   {}/v1",
        ready.gateway_urls.join("/v1 ")
    ));
    say(format_args!("  admin     {}/api/v1", ready.admin_url));
    say(format_args!("  token     {}", ready.admin_token));
    if let Some(demo) = &ready.demo {
        say(format_args!(
            "  provider  {}/v1 (a stub that costs nothing)",
            demo.demo_upstream_url
        ));
        say(format_args!("  models    {}", demo.models.join(" ")));
        say(format_args!("  key       {}", demo.key));
    }
    say(format_args!(
        "  files     {data_dir} (ready.json has all of this)"
    ));
    say("");
    if let Some(demo) = &ready.demo {
        say("Try it:\n");
        say(curl(&ready.gateway_url, &demo.key));
        say("");
    }
    say("Ctrl-C stops everything; the data stays.");
}

fn curl(gateway_url: &str, key: &str) -> String {
    format!(
        "curl {gateway_url}/v1/chat/completions \\\n  \
         -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\\n  \
         -d '{{\"model\":\"demo-fast\",\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}'"
    )
}

/// A line each ten seconds, when somebody looks.
pub(crate) async fn keep_saying_status(ready: Ready, stop: CancellationToken) {
    if !io::stdout().is_terminal() {
        return;
    }
    let Ok(admin) = AdminClient::new(&ready.admin_url, &ready.admin_token) else {
        return;
    };
    let begun = Instant::now();
    let mut ticks = interval_at(begun + EACH, EACH);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let seconds = begun.elapsed().as_secs();
        match admin.get("/status").await {
            Ok(Some(status)) => say(format_args!("{seconds:>6} s  {}", describe(&status))),
            Ok(None) | Err(_) => say(format_args!("{seconds:>6} s  the admin does not answer")),
        }
    }
}

fn describe(status: &Value) -> String {
    let number = |at: &str| {
        status
            .pointer(at)
            .and_then(Value::as_u64)
            .unwrap_or_default()
    };
    let gateways = status
        .get("gateways")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    format!(
        "log at {}, configuration {}, {gateways} gateways, {} usage events on their way",
        number("/head_position"),
        number("/config_version"),
        number("/lag/usage_events"),
    )
}

const EACH: Duration = Duration::from_secs(10);
