//! `docker/setup`, run for real: what it makes is used by the program, and made once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tillstream::config::{Config, StoreUrl, TokenRole};

use super::file;

/// Runs it and returns what it printed.
fn run(directory: &Path) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_tillstream"));
    let path = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{path}", binary.parent().expect("a directory").display());
    let output = Command::new("sh").arg(file("docker/setup")).arg(directory).env("PATH", path).output();
    let output = output.expect("there is a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn files(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let text = std::fs::read_to_string(&path).expect("text");
            found.insert(path, text);
        }
    }
    found
}

#[test]
fn the_first_start_makes_secrets_that_fit_together_and_the_next_ones_change_nothing() {
    let directory = TempDir::new().expect("a directory");
    let said = run(directory.path());
    let made = files(directory.path());
    let secret = |path: &str| made[&directory.path().join(path)].trim().to_owned();

    let config = directory.path().join("tillstream/tillstream.toml");
    let config = Config::from_sources(Some(&config), [], &[]).expect("a configuration that is valid");
    let StoreUrl::MySql(url) = &config.store.url else { panic!("not MySQL") };
    assert!(url.reveal().contains(&format!(":{}@mysql:3306/", secret("mysql/password"))));
    let tokens: Vec<_> = config.http.tokens.iter().map(|token| (token.name.as_str(), token.role)).collect();
    assert_eq!(tokens, [("prometheus", TokenRole::Viewer), ("admin", TokenRole::Admin)]);

    let kept = ["mysql/root_password", "mysql/password", "grafana/admin_password", "prometheus/token"].map(secret);
    for (index, text) in kept.iter().enumerate() {
        assert!(text.len() >= 32 && !kept[..index].contains(text), "{text}");
    }
    assert!(said.contains(&kept[2]), "the password for Grafana is shown");
    let token = said.lines().find_map(|line| line.strip_prefix("    ")).expect("the token is shown");
    assert!(made.values().all(|text| !text.contains(token)), "the admin's token is kept nowhere");
    let config = &made[&directory.path().join("tillstream/tillstream.toml")];
    assert!(!config.contains(&kept[3]), "of Prometheus' token Tillstream has only the hash");

    assert_eq!(run(directory.path()), "", "nothing is shown again");
    assert_eq!(files(directory.path()), made);
}
