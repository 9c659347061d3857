//! What an expression becomes: a tree whose every name, function and number of operands has been checked, so that only
//! values can still be wrong when it is evaluated.

use cel::Program as Parsed;
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::fields::Field;
use super::functions::{Function, Signature};
use crate::plugins::nearest;

/// Deepest nesting of brackets.
const BRACKETS_MAX: usize = 16;
/// Deepest nesting of operators and calls; bounds the stack that an evaluation needs.
const DEPTH_MAX: usize = 32;
/// Names of types, as values of `type()`.
const TYPES: [&str; 9] = ["bool", "int", "uint", "double", "string", "list", "map", "null_type", "type"];

/// One node of an expression.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Type(&'static str),
    /// A field of the event.
    Field(Field),
    /// A variable of a macro, counted from the outermost one.
    Variable(usize),
    Select(Box<Node>, String),
    Has(Box<Node>, String),
    Index(Box<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Conditional(Box<[Node; 3]>),
    Binary(Binary, Box<[Node; 2]>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Call(Function, Vec<Node>),
    Macro(Box<Macro>),
}

/// Operators with two operands that are both evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
}

/// A loop over a list, or over the keys of a map.
#[derive(Debug)]
pub(super) struct Macro {
    pub(super) kind: MacroKind,
    pub(super) range: Node,
    /// What an item must satisfy; `map` with two operands has none.
    pub(super) predicate: Option<Node>,
    /// What `map` makes of an item.
    pub(super) transform: Option<Node>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MacroKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

impl Binary {
    const ALL: [Self; 12] = [
        Self::Add,
        Self::Subtract,
        Self::Multiply,
        Self::Divide,
        Self::Modulo,
        Self::Equal,
        Self::NotEqual,
        Self::Less,
        Self::LessEqual,
        Self::Greater,
        Self::GreaterEqual,
        Self::In,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Add => operators::ADD,
            Self::Subtract => operators::SUBSTRACT,
            Self::Multiply => operators::MULTIPLY,
            Self::Divide => operators::DIVIDE,
            Self::Modulo => operators::MODULO,
            Self::Equal => operators::EQUALS,
            Self::NotEqual => operators::NOT_EQUALS,
            Self::Less => operators::LESS,
            Self::LessEqual => operators::LESS_EQUALS,
            Self::Greater => operators::GREATER,
            Self::GreaterEqual => operators::GREATER_EQUALS,
            Self::In => operators::IN,
        }
    }
}

impl MacroKind {
    /// The macro that a call of this name with so many arguments is.
    fn of(call: &CallExpr) -> Option<Self> {
        call.target.as_ref()?;
        match (call.func_name.as_str(), call.args.len()) {
            ("all", 2) => Some(Self::All),
            ("exists", 2) => Some(Self::Exists),
            ("exists_one" | "existsOne", 2) => Some(Self::ExistsOne),
            ("filter", 2) => Some(Self::Filter),
            ("map", 2 | 3) => Some(Self::Map),
            _ => None,
        }
    }
}

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

/// Checks what was parsed, with macros left as the calls that they are written as.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn check(parsed: &Parsed) -> Result<Node, String> {
    Checker { parsed, variables: Vec::new() }.node(parsed.expression(), 0)
}

struct Checker<'a> {
    parsed: &'a Parsed,
    variables: Vec<&'a str>,
}

impl<'a> Checker<'a> {
    fn error(&self, at: &IdedExpr, message: impl std::fmt::Display) -> String {
        let info = self.parsed.source_info();
        let Some((start, _)) = info.offset_for(at.id) else {
            return message.to_string();
        };
        // Offsets count characters, or bytes where all are ASCII: either way this is the right line.
        let before: String = info.source.chars().take(start as usize).collect();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        format!("{line}:{column}: {message}")
    }

