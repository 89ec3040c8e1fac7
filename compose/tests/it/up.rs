//! The life of `odock up`: ready, calls, kills of everything, wrong usage, the end.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use reqwest::Client;
use serde_json::{Value, json};

use crate::house::{House, command, runs, wait};

const SOON: Duration = Duration::from_secs(20);

/// One call of the demo model with the seeded key. A 503 says to come back, as it may while stores are starting.
async fn call(ready: &Value) -> Value {
    let client = Client::builder().timeout(SOON).no_proxy().build().unwrap();
    let url = format!(
        "{}/v1/chat/completions",
        ready["gateway_url"].as_str().unwrap()
    );
    let body = json!({"model": "demo-fast", "messages": [{"role": "user", "content": "hello"}]});
    let key = ready["key"].as_str().unwrap();
    let begun = Instant::now();
    loop {
        let answer = client
            .post(&url)
            .bearer_auth(key)
            .json(&body)
            .send()
            .await
            .unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        if status == 200 {
            return serde_json::from_str(&text).unwrap();
        }
        assert!(status == 503 && begun.elapsed() < SOON, "{status} {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_is_killed_comes_back_where_it_was_and_the_key_stays() {
    let mut house = House::start(&["--gateways", "2"]);
    let before = house.ready();
    assert_eq!(call(&before).await["usage"]["completion_tokens"], 20);

    for child in [
        "/postgres",
        "/redis",
        "/projector/0",
        "/admin/0",
        "/gateway/0",
        "/demo",
    ] {
        house.kill_and_wait_for_another(child);
    }
    let after = house.ready();
    for member in [
        "gateway_urls",
        "admin_url",
        "postgres_url",
        "redis_url",
        "key",
    ] {
        assert_eq!(before[member], after[member], "{member}");
    }
    until_calls_work(&after).await;

    let children = house.children();
    house.signal(Signal::SIGKILL);
    let stores = ["/pids/postgres", "/pids/redis"].map(|at| after.pointer(at).unwrap().as_u64());
    let services = children
        .into_iter()
        .filter(|pid| !stores.contains(&Some(u64::from(*pid))));
    let services: Vec<u32> = services.collect();
    wait(SOON, "the end of the orphans", || {
        services.iter().all(|pid| !runs(*pid))
    });

    let data = house.keep_data();
    let mut house = House::start_in(&house.dir.clone(), &[]);
    assert_eq!(house.ready()["key"], before["key"]);
    assert_eq!(call(&house.ready()).await["usage"]["completion_tokens"], 20);
    let children = house.children();
    assert!(house.signal(Signal::SIGTERM).success());
    assert!(!house.dir.join("ready.json").exists());
    assert!(
        children.iter().all(|pid| !runs(*pid)),
        "children outlive up"
    );
    drop(data);
}

/// After kills of everything at once the first calls may meet what is still starting.
async fn until_calls_work(ready: &Value) {
    let client = Client::builder().timeout(SOON).no_proxy().build().unwrap();
    let urls = ready["gateway_urls"].as_array().unwrap();
    let begun = Instant::now();
    for url in urls {
        let url = format!("{}/v1/models", url.as_str().unwrap());
        loop {
            let asked = client
                .get(&url)
                .bearer_auth(ready["key"].as_str().unwrap())
                .send()
                .await;
            if asked.is_ok_and(|answer| answer.status() == 200) {
                break;
            }
            assert!(begun.elapsed() < SOON, "{url} does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn with_never_a_child_stays_dead_until_it_is_started_by_hand() {
    let house = House::start(&["--no-demo", "--restart", "never"]);
    assert!(house.ready().get("key").is_none());
    let old = house.pid("/gateway/0");
    crate::house::send(old, Signal::SIGKILL);
    wait(SOON, "the end of the gateway", || !runs(old));
    let mut by_hand = Command::new(env!("CARGO_BIN_EXE_odock"))
        .args(["gateway", "--config"])
        .arg(house.dir.join("run/gateway-1.toml"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait(SOON, "the pid of the new gateway", || {
        house.pid("/gateway/0") == by_hand.id()
    });
    crate::house::send(by_hand.id(), Signal::SIGTERM);
    assert!(by_hand.wait().unwrap().success());
}

#[test]
fn a_second_up_and_a_taken_port_are_refused() {
    let house = House::start(&["--no-demo"]);
    let second = command(&house.dir, &[])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(
        said.contains(&format!("pid {}", house.pid("/up"))),
        "{said}"
    );

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let other = tempfile::tempdir().unwrap();
    let refused = command(other.path(), &["--gateway-port", &port])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
}
