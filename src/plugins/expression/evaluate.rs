//! The evaluator. It keeps to the semantics of CEL, counts everything it does, and stops at once when the budget is spent.

use std::cmp::Ordering;
use std::rc::Rc;

use super::fault::{Fault, Problem};
use super::fields::EventView;
use super::meter::Meter;
use super::program::{Binary, Macro, MacroKind, Node};
use super::times;
use super::value::{List, Map, Text, Value};

type Result<'a> = std::result::Result<Value<'a>, Fault<'a>>;

/// One evaluation of one expression for one event.
#[derive(Debug)]
pub(super) struct Evaluation<'a> {
    view: &'a EventView<'a>,
    pub(super) meter: Meter,
    variables: Vec<Value<'a>>,
}

impl<'a> Evaluation<'a> {
    pub(super) const fn new(view: &'a EventView<'a>, meter: Meter) -> Self {
        Self { view, meter, variables: Vec::new() }
    }

    /// The value of a node.
    pub(super) fn value(&mut self, node: &'a Node) -> Result<'a> {
        self.meter.steps(1)?;
        Ok(match node {
            Node::Null => Value::Null,
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(value) => Value::Int(*value),
            Node::Uint(value) => Value::Uint(*value),
            Node::Double(value) => Value::Double(*value),
            Node::Text(text) => Value::Text(Text::Borrowed(text)),
            Node::Type(name) => Value::Type(name),
            Node::Field(field) => self.view.field(*field)?,
            Node::Variable(index) => self.variables[*index].clone(),
            Node::Select(operand, key) => self.select(operand, key)?.ok_or(Fault::Error(Problem::NoKey(key)))?,
            Node::Has(operand, key) => Value::Bool(self.select(operand, key)?.is_some()),
            Node::Index(operands) => self.index(operands)?,
            Node::Not(operand) => Value::Bool(!self.boolean(operand)?),
            Node::Negate(operand) => negated(&self.value(operand)?)?,
            Node::And(operands) => self.logical(operands, false)?,
            Node::Or(operands) => self.logical(operands, true)?,
            Node::Conditional(operands) => {
                let [condition, then, otherwise] = &**operands;
                let chosen = if self.boolean(condition)? { then } else { otherwise };
                self.value(chosen)?
            }
            Node::Binary(operator, operands) => self.binary(*operator, operands)?,
            Node::List(items) => {
                self.meter.make(items.len() * size_of::<Value<'_>>())?;
                let items = items.iter().map(|item| self.value(item));
                Value::List(List::Made(Rc::new(items.collect::<std::result::Result<_, _>>()?)))
            }
            Node::Map(entries) => self.map(entries)?,
            Node::Call(function, operands) => {
                // One operand, or two.
                let first = operands.first().map(|operand| self.value(operand)).transpose()?;
                let second = operands.get(1).map(|operand| self.value(operand)).transpose()?;
                match (first, second) {
                    (Some(first), Some(second)) => function.call(&[first, second], &mut self.meter)?,
                    (first, _) => function.call(first.as_slice(), &mut self.meter)?,
                }
            }
            Node::Macro(inner) => self.macro_call(inner)?,
        })
    }

    fn boolean(&mut self, node: &'a Node) -> std::result::Result<bool, Fault<'a>> {
        match self.value(node)? {
            Value::Bool(value) => Ok(value),
            other => Err(Problem::NotBoolean(other.type_name()).into()),
        }
    }

    fn select(&mut self, operand: &'a Node, key: &'a str) -> std::result::Result<Option<Value<'a>>, Fault<'a>> {
        match self.value(operand)? {
            Value::Map(map) => map.get_text(key, &mut self.meter),
            other => Err(Problem::NoOverload("reading a key", other.type_name(), None).into()),
        }
    }

    fn index(&mut self, [operand, index]: &'a [Node; 2]) -> Result<'a> {
        match (self.value(operand)?, self.value(index)?) {
            (Value::List(list), index) => {
                let place = place(&index)?;
                place.and_then(|place| list.get(place)).ok_or(Fault::Error(Problem::OutOfBounds))
            }
            (Value::Map(map), key) => map.get(&key, &mut self.meter)?.ok_or(Fault::Error(Problem::NoSuchKey)),
            (other, index) => Err(Problem::NoOverload("[]", other.type_name(), Some(index.type_name())).into()),
        }
    }

    /// `&&` and `||`: one side that decides is enough, even if the other one fails.
    fn logical(&mut self, [left, right]: &'a [Node; 2], deciding: bool) -> Result<'a> {
        let left = self.side(left, deciding)?;
        if left == Ok(true) {
            return Ok(Value::Bool(deciding));
        }
        match (left, self.side(right, deciding)?) {
            (_, Ok(true)) => Ok(Value::Bool(deciding)),
            (Err(problem), _) | (_, Err(problem)) => Err(problem.into()),
            _ => Ok(Value::Bool(!deciding)),
        }
    }

    /// True if this side decides; its error in the sense of CEL is put aside.
    fn side(
        &mut self,
        node: &'a Node,
        deciding: bool,
    ) -> std::result::Result<std::result::Result<bool, Problem<'a>>, Fault<'a>> {
        match self.boolean(node) {
            Ok(value) => Ok(Ok(value == deciding)),
            Err(Fault::Error(problem)) => Ok(Err(problem)),
            Err(budget @ Fault::Budget(_)) => Err(budget),
        }
    }

    fn binary(&mut self, operator: Binary, [left, right]: &'a [Node; 2]) -> Result<'a> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        let meter = &mut self.meter;
        Ok(Value::Bool(match operator {
            Binary::Equal => left.equals(&right, meter)?,
            Binary::NotEqual => !left.equals(&right, meter)?,
            Binary::Less => left.compare(&right, "<", meter)? == Some(Ordering::Less),
            Binary::LessEqual => left.compare(&right, "<=", meter)?.is_some_and(Ordering::is_le),
            Binary::Greater => left.compare(&right, ">", meter)? == Some(Ordering::Greater),
            Binary::GreaterEqual => left.compare(&right, ">=", meter)?.is_some_and(Ordering::is_ge),
            Binary::In => match &right {
                Value::List(list) => list.contains(&left, meter)?,
                Value::Map(map) => map.get(&left, meter)?.is_some(),
                _ => return Err(Problem::NoOverload("in", left.type_name(), Some(right.type_name())).into()),
            },
            Binary::Add => return add(&left, &right, meter),
            Binary::Subtract => return subtract(&left, &right),
            Binary::Multiply | Binary::Divide | Binary::Modulo => return scale(operator, &left, &right),
        }))
    }

    fn map(&mut self, entries: &'a [(Node, Node)]) -> Result<'a> {
        self.meter.make(entries.len() * size_of::<(Value<'_>, Value<'_>)>())?;
        let mut made = Map::Made(Rc::new(Vec::new()));
        for (key, value) in entries {
            let key = self.value(key)?;
            if made.get(&key, &mut self.meter)?.is_some() {
                return Err(Problem::RepeatedKey.into());
            }
            if matches!(key, Value::Double(_)) {
                return Err(Problem::NoOverload("a map's key", "double", None).into());
            }
            let value = self.value(value)?;
            if let Map::Made(entries) = &mut made {
                Rc::make_mut(entries).push((key, value));
            }
        }
        Ok(Value::Map(made))
    }

    fn macro_call(&mut self, call: &'a Macro) -> Result<'a> {
        let items = match self.value(&call.range)? {
            Value::List(list) => list,
            Value::Map(map) => map.keys(&mut self.meter)?,
            other => return Err(Problem::NoOverload("a macro", other.type_name(), None).into()),
        };
        match call.kind {
            MacroKind::All => self.quantified(call, &items, false),
            MacroKind::Exists => self.quantified(call, &items, true),
            MacroKind::ExistsOne => {
                let mut found = 0_usize;
                for index in 0..items.len() {
                    found += usize::from(self.holds(call, &items, index)?);
                }
                Ok(Value::Bool(found == 1))
            }
            MacroKind::Filter | MacroKind::Map => self.collected(call, &items),
        }
    }

    /// `all` and `exists`: as `&&` and `||` over the items.
    fn quantified(&mut self, call: &'a Macro, items: &List<'a>, deciding: bool) -> Result<'a> {
        let mut first_problem = None;
        for index in 0..items.len() {
            match self.holds(call, items, index) {
                Ok(holds) if holds == deciding => return Ok(Value::Bool(deciding)),
                Ok(_) => {}
                Err(Fault::Error(problem)) => first_problem = first_problem.or(Some(problem)),
                Err(budget @ Fault::Budget(_)) => return Err(budget),
            }
        }
        first_problem.map_or(Ok(Value::Bool(!deciding)), |problem| Err(problem.into()))
    }

    /// `filter` and `map`.
    fn collected(&mut self, call: &'a Macro, items: &List<'a>) -> Result<'a> {
        let mut made = Vec::new();
        for index in 0..items.len() {
            if call.predicate.is_some() && !self.holds(call, items, index)? {
                continue;
            }
            self.meter.make(size_of::<Value<'_>>())?;
            made.extend(match &call.transform {
                Some(transform) => Some(self.with_item(items, index, |evaluation| evaluation.value(transform))?),
                None => items.get(index),
            });
        }
        Ok(Value::List(List::Made(Rc::new(made))))
    }

    /// True if the item satisfies the predicate.
    fn holds(&mut self, call: &'a Macro, items: &List<'a>, index: usize) -> std::result::Result<bool, Fault<'a>> {
        let Some(predicate) = &call.predicate else {
            return Ok(true);
        };
        self.with_item(items, index, |evaluation| evaluation.boolean(predicate))
    }

    fn with_item<T>(
        &mut self,
        items: &List<'a>,
        index: usize,
        run: impl FnOnce(&mut Self) -> std::result::Result<T, Fault<'a>>,
    ) -> std::result::Result<T, Fault<'a>> {
        self.meter.steps(1)?;
        let depth = self.variables.len();
        self.variables.extend(items.get(index));
        let result = run(self);
        self.variables.truncate(depth);
        result
    }
}

/// The place in a list that an index means; `None` if no list has it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the number is whole and within the range")]
fn place<'a>(index: &Value<'a>) -> std::result::Result<Option<usize>, Fault<'a>> {
    match index {
        Value::Int(index) => Ok(usize::try_from(*index).ok()),
        Value::Uint(index) => Ok(usize::try_from(*index).ok()),
        Value::Double(index) if index.fract() == 0.0 => {
            Ok((*index >= 0.0 && *index < f64::from(u32::MAX)).then_some(*index as usize))
        }
        other => Err(Problem::NoOverload("[]", "list", Some(other.type_name())).into()),
    }
}

fn negated<'a>(value: &Value<'a>) -> Result<'a> {
    match value {
        Value::Int(number) => number.checked_neg().map(Value::Int).ok_or(Fault::Error(Problem::Overflow("-"))),
        Value::Double(number) => Ok(Value::Double(-number)),
        other => Err(Problem::NoOverload("-", other.type_name(), None).into()),
    }
}

