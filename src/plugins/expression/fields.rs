//! The fields of `event`, and one event as expressions see it.

use std::cell::{Cell, OnceCell};

use jiff::civil::{DateTime, Weekday};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fault::{Fault, Problem};
use super::value::Value;
use crate::event::{Event, Id, Scope};
use crate::stores::Stores;

macro_rules! fields {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// A field of `event`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Field { $($variant),* }

        impl Field {
            pub(super) const ALL: [Self; 20] = [$(Self::$variant),*];

            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

fields! {
    Type "type",
    Source "source",
    Id "id",
    Time "time",
    StoreId "storeId",
    TerminalId "terminalId",
    EmployeeId "employeeId",
    CustomerId "customerId",
    CardToken "cardToken",
    BasketId "basketId",
    Category "category",
    Amount "amount",
    Training "training",
    BusinessDay "businessDay",
    LocalHour "localHour",
    LocalMinute "localMinute",
    Weekday "weekday",
    StoreOpen "storeOpen",
    Data "data",
    Sequence "sequence",
}

/// One event as expressions see it. What takes work to find out is found out once, and only if an expression asks.
#[derive(Debug)]
pub struct EventView<'e> {
    pub(super) event: &'e Event,
    stores: &'e Stores,
    time: OnceCell<String>,
    business_day: OnceCell<String>,
    local: OnceCell<DateTime>,
    store_open: OnceCell<Option<bool>>,
    data: OnceCell<Option<serde_json::Value>>,
    /// Steps that expressions have taken on this event.
    pub(super) spent: Cell<usize>,
}

impl<'e> EventView<'e> {
    /// A view of an event in these stores.
    #[must_use]
    pub const fn new(event: &'e Event, stores: &'e Stores) -> Self {
        Self {
            event,
            stores,
            time: OnceCell::new(),
            business_day: OnceCell::new(),
            local: OnceCell::new(),
            store_open: OnceCell::new(),
            data: OnceCell::new(),
            spent: Cell::new(0),
        }
    }

    /// The event as messages name it, `source#id`.
    #[must_use]
    pub fn event_name(&self) -> String {
        self.event.name()
    }

    /// The `data` of the event as it came, unknown keys included. `None` only for an event that was not parsed.
    pub fn data(&self) -> Option<&serde_json::Value> {
        self.data.get_or_init(|| parse_data(self.event).ok()).as_ref()
    }

    fn local(&self) -> DateTime {
        *self.local.get_or_init(|| self.stores.local(self.event.store_id().unwrap_or_default(), self.event.time))
    }

    /// The value of a field.
    pub(super) fn field(&self, field: Field) -> Result<Value<'_>, Fault<'_>> {
        let event = self.event;
        Ok(match field {
            Field::Type => Value::from(Some(event.type_name.as_str())),
            Field::Source => Value::from(Some(event.source.as_str())),
            Field::Id => Value::from(Some(event.id.as_str())),
            Field::Time => Value::from(Some(self.time.get_or_init(|| event.time.to_string()).as_str())),
            Field::StoreId => Value::from(event.store_id()),
            Field::TerminalId => Value::from(event.terminal_id()),
            Field::EmployeeId => Value::from(event.entity(Scope::Employee)),
            Field::CustomerId => Value::from(event.entity(Scope::Customer)),
            Field::CardToken => Value::from(event.entity(Scope::Card)),
            Field::BasketId => Value::from(event.data.basket_id().map(Id::as_str)),
            Field::Category => Value::from(event.data.category()),
            Field::Amount => event.data.amount().map_or(Value::Null, Value::Int),
            Field::Training => Value::Bool(event.training),
            Field::BusinessDay => {
                let store_id = event.store_id().unwrap_or_default();
                let day = || event.business_day.unwrap_or_else(|| self.stores.business_day(store_id, event.time));
                Value::from(Some(self.business_day.get_or_init(|| day().to_string()).as_str()))
            }
            Field::LocalHour => Value::Int(self.local().hour().into()),
            Field::LocalMinute => Value::Int(self.local().minute().into()),
            Field::Weekday => Value::from(Some(weekday(self.local().weekday()))),
            Field::StoreOpen => {
                let open = || self.stores.is_open(event.store_id().unwrap_or_default(), event.time);
                self.store_open.get_or_init(open).map_or(Value::Null, Value::Bool)
            }
            Field::Data => self.data().map(Value::from).ok_or(Fault::Error(Problem::Unreadable))?,
            Field::Sequence => {
                event.sequence.and_then(|number| i64::try_from(number).ok()).map_or(Value::Null, Value::Int)
            }
        })
    }
}

fn parse_data(event: &Event) -> Result<serde_json::Value, serde_json::Error> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    let envelope: Envelope<'_> = serde_json::from_slice(&event.raw)?;
    envelope.data.map_or(Ok(serde_json::Value::Null), |data| serde_json::from_str(data.get()))
}

const fn weekday(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "mon",
        Weekday::Tuesday => "tue",
        Weekday::Wednesday => "wed",
        Weekday::Thursday => "thu",
        Weekday::Friday => "fri",
        Weekday::Saturday => "sat",
        Weekday::Sunday => "sun",
    }
}
