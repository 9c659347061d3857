//! CEL expressions over `event`, for eligibility and fraud rules.
//!
//! A manager writes them and any till sends the events that they look at, so nothing in either may hang, exhaust or crash the
//! process. The crate `cel` parses; the evaluator is our own, since the crate's cannot be stopped (docs/decisions/018). It
//! counts steps and bytes while it runs, and gives up over its budget. What an expression names is checked when it is
//! compiled, so a function that is accepted works.

mod evaluate;
mod fault;
mod fields;
mod functions;
mod meter;
mod program;
mod times;
mod value;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use cel::Env;

pub use self::fault::Failure;
pub use self::fields::EventView;

use self::evaluate::Evaluation;
use self::fault::{Fault, Problem};
use self::meter::Meter;
use self::program::Node;
use self::value::Value;

/// Longest expression in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 1000;
/// Largest event in bytes that is shown to an expression.
pub const EVENT_BYTES_MAX: usize = 16 * 1024;
/// Stack of the thread that compiles; the parser recurses before the depth is known.
const COMPILE_STACK_BYTES: usize = 64 * 1024 * 1024;

/// What parses: macros stay the calls that they are written as, and there are no optional values.
static SYNTAX: LazyLock<Env> = LazyLock::new(|| Env::default().with_optional_support(false));

/// A checked expression.
#[derive(Debug)]
pub struct Expression {
    root: Node,
}

impl Expression {
    /// Checks an expression.
    ///
    /// # Errors
    /// What is wrong, with `line:column` where that is known.
    pub fn compile(text: &str) -> Result<Self, String> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(format!("is {} bytes long, at most {EXPRESSION_BYTES_MAX} are allowed", text.len()));
        }
        if text.trim().is_empty() {
            return Err("is empty; leave the key out if every event shall qualify".to_owned());
        }
        program::check_brackets(text)?;
        let text = text.to_owned();
        std::thread::Builder::new()
            .stack_size(COMPILE_STACK_BYTES)
            .spawn(move || compile(&text))
            .map_err(|error| format!("could not be checked: {error}"))?
            .join()
            .unwrap_or_else(|_| Err("is not an expression that can be understood".to_owned()))
    }

    /// Evaluates the expression for one event.
    ///
    /// # Errors
    /// Why it gives neither true nor false for this event.
    pub fn matches(&self, view: &EventView<'_>) -> Result<bool, Failure> {
        let bytes = view.event.raw.len();
        if bytes > EVENT_BYTES_MAX {
            return Err(Failure::EventTooLarge { bytes });
        }
        let mut evaluation = Evaluation::new(view, Meter::after(view.spent.get()));
        let result = evaluation.value(&self.root);
        view.spent.set(view.spent.get() + evaluation.meter.spent());
        match result {
            Ok(Value::Bool(matches)) => Ok(matches),
            Ok(other) => Err(Fault::from(Problem::NotBoolean(other.type_name())).into()),
            Err(fault) => Err(fault.into()),
        }
    }
}

/// Messages of the parser can be long; errors are shown to people.
fn shorten(message: &str) -> String {
    message.char_indices().nth(200).map_or_else(|| message.to_owned(), |(end, _)| format!("{}…", &message[..end]))
}

fn compile(text: &str) -> Result<Expression, String> {
    let parsed = SYNTAX.compile(text).map_err(|errors| {
        errors.errors.first().map_or_else(
            || "is not a CEL expression".to_owned(),
            |error| {
                let (line, column) = error.pos;
                format!("{line}:{column}: {}", shorten(&error.msg))
            },
        )
    })?;
    program::check(&parsed).map(|root| Expression { root })
}
