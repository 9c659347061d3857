//! What the documents say is there: linked files, commands, configuration keys, calls of the server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tillstream::bus::Topic;
use tillstream::config::Config;
use tillstream::http::metrics::catalogue::FAMILIES;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn markdown_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

fn documents() -> Vec<PathBuf> {
    [".", "docs", "docs/decisions", "schemas"].iter().flat_map(|folder| markdown_in(&root().join(folder))).collect()
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    for document in documents() {
        let text = read(&document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            let file = link.split('#').next().unwrap_or(link);
            let target = document.parent().expect("a file stands in a directory").join(file);
            assert!(target.exists(), "{} links to {link}", document.display());
        }
    }
}

#[test]
fn the_first_screen_holds_exactly_the_two_commands() {
    let readme = read(&root().join("README.md"));
    let first_screen = readme.split("\n## ").next().expect("a split has a first part");
    let commands: Vec<&str> =
        first_screen.split("```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
    assert_eq!(commands, ["cargo run --release -- demo", "scripts/test"]);
    assert!(root().join("scripts/test").exists());
}

#[test]
fn every_command_that_the_readme_names_is_one_of_the_binary() {
    let readme = read(&root().join("README.md"));
    let named = readme.split("| `tillstream ").skip(1).filter_map(|rest| rest.split('`').next());
    let named: Vec<&str> = named.collect();
    assert!(named.contains(&"demo"), "the table of commands is not found");
    for command in named {
        let run = Command::new(env!("CARGO_BIN_EXE_tillstream"))
            .args(command.split(' '))
            .arg("--help")
            .output()
            .expect("the binary was built for this test");
        assert!(run.status.success(), "tillstream {command} --help");
    }
}

#[test]
fn the_example_of_a_configuration_is_one_and_every_key_that_is_named_is_known() {
    let text = read(&root().join("docs/configuration.md"));
    let example = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), example).expect("a file that can be written");
    Config::from_sources(Some(file.path()), [], &[]).expect("the example is valid");
    let keys: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|line| line.split('`').next()).collect();
    assert!(keys.contains(&"http.bind"), "the table of keys is not found");
    for key in keys {
        let variable = format!("TILLSTREAM__{}", key.to_uppercase().replace('.', "__"));
        let fault = Config::from_sources(None, [(variable, "?".to_owned())], &[]).err();
        assert!(!fault.is_some_and(|fault| fault.to_string().contains("not a known key")), "{key}");
    }
}

#[test]
fn every_call_of_the_server_is_on_its_page() {
    let page = read(&root().join("docs/http.md"));
    for path in tillstream::http::document().paths.paths.keys() {
        // `/api/x/{id}/discard` may stand as `/discard` behind the line's first call.
        let last = path.rfind('/').map_or(path.as_str(), |start| &path[start..]);
        assert!(page.contains(&format!("{path}`")) || page.contains(&format!("`{last}`")), "{path}");
    }
}

/// The first column of a table's rows, without the head, below the heading.
fn first_column<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, section) = page.split_once(&format!("## {heading}\n")).expect("the heading is there");
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split(" | ").next())
        .flat_map(|cell| cell.split(", "))
        .map(|name| name.trim_matches('`'))
        .collect()
}

#[test]
fn every_topic_is_on_the_page_of_operations_and_no_other_is() {
    let page = read(&root().join("docs/operations.md"));
    let mut described = first_column(&page, "Topics");
    // Those of Tillstream itself, and the two of each plugin in another language.
    let mut known: Vec<&str> = Topic::ALL.into_iter().map(Topic::name).collect();
    known.extend(["pos.plugins.NAME.input", "pos.plugins.NAME.state"]);
    described.sort_unstable();
    known.sort_unstable();
    assert_eq!(described, known);
}

#[test]
fn every_metric_has_its_meaning_on_the_page_of_operations_and_nothing_else_does() {
    let page = read(&root().join("docs/operations.md"));
    let mut described = first_column(&page, "What each metric means");
    let mut known: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    described.sort_unstable();
    known.sort_unstable();
    assert_eq!(described, known);
}