    fn node(&mut self, at: &'a IdedExpr, depth: usize) -> Result<Node, String> {
        if depth > DEPTH_MAX {
            return Err(self.error(at, format_args!("more than {DEPTH_MAX} operators or calls inside each other")));
        }
        let depth = depth + 1;
        match &at.expr {
            Expr::Literal(literal) => self.literal(at, literal),
            Expr::Ident(name) => self.name(at, name),
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(name) if name == "event" => self.field(at, &select.field).map(Node::Field),
                _ => Ok(Node::Select(Box::new(self.node(&select.operand, depth)?), select.field.clone())),
            },
            Expr::Call(call) => match MacroKind::of(call) {
                Some(kind) => self.macro_call(at, kind, call, depth),
                None => self.call(at, call, depth),
            },
            Expr::List(list) => {
                let items = list.elements.iter().map(|item| self.node(item, depth));
                Ok(Node::List(items.collect::<Result<_, _>>()?))
            }
            Expr::Map(map) => {
                let entries = map.entries.iter().map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => Ok((self.node(&entry.key, depth)?, self.node(&entry.value, depth)?)),
                    EntryExpr::StructField(_) => Err(self.error(at, "objects cannot be made here")),
                });
                Ok(Node::Map(entries.collect::<Result<_, _>>()?))
            }
            Expr::Struct(_) => Err(self.error(at, "objects cannot be made here")),
            Expr::Comprehension(_) | Expr::Unspecified => Err(self.error(at, "is not an expression")),
        }
    }

    fn literal(&self, at: &IdedExpr, literal: &LiteralValue) -> Result<Node, String> {
        Ok(match literal {
            LiteralValue::Null => Node::Null,
            LiteralValue::Boolean(value) => Node::Bool(*value.inner()),
            LiteralValue::Int(value) => Node::Int(*value.inner()),
            LiteralValue::UInt(value) => Node::Uint(*value.inner()),
            LiteralValue::Double(value) => Node::Double(*value.inner()),
            LiteralValue::String(text) => Node::Text(text.inner().to_owned()),
            LiteralValue::Bytes(_) => return Err(self.error(at, "bytes cannot be used here; events hold none")),
        })
    }

    fn name(&self, at: &IdedExpr, name: &str) -> Result<Node, String> {
        // An inner variable hides an outer one of the same name.
        if let Some(index) = self.variables.iter().rposition(|variable| *variable == name) {
            return Ok(Node::Variable(index));
        }
        if let Some(name) = TYPES.iter().find(|known| **known == name) {
            return Ok(Node::Type(name));
        }
        Err(match name {
            "event" => self.error(at, "write event.FIELD, such as event.amount"),
            _ => self.error(at, format_args!("{name} is not known; the only variable is event")),
        })
    }

    fn field(&self, at: &IdedExpr, name: &str) -> Result<Field, String> {
        if let Some(field) = Field::ALL.into_iter().find(|field| field.name() == name) {
            return Ok(field);
        }
        let hint = match nearest(name, Field::ALL.iter().map(|field| field.name())) {
            Some(near) => format!("did you mean event.{near}?"),
            None => format!("keys of the event's data are under event.data, such as event.data.{name}"),
        };
        Err(self.error(at, format_args!("event.{name} does not exist; {hint}")))
    }

    fn call(&mut self, at: &'a IdedExpr, call: &'a CallExpr, depth: usize) -> Result<Node, String> {
        let name = call.func_name.as_str();
        if name == operators::HAS && call.target.is_none() {
            return self.has(at, call, depth);
        }
        let mut operands = Vec::with_capacity(call.args.len() + 1);
        if let Some(signature) = Signature::named(name) {
            if let Some(fault) = signature.fault(call.target.is_some(), call.args.len()) {
                return Err(self.error(at, fault));
            }
            for operand in call.target.iter().map(Box::as_ref).chain(&call.args) {
                operands.push(self.node(operand, depth)?);
            }
            return Ok(Node::Call(signature.function, operands));
        }
        let is_operator = name.contains(|letter: char| !letter.is_ascii_alphanumeric());
        if !is_operator || call.target.is_some() {
            return Err(self.error(at, unknown_function(name)));
        }
        for operand in &call.args {
            operands.push(self.node(operand, depth)?);
        }
        operator(name, operands).ok_or_else(|| self.error(at, format_args!("{name} cannot be used here")))
    }

    fn has(&mut self, at: &'a IdedExpr, call: &'a CallExpr, depth: usize) -> Result<Node, String> {
        match call.args.first().map(|operand| &operand.expr) {
            Some(Expr::Select(select)) if call.args.len() == 1 => match &select.operand.expr {
                // The event's own fields are always there, if with null.
                Expr::Ident(name) if name == "event" => self.field(at, &select.field).map(|_| Node::Bool(true)),
                _ => Ok(Node::Has(Box::new(self.node(&select.operand, depth)?), select.field.clone())),
            },
            _ => Err(self.error(at, "has() asks for a key by its name, such as has(event.data.reason)")),
        }
    }

    fn macro_call(
        &mut self,
        at: &'a IdedExpr,
        kind: MacroKind,
        call: &'a CallExpr,
        depth: usize,
    ) -> Result<Node, String> {
        let (Some(range), [variable, bodies @ ..]) = (&call.target, call.args.as_slice()) else {
            return Err(self.error(at, "is not an expression"));
        };
        let range = self.node(range, depth)?;
        let Expr::Ident(variable) = &variable.expr else {
            let message = format!("{}() begins with the name of a variable, such as x", call.func_name);
            return Err(self.error(at, message));
        };
        if variable == "event" {
            return Err(self.error(at, format_args!("{variable} cannot be the name of a variable; write x")));
        }
        self.variables.push(variable);
        let bodies: Result<Vec<Node>, String> = bodies.iter().map(|body| self.node(body, depth)).collect();
        self.variables.pop();
        let mut bodies = bodies?;
        let transform = if kind == MacroKind::Map { bodies.pop() } else { None };
        Ok(Node::Macro(Box::new(Macro { kind, range, predicate: bodies.pop(), transform })))
    }
}

