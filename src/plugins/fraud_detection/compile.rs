//! Rules checked and made ready: per scope and event type the list of rules that look at it.

use rustc_hash::FxHashSet;
use sha2::{Digest, Sha256};

use super::field::Field;
use super::settings::{After, Kind, Numerator, Rule, Same, Settings, Status};
use super::window::ENTRIES_MAX;
use crate::event::{Direction, EventType, Scope, Severity};
use crate::plugins::eligibility::event_types;
use crate::plugins::expression::Expression;
use crate::plugins::forgetting::check_days;
use crate::plugins::{EventTypes, FieldError, Subscription};

/// A ratio counts the events of its denominator in this many buckets per window.
pub(super) const BUCKETS: i64 = 24;
const RULES_MAX: usize = 100;
const WINDOW_SECONDS_MAX: i64 = 31 * 86_400;
/// Longer than the longest window and the longest pause after an alert.
const FORGET_AFTER_DAYS_MIN: u32 = 32;

/// Settings that have been checked.
#[derive(Debug)]
pub struct Compiled {
    pub(super) rules: Vec<CompiledRule>,
    /// By scope, then by event type.
    uses: [Vec<Vec<RuleUse>>; 4],
    /// Keys of the states of all rules, those included that do nothing for now.
    keys: FxHashSet<u32>,
    /// By scope: days without an event after which what rules remember is forgotten; 0 = never.
    forget_after_days: [u32; 4],
}

/// What an event type means to a rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleUse {
    /// Index in [`Compiled::rules`].
    pub(super) rule: u16,
    /// The type is in `eventTypes`.
    pub(super) counts: bool,
    /// The type is in `numerator`.
    pub(super) numerator: bool,
    /// The type is in `after.eventTypes`.
    pub(super) precedes: bool,
}

/// A rule that has been checked.
#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) severity: Severity,
    pub(super) scope: Scope,
    pub(super) event_types: EventTypes,
    pub(super) numerator_types: EventTypes,
    /// False if only the type decides whether an event counts.
    pub(super) filtered: bool,
    pub(super) condition: Option<Expression>,
    pub(super) minimum_amount: Option<i64>,
    pub(super) receipt: Option<bool>,
    pub(super) manual: Option<bool>,
    pub(super) direction: Option<Direction>,
    pub(super) store_open: Option<bool>,
    pub(super) after: Option<(i64, Same)>,
    pub(super) measure: Measure,
    pub(super) window_ms: i64,
    pub(super) limit: f64,
    pub(super) minimum_sample: u32,
    pub(super) cooldown_ms: i64,
    pub(super) shadow: bool,
    /// Names the rule's state; depends on everything that decides what is collected.
    pub(super) key: u32,
    /// Shown in alerts; depends on everything that matters for the decision.
    pub(super) revision: u64,
}

impl CompiledRule {
    /// True if what was observed, over a sample of that size, is more than the rule allows.
    pub(super) fn exceeded(&self, observed: f64, sample: u64) -> bool {
        sample >= u64::from(self.minimum_sample) && observed > self.limit
    }
}

/// What is observed.
#[derive(Debug)]
pub(super) enum Measure {
    Count,
    Sum(Field),
    Distinct(Field),
    /// With the expression that makes an event a numerator, unless its type does.
    Ratio(Option<Expression>),
}

impl Compiled {
    /// Days without an event after which what rules remember of an entity of that scope is forgotten; 0 = never.
    pub(super) const fn forget_after_days(&self, scope: Scope) -> u32 {
        self.forget_after_days[scope as usize]
    }

    /// The rules of that scope which look at that type, in the order of the settings.
    pub(super) fn uses(&self, scope: Scope, event_type: EventType) -> &[RuleUse] {
        &self.uses[scope as usize][event_type as usize]
    }

    /// True if a rule of the settings, running or not, owns that state.
    pub(super) fn knows(&self, key: u32) -> bool {
        self.keys.contains(&key)
    }