fn add<'a>(left: &Value<'a>, right: &Value<'a>, meter: &mut Meter) -> Result<'a> {
    let overflow = || Fault::Error(Problem::Overflow("+"));
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => a.checked_add(*b).map(Value::Int).ok_or_else(overflow),
        (Value::Uint(a), Value::Uint(b)) => a.checked_add(*b).map(Value::Uint).ok_or_else(overflow),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::Text(a), Value::Text(b)) => {
            let (a, b) = (a.as_str(), b.as_str());
            meter.make(a.len() + b.len())?;
            Ok(Value::Text(Text::Made(Rc::from([a, b].concat()))))
        }
        (Value::List(a), Value::List(b)) => {
            let count = a.len() + b.len();
            meter.steps(count)?;
            meter.make(count * size_of::<Value<'_>>())?;
            let items = |list: &List<'a>| (0..list.len()).filter_map(|index| list.get(index)).collect::<Vec<_>>();
            let mut made = items(a);
            made.append(&mut items(b));
            Ok(Value::List(List::Made(Rc::new(made))))
        }
        (Value::Timestamp(at), Value::Duration(by)) | (Value::Duration(by), Value::Timestamp(at)) => {
            times::moved(*at, *by, "+")
        }
        (Value::Duration(a), Value::Duration(b)) => times::checked(a.checked_add(*b), "+"),
        _ => Err(Problem::NoOverload("+", left.type_name(), Some(right.type_name())).into()),
    }
}

