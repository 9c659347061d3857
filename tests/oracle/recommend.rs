//! What `purchase-recommender` must publish and record, from `docs/plugins.md`.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::age::{covered, signed};
use super::event::Event;
use super::forgetting::Seen;
use super::log::Log;

const BASKETS_MAX: usize = 8;
const PRODUCTS_MAX: usize = 250;
const RECOMMENDED_MAX: usize = 50;

/// A published `pos.recommendation.made`: basket, product, and the products recommended with their reasons.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Made {
    pub(crate) basket: String,
    pub(crate) product: String,
    pub(crate) recommended: Vec<(String, String)>,
}

/// A record of what became of one recommended product.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Outcome {
    pub(crate) basket: String,
    pub(crate) product: String,
    pub(crate) recommended: String,
    pub(crate) taken_up: bool,
    pub(crate) at: i64,
}

/// What the plugin leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Recommendations {
    pub(crate) made: Vec<Made>,
    pub(crate) outcomes: Vec<Outcome>,
}

#[derive(Default)]
struct Terminal {
    /// The one used least recently first.
    baskets: Vec<Basket>,
    /// The one that ended last, and when.
    ended: Option<(Basket, i64)>,
}

/// What was recommended, by which product, and where its outcome stands once there is one.
struct Recommended {
    what: String,
    product: String,
    place: Option<usize>,
}

#[derive(Default)]
struct Basket {
    id: String,
    /// Ten-thousandths by product; only what is above zero.
    products: HashMap<String, i64>,
    unwanted: HashSet<String>,
    recommended: Vec<Recommended>,
    due: Option<i64>,
    paid: i64,
}

/// All recommendations over the log.
pub(crate) fn recommendations(log: &Log, settings: &Value) -> Recommendations {
    let mut terminals: HashMap<&str, Terminal> = HashMap::new();
    let mut seen: Seen<&String> = Seen::with(settings);
    let mut result = Recommendations::default();
    for event in log.events.iter().filter(|event| !event.training && event.is_known()) {
        let wanted = [
            "basket.item_added",
            "basket.item_voided",
            "basket.item_returned",
            "basket.subtotal_finalized",
            "payment.completed",
            "basket.cancelled",
        ];
        if wanted.iter().any(|kind| event.is(&format!("pos.{kind}"))) {
            if seen.is_forgotten(&&event.terminal, event.clock) {
                terminals.remove(&*event.terminal);
            }
            seen.see(&event.terminal, event.clock);
        }
        let terminal = terminals.entry(&event.terminal).or_default();
        match event.kind.as_str() {
            "pos.basket.item_added" => terminal.add(event, settings, &mut result),
            "pos.basket.item_voided" => terminal.void(event),
            "pos.basket.item_returned" => terminal.give_back(event, &mut result),
            "pos.basket.subtotal_finalized" => terminal.total(event, &mut result),
            "pos.payment.completed" | "pos.basket.cancelled" => terminal.pay_or_cancel(event, &mut result),
            _ => {}
        }
    }
    result
}

impl Terminal {
    /// True if the basket of this event ended last, and only after it.
    fn overtook(&self, event: &Event) -> bool {
        let id = event.required("basketId");
        self.ended.as_ref().is_some_and(|(basket, end)| basket.id == id && event.at() <= *end)
    }

    /// Moves a basket to the end of the list, where the one used last stands; one that ended goes on.
    fn touch(&mut self, event: &Event) -> Option<&mut Basket> {
        let id = event.required("basketId");
        let basket = match self.baskets.iter().position(|basket| basket.id == id) {
            Some(place) => self.baskets.remove(place),
            None => self.ended.take_if(|(basket, end)| basket.id == id && event.at() > *end)?.0,
        };
        self.baskets.push(Basket { due: None, ..basket });
        self.baskets.last_mut()
    }

    fn touch_or_begin(&mut self, event: &Event, result: &mut Recommendations) -> &mut Basket {
        if self.touch(event).is_none() {
            if self.baskets.len() == BASKETS_MAX {
                self.baskets.remove(0).write(event.at(), result);
            }
            self.baskets.push(Basket { id: event.required("basketId").to_owned(), ..Basket::default() });
        }
        self.baskets.last_mut().expect("touched or begun")
    }

    fn add(&mut self, event: &Event, settings: &Value, result: &mut Recommendations) {
        let (id, product) = (event.required("basketId"), event.required("productId"));
        if self.overtook(event) {
            let (basket, end) = self.ended.as_mut().expect("it ended");
            basket.put_in(event);
            if basket.recommended.iter().any(|recommended| recommended.what == product) {
                basket.write(*end, result);
            }
            return;
        }
        let basket = self.touch_or_begin(event, result);
        basket.put_in(event);
        let chosen = basket.choose(product, event.required("category"), settings);
        if chosen.is_empty() {
            return;
        }
        basket.recommended.extend(chosen.iter().map(|(what, _)| Recommended {
            what: what.clone(),
            product: product.to_owned(),
            place: None,
        }));
        result.made.push(Made { basket: id.to_owned(), product: product.to_owned(), recommended: chosen });
    }

    fn void(&mut self, event: &Event) {
        let product = event.required("productId");
        if let Some(basket) = self.touch(event)
            && let Some(quantity) = basket.products.get_mut(product)
        {
            *quantity -= event.parts();
            if *quantity <= 0 {
                basket.products.remove(product);
                basket.turn_down(product);
            }
        }
    }

    fn give_back(&mut self, event: &Event, result: &mut Recommendations) {
        if !self.overtook(event) {
            self.touch_or_begin(event, result).turn_down(event.required("productId"));
        }
    }

