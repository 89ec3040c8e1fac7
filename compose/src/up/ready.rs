//! `<data-dir>/ready.json`: all that a program needs to use what `up` started. Written when everything is up, again when a
//! child was restarted, and removed at the end.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::files;
use crate::terminal::complain;

/// Everything but the pids, which change.
#[derive(Clone, Serialize)]
pub(crate) struct Ready {
    pub(crate) version: u32,
    pub(crate) gateway_url: String,
    pub(crate) gateway_urls: Vec<String>,
    pub(crate) admin_url: String,
    pub(crate) admin_token: String,
    #[serde(flatten)]
    pub(crate) demo: Option<DemoTenant>,
    pub(crate) postgres_url: String,
    pub(crate) redis_url: String,
}

/// The seeded tenant.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DemoTenant {
    pub(crate) organisation_id: String,
    pub(crate) key_id: String,
    pub(crate) key: String,
    pub(crate) budget_id: String,
    pub(crate) models: Vec<String>,
    pub(crate) demo_upstream_url: String,
}

#[derive(Serialize)]
struct File<'a> {
    #[serde(flatten)]
    ready: &'a Ready,
    pids: Pids,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Pids {
    up: u32,
    gateway: Vec<u32>,
    projector: Vec<u32>,
    admin: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    postgres: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    demo: Option<u32>,
}

/// Writes the file now and at each change of a pid, until `stop`.
pub(crate) async fn keep_written(
    path: PathBuf,
    ready: Ready,
    mut pids: watch::Receiver<BTreeMap<String, u32>>,
    stop: CancellationToken,
) {
    loop {
        if let Err(error) = write(&path, &ready, &pids.borrow_and_update().clone()) {
            complain(format_args!("write {}: {error}", path.display()));
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = pids.changed() => if changed.is_err() { return },
        }
    }
}

pub(crate) fn write(
    path: &std::path::Path,
    ready: &Ready,
    pids: &BTreeMap<String, u32>,
) -> std::io::Result<()> {
    let file = File {
        ready,
        pids: arrange(pids),
    };
    files::replace(path, &serde_json::to_vec_pretty(&file)?)
}

/// From `gateway-1`, `gateway-2`, ... to lists in that order.
fn arrange(pids: &BTreeMap<String, u32>) -> Pids {
    let numbered = |kind: &str| -> Vec<u32> {
        let mut found: Vec<(usize, u32)> = pids
            .iter()
            .filter_map(|(name, pid)| {
                let number = name.strip_prefix(kind)?.strip_prefix('-')?;
                Some((number.parse().ok()?, *pid))
            })
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, pid)| pid).collect()
    };
    Pids {
        up: std::process::id(),
        gateway: numbered("gateway"),
        projector: numbered("projector"),
        admin: numbered("admin"),
        postgres: pids.get("postgres").copied(),
        redis: pids.get("redis").copied(),
        demo: pids.get("demo").copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_stand_in_the_order_of_their_numbers() {
        let pids = (1..=11)
            .map(|number| (format!("gateway-{number}"), number))
            .collect();
        assert_eq!(arrange(&pids).gateway, (1..=11).collect::<Vec<_>>());
    }

    #[test]
    fn without_a_demo_there_is_neither_key_nor_models() {
        let ready = Ready {
            version: 1,
            gateway_url: "http://127.0.0.1:1".to_owned(),
            gateway_urls: vec!["http://127.0.0.1:1".to_owned()],
            admin_url: "http://127.0.0.1:2".to_owned(),
            admin_token: "adm_1".to_owned(),
            demo: None,
            postgres_url: "postgres://p".to_owned(),
            redis_url: "redis://r".to_owned(),
        };
        let file = File {
            ready: &ready,
            pids: arrange(&BTreeMap::new()),
        };
        let json = serde_json::to_value(&file).unwrap();
        let mut names: Vec<&str> = json
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        let expected = [
            "admin_token",
            "admin_url",
            "gateway_url",
            "gateway_urls",
            "pids",
            "postgres_url",
            "redis_url",
            "version",
        ];
        assert_eq!(names, expected);
        assert!(json["pids"].get("demo").is_none());
    }
}
