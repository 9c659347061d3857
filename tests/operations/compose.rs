//! `docker/docker-compose.yml`: pinned, checked, bounded, closed to the outside, and true of the program.

use std::collections::BTreeMap;

use clap::Parser;
use serde_json::{Map, Value};
use tillstream::cli::Cli;
use tillstream::config::Config;

use super::{file, items, texts, yaml};

const PATH: &str = "docker/docker-compose.yml";

fn services() -> Map<String, Value> {
    yaml(PATH)["services"].as_object().expect("services").clone()
}

/// Services that run Tillstream's own image.
fn own() -> Vec<(String, Value)> {
    let is_own = |service: &Value| service["image"].as_str().is_some_and(|image| image.starts_with("tillstream:"));
    services().into_iter().filter(|(_, service)| is_own(service)).collect()
}

/// A value with what stands in `${NAME:-default}` replaced by its default.
fn with_defaults(text: &str) -> String {
    let mut parts = text.split("${");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (variable, rest) = part.split_once('}').expect("a variable ends");
        let (_, default) = variable.split_once(":-").unwrap_or_else(|| panic!("{variable} has no default"));
        filled.push_str(default);
        filled.push_str(rest);
    }
    filled
}

#[test]
fn every_image_is_pinned_to_a_version() {
    for (name, service) in services() {
        let image = with_defaults(service["image"].as_str().unwrap_or_default());
        let version = image.rsplit_once(':').map(|(_, version)| version).unwrap_or_default();
        let pinned = version.split('.').count() == 3 && version.trim_start_matches('v').starts_with(char::is_numeric);
        assert!(pinned, "{name}: {image}");
    }
}

#[test]
fn every_service_is_bounded_and_either_checked_and_started_again_or_runs_once() {
    for (name, service) in services() {
        let limits = &service["deploy"]["resources"]["limits"];
        assert!(limits["cpus"].is_string() && limits["memory"].is_string(), "{name} has no limits");
        if service["restart"] == "no" {
            assert_eq!(service["healthcheck"]["disable"], true, "{name} runs once, so there is nothing to check");
            continue;
        }
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        // Tillstream's own image brings its check.
        let is_own = service["image"].as_str().is_some_and(|image| image.starts_with("tillstream:"));
        assert!(is_own || service["healthcheck"]["test"].is_array(), "{name} is not checked");
    }
}

#[test]
fn whoever_is_waited_for_can_say_that_it_is_ready() {
    let services = services();
    for (name, service) in &services {
        for (other, wait) in service["depends_on"].as_object().into_iter().flatten() {
            let once = services[other]["restart"] == "no";
            let expected = if once { "service_completed_successfully" } else { "service_healthy" };
            assert_eq!(wait["condition"], expected, "{name} waits for {other}");
        }
    }
}

#[test]
fn every_image_of_others_can_be_pinned_to_its_content() {
    for (name, service) in services() {
        let image = service["image"].as_str().unwrap_or_default();
        assert!(
            image.starts_with("tillstream") || image.ends_with("_DIGEST:-}"),
            "{name}: {image} has no place for a digest"
        );
    }
    for dockerfile in ["docker/Dockerfile", "docker/plugins.Dockerfile"] {
        let text = super::read(dockerfile);
        let bases = text.lines().filter_map(|line| line.strip_prefix("FROM "));
        for base in bases {
            let variable = base.split("${").nth(1).and_then(|rest| rest.split('}').next());
            let variable = variable.unwrap_or_else(|| panic!("{dockerfile}: {base} has no place for a digest"));
            assert!(text.contains(&format!("ARG {variable}=\n")), "{dockerfile}: {variable}");
            let passed = services().values().any(|service| {
                service["build"]["args"][variable].as_str() == Some(format!("${{{variable}:-}}").as_str())
            });
            assert!(passed, "{variable} is not handed to the build");
        }
    }
}

