//! What `tillstream check` says of brokers that are wrong, that refuse the password, that grant no rights, and of topics that
//! do not fit; and that `serve` ends with 2 where the configuration is at fault.

use std::process::Command;

use serde_json::Value;

use crate::alone;
use crate::chain::{Chain, say};
use crate::process;

/// The listener with SASL and without TLS, as `host:port`; `scripts/services up` prints it.
const SASL: &str = "TILLSTREAM_TEST_KAFKA_SASL";

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
    let _alone = alone();
    let Some(chain) = Chain::new("check on Kafka") else { return };
    let output = chain.command(&["check"]).output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("8 partitions"), "{said}");

    let brokers = "TILLSTREAM__BUS__BROKERS";
    // Nobody there: that may pass, and is no fault of the configuration.
    let nobody = fault(&chain, &[(brokers, "127.0.0.1:1")], 1);
    assert!(nobody.contains("127.0.0.1:1") && nobody.contains("bus.brokers"), "{nobody}");
    let count = fault(&chain, &[("TILLSTREAM__BUS__PARTITIONS", "4")], 2);
    assert!(count.contains("has 8 partitions, but 4") && count.contains("set bus.partitions = 8"), "{count}");
    let setting = fault(&chain, &[("TILLSTREAM__BUS__KAFKA__ACKS", "1")], 2);
    assert!(setting.contains("bus.kafka.acks") && setting.contains("leave it out"), "{setting}");

    let Ok(sasl) = std::env::var(SASL) else {
        say(&format!("skipped: passwords and rights: {SASL} names no broker (scripts/services up)"));
        return;
    };
    let as_user = |user, password| {
        [
            (brokers, sasl.as_str()),
            ("TILLSTREAM__BUS__KAFKA__SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("TILLSTREAM__BUS__KAFKA__SASL_MECHANISM", "PLAIN"),
            ("TILLSTREAM__BUS__KAFKA__SASL_USERNAME", user),
            ("TILLSTREAM__BUS__KAFKA__SASL_PASSWORD", password),
        ]
    };
    let good = chain.command(&["check"]).envs(as_user("tillstream", "tillstream")).output().expect("the binary starts");
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stdout));
    let password = fault(&chain, &as_user("tillstream", "gehe1m"), 2);
    assert!(password.contains("refuse user name or password") && password.contains("sasl.password"), "{password}");
    let rights = fault(&chain, &as_user("stranger", "stranger"), 2);
    assert!(rights.contains("lacks the right") && rights.contains("docs/configuration.md"), "{rights}");
}
