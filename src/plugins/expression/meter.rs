//! What an evaluation costs: counted while it runs, so that no expression and no event can make it run on.
//!
//! A step is one node of the expression, one turn of a macro, one comparison of two values, or [`BYTES_PER_STEP`] bytes
//! that are looked at. Bytes are those of texts, lists and maps that the evaluation makes; what it reads of the event is
//! borrowed and costs none.

use super::fault::Fault;

/// Steps that one evaluation may take. About a millisecond.
pub(super) const STEPS_MAX: usize = 100_000;
/// Steps that all expressions may take which look at one event through the same [`EventView`](super::EventView).
pub(super) const VIEW_STEPS_MAX: usize = 300_000;
/// Bytes that one evaluation may make.
pub(super) const BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a text that are compared or searched in about the time of a step.
const BYTES_PER_STEP: usize = 16;

/// What an evaluation may have too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Steps,
    Bytes,
}

/// Counts what one evaluation costs.
#[derive(Debug)]
pub(super) struct Meter {
    steps_max: usize,
    steps: usize,
    bytes: usize,
}

impl Meter {
    /// For an evaluation after others of the same event have taken `spent` steps.
    pub(super) const fn after(spent: usize) -> Self {
        let left = VIEW_STEPS_MAX.saturating_sub(spent);
        Self { steps_max: if left < STEPS_MAX { left } else { STEPS_MAX }, steps: 0, bytes: 0 }
    }

    /// Steps so far.
    pub(super) const fn spent(&self) -> usize {
        self.steps
    }

    /// Counts steps.
    #[inline]
    pub(super) const fn steps<'a>(&mut self, count: usize) -> Result<(), Fault<'a>> {
        self.steps = self.steps.saturating_add(count);
        if self.steps > self.steps_max { Err(Fault::Budget(Resource::Steps)) } else { Ok(()) }
    }

    /// Counts a look at that many bytes.
    #[inline]
    pub(super) const fn look<'a>(&mut self, bytes: usize) -> Result<(), Fault<'a>> {
        self.steps(bytes / BYTES_PER_STEP)
    }

    /// Counts bytes that are about to be made.
    #[inline]
    pub(super) const fn make<'a>(&mut self, bytes: usize) -> Result<(), Fault<'a>> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > BYTES_MAX { Err(Fault::Budget(Resource::Bytes)) } else { self.look(bytes) }
    }
}
