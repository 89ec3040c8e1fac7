//! A service with settings that do not hold does not start, and says which and why.

use std::process::{Command, Output};

use odock_events::settings::RETIRED;

const STORES: [(&str, &str); 2] = [
    ("POSTGRES_DSN", "postgres://u@127.0.0.1:1/d"),
    ("REDIS_URL", "redis://127.0.0.1:1"),
];

fn gateway(variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_odock"))
        .arg("gateway")
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn line_147_a_wrong_value_stops_the_start_and_is_named() {
    for (name, value, expected) in [
        ("HTTP_PORT", "70000", "HTTP_PORT: found `70000`"),
        (
            "OBSERVABILITY_SAMPLE_RATE",
            "1.5",
            "OBSERVABILITY_SAMPLE_RATE: must be between 0 and 1",
        ),
        ("HTTP_ENABLE_TLS", "true", "HTTP_TLS_CERT_FILE: is required"),
        (
            "PROVIDER_KEY_ENCRYPTION_KEY_ID",
            "k",
            "PROVIDER_KEY_ENCRYPTION_PRIVATE_KEY: is required",
        ),
        ("CONFIG_MAX_STALE", "60", "expected a duration"),
        ("POSTGRES_DSN", "", "POSTGRES_DSN: is required"),
    ] {
        let said = refusal(&gateway(&[&STORES[..], &[(name, value)]].concat(), &[]));
        assert!(said.contains(expected), "{name}={value}: {said}");
    }
}

#[test]
fn line_147_names_whose_thing_does_not_exist_are_refused() {
    for retired in RETIRED {
        let said = refusal(&gateway(
            &[&STORES[..], &[(retired.name, "1")]].concat(),
            &[],
        ));
        let expected = format!("{}: does not exist here: {}", retired.name, retired.instead);
        assert!(said.contains(&expected), "{said}");
    }
}

#[test]
fn line_147_a_file_is_held_to_the_same_and_told_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    std::fs::write(&file, "HTTP_PORTS = 8080\nREDIS_DB = 1\n").unwrap();
    let said = refusal(&gateway(&[], &["--config", file.to_str().unwrap()]));
    for expected in [
        "HTTP_PORTS: is not known; did you mean HTTP_PORT?",
        "REDIS_DB: does not exist here: use REDIS_URL",
        "POSTGRES_DSN: is required",
        "REDIS_URL: is required",
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_secret_is_never_shown() {
    let output = Command::new(env!("CARGO_BIN_EXE_odock"))
        .args(["check-config", "projector"])
        .env_clear()
        .envs([
            ("POSTGRES_DSN", "hunter2"),
            ("REDIS_URL", "redis://:hunter2@h"),
        ])
        .output()
        .unwrap();
    let said = refusal(&output);
    assert!(
        said.contains("POSTGRES_DSN") && !said.contains("hunter2"),
        "{said}"
    );
}
