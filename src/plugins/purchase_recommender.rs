//! `purchase-recommender`: what goes with the product that was just added, and whether the customer took it.
//!
//! It owns the content of the baskets that are open on a terminal, as far as recommendations need it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use compact_str::CompactString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EventTypes, FieldError, Plugin, Subscription, check_range};
use crate::effect::{Effects, RecommendationRecord, Record};
use crate::event::{
    Event, EventData, EventType, ID_BYTES_MAX, Id, ItemAdded, ItemVoided, PaymentCompleted, Recommendation,
    RecommendationMade, Scope, covers, signed,
};
use crate::plugins::forgetting::{FORGET_AFTER_DAYS, check_days};
use crate::time::Timestamp;

/// Open baskets that a terminal remembers.
const BASKETS_MAX: usize = 8;
/// Different products that a basket remembers.
const PRODUCTS_MAX: usize = 250;
/// Parts of a quantity in a thousandth, in which earlier versions counted.
const PARTS_IN_A_THOUSANDTH: i64 = 10;
/// Products that are recommended in one basket.
const RECOMMENDATIONS_MAX: usize = 50;
/// Pairings in the settings.
const PAIRINGS_MAX: usize = 1_000;
/// Entries in each list of a pairing.
const ENTRIES_MAX: usize = 200;
/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 200;

/// The plugin.
#[derive(Debug)]
pub struct PurchaseRecommender;

/// What a manager can set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// What goes with what. Pairings that stand further up come first.
    #[schemars(length(max = 1_000))]
    pub pairings: Vec<Pairing>,
    /// How many products are recommended at most when an item is added.
    #[schemars(range(min = 1, max = 10))]
    pub maximum: u32,
    /// A terminal from which no event has come for so many days is forgotten, with the baskets that are open there. 0 = never.
    #[schemars(range(min = 0, max = 36_500))]
    pub forget_after_days: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { pairings: Vec::new(), maximum: 3, forget_after_days: FORGET_AFTER_DAYS }
    }
}

/// Products that go with other products or with whole categories.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Pairing {
    /// Adding one of these products prompts the recommendation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 255)))]
    pub products: Vec<String>,
    /// Adding a product of one of these categories prompts it as well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 255)))]
    pub categories: Vec<String>,
    /// The products to recommend, the best one first.
    #[schemars(length(min = 1, max = 200), inner(length(min = 1, max = 255)))]
    pub recommend: Vec<String>,
    /// What the cashier can tell the customer.
    #[schemars(length(max = 200))]
    pub reason: String,
}

/// Pairings that can be looked up by product and by category.
#[derive(Debug)]
pub struct Compiled {
    forget_after_days: u32,
    maximum: usize,
    pairings: Vec<(Vec<Id>, CompactString)>,
    by_product: HashMap<String, Vec<usize>>,
    by_category: HashMap<String, Vec<usize>>,
}

impl Compiled {
    /// The pairings that the product or its category prompts, in the order of the settings.
    fn matching(&self, product: &str, category: &str) -> impl Iterator<Item = &(Vec<Id>, CompactString)> {
        let of = |index: &HashMap<String, Vec<usize>>, key: &str| index.get(key).cloned().unwrap_or_default();
        let mut matching = of(&self.by_product, product);
        matching.extend(of(&self.by_category, category));
        matching.sort_unstable();
        matching.dedup();
        matching.into_iter().map(|index| &self.pairings[index])
    }
}

/// What a terminal's baskets hold; the one that was touched last stands last.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    #[serde(rename = "b", default)]
    baskets: Vec<Basket>,
    /// The basket that ended last, as earlier versions remembered it.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    ended_id: Option<Id>,
    /// The basket that ended last: its sale may go on.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    ended: Option<Ended>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Ended {
    #[serde(rename = "b")]
    basket: Basket,
    /// Time of what ended it.
    #[serde(rename = "t")]
    at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(from = "StoredBasket")]
struct Basket {
    #[serde(rename = "i")]
    id: Id,
    /// Ten-thousandths of each product.
    #[serde(rename = "u")]
    products: BTreeMap<Id, i64>,
    /// Products that were taken out again, or given back: the customer does not want them.
    #[serde(rename = "n", skip_serializing_if = "BTreeSet::is_empty")]
    unwanted: BTreeSet<Id>,
    #[serde(rename = "r")]
    recommended: Vec<Recommended>,
    /// The total in minor units, unless something has changed since; negative if the customer is to get it.
    #[serde(rename = "d", skip_serializing_if = "Option::is_none")]
    due: Option<i64>,
    /// In minor units; negative if the customer got it.
    #[serde(rename = "m")]
    paid: i64,
}

