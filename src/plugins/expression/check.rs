//! What an expression may hold: decided from its text and syntax, before it is ever evaluated.

use cel::Program;
use cel::common::ast::{EntryExpr, Expr, IdedExpr};

use super::FIELDS;
use crate::plugins::nearest;

/// Deepest nesting of brackets.
const BRACKETS_MAX: usize = 16;
/// Deepest nesting of operators and calls; bounds the stack that an evaluation needs.
const DEPTH_MAX: usize = 32;
/// Most `+` signs: each can make a copy of a text or list of the event.
const ADDITIONS_MAX: usize = 8;

/// What may be called. No regular expressions: their cost cannot be bounded by the length of the text.
const FUNCTIONS: [&str; 25] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "timestamp",
    "duration",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "type",
    "dyn",
    "has",
    "getFullYear",
    "getMonth",
    "getDayOfYear",
    "getDayOfMonth",
    "getDate",
    "getDayOfWeek",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    "lowerAscii",
];

/// Refuses brackets that are nested too deeply for the parser.
pub(super) fn check_brackets(text: &str) -> Result<(), String> {
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > BRACKETS_MAX {
            return Err(format!("has more than {BRACKETS_MAX} levels of brackets"));
        }
    }
    Ok(())
}

/// The fields of `event` that a program reads, as bits in the order of [`FIELDS`].
///
/// # Errors
/// If it could cost too much, or names what is not there; says where.
pub(super) fn fields_read(program: &Program) -> Result<u32, String> {
    let mut check = Check { program, fields: 0, additions: 0 };
    check.walk(program.expression(), 0, false, &mut Vec::new())?;
    Ok(check.fields)
}

/// Walks an expression: bounds what it can cost, and collects the fields of `event` that it reads.
struct Check<'a> {
    program: &'a Program,
    fields: u32,
    additions: usize,
}

impl<'a> Check<'a> {
    fn error(&self, at: &IdedExpr, message: impl std::fmt::Display) -> String {
        let info = self.program.source_info();
        let Some((start, _)) = info.offset_for(at.id) else {
            return message.to_string();
        };
        // Offsets count characters, or bytes where all are ASCII: either way this is the right line.
        let before: String = info.source.chars().take(start as usize).collect();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        format!("{line}:{column}: {message}")
    }

    fn walk(
        &mut self,
        at: &'a IdedExpr,
        depth: usize,
        in_macro: bool,
        variables: &mut Vec<&'a str>,
    ) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(self.error(at, format_args!("more than {DEPTH_MAX} operators or calls inside each other")));
        }
        let depth = depth + 1;
        match &at.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) if name == "event" => Err(self.error(at, "write event.FIELD, such as event.amount")),
            Expr::Ident(name) if name.starts_with('@') || variables.contains(&name.as_str()) => Ok(()),
            Expr::Ident(name) => Err(self.error(at, format_args!("{name} is not known; the only variable is event"))),
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(name) if name == "event" => self.field(at, &select.field),
                _ => self.walk(&select.operand, depth, in_macro, variables),
            },
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                let operator = name.contains(|c: char| !c.is_ascii_alphanumeric());
                if !operator && !FUNCTIONS.contains(&name) {
                    let hint = nearest(name, FUNCTIONS).map(|near| format!("; did you mean {near}?"));
                    let message = format!("{name}() cannot be used here{}", hint.unwrap_or_default());
                    return Err(self.error(at, message));
                }
                // Macros expand to lists of one item and `+`; those are linear and no copies of what an event holds.
                if name == "_+_" && !call.args.iter().any(is_accumulator) {
                    self.additions += 1;
                    if self.additions > ADDITIONS_MAX {
                        return Err(self.error(at, format_args!("more than {ADDITIONS_MAX} additions")));
                    }
                }
                for part in call.target.iter().map(Box::as_ref).chain(&call.args) {
                    self.walk(part, depth, in_macro, variables)?;
                }
                Ok(())
            }
            Expr::Comprehension(inner) => {
                if in_macro {
                    return Err(self.error(at, "a macro inside another macro"));
                }
                self.walk(&inner.iter_range, depth, in_macro, variables)?;
                self.walk(&inner.accu_init, depth, in_macro, variables)?;
                let known = variables.len();
                variables.push(&inner.iter_var);
                variables.extend(inner.iter_var2.as_deref());
                variables.push(&inner.accu_var);
                for part in [&inner.loop_cond, &inner.loop_step, &inner.result] {
                    self.walk(part, depth, true, variables)?;
                }
                variables.truncate(known);
                Ok(())
            }
            Expr::List(list) => list.elements.iter().try_for_each(|item| self.walk(item, depth, in_macro, variables)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.walk(&entry.key, depth, in_macro, variables)?;
                    self.walk(&entry.value, depth, in_macro, variables)
                }
                EntryExpr::StructField(field) => self.walk(&field.value, depth, in_macro, variables),
            }),
            Expr::Struct(_) => Err(self.error(at, "objects cannot be made here")),
        }
    }

    fn field(&mut self, at: &IdedExpr, name: &str) -> Result<(), String> {
        if let Some(bit) = FIELDS.iter().position(|field| *field == name) {
            self.fields |= 1 << bit;
            return Ok(());
        }
        let hint = match nearest(name, FIELDS) {
            Some(near) => format!("did you mean event.{near}?"),
            None => format!("keys of the event's data are under event.data, such as event.data.{name}"),
        };
        Err(self.error(at, format_args!("event.{name} does not exist; {hint}")))
    }
}

fn is_accumulator(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Ident(name) if name.starts_with('@'))
}