fn subtract<'a>(left: &Value<'a>, right: &Value<'a>) -> Result<'a> {
    let overflow = || Fault::Error(Problem::Overflow("-"));
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => a.checked_sub(*b).map(Value::Int).ok_or_else(overflow),
        (Value::Uint(a), Value::Uint(b)) => a.checked_sub(*b).map(Value::Uint).ok_or_else(overflow),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Value::Timestamp(at), Value::Duration(by)) => times::moved(*at, -*by, "-"),
        (Value::Timestamp(a), Value::Timestamp(b)) => times::checked(Some(a.duration_since(*b)), "-"),
        (Value::Duration(a), Value::Duration(b)) => times::checked(a.checked_sub(*b), "-"),
        _ => Err(Problem::NoOverload("-", left.type_name(), Some(right.type_name())).into()),
    }
}

/// `*`, `/` and `%`.
fn scale<'a>(operator: Binary, left: &Value<'a>, right: &Value<'a>) -> Result<'a> {
    let name = match operator {
        Binary::Multiply => "*",
        Binary::Divide => "/",
        _ => "%",
    };
    let is_zero = matches!(right, Value::Int(0) | Value::Uint(0));
    if is_zero && operator != Binary::Multiply && matches!(left, Value::Int(_) | Value::Uint(_)) {
        return Err(Problem::DivisionByZero.into());
    }
    let value = match (operator, left, right) {
        (Binary::Multiply, Value::Int(a), Value::Int(b)) => a.checked_mul(*b).map(Value::Int),
        (Binary::Divide, Value::Int(a), Value::Int(b)) => a.checked_div(*b).map(Value::Int),
        (Binary::Modulo, Value::Int(a), Value::Int(b)) => a.checked_rem(*b).map(Value::Int),
        (Binary::Multiply, Value::Uint(a), Value::Uint(b)) => a.checked_mul(*b).map(Value::Uint),
        (Binary::Divide, Value::Uint(a), Value::Uint(b)) => a.checked_div(*b).map(Value::Uint),
        (Binary::Modulo, Value::Uint(a), Value::Uint(b)) => a.checked_rem(*b).map(Value::Uint),
        (Binary::Multiply, Value::Double(a), Value::Double(b)) => Some(Value::Double(a * b)),
        (Binary::Divide, Value::Double(a), Value::Double(b)) => Some(Value::Double(a / b)),
        _ => return Err(Problem::NoOverload(name, left.type_name(), Some(right.type_name())).into()),
    };
    value.ok_or(Fault::Error(Problem::Overflow(name)))
}