#[test]
fn each_image_is_built_by_one_service_and_the_others_take_what_it_built() {
    let mut builders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let services = services();
    for (name, service) in services.iter().filter(|(_, service)| service["build"].is_object()) {
        builders.entry(service["image"].as_str().expect("a name").to_owned()).or_default().push(name.clone());
        assert!(service["profiles"].is_null(), "{name} is there in every profile");
    }
    assert!(builders.values().all(|names| names.len() == 1), "{builders:?}");
    for (name, service) in own() {
        if service["build"].is_null() {
            assert_eq!(service["pull_policy"], "never", "{name} must not look for it in a registry");
            assert!(builders.contains_key(service["image"].as_str().expect("a name")), "{name}");
        }
    }
}

#[test]
fn no_container_has_more_rights_than_it_needs() {
    for (name, service) in services() {
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(texts(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert!(
            service["pids_limit"].as_u64().is_some_and(|limit| limit <= 1024),
            "{name} may start any number of processes"
        );
        let added: &[&str] = match name.as_str() {
            "setup" => &["CHOWN"],
            "mysql" => &["CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID"],
            _ => &[],
        };
        assert_eq!(texts(&service["cap_add"]), added, "{name}");
    }
}

#[test]
fn nothing_listens_beyond_this_machine_unless_somebody_says_so() {
    for (name, service) in services() {
        for port in texts(&service["ports"]) {
            assert!(with_defaults(&port).starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
}

#[test]
fn no_password_stands_in_the_file() {
    for (name, service) in services() {
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            let secret = ["PASSWORD", "TOKEN", "SECRET"].iter().any(|word| variable.contains(word));
            let value = value.as_str().unwrap_or_default();
            assert!(!secret || value.starts_with("/run/setup/"), "{name}: {variable} = {value}");
        }
    }
}

#[test]
fn what_is_mounted_is_there() {
    let declared = yaml(PATH)["volumes"].clone();
    for (name, service) in services() {
        for mount in texts(&service["volumes"]) {
            let source = mount.split(':').next().unwrap_or_default();
            match source.strip_prefix("./") {
                Some(path) => assert!(file("docker").join(path).exists(), "{name}: {mount}"),
                None => assert!(declared.get(source).is_some(), "{name}: volume {source} is not declared"),
            }
        }
    }
}

#[test]
fn commands_and_configuration_of_tillstream_s_containers_are_known_to_it() {
    for (name, service) in own() {
        let environment = service["environment"].as_object().into_iter().flatten();
        let settings: BTreeMap<String, String> = environment
            .map(|(variable, value)| (variable.clone(), with_defaults(value.as_str().unwrap_or_default())))
            .filter(|(variable, _)| variable.starts_with("TILLSTREAM__"))
            .collect();
        Config::from_sources(None, settings, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        if service["entrypoint"].is_array() {
            continue;
        }
        let command = texts(&service["command"]).into_iter().map(|argument| with_defaults(&argument));
        let command = std::iter::once("tillstream".to_owned()).chain(command);
        Cli::try_parse_from(command).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn the_profile_of_split_roles_has_every_role_and_two_processors() {
    let services = services();
    for role in ["processor", "relay", "dispatcher"] {
        let service = &services[role];
        assert_eq!(texts(&service["profiles"]), ["split"]);
        assert!(texts(&service["command"]).ends_with(&["--role".to_owned(), role.to_owned()]), "{role}");
    }
    assert_eq!(services["processor"]["deploy"]["replicas"], 2);
    assert!(services["tillstream"]["profiles"].is_null(), "it always runs: alone, or as the api");
}

#[test]
fn prometheus_looks_for_every_process_that_serves_metrics() {
    let config = yaml("docker/prometheus/prometheus.yml");
    let jobs: Vec<&Value> = items(&config["scrape_configs"]).collect();
    let job = jobs.iter().find(|job| job["job_name"] == "tillstream").expect("the job");
    let names: Vec<String> = items(&job["dns_sd_configs"]).flat_map(|found| texts(&found["names"])).collect();
    for (name, service) in own() {
        let serves = texts(&service["command"]).first().is_some_and(|command| command == "serve");
        assert_eq!(serves, names.contains(&name), "{name}");
    }
}
