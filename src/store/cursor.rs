//! Pages of a list, and the opaque cursors that lead from one to the next.
//!
//! A cursor is the key of the last row seen, so rows that come in meanwhile neither shift nor repeat anything.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::model::StoreError;
use crate::stores::FieldError;

/// Most items of a page.
pub const PAGE_ITEMS_MAX: usize = 1000;

/// A page has no more items once they have so many bytes.
const PAGE_BYTES_MAX: i64 = 8 << 20;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last one.
    pub next: Option<String>,
}

/// What a page is cut by: the parsed cursor and the number of rows to ask the database for, one more than the page holds.
#[derive(Debug, Clone)]
pub(super) struct Cut<K> {
    pub(super) after: Option<K>,
    pub(super) limit: usize,
}

impl<K: DeserializeOwned + Serialize> Cut<K> {
    pub(super) fn new(cursor: Option<&str>, limit: usize) -> Result<Self, StoreError> {
        if !(1..=PAGE_ITEMS_MAX).contains(&limit) {
            return Err(FieldError::new("limit", format!("must be between 1 and {PAGE_ITEMS_MAX}")).into());
        }
        let after = match cursor {
            None => None,
            Some(text) => {
                let key = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                Some(
                    key.ok_or_else(|| FieldError::new("cursor", "is not one that a page of this list gave as `next`"))?,
                )
            }
        };
        Ok(Self { after, limit })
    }

    pub(super) fn rows(&self) -> i64 {
        i64::try_from(self.limit + 1).expect("a page has at most a thousand items")
    }

    /// Items that the page may hold.
    pub(super) const fn items(&self) -> usize {
        self.limit
    }

    /// How many of the rows that were asked for, of so many bytes each, the page takes: fewer than it may hold if they are
    /// large, and at least one.
    pub(super) fn fitting(&self, bytes: &[i64]) -> usize {
        let mut room = PAGE_BYTES_MAX;
        let fits = |bytes: &&i64| {
            let fits = room > 0;
            room = room.saturating_sub(**bytes);
            fits
        };
        bytes.iter().take(self.limit).take_while(fits).count()
    }

    /// Makes a page of the rows that were asked for.
    pub(super) fn page<T>(&self, items: Vec<T>, key: impl Fn(&T) -> K) -> Page<T> {
        let more = items.len() > self.limit;
        self.page_with(items, more, key)
    }

    /// Makes a page of its items; `more` come after them.
    pub(super) fn page_with<T>(&self, mut items: Vec<T>, more: bool, key: impl Fn(&T) -> K) -> Page<T> {
        items.truncate(self.limit);
        let next = items.last().filter(|_| more).map(|last| {
            URL_SAFE_NO_PAD.encode(serde_json::to_vec(&key(last)).expect("keys are made of numbers and strings"))
        });
        Page { items, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_where_its_items_are_large() {
        let cut: Cut<i64> = Cut::new(None, 3).unwrap();
        assert_eq!(cut.fitting(&[]), 0);
        assert_eq!(cut.fitting(&[1, 1, 1, 1]), 3);
        assert_eq!(cut.fitting(&[PAGE_BYTES_MAX * 2, 1]), 1);
        assert_eq!(cut.fitting(&[PAGE_BYTES_MAX - 1, 1, 1]), 2);
    }
}
