//! Why an expression gives neither true nor false.

use std::fmt;

use super::EVENT_BYTES_MAX;
use super::meter::{BYTES_MAX, Resource, STEPS_MAX, VIEW_STEPS_MAX};

/// What stops an evaluation, or a part of it. Cheap to make: an operator such as `||` may drop thousands of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault<'a> {
    /// Nothing of the evaluation goes on.
    Budget(Resource),
    /// An error in the sense of CEL: `&&` and `||` may do without this side.
    Error(Problem<'a>),
}

/// An error in the sense of CEL. Holds names from the expression and of types, never a value of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem<'a> {
    NoKey(&'a str),
    NoSuchKey,
    OutOfBounds,
    /// An operator or a function, and the types that it does not take.
    NoOverload(&'static str, &'static str, Option<&'static str>),
    Overflow(&'static str),
    DivisionByZero,
    NotBoolean(&'static str),
    NotConverted(&'static str, &'static str),
    RepeatedKey,
    UnknownTimeZone,
    Unreadable,
}

impl<'a> From<Problem<'a>> for Fault<'a> {
    fn from(problem: Problem<'a>) -> Self {
        Self::Error(problem)
    }
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey(key) => write!(f, "there is no key {key}; ask for it with has() first"),
            Self::NoSuchKey => f.write_str("there is no such key in the map; ask with `in` first"),
            Self::OutOfBounds => f.write_str("the list has no such place; ask for its size() first"),
            Self::NoOverload(what, type_name, None) => write!(f, "{what} does not take a {type_name}"),
            Self::NoOverload(what, left, Some(right)) => write!(f, "{what} does not take a {left} and a {right}"),
            Self::Overflow(what) => write!(f, "the result of {what} is out of range"),
            Self::DivisionByZero => f.write_str("division by zero"),
            Self::NotBoolean(type_name) => write!(f, "gave a {type_name}, not true or false"),
            Self::NotConverted(from, to) => write!(f, "this {from} cannot be converted to a {to}"),
            Self::RepeatedKey => f.write_str("a map has the same key twice"),
            Self::UnknownTimeZone => f.write_str("the time zone is not known; write one such as 'Europe/Berlin'"),
            Self::Unreadable => f.write_str("the event's data cannot be read"),
        }
    }
}

/// Why an expression gave neither true nor false for an event. It counts as false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It costs more than its budget.
    OverBudget(String),
    /// Expressions do not look at events of that size.
    EventTooLarge {
        /// Size of the event.
        bytes: usize,
    },
    /// It failed in the sense of CEL, such as by reading an absent key.
    Failed(String),
}

impl From<Fault<'_>> for Failure {
    fn from(fault: Fault<'_>) -> Self {
        match fault {
            Fault::Budget(Resource::Steps) => Self::OverBudget(format!(
                "takes more than {STEPS_MAX} steps, or all expressions for this event more than {VIEW_STEPS_MAX}; look at shorter lists, or nest fewer macros"
            )),
            Fault::Budget(Resource::Bytes) => Self::OverBudget(format!(
                "makes more than {} KB of lists and texts; look at shorter lists, or use exists() instead of map()",
                BYTES_MAX / 1024
            )),
            Fault::Error(problem) => Self::Failed(problem.to_string()),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OverBudget(text) | Self::Failed(text) => f.write_str(text),
            Self::EventTooLarge { bytes } => {
                write!(f, "the event has {bytes} bytes; expressions see at most {EVENT_BYTES_MAX}")
            }
        }
    }
}
