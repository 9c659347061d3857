//! What the documents say is there: every linked file, every command, every configuration key.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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
