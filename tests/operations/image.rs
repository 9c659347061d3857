//! `docker/Dockerfile`: everything that the program is built from goes in.

use std::path::Path;

use super::{file, read};

/// What the build copies out of the repository.
fn copied() -> Vec<String> {
    let dockerfile = read("docker/Dockerfile");
    let copies =
        dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|copy| !copy.contains("--from"));
    let copies = copies.map(|copy| copy.split(' ').filter(|word| !word.starts_with("--")).collect::<Vec<_>>());
    copies
        .flat_map(|words| words[..words.len() - 1].iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn everything_that_the_program_is_built_from_is_copied() {
    let copied = copied();
    // Cargo writes down what the binary was made from.
    let binary = Path::new(env!("CARGO_BIN_EXE_tillstream"));
    let dependencies =
        std::fs::read_to_string(binary.with_extension("d")).expect("run `cargo build` once, which writes it");
    let (_, dependencies) = dependencies.split_once(": ").expect("a rule of make");
    let sources: Vec<&str> = dependencies.split_whitespace().collect();
    assert!(sources.len() > 100, "the list of sources is not found");
    let root = file("");
    for source in sources {
        let path = Path::new(source).strip_prefix(&root).unwrap_or_else(|_| panic!("{source} lies elsewhere"));
        assert!(copied.iter().any(|copied| path.starts_with(copied)), "{} is not copied", path.display());
    }
    // Embedded when it is built for release, read from the disk before.
    assert!(copied.iter().any(|copied| copied == "static"));
    assert!(file("static/index.html").exists());
}

#[test]
fn what_is_copied_is_there_and_is_not_ignored() {
    let ignore = read(".dockerignore");
    let kept: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for path in copied() {
        assert!(file(&path).exists(), "{path}");
        assert!(kept.contains(&path.as_str()), "{path} is ignored");
    }
}

#[test]
fn the_toolchain_is_new_enough_and_the_user_has_no_privileges() {
    let dockerfile = read("docker/Dockerfile");
    let from = dockerfile.split("FROM rust:").nth(1).expect("a toolchain");
    let manifest = read("Cargo.toml");
    let needed = manifest.split("rust-version = \"").nth(1).and_then(|rest| rest.split('"').next()).expect("a version");
    assert!(from.starts_with(&format!("{needed}.")), "rust-version is {needed}");
    let last_stage = dockerfile.rsplit("\nFROM ").next().expect("a stage");
    assert!(last_stage.contains("\nUSER 10001:10001\n"), "a number, so that a cluster can see that it is not root");
    assert!(last_stage.contains("\nHEALTHCHECK "));
}
