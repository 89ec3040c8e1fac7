//! Reads the golden files beside it, for the tests of every dialect. A file has sections, each behind a line `--- name`.

use std::{collections::BTreeMap, fs, path::Path};

/// One golden file.
pub(super) struct Case {
    pub(super) name: String,
    sections: BTreeMap<String, String>,
}

/// All cases in a folder below `testdata`, by name.
pub(super) fn cases(folder: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/dialect/testdata")
        .join(folder);
    let mut cases: Vec<Case> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            Case {
                sections: sections(&fs::read_to_string(&path).unwrap()),
                name,
            }
        })
        .collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

impl Case {
    pub(super) fn section(&self, name: &str) -> &str {
        self.find(name)
            .unwrap_or_else(|| panic!("{} has no section {name}", self.name))
    }

    pub(super) fn find(&self, name: &str) -> Option<&str> {
        self.sections.get(name).map(String::as_str)
    }
}

/// A section ends before the line end that stands before the next one, or at the end of the file.
fn sections(text: &str) -> BTreeMap<String, String> {
    format!("\n{}", text.strip_suffix('\n').unwrap_or(text))
        .split("\n--- ")
        .skip(1)
        .map(|section| {
            let (name, body) = section.split_once('\n').unwrap_or((section, ""));
            (name.to_owned(), body.to_owned())
        })
        .collect()
}
