//! What `purchase-recommender` must publish and record, from `docs/plugins.md`.

use std::collections::HashMap;

use serde_json::Value;

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
    ended_last: Option<String>,
}

#[derive(Default)]
struct Basket {
    id: String,
    /// Thousandths by product; only what is above zero.
    products: HashMap<String, i64>,
    /// What was recommended and by which product, in order.
    recommended: Vec<(String, String)>,
}

/// All recommendations over the log.
pub(crate) fn recommendations(log: &Log, settings: &Value) -> Recommendations {
    let mut terminals: HashMap<&str, Terminal> = HashMap::new();
    let mut seen: Seen<&String> = Seen::with(settings);
    let mut result = Recommendations::default();
    for event in log.events.iter().filter(|event| !event.training) {
        let wanted = ["basket.item_added", "basket.item_voided", "payment.completed", "basket.cancelled"];
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
            "pos.payment.completed" | "pos.basket.cancelled" => {
                let id = event.required("basketId");
                if let Some(place) = terminal.baskets.iter().position(|basket| basket.id == id) {
                    let basket = terminal.baskets.remove(place);
                    basket.end(event.time, &mut result);
                }
                terminal.ended_last = Some(id.to_owned());
            }
            _ => {}
        }
    }
    result
}

impl Terminal {
    /// Moves a basket to the end of the list, where the one used last stands.
    fn touch(&mut self, id: &str) -> Option<&mut Basket> {
        let place = self.baskets.iter().position(|basket| basket.id == id)?;
        let basket = self.baskets.remove(place);
        self.baskets.push(basket);
        self.baskets.last_mut()
    }

    fn add(&mut self, event: &Event, settings: &Value, result: &mut Recommendations) {
        let (id, product) = (event.required("basketId"), event.required("productId"));
        if self.ended_last.as_deref() == Some(id) {
            return;
        }
        if self.touch(id).is_none() {
            if self.baskets.len() == BASKETS_MAX {
                self.baskets.remove(0).end(event.time, result);
            }
            self.baskets.push(Basket { id: id.to_owned(), ..Basket::default() });
        }
        let basket = self.baskets.last_mut().expect("touched or begun");
        if basket.products.contains_key(product) || basket.products.len() < PRODUCTS_MAX {
            *basket.products.entry(product.to_owned()).or_default() += event.thousandths();
        }
        let chosen = basket.choose(product, event.required("category"), settings);
        if chosen.is_empty() {
            return;
        }
        basket.recommended.extend(chosen.iter().map(|(chosen, _)| (chosen.clone(), product.to_owned())));
        result.made.push(Made { basket: id.to_owned(), product: product.to_owned(), recommended: chosen });
    }

    fn void(&mut self, event: &Event) {
        let product = event.required("productId");
        if let Some(basket) = self.touch(event.required("basketId"))
            && let Some(quantity) = basket.products.get_mut(product)
        {
            *quantity -= event.thousandths();
            if *quantity <= 0 {
                basket.products.remove(product);
            }
        }
    }
}

impl Basket {
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
                    || self.recommended.iter().any(|(known, _)| known == candidate)
                    || chosen.iter().any(|(known, _)| known == candidate);
                if !taken {
                    chosen.push((candidate.to_owned(), pairing["reason"].as_str().unwrap_or_default().to_owned()));
                }
            }
        }
        chosen.truncate(room);
        chosen
    }

    fn end(self, at: i64, result: &mut Recommendations) {
        result.outcomes.extend(self.recommended.into_iter().map(|(recommended, product)| Outcome {
            basket: self.id.clone(),
            product,
            taken_up: self.products.contains_key(&recommended),
            recommended,
            at,
        }));
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
