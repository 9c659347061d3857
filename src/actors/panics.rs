//! What a panic said, for whoever finds that an actor is gone.
//!
//! An actor that panics takes its queue with it, and those who wait for its answer only hear that the mailbox is closed.
//! The hook keeps the text of the last panic of each thread; actors of one arbiter share a thread, and [`LastWords`] carries
//! the text to an actor on another one.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, Once, PoisonError};

use crate::event::redact;

/// Longest text that is kept, in bytes.
const TEXT_BYTES_MAX: usize = 500;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Remembers from now on what panics of this process say. What was printed about them before still is.
pub fn remember() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            LAST.set(Some(text_of(info)));
            before(info);
        }));
    });
}

/// What the last panic of this thread said, once. `None` if there was none since it was asked for.
#[must_use]
pub fn last_here() -> Option<String> {
    LAST.take()
}

/// Why an actor of this thread is gone, for those who waited for its answer.
#[must_use]
pub fn why_gone(actor: &str) -> String {
    match last_here() {
        Some(text) => format!("{actor} panicked: {text}"),
        None => format!("{actor} is gone; the log says why"),
    }
}

fn text_of(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("no text");
    let redacted = redact(message.as_bytes());
    let mut text = String::from_utf8_lossy(&redacted).into_owned();
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
    match info.location() {
        Some(place) => format!("{text} (at {}:{})", place.file(), place.line()),
        None => text,
    }
}

/// Carries the text of a panic from the actor that holds this to those who hold a clone of it.
#[derive(Debug, Clone, Default)]
pub struct LastWords(Arc<Mutex<Option<String>>>);

impl LastWords {
    /// Why the actor is gone.
    #[must_use]
    pub fn why_gone(&self, actor: &str) -> String {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(text) => format!("{actor} panicked: {text}"),
            None => format!("{actor} is gone; the log says why"),
        }
    }
}

/// Belongs to an actor: if a panic takes it away, its text is written down.
#[derive(Debug)]
pub struct Witness(pub LastWords);

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = last_here();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_and_the_place_of_a_panic_outlive_it_without_card_numbers() {
        remember();
        let words = LastWords::default();
        let witness = Witness(words.clone());
        let thread = std::thread::spawn(move || {
            let _witness = witness;
            panic!("no place for {}", "4111 1111 1111 1111");
        });
        assert!(thread.join().is_err());
        let why = words.why_gone("the actor");
        assert!(why.starts_with("the actor panicked: no place for ") && why.contains("panics.rs:"), "{why}");
        assert!(!why.contains("4111 1111"), "{why}");
    }

    #[test]
    fn who_leaves_without_a_panic_says_nothing() {
        remember();
        let words = LastWords::default();
        drop(Witness(words.clone()));
        assert_eq!(words.why_gone("the actor"), "the actor is gone; the log says why");
    }
}
