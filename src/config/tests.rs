use super::*;

fn from_toml(text: &str) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tillstream.toml");
    std::fs::write(&path, text).unwrap();
    Config::from_sources(Some(&path), [], &[]).map_err(|mut error| {
        for fault in &mut error.faults {
            fault.origin = fault.origin.rsplit('/').next().unwrap().to_owned();
        }
        error
    })
}

fn from_env(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let env = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Config::from_sources(None, env, &[])
}

const HASH: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn defaults_need_no_service_and_listen_on_loopback() {
    let config = Config::default();
    assert_eq!(config.http.bind.to_string(), "127.0.0.1:8080");
    assert_eq!(config.bus.kind, BusKind::Embedded);
    assert_eq!(config.bus.partitions, 8);
    assert_eq!(config.store.url, StoreUrl::Sqlite("tillstream-data/store.db".into()));
    assert!((1..=4).contains(&config.processor.shards));
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tillstream.toml");
    std::fs::write(&path, "[bus]\ngroup = \"file\"\npartitions = 2\ntopicPrefix = \"file.\"\n").unwrap();
    let env = [("TILLSTREAM__BUS__GROUP", "env"), ("tillstream__bus__topicprefix", "env.")];
    let env = env.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let config = Config::from_sources(Some(&path), env, &[Override::new("bus.group", "--group", "flag")]).unwrap();
    assert_eq!(config.bus.group, "flag");
    assert_eq!(config.bus.topic_prefix, "env.");
    assert_eq!(config.bus.partitions, 2);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
    let error = from_toml("[http]\nbind = \"127.0.0.1:0\"\n\n[bus]\ntopic_prefix = \"x\"\n").unwrap_err();
    let expected = "tillstream.toml line 5: bus.topic_prefix is not a known key; the nearest one is bus.topicPrefix";
    assert_eq!(error.to_string(), expected);
    let error = from_env(&[("TILLSTREAM__HTP__BIND", "127.0.0.1:0")]).unwrap_err();
    let expected = "environment TILLSTREAM__HTP__BIND: htp.bind is not a known key; the nearest one is http.bind";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn every_fault_is_reported_at_once() {
    let error = from_toml("[bus]\nkind = \"rabbit\"\npartitions = 0\n[feed]\ncapacity = \"many\"").unwrap_err();
    assert_eq!(error.faults.len(), 3);
    assert_eq!(error.faults[0].message, "bus.kind must be \"embedded\" or \"kafka\", not \"rabbit\"");
    assert_eq!(error.faults[1].message, "bus.partitions must be a whole number from 1 to 1024, not 0");
    assert_eq!(error.faults[2].origin, "tillstream.toml line 5");
}

#[test]
fn broken_toml_names_the_line() {
    let error = from_toml("[bus]\nkind = embedded\n").unwrap_err();
    assert!(error.to_string().starts_with("tillstream.toml line 2: not valid TOML"), "{error}");
}

#[test]
fn an_address_beyond_loopback_needs_a_token() {
    let error = from_toml("[http]\nbind = \"0.0.0.0:8080\"").unwrap_err();
    assert!(error.to_string().contains("tillstream token"), "{error}");
    let token = format!("[[http.tokens]]\nname = \"ops\"\nrole = \"operator\"\nhash = \"{HASH}\"");
    let config = from_toml(&format!("[http]\nbind = \"0.0.0.0:8080\"\n{token}")).unwrap();
    assert_eq!(config.http.tokens[0].role, TokenRole::Operator);
}

#[test]
fn a_token_is_checked_when_it_is_read() {
    let with_role = |role: &str| {
        let tokens = format!("[{{\"name\": \"ops\", \"role\": \"{role}\", \"hash\": \"{HASH}\"}}]");
        from_env(&[("TILLSTREAM__HTTP__TOKENS", tokens.as_str())])
    };
    assert_eq!(with_role("viewer").unwrap().http.tokens[0].name, "ops");
    let error = with_role("root").unwrap_err();
    assert!(error.to_string().ends_with("http.tokens[0].role must be viewer, operator or admin"), "{error}");
    assert!(from_toml("[[http.tokens]]\nname = \"a\"\nrole = \"admin\"\nhash = \"secret\"").is_err());
}

#[test]
fn an_address_that_no_id_can_be_put_behind_is_refused_with_what_to_do_and_without_its_password() {
    for (key, rest, words) in [
        ("CUSTOMERS", "/customers?tenant=7", "must not hold a question mark"),
        ("ORDERS", "/orders?tenant=7", "must not hold a question mark"),
        ("ORDERS", "/orders?", "must not hold a question mark"),
        ("CUSTOMERS", "/customers#f", "must not hold a #"),
        ("ORDERS", "/#", "must not hold a #"),
    ] {
        let url = format!("https://user:hunter2@host{rest}");
        let name = format!("TILLSTREAM__{key}__URL");
        let text = from_env(&[(name.as_str(), url.as_str())]).unwrap_err().to_string();
        assert!(text.contains(words) && !text.contains("hunter2") && !text.contains("tenant=7"), "{text}");
        let example = format!("https://{}.example", key.to_lowercase());
        assert!(text.contains(&example), "{text}");
    }
    let error = from_toml("[orders]\nurl = \"orders.example/api\"\n").unwrap_err();
    assert!(
        error.to_string().starts_with("tillstream.toml line 2: orders.url must be an address that begins with"),
        "{error}"
    );
}

#[test]
fn secrets_do_not_show() {
    let config = from_env(&[
        ("TILLSTREAM__STORE__URL", "mysql://till:hunter2@db:3306/till"),
        ("TILLSTREAM__BUS__KAFKA__SASL_PASSWORD", "hunter2"),
        ("TILLSTREAM__CUSTOMERS__URL", "https://user:hunter2@customers.example/"),
    ])
    .unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(config.bus.kafka["sasl.password"].reveal(), "hunter2");
    assert_eq!(config.customers.url.unwrap().reveal(), "https://user:hunter2@customers.example");
    let error = from_env(&[("TILLSTREAM__STORE__URL", "postgres://till:hunter2@db/till")]).unwrap_err();
    assert!(!error.to_string().contains("hunter2"));
}

#[test]
fn what_has_ended_is_kept_for_days_or_for_ever() {
    let keep = from_toml("[store]\nkeepOrdersDays = 0\nkeepTimeSheetsDays = 3650\n").unwrap().store.keep;
    assert_eq!((keep.orders, keep.time_sheets), (None, Some(Duration::from_hours(24 * 3650))));
    assert_eq!(keep.results, Some(Duration::from_hours(24 * 400)));
    let error = from_toml("[store]\nkeepAuditDays = -1\n").unwrap_err();
    let expected = "tillstream.toml line 2: store.keepAuditDays must be a whole number from 0 to 36600, not -1";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn librdkafka_names_may_be_written_with_dots() {
    let config = from_toml("[bus.kafka]\nsecurity.protocol = \"SASL_SSL\"\n\"linger.ms\" = 5\n").unwrap();
    assert_eq!(config.bus.kafka["security.protocol"].reveal(), "SASL_SSL");
    assert_eq!(config.bus.kafka["linger.ms"].reveal(), "5");
}

#[test]
fn roles_cannot_be_split_on_what_serves_one_process() {
    let embedded = Config::default();
    assert!(embedded.check_roles(&Role::ALL).is_ok());
    let error = embedded.check_roles(&[Role::Api]).unwrap_err();
    assert!(error.to_string().contains("--role all"), "{error}");
    let shared =
        from_env(&[("TILLSTREAM__BUS__KIND", "kafka"), ("TILLSTREAM__STORE__URL", "mysql://u:p@h:1/d")]).unwrap();
    assert!(shared.check_roles(&[Role::Api, Role::Relay]).is_ok());
}
