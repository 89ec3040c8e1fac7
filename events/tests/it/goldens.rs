//! Every kind of event has a golden file, so that what was written once can be read for ever. A kind's example is
//! written anew by `UPDATE_GOLDENS=1 cargo test -p odock-events goldens`; files of older schemas stay as they are.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use odock_events::{
    codec,
    envelope::Envelope,
    examples,
    kind::{Event, Kind},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

fn name_of(kind: Kind, schema: u16) -> String {
    format!("{}.v{schema}", kind.name())
}

/// What a person reads beside the bytes.
fn json_view(envelope: &Envelope) -> String {
    let view = serde_json::json!({
        "kind": envelope.kind(),
        "schema": envelope.kind().schema(),
        "meta": envelope.meta,
        "payload": envelope.event.to_json().unwrap(),
    });
    serde_json::to_string_pretty(&view).unwrap() + "\n"
}

#[test]
fn each_kind_is_written_as_its_golden_says() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let mut differences = Vec::new();
    for kind in Kind::ALL {
        let example = examples::of_kind(*kind);
        let name = name_of(*kind, kind.schema());
        let bytes = codec::encode(&example).unwrap();
        let view = json_view(&example).into_bytes();
        for (extension, wanted) in [("msgpack", bytes), ("json", view)] {
            let path = folder().join(format!("{name}.{extension}"));
            if update {
                fs::write(&path, &wanted).unwrap();
            }
            if fs::read(&path).ok().as_ref() != Some(&wanted) {
                differences.push(format!("{name}.{extension}"));
            }
        }
    }
    assert!(
        differences.is_empty(),
        "these differ from what is written today; a released kind gets a new schema, another one a new golden \
         (UPDATE_GOLDENS=1): {differences:?}"
    );
}

#[test]
fn every_golden_ever_written_still_decodes() {
    let mut found = BTreeSet::new();
    for file in fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "msgpack")
        {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let envelope = codec::decode(&fs::read(&path).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            name.starts_with(&format!("{}.v", envelope.kind().name())),
            "{name} holds a {}",
            envelope.kind().name()
        );
        assert!(path.with_extension("json").exists(), "{name} has no view");
        found.insert(name);
    }
    let wanted: BTreeSet<String> = Kind::ALL
        .iter()
        .flat_map(|kind| (1..=kind.schema()).map(|schema| name_of(*kind, schema)))
        .collect();
    assert_eq!(found, wanted, "one golden for each schema of each kind");
}

#[test]
fn a_golden_of_today_means_its_example() {
    for kind in Kind::ALL {
        let path = folder().join(format!("{}.msgpack", name_of(*kind, kind.schema())));
        let envelope = codec::decode(&fs::read(path).unwrap()).unwrap();
        assert_eq!(envelope, examples::of_kind(*kind));
    }
}

/// What schema 1 could not say is nothing today, and all that it said is kept.
#[test]
fn usage_and_models_of_schema_1_mean_what_they_did() {
    let old = |name: &str| {
        let bytes = fs::read(folder().join(format!("{name}.v1.msgpack"))).unwrap();
        codec::decode(&bytes).unwrap().event
    };
    let Event::UsageFinished(usage) = old("usage.finished") else {
        panic!("a usage record");
    };
    assert_eq!((usage.cost.0, usage.breakdown.output.0), (45_000, 40_000));
    assert_eq!((usage.tokens.input, usage.details.input_image), (5, 1));
    assert!(usage.pieces.is_empty() && usage.service_tier.is_standard());
    let Event::ModelCreated(model) = old("model.created") else {
        panic!("a model");
    };
    let pricing = model.price.pricing.unwrap();
    assert_eq!(pricing.cached_input_per_million_nanos, Some(250_000_000));
    assert!(pricing.long_context.is_empty() && pricing.unpriced.is_empty());
    assert_eq!(model.config.max_image_tokens, Some(100));
    assert_eq!(model.catalogue_id, None);
}

/// Before quotas, every account was a budget's, nothing was carried and nobody was told.
#[test]
fn budgets_and_accounts_of_schema_1_mean_what_they_did() {
    let old = |name: &str| {
        let bytes = fs::read(folder().join(format!("{name}.v1.msgpack"))).unwrap();
        codec::decode(&bytes).unwrap().event
    };
    let Event::BudgetCreated(budget) = old("budget.created") else {
        panic!("a budget");
    };
    assert_eq!(
        (budget.amount_nanos.0, budget.rollover, budget.raise),
        (10_000_000_000, false, None)
    );
    assert!(budget.thresholds.is_default() && budget.currency == "USD");
    let Event::LeaseGranted(granted) = old("lease.granted") else {
        panic!("a grant");
    };
    let account = granted.account;
    assert!(account.id.rule.budget().is_some() && account.id.subject.is_nil());
    assert_eq!((account.limit, account.rollover), (10_000_000_000, false));
    let Event::WindowClosed(closed) = old("window.closed") else {
        panic!("a window");
    };
    assert_eq!(closed.account, account.id);
}

#[test]
fn an_event_that_is_cut_short_is_an_error() {
    for kind in [Kind::UsageFinished, Kind::KeyCreated, Kind::LeaseGranted] {
        let bytes = codec::encode(&examples::of_kind(kind)).unwrap();
        for length in 0..bytes.len() {
            assert!(
                codec::decode(&bytes[..length]).is_err(),
                "{} cut at {length}",
                kind.name()
            );
        }
    }
}

#[test]
fn no_golden_holds_a_secret_or_a_personal_field_in_plain_text() {
    for kind in Kind::ALL {
        let view = json_view(&examples::of_kind(*kind));
        let value: serde_json::Value = serde_json::from_str(&view).unwrap();
        for name in ["secret", "api_key", "password", "prompt", "completion"] {
            assert!(
                value["payload"].get(name).is_none(),
                "{}: {name}",
                kind.name()
            );
        }
        let user = matches!(
            examples::of_kind(*kind).event,
            Event::UserCreated(_) | Event::UserUpdated(_)
        );
        assert!(
            !user || !view.contains('@'),
            "{} shows an address",
            kind.name()
        );
    }
}