/// A basket as it is stored; earlier versions wrote thousandths.
#[derive(Deserialize)]
struct StoredBasket {
    i: Id,
    #[serde(default)]
    p: BTreeMap<Id, i64>,
    #[serde(default)]
    u: BTreeMap<Id, i64>,
    #[serde(default)]
    n: BTreeSet<Id>,
    #[serde(default)]
    r: Vec<Recommended>,
    #[serde(default)]
    d: Option<i64>,
    #[serde(default)]
    m: i64,
}

impl From<StoredBasket> for Basket {
    fn from(stored: StoredBasket) -> Self {
        let StoredBasket { i: id, p, u: mut products, n: unwanted, r: recommended, d: due, m: paid } = stored;
        products.extend(p.into_iter().map(|(product, thousandths)| (product, thousandths * PARTS_IN_A_THOUSANDTH)));
        Self { id, products, unwanted, recommended, due, paid }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Recommended {
    #[serde(rename = "i")]
    id: String,
    #[serde(rename = "f")]
    prompted_by: Id,
    #[serde(rename = "p")]
    product: Id,
}

impl State {
    /// Takes a basket out; whoever wants to keep it puts it back at the end.
    fn take(&mut self, id: &Id) -> Option<Basket> {
        let index = self.baskets.iter().position(|basket| basket.id == *id)?;
        Some(self.baskets.remove(index))
    }

    /// A basket that changes at that time: known, or ended while its sale goes on. `None` if it is neither.
    fn take_or_reopen(&mut self, id: &Id, at: Timestamp) -> Option<Basket> {
        let mut basket = self.take(id).or_else(|| {
            let ended = self.ended.take_if(|ended| ended.basket.id == *id && at > ended.at)?;
            Some(ended.basket)
        })?;
        basket.due = None;
        Some(basket)
    }

    /// The sale is over, for now.
    fn end(&mut self, basket: Basket, at: Timestamp, fx: &mut Effects<'_>) {
        basket.record(at, fx);
        self.ended_id = None;
        self.ended = Some(Ended { basket, at });
    }
}

impl Basket {
    fn new(id: Id) -> Self {
        Self { id, products: BTreeMap::new(), unwanted: BTreeSet::new(), recommended: Vec::new(), due: None, paid: 0 }
    }

    fn record(&self, at: Timestamp, fx: &mut Effects<'_>) {
        for recommended in &self.recommended {
            self.record_one(recommended, at, fx);
        }
    }

    fn record_one(&self, recommended: &Recommended, at: Timestamp, fx: &mut Effects<'_>) {
        let Recommended { id, prompted_by, product } = recommended.clone();
        fx.record(Record::Recommendation(RecommendationRecord {
            id,
            basket_id: self.id.to_string(),
            product_id: prompted_by.to_string(),
            recommended: product.to_string(),
            // It was not in the basket when it was recommended, so it was added afterwards.
            taken_up: self.products.contains_key(&product),
            at,
        }));
    }

    fn put_in(&mut self, item: &ItemAdded) {
        if let Some(quantity) = self.products.get_mut(&item.product_id) {
            *quantity = quantity.saturating_add(item.quantity.parts());
        } else if self.products.len() < PRODUCTS_MAX {
            self.products.insert(item.product_id.clone(), item.quantity.parts());
        }
    }

    fn turn_down(&mut self, product: &Id) {
        if self.unwanted.len() < PRODUCTS_MAX {
            self.unwanted.insert(product.clone());
        }
    }

    /// What to recommend for a product that has just been added.
    fn choose(&self, item: &ItemAdded, compiled: &Compiled) -> Vec<Recommendation> {
        let room = RECOMMENDATIONS_MAX.saturating_sub(self.recommended.len()).min(compiled.maximum);
        let mut chosen: Vec<Recommendation> = Vec::new();
        for (products, reason) in compiled.matching(&item.product_id, &item.category) {
            for product in products {
                if chosen.len() == room {
                    return chosen;
                }
                let known = *product == item.product_id
                    || self.products.contains_key(product)
                    || self.unwanted.contains(product)
                    || self.recommended.iter().any(|before| before.product == *product)
                    || chosen.iter().any(|before| before.product_id == *product);
                if !known {
                    chosen.push(Recommendation { product_id: product.clone(), reason: reason.clone(), score: None });
                }
            }
        }
        chosen
    }
}

impl Plugin for PurchaseRecommender {
    type State = State;
    type Settings = Settings;
    type Compiled = Compiled;
    const NAME: &'static str = "purchase-recommender";
    const DESCRIPTION: &'static str =
        "Recommends what goes with a product that was just added, and counts what the customer took.";

    fn compile(settings: &Settings) -> Result<Compiled, Vec<FieldError>> {
        let mut errors = Vec::new();
        check_range(&mut errors, "maximum", settings.maximum, 1..=10);
        check_days(&mut errors, "forgetAfterDays", settings.forget_after_days, 1);
        if settings.pairings.len() > PAIRINGS_MAX {
            errors.push(FieldError::new("pairings", format!("must have at most {PAIRINGS_MAX} entries")));
        }
        let mut compiled = Compiled {
            forget_after_days: settings.forget_after_days,
            maximum: settings.maximum as usize,
            pairings: Vec::with_capacity(settings.pairings.len()),
            by_product: HashMap::new(),
            by_category: HashMap::new(),
        };
        for (index, pairing) in settings.pairings.iter().enumerate() {
            let path = format!("pairings[{index}]");
            if pairing.products.is_empty() && pairing.categories.is_empty() {
                let message = "must name a product or a category, else nothing prompts it";
                errors.push(FieldError::new(format!("{path}.products"), message));
            }
            if pairing.recommend.is_empty() {
                errors.push(FieldError::new(format!("{path}.recommend"), "must name at least one product"));
            }
            if pairing.reason.chars().count() > REASON_CHARS_MAX {
                let message = format!("must have at most {REASON_CHARS_MAX} characters");
                errors.push(FieldError::new(format!("{path}.reason"), message));
            }
            for product in ids(&format!("{path}.products"), &pairing.products, &mut errors) {
                compiled.by_product.entry(product.to_string()).or_default().push(index);
            }
            for category in ids(&format!("{path}.categories"), &pairing.categories, &mut errors) {
                compiled.by_category.entry(category.to_string()).or_default().push(index);
            }
            let recommend = ids(&format!("{path}.recommend"), &pairing.recommend, &mut errors);
            compiled.pairings.push((recommend, CompactString::new(&pairing.reason)));
        }
        if errors.is_empty() { Ok(compiled) } else { Err(errors) }
    }

    fn forget_after_days(compiled: &Compiled, _: Scope) -> u32 {
        compiled.forget_after_days
    }

    fn subscriptions(_: &Compiled) -> Vec<Subscription> {
        let event_types = EventTypes::of(&[
            EventType::ItemAdded,
            EventType::ItemVoided,
            EventType::ItemReturned,
            EventType::SubtotalFinalized,
            EventType::PaymentCompleted,
            EventType::BasketCancelled,
        ]);
        vec![Subscription { scope: Scope::Terminal, event_types }]
    }

    fn apply(state: &mut State, compiled: &Compiled, event: &Event, fx: &mut Effects<'_>) {
        let at = fx.time_of(event);
        match &event.data {
            EventData::ItemAdded(item) => add(state, compiled, item, at, fx),
            EventData::ItemVoided(item) => void(state, item, at),
            EventData::ItemReturned(item) => take_back(state, item, at, fx),
            EventData::SubtotalFinalized(total) => {
                let due = signed(total.total.minor(), total.direction);
                if let Some(basket) = state.baskets.iter_mut().find(|basket| basket.id == total.basket_id) {
                    basket.due = Some(due);
                    if covers(due, basket.paid)
                        && let Some(basket) = state.take(&total.basket_id)
                    {
                        state.end(basket, at, fx);
                    }
                }
            }
            EventData::PaymentCompleted(payment) => pay(state, payment, at, fx),
            EventData::BasketCancelled(cancelled) => {
                let id = &cancelled.basket_id;
                if let Some(ended) = state.ended.as_mut().filter(|ended| ended.basket.id == *id) {
                    ended.at = ended.at.max(at);
                } else {
                    let basket = state.take(id).unwrap_or_else(|| Basket::new(id.clone()));
                    state.end(basket, at, fx);
                }
            }
            _ => {}
        }
    }
}

fn ids(path: &str, texts: &[String], errors: &mut Vec<FieldError>) -> Vec<Id> {
    if texts.len() > ENTRIES_MAX {
        errors.push(FieldError::new(path, format!("must have at most {ENTRIES_MAX} entries")));
    }
    let mut ids = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match Id::new(text) {
            Ok(id) => ids.push(id),
            Err(error) => {
                let message = format!("{error}; give 1 to {ID_BYTES_MAX} bytes without control characters");
                errors.push(FieldError::new(format!("{path}[{index}]"), message));
            }
        }
    }
    ids
}

fn add(state: &mut State, compiled: &Compiled, item: &ItemAdded, at: Timestamp, fx: &mut Effects<'_>) {
    if state.ended_id.as_ref() == Some(&item.basket_id) {
        return;
    }
    if let Some(ended) = state.ended.as_mut().filter(|ended| ended.basket.id == item.basket_id && at <= ended.at) {
        // Overtaken by the payment: it was sold, and there is nobody left to recommend anything to.
        ended.basket.put_in(item);
        let basket = &ended.basket;
        if let Some(taken) = basket.recommended.iter().find(|recommended| recommended.product == item.product_id) {
            basket.record_one(taken, ended.at, fx);
        }
        return;
    }
    let mut basket = take_or_begin(state, &item.basket_id, at, fx);
    basket.put_in(item);
    let recommended = basket.choose(item, compiled);
    if !recommended.is_empty() {
        let (basket_id, product_id) = (item.basket_id.clone(), item.product_id.clone());
        let data = RecommendationMade { basket_id, product_id, recommended: recommended.clone() };
        fx.publish(EventData::RecommendationMade(data));
        basket.recommended.extend(recommended.into_iter().map(|made| Recommended {
            id: fx.derive_id(),
            prompted_by: item.product_id.clone(),
            product: made.product_id,
        }));
    }
    state.baskets.push(basket);
}

fn take_or_begin(state: &mut State, id: &Id, at: Timestamp, fx: &mut Effects<'_>) -> Basket {
    state.take_or_reopen(id, at).unwrap_or_else(|| {
        if state.baskets.len() == BASKETS_MAX {
            state.baskets.remove(0).record(at, fx);
        }
        Basket::new(id.clone())
    })
}

fn void(state: &mut State, item: &ItemVoided, at: Timestamp) {
    let Some(mut basket) = state.take_or_reopen(&item.basket_id, at) else { return };
    if let Some(quantity) = basket.products.get_mut(&item.product_id) {
        *quantity -= item.quantity.parts();
        if *quantity <= 0 {
            basket.products.remove(&item.product_id);
            basket.turn_down(&item.product_id);
        }
    }
    state.baskets.push(basket);
}

/// What a customer gives back is not what to recommend.
fn take_back(state: &mut State, item: &ItemAdded, at: Timestamp, fx: &mut Effects<'_>) {
    let was_overtaken = |ended: &Ended| ended.basket.id == item.basket_id && at <= ended.at;
    if state.ended_id.as_ref() == Some(&item.basket_id) || state.ended.as_ref().is_some_and(was_overtaken) {
        return;
    }
    let mut basket = take_or_begin(state, &item.basket_id, at, fx);
    basket.turn_down(&item.product_id);
    state.baskets.push(basket);
}

fn pay(state: &mut State, payment: &PaymentCompleted, at: Timestamp, fx: &mut Effects<'_>) {
    let id = &payment.basket_id;
    let amount = signed(payment.amount.minor(), payment.direction);
    if let Some(ended) = state.ended.as_mut().filter(|ended| ended.basket.id == *id) {
        ended.basket.paid = ended.basket.paid.saturating_add(amount);
        ended.at = ended.at.max(at);
        return;
    }
    let mut basket = state.take(id).unwrap_or_else(|| Basket::new(id.clone()));
    basket.paid = basket.paid.saturating_add(amount);
    if basket.due.is_some_and(|due| !covers(due, basket.paid)) {
        // A part of the total: the sale goes on.
        state.baskets.push(basket);
    } else {
        state.end(basket, at, fx);
    }
}

#[cfg(test)]
mod tests;
