//! `docker/setup`, run for real: what it makes is used by the program, and made once.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tillstream::config::{Config, StoreUrl, TokenRole};

use super::file;

/// Runs it and returns what it printed.
fn run(directory: &Path, arguments: &[&str]) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_tillstream"));
    let path = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{path}", binary.parent().expect("a directory").display());
    let output = Command::new("sh").arg(file("docker/setup")).arg(directory).args(arguments).env("PATH", path).output();
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
    let said = run(directory.path(), &[]);
    let made = files(directory.path());
    let secret = |path: &str| made[&directory.path().join(path)].trim().to_owned();

    let config = directory.path().join("tillstream/tillstream.toml");
    let config = Config::from_sources(Some(&config), [], &[]).expect("a configuration that is valid");
    let StoreUrl::MySql(url) = &config.store.url else { panic!("not MySQL") };
    assert!(url.reveal().contains(&format!(":{}@mysql:3306/", secret("mysql/password"))));
    let tokens: Vec<_> = config.http.tokens.iter().map(|token| (token.name.as_str(), token.role)).collect();
    assert_eq!(tokens, [("prometheus", TokenRole::Viewer), ("admin", TokenRole::Admin)]);

    let paths = ["mysql/root_password", "mysql/password", "grafana/admin_password", "prometheus/token", "admin/token"];
    let kept = paths.map(secret);
    for (index, text) in kept.iter().enumerate() {
        assert!(text.len() >= 32 && !kept[..index].contains(text), "{text}");
        assert!(!said.contains(text), "a log that stays holds no secret");
    }
    assert_eq!(secret("admin/grafana_password"), kept[2]);
    let config = &made[&directory.path().join("tillstream/tillstream.toml")];
    assert!(!config.contains(&kept[3]) && !config.contains(&kept[4]), "of tokens Tillstream has only the hashes");

    assert_eq!(run(directory.path(), &[]), "", "nothing is told again");
    assert_eq!(files(directory.path()), made);
}

#[test]
fn a_person_is_shown_token_and_password_once() {
    let directory = TempDir::new().expect("a directory");
    run(directory.path(), &[]);
    let made = files(directory.path());
    let secret = |path: &str| made[&directory.path().join(path)].trim().to_owned();
    let shown = run(directory.path(), &["show"]);
    assert!(shown.contains(&secret("admin/token")) && shown.contains(&secret("grafana/admin_password")), "{shown}");
    let left = files(directory.path());
    assert!(left.values().all(|text| !text.contains(&secret("admin/token"))), "it is kept nowhere");
    let again = run(directory.path(), &["show"]);
    assert!(again.contains("shown before"), "{again}");
    assert_eq!(run(directory.path(), &[]), "", "and no other one is made");
    assert_eq!(files(directory.path()), left);
}

#[test]
fn secrets_can_be_read_by_their_user_alone_those_of_earlier_starts_too() {
    let directory = TempDir::new().expect("a directory");
    run(directory.path(), &[]);
    let wide = directory.path().join("mysql/password");
    std::fs::set_permissions(&wide, std::fs::Permissions::from_mode(0o644)).expect("rights");
    run(directory.path(), &[]);
    for path in files(directory.path()).keys() {
        let mode = std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert!(mode.trailing_zeros() >= 6, "{} has mode {mode:o}", path.display());
        assert!(
            mode == 0o400 || path.starts_with(directory.path().join("admin")),
            "{} has mode {mode:o}",
            path.display()
        );
    }
}
