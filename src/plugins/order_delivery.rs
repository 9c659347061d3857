//! `order-delivery`: sends accepted orders to the third party, and decides what follows from its answers.
//!
//! Its events come from topic `order.created` and its calls change what others have, so it does not run in the shards:
//! the consumer and the dispatcher in [`crate::delivery::orders`] ask it. Off, it holds orders and skips none. The decision
//! stands here, as pure as any plugin's: attempt and settings in, what next out. No clock, no randomness, no I/O.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FieldError, Plugin, Subscription, check_range};
use crate::effect::Effects;
use crate::event::{Event, stable_id};

/// Longest Retry-After that is obeyed, in milliseconds; a third party that asks for more is asked again then.
pub const RETRY_AFTER_MS_MAX: u64 = 600_000;

/// Statuses of [`Settings::exists_statuses`].
const EXISTS_STATUSES_MAX: usize = 20;

/// The plugin.
#[derive(Debug)]
pub struct OrderDelivery;

/// What a manager can set. A change applies to the next attempt of every order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// How long one attempt may take, in milliseconds.
    #[schemars(range(min = 100, max = 120_000))]
    pub timeout_ms: u64,
    /// How often an order is sent before it fails. Attempts while the third party is away as a whole do not count.
    #[schemars(range(min = 1, max = 1000))]
    pub attempts: u32,
    /// Attempts per second, of all orders together; 0 = no limit.
    #[schemars(range(min = 0, max = 100_000))]
    pub rate_per_second: u32,
    /// HTTP statuses, from 400 to 499, by which the third party says that it has the order already, such as 409. They count as delivered,
    /// but only where an earlier attempt may have arrived: its answer was lost, or a server error.
    #[schemars(length(max = 20), inner(range(min = 400, max = 499)))]
    pub exists_statuses: Vec<u16>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { timeout_ms: 5_000, attempts: 20, rate_per_second: 0, exists_statuses: Vec::new() }
    }
}

impl Plugin for OrderDelivery {
    type State = ();
    type Settings = Settings;
    type Compiled = Settings;
    const NAME: &'static str = "order-delivery";
    const DESCRIPTION: &'static str =
        "Sends accepted orders to the third party until it has each of them once; holds them while it is off.";

    fn compile(settings: &Settings) -> Result<Settings, Vec<FieldError>> {
        let mut errors = Vec::new();
        check_range(&mut errors, "timeoutMs", settings.timeout_ms, 100..=120_000);
        check_range(&mut errors, "attempts", settings.attempts, 1..=1000);
        check_range(&mut errors, "ratePerSecond", settings.rate_per_second, 0..=100_000);
        if settings.exists_statuses.len() > EXISTS_STATUSES_MAX {
            errors.push(FieldError::new("existsStatuses", format!("has more than {EXISTS_STATUSES_MAX} statuses")));
        }
        for (index, status) in settings.exists_statuses.iter().enumerate() {
            check_range(&mut errors, format!("existsStatuses[{index}]"), *status, 400..=499);
        }
        if errors.is_empty() { Ok(settings.clone()) } else { Err(errors) }
    }

    /// None: what it sees is on a topic of its own.
    fn subscriptions(_: &Settings) -> Vec<Subscription> {
        Vec::new()
    }

