//! The whole system against a plain sequential oracle: the rig fills the bus, the binary catches up, and what is then
//! in the store and on the bus must be what the oracle says, whatever the number of shards and however often the
//! process was killed on the way.
//!
//! The same holds on a real MySQL server, where `TILLSTREAM_TEST_MYSQL` names one.
//!
//! Debug builds use a smaller stream; `TILLSTREAM_FULL=1` or a release build use the whole one. `TILLSTREAM_BINARY` names
//! another binary to test, such as a release build of the same sources.

mod oracle;
mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;

use oracle::Expected;
use support::compare::assert_same;
use support::database::Database;
use support::derived::Derived;
use support::results;
use support::site::{Site, Stream, at_full_size};

/// The default of `bus.partitions`.
const PARTITIONS: u32 = 8;

const KILLS: u32 = 20;

fn stream(seed: u64) -> Stream {
    // Fewer tills make the smaller stream last as long: hours, so that people log out and shifts end.
    if at_full_size() {
        Stream { seed, events: 200_000, terminals_per_store: 50 }
    } else {
        Stream { seed, events: 30_000, terminals_per_store: 8 }
    }
}

fn expected(stream: Stream) -> Expected {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins.yaml");
    let text = fs::read_to_string(file).expect("plugins.yaml");
    let defaults: Value = serde_saphyr::from_str(&text).expect("YAML");
    let messages = stream.messages();
    Expected::of(messages.iter().map(Vec::as_slice), PARTITIONS, &defaults)
}

/// Compares everything that a run left behind with what the oracle says.
fn assert_as_expected(expected: Expected, site: &Site) {
    let store = site.store();
    let derived = Derived::on(&site.path("bus.db"), PARTITIONS);
    let dead_letters = expected.log.dead_letters.iter();
    let dead_letters = dead_letters.map(|dead| (dead.reason.to_owned(), dead.masked_bytes())).collect();
    assert_same("dead letters", dead_letters, results::dead_letters(store));
    let lookups = expected.failed_lookups("not_configured");
    assert_same("failed look-ups", lookups, derived.failed_lookups());
    assert_same("sessions", expected.time_sheets.sessions, results::sessions(store));
    assert_same("published auto-logouts", expected.time_sheets.auto_logouts, derived.auto_logouts());
    assert_same("age prompts", expected.age_checks.prompts, results::age_prompts(store));
    assert_same("published age prompts", expected.age_checks.required, derived.age_checks_required());
    assert_same("outcomes of recommendations", expected.recommendations.outcomes, results::recommendations(store));
    assert_same("published recommendations", expected.recommendations.made, derived.recommendations());
    assert_same("alerts", expected.alerts, results::alerts(store));
    assert_same("published alerts", expected.published_alerts, derived.alerts());
}

/// Asserts that two runs over the same bus left the same rows and the same derived events behind.
fn assert_identical(undisturbed: &Site, other: &Site) {
    let (expected, actual) = (results::rows(undisturbed.store()), results::rows(other.store()));
    for (table, rows) in expected {
        assert_same(table, rows, actual[table].clone());
    }
    let derived = |site: &Site| Derived::on(&site.path("bus.db"), PARTITIONS).lines();
    assert_same("derived events", derived(undisturbed), derived(other));
}

fn a_seed_gives_what_the_oracle_says(seed: u64) {
    let stream = stream(seed);
    a_stream_gives_what_the_oracle_says(stream, &Site::filled(stream));
}

fn a_stream_gives_what_the_oracle_says(stream: Stream, site: &Site) {
    let expected = expected(stream);
    let figures = site.catch_up(1);
    assert_eq!(figures["events"], expected.log.events.len(), "distinct valid events: {figures}");
    assert_eq!(figures["duplicates"], expected.log.duplicates, "duplicates: {figures}");
    assert_eq!(figures["deadLetters"], expected.log.dead_letters.len(), "dead letters: {figures}");
    assert_as_expected(expected, site);
}

#[test]
fn everything_is_as_the_oracle_says_with_seed_1() {
    a_seed_gives_what_the_oracle_says(1);
}

#[test]
fn everything_is_as_the_oracle_says_with_seed_2() {
    a_seed_gives_what_the_oracle_says(2);
}

#[test]
fn everything_is_as_the_oracle_says_with_seed_3() {
    a_seed_gives_what_the_oracle_says(3);
}

#[test]
fn everything_is_as_the_oracle_says_on_mysql() {
    let Some(database) = Database::on_server("the oracle on MySQL") else { return };
    let stream = stream(1);
    a_stream_gives_what_the_oracle_says(stream, &Site::filled(stream).with_store(database));
}

#[test]
fn the_number_of_shards_changes_nothing() {
    let one = Site::filled(stream(4));
    let four = one.with_same_bus();
    one.catch_up(1);
    four.catch_up(4);
    assert_identical(&one, &four);
}

#[test]
fn being_killed_twenty_times_changes_nothing() {
    let calm = Site::filled(stream(5));
    let killed = calm.with_same_bus();
    calm.catch_up(4);
    kill_again_and_again(&calm, &killed);
}

#[test]
fn being_killed_twenty_times_on_mysql_leaves_what_an_undisturbed_run_leaves_in_a_file() {
    let Some(database) = Database::on_server("kills on MySQL") else { return };
    let calm = Site::filled(stream(5));
    let killed = calm.with_same_bus().with_store(database);
    calm.catch_up(4);
    kill_again_and_again(&calm, &killed);
}

fn kill_again_and_again(calm: &Site, killed: &Site) {
    // Spread over the whole log, and once more when it is read and only what follows from it remains.
    let records = calm.progress();
    for kill in 1..=KILLS {
        let on_the_way = records * i64::from(kill) / i64::from(KILLS + 1);
        assert!(killed.catch_up_until_killed(4, on_the_way), "everything was done before kill {kill}");
    }
    killed.catch_up_until_killed(4, records - 1);
    killed.catch_up(4);
    assert_identical(calm, killed);
}

#[test]
fn starting_again_once_everything_is_done_changes_nothing() {
    let site = Site::filled(Stream { events: 5_000, ..stream(6) });
    site.catch_up(4);
    let rows = results::rows(site.store());
    let derived = || Derived::on(&site.path("bus.db"), PARTITIONS).lines();
    let lines = derived();
    let figures = site.catch_up(4);
    for figure in ["events", "duplicates", "deadLetters", "derived"] {
        assert_eq!(figures[figure], 0, "{figure}: {figures}");
    }
    assert_eq!(rows, results::rows(site.store()));
    assert_same("derived events", lines, derived());
}

/// What was decided after the backup of the store is decided again: nothing is missing and nothing differs. Those events are on
/// the bus again, too, since a restored store cannot know what had got there.
#[test]
fn a_backup_made_at_work_gives_the_same_results_when_it_is_restored() {
    let calm = Site::filled(stream(6));
    let disturbed = calm.with_same_bus();
    calm.catch_up(2);
    let restored = disturbed.back_up_at_work(calm.progress() / 4);
    assert!(restored.progress() > 0 && restored.progress() < calm.progress(), "the backup is of a moment in between");
    // The store alone, beside the log that went on.
    disturbed.catch_up(2);
    disturbed.put_back_store_of(&restored);
    for site in [restored, disturbed] {
        site.catch_up(2);
        assert_eq!(results::rows(site.store()), results::rows(calm.store()));
        let expected = Derived::on(&calm.path("bus.db"), PARTITIONS).lines();
        let derived = Derived::after_restore(&site.path("bus.db"), PARTITIONS);
        assert_same("derived events", expected, derived.lines());
    }
}
