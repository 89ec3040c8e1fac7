//! Holds the tables of docs/EVENTS.md against the code.

use std::{fs, path::Path};

use odock_events::{
    examples,
    kind::{Kind, Source},
};

/// The rows between the marks `<!-- name:begin -->` and `<!-- name:end -->`, cells trimmed, without the head.
fn rows(name: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/EVENTS.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, rest) = text
        .split_once(&format!("<!-- {name}:begin -->"))
        .expect("a table begins");
    let (table, _) = rest
        .split_once(&format!("<!-- {name}:end -->"))
        .expect("and ends");
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(2);
    lines
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells
                .map(|cell| cell.trim().trim_matches('`').to_owned())
                .collect()
        })
        .collect()
}

fn writer(kind: Kind) -> &'static str {
    match kind.source() {
        Source::Management => "admin",
        Source::Gateway => "gateway",
        Source::Projector => "projector",
    }
}

#[test]
fn the_page_lists_every_kind_with_its_schema_and_writer() {
    let listed: Vec<(String, String, String)> = rows("kinds")
        .into_iter()
        .map(|row| {
            assert!(!row[3].is_empty(), "{} says nothing", row[0]);
            (row[0].clone(), row[1].clone(), row[2].clone())
        })
        .collect();
    let wanted: Vec<(String, String, String)> = Kind::ALL
        .iter()
        .map(|kind| {
            (
                kind.name().to_owned(),
                kind.schema().to_string(),
                writer(*kind).to_owned(),
            )
        })
        .collect();
    assert_eq!(listed, wanted);
}

#[test]
fn the_page_lists_every_field_of_the_envelope() {
    let meta = serde_json::to_value(examples::meta()).unwrap();
    let mut wanted: Vec<String> = meta.as_object().unwrap().keys().cloned().collect();
    let mut listed: Vec<String> = rows("meta").into_iter().map(|row| row[0].clone()).collect();
    wanted.sort();
    listed.sort();
    assert_eq!(listed, wanted);
}