    fn apply((): &mut (), _: &Settings, _: &Event, _: &mut Effects<'_>) {}
}

/// Id of the dead letter of an order that came to nothing. An order has one, however often it fails.
#[must_use]
pub fn dead_letter_id(order_id: &str) -> String {
    stable_id(&["dead_letter", "order", order_id])
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The third party has the order.
    Taken,
    /// It answered with another status.
    Status {
        /// The status.
        status: u16,
        /// What it asks to be spared for, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// It did not answer in time.
    Timeout,
    /// No connection: nothing was sent.
    Unreachable,
    /// The connection broke before the answer was complete.
    Broken,
}

/// What follows from an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The order is a success.
    Success,
    /// Another attempt follows.
    Retry {
        /// Whether this one counts against the limit.
        counted: bool,
        /// Not before this many milliseconds from now; without it, after a pause of the dispatcher's choice.
        not_before_ms: Option<u64>,
    },
    /// It comes to nothing, with this reason.
    Fail(&'static str),
}

impl Outcome {
    /// True if the third party is not working as it should: its breaker counts it. An answer that refuses this one order,
    /// or asks for patience, shows that it lives.
    #[must_use]
    pub const fn is_fault_of_host(&self) -> bool {
        match self {
            Self::Taken => false,
            Self::Status { status, .. } => *status >= 500,
            Self::Timeout | Self::Unreachable | Self::Broken => true,
        }
    }

    /// True if the third party may have taken an order that was sent, although it did not say so.
    #[must_use]
    pub const fn may_have_arrived(&self) -> bool {
        match self {
            Self::Taken | Self::Timeout | Self::Broken => true,
            Self::Status { status, .. } => *status >= 500,
            Self::Unreachable => false,
        }
    }

    /// True if the same order may be taken when it is sent again.
    const fn may_be_retried(&self) -> bool {
        match self {
            Self::Taken => false,
            // 3xx: an address that has moved is configuration, which a person may correct while the order waits.
            Self::Status { status, .. } => matches!(*status, 408 | 409 | 425 | 429) || *status >= 500 || *status < 400,
            Self::Timeout | Self::Unreachable | Self::Broken => true,
        }
    }
}

/// Decides what follows from an attempt. `counted` attempts have been spent before it; `host_is_away`: its breaker is open,
/// or this attempt tried whether it is back, which is nothing to hold against the order. `may_have_arrived`: so may an attempt before
/// this one. Without that, a third party that has the order has it from somebody else.
#[must_use]
pub fn decide(
    outcome: &Outcome,
    counted: u32,
    host_is_away: bool,
    may_have_arrived: bool,
    settings: &Settings,
) -> Next {
    let says_it_exists = matches!(outcome, Outcome::Status { status, .. } if settings.exists_statuses.contains(status));
    if *outcome == Outcome::Taken || (may_have_arrived && says_it_exists) {
        return Next::Success;
    }
    if !outcome.may_be_retried() {
        return Next::Fail("refused_by_third_party");
    }
    let counts = !(host_is_away && outcome.is_fault_of_host());
    if counts && counted.saturating_add(1) >= settings.attempts {
        return Next::Fail("attempts_exhausted");
    }
    let not_before_ms = match outcome {
        Outcome::Status { retry_after_ms, .. } => retry_after_ms.map(|wait| wait.min(RETRY_AFTER_MS_MAX)),
        _ => None,
    };
    Next::Retry { counted: counts, not_before_ms }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::plugins::testing::wrong_fields;

    fn status(status: u16) -> Outcome {
        Outcome::Status { status, retry_after_ms: None }
    }

    fn with_attempts(attempts: u32) -> Settings {
        Settings { attempts, ..Settings::default() }
    }

    #[test]
    fn only_answers_that_another_attempt_may_change_are_retried() {
        let settings = with_attempts(3);
        for retried in [408, 409, 425, 429, 500, 502, 503, 504, 302] {
            let next = decide(&status(retried), 0, false, false, &settings);
            assert!(matches!(next, Next::Retry { counted: true, .. }), "{retried}");
        }
        for refused in [400, 401, 403, 404, 410, 413, 415, 422] {
            assert_eq!(
                decide(&status(refused), 0, false, false, &settings),
                Next::Fail("refused_by_third_party"),
                "{refused}"
            );
        }
        assert_eq!(decide(&Outcome::Taken, 9, false, false, &settings), Next::Success);
    }

    #[test]
    fn the_attempts_of_the_settings_are_the_limit_while_the_third_party_works() {
        let settings = with_attempts(3);
        assert!(matches!(decide(&Outcome::Timeout, 1, false, false, &settings), Next::Retry { .. }));
        assert_eq!(decide(&Outcome::Timeout, 2, false, false, &settings), Next::Fail("attempts_exhausted"));
        let probe = decide(&Outcome::Unreachable, 2, true, false, &settings);
        assert_eq!(probe, Next::Retry { counted: false, not_before_ms: None });
        assert_eq!(decide(&status(429), 2, true, false, &settings), Next::Fail("attempts_exhausted"), "it lives");
    }

    #[test]
    fn the_third_party_may_ask_for_patience_within_bounds() {
        let asked = |wait| Outcome::Status { status: 503, retry_after_ms: Some(wait) };
        let next = |wait| decide(&asked(wait), 0, false, false, &with_attempts(9));
        assert_eq!(next(7_000), Next::Retry { counted: true, not_before_ms: Some(7_000) });
        assert_eq!(next(u64::MAX), Next::Retry { counted: true, not_before_ms: Some(RETRY_AFTER_MS_MAX) });
    }

    #[test]
    fn a_status_that_says_exists_already_delivers_only_where_an_earlier_attempt_may_have_arrived() {
        let settings = Settings { exists_statuses: vec![409, 422], ..with_attempts(2) };
        let next = |code, before| decide(&status(code), 1, false, before, &settings);
        assert_eq!((next(409, true), next(422, true)), (Next::Success, Next::Success));
        assert_eq!(next(409, false), Next::Fail("attempts_exhausted"), "somebody else's order");
        assert_eq!(next(422, false), Next::Fail("refused_by_third_party"));
        assert_eq!(next(400, true), Next::Fail("refused_by_third_party"), "it is not on the list");
        assert_eq!(decide(&status(409), 1, false, true, &with_attempts(2)), Next::Fail("attempts_exhausted"));
    }

    #[test]
    fn what_was_not_sent_cannot_have_arrived() {
        for outcome in [Outcome::Timeout, Outcome::Broken, status(500), status(503), status(599)] {
            assert!(outcome.may_have_arrived(), "{outcome:?}");
        }
        for outcome in [Outcome::Unreachable, status(302), status(400), status(409), status(429)] {
            assert!(!outcome.may_have_arrived(), "{outcome:?}");
        }
    }

    #[test]
    fn wrong_settings_name_their_fields() {
        let wrong = wrong_fields::<OrderDelivery>;
        assert_eq!(wrong(json!({})), [""; 0]);
        assert_eq!(
            wrong(json!({"timeoutMs": 99, "attempts": 0, "ratePerSecond": 100_001})),
            ["timeoutMs", "attempts", "ratePerSecond"]
        );
        assert_eq!(wrong(json!({"existsStatuses": [409, 500]})), ["existsStatuses[1]"]);
    }

    proptest! {
        #[test]
        fn an_order_that_nobody_takes_ends_after_exactly_the_attempts_that_count(attempts in 1_u32..50) {
            let settings = with_attempts(attempts);
            let mut counted = 0;
            while let Next::Retry { counted: true, .. } = decide(&status(500), counted, false, false, &settings) {
                counted += 1;
            }
            prop_assert_eq!(counted + 1, attempts);
        }
    }
}
