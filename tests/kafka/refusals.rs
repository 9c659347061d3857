//! What `tillstream check` says of brokers that are wrong, that refuse the password, that grant no rights or lack one, and of
//! topics that do not fit; and that `serve` ends with 2 where the configuration is at fault.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::beside_others;
use crate::chain::{Chain, PATIENCE, say, until};
use crate::process;
use crate::shop::{drawer, drawer_rule};

/// The listener with SASL and without TLS, as `host:port`; `scripts/services up` prints it.
const SASL: &str = "TILLSTREAM_TEST_KAFKA_SASL";
const BROKERS: &str = "TILLSTREAM__BUS__BROKERS";

/// What makes a process that user at the listener with SASL.
fn as_user<'a>(sasl: &'a str, user: &'a str, password: &'a str) -> [(&'static str, &'a str); 5] {
    [
        (BROKERS, sasl),
        ("TILLSTREAM__BUS__KAFKA__SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("TILLSTREAM__BUS__KAFKA__SASL_MECHANISM", "PLAIN"),
        ("TILLSTREAM__BUS__KAFKA__SASL_USERNAME", user),
        ("TILLSTREAM__BUS__KAFKA__SASL_PASSWORD", password),
    ]
}

/// Runs `check` with some things changed and returns what it says of the bus; then `serve`, which must end with this code
/// and the same words.
fn fault(chain: &Chain, changes: &[(&str, &str)], code: i32) -> String {
    let changed = |arguments: &[&str]| {
        let mut command: Command = chain.command(arguments);
        command.envs(changes.iter().copied());
        command
    };
    let output = changed(&["check", "--json"]).output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((output.status.code(), &report["ok"]), (Some(1), &Value::Bool(false)), "{said}");
    let check = report["checks"].as_array().expect("a list").iter().find(|check| check["name"] == "bus");
    let check = check.expect("the bus is looked at");
    assert_eq!(check["ok"], false, "{said}");
    let message = check["message"].as_str().expect("a sentence").to_owned();

    let (exit, logged) = process::run(&mut changed(&["serve"]));
    assert_eq!(exit, Some(code), "{logged}");
    assert!(logged.contains("error: bus: ") && !logged.contains("panicked"), "{logged}");
    for secret in ["gehe1m", "password="] {
        assert!(!logged.contains(secret) && !said.contains(secret), "no password may be shown: {said} {logged}");
    }
    message
}

#[actix::test]
async fn what_is_wrong_with_the_brokers_is_a_clear_sentence_and_wrong_configuration_ends_with_2() {
    let _beside = beside_others();
    let Some(chain) = Chain::new("check on Kafka") else { return };
    let output = chain.command(&["check"]).output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("8 partitions"), "{said}");

    // Nobody there: that may pass, and is no fault of the configuration.
    let nobody = fault(&chain, &[(BROKERS, "127.0.0.1:1")], 1);
    assert!(nobody.contains("127.0.0.1:1") && nobody.contains("bus.brokers"), "{nobody}");
    let count = fault(&chain, &[("TILLSTREAM__BUS__PARTITIONS", "4")], 2);
    assert!(count.contains("has 8 partitions, but 4") && count.contains("set bus.partitions = 8"), "{count}");
    let setting = fault(&chain, &[("TILLSTREAM__BUS__KAFKA__ACKS", "1")], 2);
    assert!(setting.contains("bus.kafka.acks") && setting.contains("leave it out"), "{setting}");

    let Ok(sasl) = std::env::var(SASL) else {
        say(&format!("skipped: passwords and rights: {SASL} names no broker (scripts/services up)"));
        return;
    };
    let good =
        chain.command(&["check"]).envs(as_user(&sasl, "tillstream", "tillstream")).output().expect("the binary starts");
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stdout));
    let password = fault(&chain, &as_user(&sasl, "tillstream", "gehe1m"), 2);
    assert!(password.contains("refuse user name or password") && password.contains("sasl.password"), "{password}");
    let rights = fault(&chain, &as_user(&sasl, "stranger", "stranger"), 2);
    assert!(rights.contains("lacks the right") && rights.contains("docs/configuration.md"), "{rights}");
}