    /// The event types that rules of each scope look at.
    pub(super) fn subscriptions(&self) -> Vec<Subscription> {
        let types = |scope: Scope| {
            let seen = EventType::ALL.iter().filter(|kind| !self.uses(scope, **kind).is_empty());
            seen.fold(EventTypes::default(), |types, kind| types.with(*kind))
        };
        Scope::ALL
            .into_iter()
            .map(|scope| Subscription { scope, event_types: types(scope) })
            .filter(|subscription| subscription.event_types != EventTypes::default())
            .collect()
    }
}

/// Checks settings and makes them ready.
pub(super) fn compile(settings: &Settings) -> Result<Compiled, Vec<FieldError>> {
    // Each rule takes a while to check: too many of them are not looked at.
    if settings.rules.len() > RULES_MAX {
        return Err(vec![FieldError::new("rules", format!("holds more than {RULES_MAX} rules"))]);
    }
    let mut errors = Vec::new();
    let forget_after_days = [
        ("forgetTerminalsAfterDays", Scope::Terminal, settings.forget_terminals_after_days),
        ("forgetEmployeesAfterDays", Scope::Employee, settings.forget_employees_after_days),
        ("forgetCustomersAfterDays", Scope::Customer, settings.forget_customers_after_days),
        ("forgetCardsAfterDays", Scope::Card, settings.forget_cards_after_days),
    ];
    let mut days_by_scope = [0; 4];
    for (field, scope, days) in forget_after_days {
        // No rule looks further back than its window and its pause after an alert.
        check_days(&mut errors, field, days, FORGET_AFTER_DAYS_MIN);
        days_by_scope[scope as usize] = days;
    }
    let mut keys = FxHashSet::default();
    let mut ids = FxHashSet::default();
    let mut rules = Vec::new();
    let mut preceding = Vec::new();
    for (index, rule) in settings.rules.iter().enumerate() {
        let mut check = Check { path: format!("rules[{index}]"), errors: &mut errors };
        if !ids.insert(rule.id.as_str()) {
            check.error("id", format!("another rule has the id {:?} already", rule.id));
        }
        let (compiled, after_types) = check.rule(rule);
        if !keys.insert(compiled.key) {
            // 32 bits of a hash that includes the id: this happens to nobody, and if it does another id helps.
            check.error("id", "collides with another rule; choose another id".to_owned());
        }
        if matches!(rule.status, Status::Active | Status::Shadow) {
            rules.push(compiled);
            preceding.push(after_types);
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let uses = Scope::ALL.map(|scope| {
        let uses_of = |kind: EventType| {
            let each = rules.iter().zip(&preceding).enumerate().filter(|(_, (rule, _))| rule.scope == scope);
            each.map(|(index, (rule, preceding))| RuleUse {
                rule: u16::try_from(index).expect("at most RULES_MAX rules"),
                counts: rule.event_types.contains(kind),
                numerator: rule.numerator_types.contains(kind),
                precedes: preceding.contains(kind),
            })
            .filter(|found| found.counts || found.numerator || found.precedes)
            .collect()
        };
        EventType::ALL.iter().copied().chain([EventType::Unknown]).map(uses_of).collect()
    });
    Ok(Compiled { rules, uses, keys, forget_after_days: days_by_scope })
}

/// Collects what is wrong with one rule.
struct Check<'a> {
    path: String,
    errors: &'a mut Vec<FieldError>,
}

impl Check<'_> {
    fn error(&mut self, field: &str, message: String) {
        self.errors.push(FieldError::new(format!("{}.{field}", self.path), message));
    }

    fn require(&mut self, holds: bool, field: &str, message: &str) {
        if !holds {
            self.error(field, message.to_owned());
        }
    }

    fn types(&mut self, names: &[String], field: &str) -> EventTypes {
        self.require(!names.is_empty(), field, "names no event type; name at least one");
        event_types(names, &format!("{}.{field}", self.path)).unwrap_or_else(|mut found| {
            self.errors.append(&mut found);
            EventTypes::default()
        })
    }

    fn expression(&mut self, text: &str, field: &str) -> Option<Expression> {
        Expression::compile(text).map_err(|message| self.error(field, message)).ok()
    }

    fn rule(&mut self, rule: &Rule) -> (CompiledRule, EventTypes) {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let id = &rule.id;
        self.require(
            !id.is_empty() && id.len() <= 64 && id.bytes().all(plain),
            "id",
            "must be 1 to 64 lower-case letters, digits and dashes",
        );
        let name_fits = !rule.name.is_empty() && rule.name.chars().count() <= 200;
        self.require(name_fits, "name", "must be 1 to 200 characters");
        let window_fits = (0..=WINDOW_SECONDS_MAX).contains(&rule.window_seconds);
        self.require(window_fits, "windowSeconds", "must be 0 to 2678400 (31 days)");
        let cooldown = rule.cooldown_seconds.unwrap_or(rule.window_seconds);
        if rule.cooldown_seconds.is_some() {
            let fits = (0..=WINDOW_SECONDS_MAX).contains(&cooldown);
            self.require(fits, "cooldownSeconds", "must be 0 to 2678400 (31 days)");
        }
        self.require(rule.limit.is_finite() && rule.limit >= 0.0, "limit", "must be a number of 0 or more");
        self.require(rule.minimum_amount.is_none_or(|amount| amount >= 0), "minimumAmount", "must be 0 or more");
        let event_types = self.types(&rule.event_types, "eventTypes");
        let (measure, numerator_types) = self.measure(rule);
        self.bounds(rule, &measure);
        self.entity_is_named(rule, event_types.union(numerator_types));
        let after_types = rule.after.as_ref().map_or(EventTypes::default(), |after| self.after(after));
        let condition = rule.condition.as_deref().and_then(|text| self.expression(text, "condition"));
        let compiled = CompiledRule {
            id: rule.id.clone(),
            name: rule.name.clone(),
            severity: rule.severity,
            scope: rule.scope,
            event_types,
            numerator_types,
            filtered: condition.is_some()
                || rule.minimum_amount.is_some()
                || rule.receipt.is_some()
                || rule.manual.is_some()
                || rule.direction.is_some()
                || rule.store_open.is_some()
                || rule.after.is_some(),
            condition,
            minimum_amount: rule.minimum_amount,
            receipt: rule.receipt,
            manual: rule.manual,
            direction: rule.direction,
            store_open: rule.store_open,
            after: rule.after.as_ref().map(|after| (after.within_seconds.saturating_mul(1000), after.same)),
            measure,
            window_ms: rule.window_seconds.saturating_mul(1000),
            limit: rule.limit,
            minimum_sample: rule.minimum_sample.unwrap_or(1),
            cooldown_ms: cooldown.saturating_mul(1000),
            shadow: rule.status == Status::Shadow,
            key: hash_without(rule, &["name", "severity", "limit", "minimumSample", "cooldownSeconds", "status"]),
            revision: u64::from(hash_without(rule, &["name", "status"])),
        };
        (compiled, after_types)
    }

    fn measure(&mut self, rule: &Rule) -> (Measure, EventTypes) {
        let aggregate = &rule.aggregate;
        let of_wanted = matches!(aggregate.kind, Kind::Sum | Kind::Distinct);
        let ratio = aggregate.kind == Kind::Ratio;
        self.require(of_wanted || aggregate.of.is_none(), "aggregate.of", "belongs to sum and distinct only");
        self.require(ratio || aggregate.numerator.is_none(), "aggregate.numerator", "belongs to ratio only");
        let mut field = |numeric: bool| {
            let found = aggregate.of.as_deref().map_or_else(
                || Err("is missing: which field, such as amount or data.PATH?".to_owned()),
                |of| Field::parse(of, numeric),
            );
            found.unwrap_or_else(|message| {
                self.error("aggregate.of", message);
                Field::Amount
            })
        };
        match aggregate.kind {
            Kind::Count => (Measure::Count, EventTypes::default()),
            Kind::Sum => (Measure::Sum(field(true)), EventTypes::default()),
            Kind::Distinct => (Measure::Distinct(field(false)), EventTypes::default()),
            Kind::Ratio => {
                let types = match &aggregate.numerator {
                    Some(Numerator::EventTypes(names)) => self.types(names, "aggregate.numerator"),
                    Some(Numerator::Expression(text)) if EventType::from_name(text) != EventType::Unknown => {
                        self.types(std::slice::from_ref(text), "aggregate.numerator")
                    }
                    Some(Numerator::Expression(text)) => {
                        let expression = self.expression(text, "aggregate.numerator");
                        return (Measure::Ratio(expression), EventTypes::default());
                    }
                    None => {
                        let message = "is missing: a list of event types, or a CEL expression";
                        self.error("aggregate.numerator", message.to_owned());
                        EventTypes::default()
                    }
                };
                (Measure::Ratio(None), types)
            }
        }
    }

    /// What could never fire is refused: windows keep a bounded number of events.
    fn bounds(&mut self, rule: &Rule, measure: &Measure) {
        #[expect(clippy::cast_precision_loss, reason = "a small constant")]
        let most = ENTRIES_MAX as f64;
        match measure {
            Measure::Ratio(_) => {
                let enough = rule.window_seconds >= BUCKETS;
                self.require(enough, "windowSeconds", "must be at least 24 for a ratio");
            }
            Measure::Count | Measure::Distinct(_) => {
                self.require(rule.limit < most, "limit", "must be below 500: so many events a window holds");
            }
            Measure::Sum(_) => {}
        }
        if !matches!(measure, Measure::Ratio(_)) {
            let fits = rule.minimum_sample.is_none_or(|sample| f64::from(sample) <= most);
            self.require(fits, "minimumSample", "must be at most 500: so many events a window holds");
        }
        let positive = rule.minimum_sample.is_none_or(|sample| sample >= 1);
        self.require(positive, "minimumSample", "must be 1 or more");
    }

    fn entity_is_named(&mut self, rule: &Rule, types: EventTypes) {
        let naming: &[EventType] = match rule.scope {
            Scope::Terminal | Scope::Employee => return,
            Scope::Customer => &[EventType::CustomerIdentified, EventType::PaymentCompleted],
            Scope::Card => &[EventType::PaymentCompleted, EventType::RefundCompleted],
        };
        if types != EventTypes::default() && !naming.iter().any(|kind| types.contains(*kind)) {
            let names: Vec<_> = naming.iter().map(|kind| kind.as_str()).collect();
            let message = format!(
                "none of these events names a {}, so the rule would see nothing; only {} do",
                rule.scope.as_str(),
                names.join(" and ")
            );
            self.error("eventTypes", message);
        }
    }

    fn after(&mut self, after: &After) -> EventTypes {
        let fits = (1..=86_400).contains(&after.within_seconds);
        self.require(fits, "after.withinSeconds", "must be 1 to 86400");
        self.types(&after.event_types, "after.eventTypes")
    }
}

/// The first 32 bits of the SHA-256 of the rule as JSON with sorted keys, without the keys that do not matter.
fn hash_without(rule: &Rule, keys: &[&str]) -> u32 {
    let mut value = serde_json::to_value(rule).expect("a rule is made of strings, numbers and lists");
    if let Some(object) = value.as_object_mut() {
        object.retain(|key, _| !keys.contains(&key.as_str()));
    }
    value.sort_all_objects();
    let digest = Sha256::digest(value.to_string().as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}
