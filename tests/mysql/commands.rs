//! `tillstream check` and `tillstream migrate`: each fault is a clear sentence, with the right exit code and no password.

use std::process::Command;

use serde_json::Value;

use crate::alone;
use crate::process;
use crate::shop::Shop;
use crate::support::database::Database;

/// A command on an installation, instead of `serve`.
fn tillstream(shop: &Shop, arguments: &[&str]) -> Command {
    let serve = process::command(shop);
    let mut command = Command::new(serve.get_program());
    command.args(arguments).current_dir(shop.path(""));
    for (name, value) in serve.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn run(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("the binary starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains("gehe1m") && !said.contains(":tillstream@"), "no password may be shown: {said}");
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code(), said)
}

/// Runs `check --json` with one thing changed and returns what it says about `name`.
fn fault(shop: &Shop, variable: &str, value: &str, name: &str, code: i32) -> String {
    let (exit, said) = run(tillstream(shop, &["check", "--json"]).env(variable, value));
    let report: Value = serde_json::from_str(said.lines().next().expect("a line")).expect("JSON");
    assert_eq!((exit, &report["ok"]), (Some(code), &Value::Bool(false)), "{said}");
    let checks = report["checks"].as_array().expect("a list").clone();
    let check = checks.into_iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {said}"));
    assert_eq!(check["ok"], false, "{said}");
    check["message"].as_str().expect("a sentence").to_owned()
}

/// What `check` says about the store with one thing changed has these words, and so has what `serve` says, which must end with
/// this code.
fn store_fault(shop: &Shop, (variable, value): (&str, &str), code: i32, words: &[&str]) {
    let message = fault(shop, variable, value, "store", 1);
    let (exit, said) = run(process::command(shop).env(variable, value));
    assert!(exit == Some(code) && said.contains("error: store: "), "{exit:?}: {said}");
    for word in words {
        assert!(message.contains(word) && said.contains(word), "{word:?} is missing in: {message}\n{said}");
    }
}

#[test]
fn check_says_what_is_wrong_with_files_addresses_and_configuration() {
    let shop = Shop::on_a_file();
    let (code, said) = run(&mut tillstream(&shop, &["check"]));
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("will be created") && !shop.path("bus.db").exists() && !shop.path("store.db").exists(),
        "{said}"
    );

    std::fs::write(shop.path("file"), "").expect("a file");
    let below = shop.path("file/bus.db").display().to_string();
    assert!(fault(&shop, "TILLSTREAM__BUS__PATH", &below, "bus", 1).contains("choose another place"));
    let store = format!("sqlite:{}", shop.path("file/store.db").display());
    assert!(fault(&shop, "TILLSTREAM__STORE__URL", &store, "store", 1).contains("choose another place"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    assert!(fault(&shop, "TILLSTREAM__HTTP__BIND", &address, "http", 1).contains(&address));
    assert!(fault(&shop, "TILLSTREAM__BUS__PARTITION", "4", "configuration", 2).contains("bus.partitions"));
    assert!(fault(&shop, "TILLSTREAM__PLUGINS__FILE", "/none.yaml", "plugins", 2).contains("/none.yaml"));

    let (code, said) = run(tillstream(&shop, &["check"])
        .env("TILLSTREAM__BUS__KIND", "kafka")
        .env("TILLSTREAM__BUS__BROKERS", "127.0.0.1:1"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("FAULT bus") && said.contains("127.0.0.1:1"), "{said}");
}

#[test]
fn check_and_migrate_say_what_is_wrong_with_a_database() {
    let _alone = alone();
    let Some(database) = Database::on_server("check and migrate on a database") else { return };
    let mut shop = Shop::on_a_file();
    shop.use_database(database);
    let url = shop.database().url();
    let variable = "TILLSTREAM__STORE__URL";
    let (before, place) = url.split_once('@').expect("user@place");
    let (host, name) = place.split_once('/').expect("host/name");

    store_fault(&shop, ("TILLSTREAM__STORE__MIGRATE", "false"), 2, &["tillstream migrate"]);
    // Who may only read can neither make the tables nor write to them.
    let user = format!("reader_{}", std::process::id());
    shop.database().execute(&format!("CREATE USER {user} IDENTIFIED BY 'gehe1m'"));
    shop.database().execute(&format!("GRANT SELECT ON {name}.* TO {user}"));
    let reader = format!("mysql://{user}:gehe1m@{place}");
    store_fault(&shop, (variable, &reader), 2, &["CREATE", "denied", "docs/mysql.md"]);
    let (code, said) = run(&mut tillstream(&shop, &["migrate", "--dry-run"]));
    assert!(code == Some(0) && said.contains("would run 00000000000001_start"), "{said}");
    let (code, said) = run(&mut tillstream(&shop, &["check"]));
    assert!(code == Some(0) && said.contains("migrations to run"), "{said}");
    let (code, said) = run(&mut tillstream(&shop, &["migrate"]));
    assert!(code == Some(0) && said.contains("ran 00000000000001_start") && said.contains("up to date"), "{said}");
    let (code, said) = run(&mut tillstream(&shop, &["migrate"]));
    assert!(code == Some(0) && !said.contains("ran "), "{said}");
    let (code, said) = run(&mut tillstream(&shop, &["check"]));
    assert!(code == Some(0) && said.contains("the tables are up to date"), "{said}");

    store_fault(&shop, (variable, &reader), 2, &["lacks a right", "INSERT", "docs/mysql.md"]);
    shop.database().execute(&format!("DROP USER {user}"));
    let wrong_password = format!("mysql://tillstream:gehe1m@{place}");
    store_fault(&shop, (variable, &wrong_password), 2, &["check user and password"]);
    let unknown = format!("{before}@{host}/no_such_shop");
    store_fault(&shop, (variable, &unknown), 2, &["no_such_shop", "CREATE DATABASE"]);
    // Nobody there: that may pass, and is no fault of the configuration.
    let nobody = format!("{before}@127.0.0.1:1/{name}");
    store_fault(&shop, (variable, &nobody), 1, &["127.0.0.1:1", "check that it runs"]);

    shop.execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')");
    store_fault(&shop, (variable, &url), 2, &["newer Tillstream"]);
    let (code, said) = run(&mut tillstream(&shop, &["migrate"]));
    assert!(code == Some(2) && said.contains("newer Tillstream"), "{said}");
}

/// A node of a Galera cluster that `scripts/services` starts; gone once this is dropped.
struct Galera(String);

impl Galera {
    fn services(command: &str) -> std::process::Output {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services");
        Command::new(script).arg(command).output().expect("the script starts")
    }

    /// `None`, said aloud, where the servers are somebody else's or Galera is not installed.
    fn start() -> Option<Self> {
        std::env::var_os("SERVICES_DIR")?;
        let started = Self::services("galera-up");
        let said = String::from_utf8_lossy(&started.stdout).into_owned();
        let url = said.lines().find_map(|line| line.strip_prefix("TILLSTREAM_TEST_GALERA=")).map(ToOwned::to_owned);
        if url.is_none() {
            let why = String::from_utf8_lossy(&started.stderr).into_owned();
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: Galera: {why}").as_bytes());
        }
        url.map(Self)
    }
}

impl Drop for Galera {
    fn drop(&mut self) {
        Self::services("galera-down");
    }
}

#[test]
fn a_node_of_a_galera_cluster_is_refused_unless_everybody_writes_there() {
    let _alone = alone();
    let Some(galera) = Galera::start() else { return };
    let shop = Shop::on_a_file();
    let url = format!("{}/mysql", galera.0);
    store_fault(
        &shop,
        ("TILLSTREAM__STORE__URL", &url),
        2,
        &["Galera", "updates are lost", "store.galeraSingleWriter"],
    );
    let mut check = tillstream(&shop, &["check"]);
    let (exit, said) =
        run(check.env("TILLSTREAM__STORE__URL", &url).env("TILLSTREAM__STORE__GALERASINGLEWRITER", "true"));
    assert_eq!(exit, Some(0), "{said}");
    assert!(said.contains("migrations to run"), "nothing was made there: {said}");
}
