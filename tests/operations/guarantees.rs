//! `docs/guarantees.md` names tests: each of them exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::{file, read};

/// The names of all test functions below a directory, of Rust and of Python.
fn functions(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            if entry.file_name().is_none_or(|name| name != "node_modules") {
                functions(&entry, found);
            }
        } else if entry.extension().is_some_and(|ending| ending == "rs" || ending == "py") {
            let text = fs::read_to_string(&entry).expect("UTF-8");
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let mut previous = "";
            for word in words.filter(|word| !word.is_empty()) {
                if previous == "fn" || previous == "def" {
                    found.insert(word.to_owned());
                }
                previous = word;
            }
        }
    }
}

/// What stands between backticks and reads as the name of a test.
fn named(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    quoted.filter(|word| word.matches('_').count() >= 3 && word.chars().all(is_name)).collect()
}

#[test]
fn every_test_that_a_guarantee_names_exists() {
    let mut found = BTreeSet::new();
    for directory in ["src", "tests", "clients"] {
        functions(&file(directory), &mut found);
    }
    let page = read("docs/guarantees.md");
    let named = named(&page);
    assert!(named.len() > 30, "the page names tests: {named:?}");
    let missing: Vec<_> = named.into_iter().filter(|name| !found.contains(*name)).collect();
    assert!(missing.is_empty(), "named and not there: {missing:?}");
}

#[test]
fn every_row_of_a_guarantee_names_a_test() {
    let page = read("docs/guarantees.md");
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promise"));
    for row in rows {
        let test = row.trim_end_matches('|').rsplit('|').next().expect("a last column");
        assert!(!named(test).is_empty(), "no test: {row}");
    }
}