fn unknown_function(name: &str) -> String {
    let macros = ["has", "all", "exists", "exists_one", "filter", "map"];
    if macros.contains(&name) {
        return format!(
            "{name}() is written otherwise: has(event.data.KEY), LIST.{}(x, CONDITION)",
            if name == "has" { "all" } else { name }
        );
    }
    let known = Signature::ALL.iter().map(|signature| signature.name).chain(macros);
    let hint = nearest(name, known).map(|near| format!("; did you mean {near}?"));
    format!("{name}() cannot be used here{}", hint.unwrap_or_default())
}

/// The node of an operator, if it is one that has so many operands.
fn operator(name: &str, operands: Vec<Node>) -> Option<Node> {
    if let Some(binary) = Binary::ALL.into_iter().find(|binary| binary.name() == name) {
        return Some(Node::Binary(binary, pair(operands)?));
    }
    Some(match name {
        operators::LOGICAL_AND => Node::And(pair(operands)?),
        operators::LOGICAL_OR => Node::Or(pair(operands)?),
        operators::INDEX => Node::Index(pair(operands)?),
        operators::CONDITIONAL => Node::Conditional(Box::new(operands.try_into().ok()?)),
        operators::LOGICAL_NOT => Node::Not(one(operands)?),
        operators::NEGATE => Node::Negate(one(operands)?),
        _ => return None,
    })
}

fn pair(operands: Vec<Node>) -> Option<Box<[Node; 2]>> {
    operands.try_into().ok().map(Box::new)
}

fn one(operands: Vec<Node>) -> Option<Box<Node>> {
    let [operand] = <[Node; 1]>::try_from(operands).ok()?;
    Some(Box::new(operand))
}
