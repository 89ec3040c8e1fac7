//! Holds the tree against the house rules that no lint checks: size and head of files, who may know whom, SQL that is
//! built from text, a golden for each event, and that ARCHITECTURE.md names the modules there are.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use odock_events::kind::Kind;
use odock_tests::place;

const CRATES: [&str; 7] = [
    "events",
    "gateway",
    "projector",
    "admin",
    "compose",
    "tests",
    "benches",
];
const MOST_LINES: usize = 500;

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > MOST_LINES {
            wrong.push(format!(
                "{path} has {lines} lines, at most {MOST_LINES} are allowed"
            ));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{path} does not begin with `//!`"));
        }
        if path.ends_with("/mod.rs") {
            wrong.push(format!("{path}: modules are `foo.rs` beside `foo/`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sql_is_static_text() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines = built_queries(&text).into_iter();
        wrong.extend(lines.map(|line| format!("{path}:{line}: `format!` in a query")));
        // Tests name databases of their own, which cannot be bound.
        if text.contains("AssertSqlSafe") && !path.contains("tests") {
            wrong.push(format!("{path}: `AssertSqlSafe`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn built_queries_are_found() {
    let call = |argument: &str| format!("let row =\n    sqlx::query({argument})\n    .bind(1)");
    assert_eq!(built_queries(&call("&format!(\"select {x}\")")), [2]);
    assert_eq!(built_queries(&call("AssertSqlSafe(format!(\"{x}\"))")), [2]);
    assert!(built_queries(&call("\"select (1)\"")).is_empty());
}

#[test]
fn nothing_is_left_for_later() {
    // In two parts, so that this file does not find itself.
    let marks =
        [["TO", "DO"], ["FIX", "ME"], ["HA", "CK:"], ["X", "XX"]].map(|parts| parts.concat());
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| marks.iter().any(|mark| text.contains(mark.as_str())))
        .map(|(path, _)| path)
        .collect();
    assert!(
        wrong.is_empty(),
        "marks of unfinished work: {}",
        wrong.join(" ")
    );
}

#[test]
fn crates_know_only_what_they_may() {
    let may_know: [(&str, &[&str]); 7] = [
        ("events", &[]),
        ("gateway", &["events"]),
        ("projector", &["events"]),
        ("admin", &["events"]),
        ("compose", &["events", "gateway", "projector", "admin"]),
        ("tests", &["events", "projector"]),
        ("benches", &["events", "gateway", "projector"]),
    ];
    let mut wrong = Vec::new();
    for (name, allowed) in may_know {
        for known in dependencies(name) {
            if !allowed.contains(&known.as_str()) {
                wrong.push(format!("{name} must not know {known}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_event_has_a_golden_of_its_schema() {
    let goldens = place::repository().join("events/tests/goldens");
    let missing: Vec<String> = Kind::ALL
        .iter()
        .map(|kind| format!("{}.v{}.msgpack", kind.name(), kind.schema()))
        .filter(|name| !goldens.join(name).is_file())
        .collect();
    assert!(
        missing.is_empty(),
        "UPDATE_GOLDENS=1 makes them: {}",
        missing.join(" ")
    );
}

#[test]
fn the_architecture_names_the_modules_there_are() {
    let page = fs::read_to_string(place::repository().join("ARCHITECTURE.md")).unwrap();
    let mut wrong = Vec::new();
    for name in ["events", "gateway", "projector", "admin", "compose"] {
        let modules = top_modules(name);
        wrong.extend(
            modules
                .iter()
                .filter(|module| !names(&page, module))
                .map(|module| format!("ARCHITECTURE.md does not name {name}/src/{module}.rs")),
        );
    }
    for path in paths_named_in(&page) {
        if !place::repository().join(&path).exists() {
            wrong.push(format!("ARCHITECTURE.md names {path}, which is not there"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every Rust file of ours, by its path from the root.
fn sources() -> Vec<(String, String)> {
    let root = place::repository();
    let mut files = Vec::new();
    for name in CRATES {
        collect(&root.join(name), &mut files);
    }
    assert!(files.len() > 100, "only {} files found", files.len());
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (
                path.strip_prefix(&root).unwrap().display().to_string(),
                text,
            )
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The lines on which a query is made from a `format!`.
fn built_queries(text: &str) -> Vec<usize> {
    let starts = text.match_indices("sqlx::query").map(|(start, _)| start);
    starts
        .filter(|start| {
            let call = &text[*start..];
            let argument = call.split_once('(').map_or("", |(_, rest)| rest);
            argument_of(argument).contains("format!(")
        })
        .map(|start| text[..start].lines().count().max(1))
        .collect()
}

/// Up to the parenthesis that closes the call.
fn argument_of(text: &str) -> &str {
    let mut depth = 1;
    for (index, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..index];
        }
    }
    text
}

/// Which of our crates a crate depends on, by folder.
fn dependencies(name: &str) -> BTreeSet<String> {
    let manifest = place::repository().join(name).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    manifest
        .lines()
        .filter_map(|line| line.strip_prefix("odock-"))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .map(str::to_owned)
        .collect()
}

/// `events` has `src/kind.rs` and `src/log/`: `kind` and `log`.
fn top_modules(name: &str) -> BTreeSet<String> {
    let folder = place::repository().join(name).join("src");
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|module| !matches!(module.as_str(), "lib" | "main" | "bin"))
        .collect()
}

/// As a word: `log` is not named by `logging`.
fn names(page: &str, module: &str) -> bool {
    page.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
        .any(|word| word == module)
}

/// Code spans that look like a path in one of our crates.
fn paths_named_in(page: &str) -> Vec<String> {
    page.split('`')
        .skip(1)
        .step_by(2)
        .filter(|span| !span.contains([' ', '*', '{', '<', '\n']))
        .filter(|span| {
            CRATES
                .iter()
                .any(|name| span.starts_with(&format!("{name}/")))
        })
        .map(str::to_owned)
        .collect()
}
