//! `docker/Dockerfile`: everything that the program is built from goes in. `docker/plugins.Dockerfile`: what plugins are made of is
//! there.

use std::path::Path;

use super::{file, read, yaml};

/// What a build copies out of the repository.
fn copied_by(dockerfile: &str) -> Vec<String> {
    let dockerfile = read(dockerfile);
    let copies =
        dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|copy| !copy.contains("--from"));
    let copies = copies.map(|copy| copy.split(' ').filter(|word| !word.starts_with("--")).collect::<Vec<_>>());
    copies
        .flat_map(|words| words[..words.len() - 1].iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        .collect()
}

fn copied() -> Vec<String> {
    copied_by("docker/Dockerfile")
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

#[test]
fn the_images_of_plugins_have_what_they_start_and_nobody_s_privileges() {
    const DOCKERFILE: &str = "docker/plugins.Dockerfile";
    let ignore = read("docker/plugins.Dockerfile.dockerignore");
    let kept: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for path in copied_by(DOCKERFILE) {
        assert!(file(&path).exists(), "{path}");
        assert!(kept.iter().any(|kept| Path::new(&path).starts_with(kept)), "{path} is ignored");
    }
    let text = read(DOCKERFILE);
    let compose = yaml("docker/docker-compose.yml");
    let targets: Vec<&str> = compose["services"]
        .as_object()
        .expect("services")
        .values()
        .filter(|service| service["build"]["dockerfile"] == DOCKERFILE)
        .map(|service| service["build"]["target"].as_str().expect("a target"))
        .collect();
    let stages: Vec<&str> = text.split("\nFROM ").skip(1).collect();
    assert_eq!((targets.len(), stages.len()), (2, 2));
    for target in targets {
        let named = |stage: &&&str| stage.lines().next().is_some_and(|line| line.ends_with(&format!(" AS {target}")));
        let stage = stages.iter().find(named).unwrap_or_else(|| panic!("there is no stage {target}"));
        assert!(stage.contains("\nUSER 10001:10001\n"), "{target}");
        // The program is one of the files that are copied, by its name or with its directory.
        let entry = stage.lines().find_map(|line| line.strip_prefix("ENTRYPOINT ")).expect("something to start");
        let entry: Vec<String> = serde_json::from_str(entry).expect("a list");
        let program = format!("plugins/{target}/{}", entry.last().expect("a program"));
        assert!(file(&program).exists(), "{program}");
        let copies = stage.lines().filter(|line| line.starts_with("COPY "));
        let parts = copies.flat_map(str::split_whitespace).filter(|word| word.starts_with("plugins/"));
        assert!(parts.into_iter().any(|part| Path::new(&program).starts_with(part)), "{program} is not copied");
    }
}
