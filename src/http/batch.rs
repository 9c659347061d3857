//! A batch of events in a request: how many it may hold, where it is parsed, and how many refusals are listed.
//!
//! What is small is parsed at once. What is large is parsed on a thread where no other request waits, a few at a time, so
//! that neither time nor memory grows with the number of those who send.

use std::fmt;
use std::sync::Arc;

use actix_web::web;
use bytes::Bytes;
use serde::Serialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::events::from_outside;
use super::problem::{Problem, ProblemField};
use crate::event::Event;

/// A batch of more bytes is parsed apart.
const INLINE_BYTES_MAX: usize = 64 * 1024;
/// Refusals that are listed one by one.
const LISTED_MAX: usize = 100;

/// An event that is not valid.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rejected {
    /// Its place in the batch, from 0.
    pub(super) index: usize,
    /// The fields at fault.
    pub(super) errors: Vec<ProblemField>,
}

/// The events of one request.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) events: Vec<Event>,
    pub(super) rejected: Vec<Rejected>,
    /// Further ones that are not valid.
    pub(super) rejected_unlisted: usize,
}

impl Batch {
    /// A request of one event.
    pub(super) fn of(event: Event) -> Self {
        Self { events: vec![event], ..Self::default() }
    }

    /// Parses a batch; `apart` has a permit for each large one that may be parsed at a time.
    pub(super) async fn read(body: Bytes, items_max: usize, apart: &Arc<Semaphore>) -> Result<Self, Problem> {
        if body.len() <= INLINE_BYTES_MAX {
            return Self::parse(&body, items_max);
        }
        let stopping = |_| Problem::unavailable("The server stops; send the batch again.");
        let permit = Arc::clone(apart).acquire_owned().await.map_err(stopping)?;
        let parsed = web::block(move || {
            let _permit = permit;
            Self::parse(&body, items_max)
        });
        parsed.await.map_err(|_| Problem::unavailable("The batch could not be parsed now; send it again."))?
    }

    fn parse(body: &Bytes, items_max: usize) -> Result<Self, Problem> {
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let items = deserializer
            .deserialize_seq(Items { max: items_max })
            .and_then(|items| deserializer.end().map(|()| items))
            .map_err(|error| Problem::bad_request(format!("The body is not a JSON list of events: {error}.")))?;
        let Some(items) = items else {
            return Err(Problem::too_many_items(items_max));
        };
        let mut batch = Self { events: Vec::with_capacity(items.len()), ..Self::default() };
        for (index, item) in items.into_iter().enumerate() {
            match Event::parse(&body.slice_ref(item.get().as_bytes())).and_then(from_outside) {
                Ok(event) => batch.events.push(event),
                Err(error) if batch.rejected.len() < LISTED_MAX => {
                    batch.rejected.push(Rejected { index, errors: vec![error.into()] });
                }
                Err(_) => batch.rejected_unlisted += 1,
            }
        }
        Ok(batch)
    }
}

/// The items of a list as they stand in the text; none if there are too many.
struct Items {
    max: usize,
}

impl<'de> Visitor<'de> for Items {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<&'de RawValue>()? {
            if items.len() == self.max {
                // The rest is passed over, so that what follows the list is still looked at.
                while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
            items.push(item);
        }
        Ok(Some(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, items_max: usize) -> Result<Batch, Problem> {
        Batch::parse(&Bytes::copy_from_slice(text.as_bytes()), items_max)
    }

    #[test]
    fn refusals_are_listed_up_to_a_number_and_counted_beyond_it() {
        let batch = read(&format!("[{}1]", "1,".repeat(149)), 1000).unwrap();
        assert_eq!((batch.rejected.len(), batch.rejected_unlisted), (100, 50));
        assert_eq!(batch.rejected[99].index, 99);
        let few = read("[1,2]", 2).unwrap();
        assert_eq!((few.rejected.len(), few.rejected_unlisted), (2, 0));
    }

    #[test]
    fn a_batch_of_too_many_items_is_refused_as_a_whole_and_one_that_is_no_list_differently() {
        let status = |text: &str| {
            let problem = read(text, 2).unwrap_err();
            serde_json::to_value(problem).unwrap()["status"].clone()
        };
        assert_eq!(status("[1,2,3]"), 413);
        assert_eq!(status("[1,2,3"), 400);
        assert_eq!(status("[1] 2"), 400);
        assert_eq!(status("{}"), 400);
    }
}
