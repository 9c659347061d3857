//! Comparing what is there with what should be.

use std::fmt::Debug;

/// Asserts that two collections hold the same, and shows what is missing and what is too much.
pub(crate) fn assert_same<T: Debug + PartialEq>(what: &str, expected: Vec<T>, actual: Vec<T>) {
    let by_text = |items: Vec<T>| {
        let mut lines: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
        lines.sort_unstable();
        lines
    };
    let (expected, actual) = (by_text(expected), by_text(actual));
    if expected == actual {
        return;
    }
    let without = |these: &[String], others: &[String]| {
        let mut rest = others.iter().peekable();
        let mut only = Vec::new();
        for line in these {
            while rest.next_if(|other| *other < line).is_some() {}
            if rest.next_if(|other| *other == line).is_none() {
                only.push(line.clone());
            }
        }
        (only.len(), only.into_iter().take(5).collect::<Vec<_>>().join("\n  "))
    };
    let (missing, first_missing) = without(&expected, &actual);
    let (extra, first_extra) = without(&actual, &expected);
    panic!(
        "{what}: {} expected, {} there\n{missing} missing:\n  {first_missing}\n{extra} too much:\n  {first_extra}",
        expected.len(),
        actual.len()
    );
}