    fn total(&mut self, event: &Event, result: &mut Recommendations) {
        let id = event.required("basketId");
        let due = signed(event, "total");
        let Some(place) = self.baskets.iter().position(|basket| basket.id == id) else { return };
        self.baskets[place].due = Some(due);
        if covered(due, self.baskets[place].paid) {
            let basket = self.baskets.remove(place);
            self.end(basket, event.at(), result);
        }
    }

    fn pay_or_cancel(&mut self, event: &Event, result: &mut Recommendations) {
        let id = event.required("basketId");
        let amount = if event.is("pos.payment.completed") { signed(event, "amount") } else { 0 };
        if let Some((basket, end)) = self.ended.as_mut().filter(|(basket, _)| basket.id == id) {
            basket.paid += amount;
            *end = event.at().max(*end);
            return;
        }
        let known = self.baskets.iter().position(|basket| basket.id == id);
        let mut basket = match known {
            Some(place) => self.baskets.remove(place),
            None => Basket { id: id.to_owned(), ..Basket::default() },
        };
        basket.paid += amount;
        let in_part = event.is("pos.payment.completed") && basket.due.is_some_and(|due| !covered(due, basket.paid));
        if in_part {
            self.baskets.push(basket);
        } else {
            self.end(basket, event.at(), result);
        }
    }

    fn end(&mut self, mut basket: Basket, at: i64, result: &mut Recommendations) {
        basket.write(at, result);
        self.ended = Some((basket, at));
    }
}

impl Basket {
    fn put_in(&mut self, event: &Event) {
        let product = event.required("productId");
        if self.products.contains_key(product) || self.products.len() < PRODUCTS_MAX {
            *self.products.entry(product.to_owned()).or_default() += event.parts();
        }
    }

    fn turn_down(&mut self, product: &str) {
        if self.unwanted.len() < PRODUCTS_MAX {
            self.unwanted.insert(product.to_owned());
        }
    }

    /// Products and reasons to recommend for an added product.
    fn choose(&self, product: &str, category: &str, settings: &Value) -> Vec<(String, String)> {
        let maximum = settings.get("maximum").and_then(Value::as_u64).unwrap_or(3);
        let room = usize::try_from(maximum).expect("small").min(RECOMMENDED_MAX - self.recommended.len());
        let mut chosen: Vec<(String, String)> = Vec::new();
        let holds = |pairing: &Value, key: &str, wanted: &str| {
            pairing.get(key).and_then(Value::as_array).is_some_and(|list| list.iter().any(|item| item == wanted))
        };
        for pairing in settings["pairings"].as_array().into_iter().flatten() {
            if !holds(pairing, "products", product) && !holds(pairing, "categories", category) {
                continue;
            }
            for candidate in pairing["recommend"].as_array().expect("a list").iter().filter_map(Value::as_str) {
                let taken = candidate == product
                    || self.products.contains_key(candidate)
                    || self.unwanted.contains(candidate)
                    || self.recommended.iter().any(|known| known.what == candidate)
                    || chosen.iter().any(|(known, _)| known == candidate);
                if !taken {
                    chosen.push((candidate.to_owned(), pairing["reason"].as_str().unwrap_or_default().to_owned()));
                }
            }
        }
        chosen.truncate(room);
        chosen
    }

    /// Writes its records, in place of those that were written before.
    fn write(&mut self, at: i64, result: &mut Recommendations) {
        for recommended in &mut self.recommended {
            let outcome = Outcome {
                basket: self.id.clone(),
                product: recommended.product.clone(),
                recommended: recommended.what.clone(),
                taken_up: self.products.contains_key(&recommended.what),
                at,
            };
            if let Some(place) = recommended.place {
                result.outcomes[place] = outcome;
            } else {
                recommended.place = Some(result.outcomes.len());
                result.outcomes.push(outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::case::{Case, at, line, payment};
    use serde_json::json;

    #[test]
    fn what_goes_with_a_product_is_recommended_once_and_never_if_it_is_in_the_basket() {
        let settings = json!({"maximum": 2, "pairings": [
            {"categories": ["wine"], "recommend": ["C1", "C2"], "reason": "cheese"},
            {"products": ["W1"], "recommend": ["C2", "C3", "C4"], "reason": "more"},
        ]});
        let case = Case::default()
            .then("T1", "08:00:00", "basket.item_added", &line("b", 1, "C1", "dairy"))
            .then("T1", "08:00:01", "basket.item_added", &line("b", 2, "W1", "wine"))
            .then("T1", "08:00:02", "basket.item_added", &line("b", 3, "W2", "wine"))
            .then("T1", "08:00:03", "basket.item_added", &line("b", 4, "C3", "dairy"))
            .then("T1", "08:00:04", "payment.completed", &payment("b"))
            .then("T1", "08:00:03", "basket.item_added", &line("b", 5, "W1", "wine"));
        let result = recommendations(&Log::read(case.messages(), 8), &settings);
        let recommended = vec![("C2".to_owned(), "cheese".to_owned()), ("C3".to_owned(), "more".to_owned())];
        assert_eq!(result.made, [Made { basket: "b".to_owned(), product: "W1".to_owned(), recommended }]);
        let outcomes: Vec<_> = result.outcomes.iter().map(|o| (o.recommended.as_str(), o.taken_up, o.at)).collect();
        assert_eq!(outcomes, [("C2", false, at("08:00:04")), ("C3", true, at("08:00:04"))]);
    }
}