/// Gives users of the brokers rights, with Kafka's own tool: `what` are its options for resource and operations.
fn grant(users: &[&str], what: &[&str]) {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services");
    let brokers = std::env::var("TILLSTREAM_TEST_KAFKA").expect("there is a broker");
    let mut command = Command::new(tool);
    command.args(["kafka-tool", "org.apache.kafka.tools.AclCommand", "--bootstrap-server", &brokers, "--add"]);
    command.args(users.iter().flat_map(|user| ["--allow-principal".to_owned(), format!("User:{user}")])).args(what);
    let output = command.output().expect("the script starts");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{what:?}: {}", String::from_utf8_lossy(&said));
}

/// The options for a resource and its operations.
fn rights<'a>(resource: &[&'a str], operations: &[&'a str]) -> Vec<&'a str> {
    resource.iter().copied().chain(operations.iter().flat_map(|operation| ["--operation", *operation])).collect()
}

#[actix::test]
async fn the_rights_that_the_documentation_lists_suffice_and_each_that_is_missing_is_named() {
    let _beside = beside_others();
    let what = "rights on Kafka";
    let Ok(sasl) = std::env::var(SASL) else {
        say(&format!("skipped: {what}: {SASL} names no broker (scripts/services up)"));
        return;
    };
    let Some(mut chain) = Chain::new(what) else { return };
    // As the table in docs/configuration.md says, P and G filled in.
    let (prefix, group) = (format!("{}.", chain.name()), chain.name().to_owned());
    let lanes = format!("{prefix}{group}.outbox.");
    let topics = ["--topic", &prefix, "--resource-pattern-type", "prefixed"];
    let groups = ["--group", &lanes, "--resource-pattern-type", "prefixed"];
    let transactions = ["--transactional-id", &lanes, "--resource-pattern-type", "prefixed"];
    let all_but_read = ["Write", "Describe", "DescribeConfigs", "Create"];
    grant(&["clerk", "no-read", "no-group", "no-lanes"], &rights(&topics, &all_but_read));
    grant(&["clerk", "no-group", "no-lanes"], &rights(&topics, &["Read"]));
    grant(&["clerk", "no-read", "no-lanes"], &rights(&["--group", &group], &["Read", "Describe"]));
    grant(&["clerk", "no-read", "no-group"], &rights(&groups, &["Read", "Describe"]));
    grant(&["clerk", "no-read", "no-group"], &rights(&transactions, &["Write", "Describe"]));

    let check = chain.command(&["check"]).envs(as_user(&sasl, "clerk", "clerk")).output().expect("the binary starts");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    let environment = as_user(&sasl, "clerk", "clerk").map(|(name, value)| (name, value.to_owned()));
    chain.environment.extend(environment);
    let process = chain.start("all");
    let rules = json!({"active": true, "settings": {"rules": [drawer_rule(0)]}});
    assert_eq!(process.patch("/api/plugins/fraud-detection", rules).await.0, 200);
    process.post(&[drawer("T1", 1, 0)]).await;
    until("what was decided is on the bus", PATIENCE, async || {
        process.get("/api/events?type=pos.fraud.alert_raised").await.1["items"]
            .as_array()
            .is_some_and(|all| all.len() == 1)
    })
    .await;
    drop(process);

    for (user, words) in [
        ("no-read", ["reading topic", "pos.events"]),
        ("no-group", ["consumer group", &group]),
        ("no-lanes", ["transactional id", &lanes]),
    ] {
        let output = chain.command(&["check"]).envs(as_user(&sasl, user, user)).output().expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stdout);
        let fault = said.lines().find(|line| line.starts_with("FAULT bus")).unwrap_or_else(|| panic!("{user}: {said}"));
        for word in words.into_iter().chain(["lacks the right", "docs/configuration.md"]) {
            assert!(fault.contains(word), "{word:?} is missing in: {fault}");
        }
        assert_eq!(output.status.code(), Some(1));
        // Other rights may serve other roles, so it starts, and readiness says what is wrong.
        chain.environment.extend(as_user(&sasl, user, user).map(|(name, value)| (name, value.to_owned())));
        let process = chain.start("processor,relay");
        if user != "no-lanes" {
            until("readiness names the missing right", PATIENCE, async || {
                let (status, body) = process.get("/health/ready").await;
                status == 503 && body.to_string().contains("lacks the right")
            })
            .await;
        }
    }
}
