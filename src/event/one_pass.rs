//! The short way of a good event: envelope and `data` in one pass over the text, where the `type` comes before the `data`
//! and is a terminal's.
//!
//! Whatever else it meets, a fault above all, it leaves to [`parse`](super::parse), which reads the text again and names
//! the fault; so both ways give the same events.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::parse::{Envelope, forbidden};
use super::unique_keys::UniqueKeys;
use super::{EventClass, EventData, EventType};

/// Keys of the envelope, in the order in which they usually come.
const ATTRIBUTES: &[&str] = &[
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "sequence",
    "subject",
    "partitionkey",
    "businessday",
    "training",
    "causationid",
    "correlationid",
    "datacontenttype",
    "data",
];

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Attribute {
    Specversion,
    Id,
    Source,
    Type,
    Time,
    Sequence,
    Subject,
    Partitionkey,
    Businessday,
    Training,
    Causationid,
    Correlationid,
    Datacontenttype,
    Data,
    #[serde(other)]
    Other,
}

/// Reads an event, if it can be read this way.
pub(super) fn read(text: &str) -> Option<(Envelope<'_>, EventData)> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = UniqueKeys { inner: &mut deserializer, check: &mut |_| None };
    let event = read.deserialize_struct("Envelope", ATTRIBUTES, Event).ok()?;
    deserializer.end().ok()?;
    Some(event)
}

struct Event;

impl<'de> Visitor<'de> for Event {
    type Value = (Envelope<'de>, EventData);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut specversion, mut id, mut source, mut type_name) = (None, None, None, None);
        let (mut time, mut sequence, mut subject, mut partitionkey) = (None, None, None, None);
        let (mut businessday, mut training, mut causationid, mut correlationid) = (None, None, None, None);
        let (mut datacontenttype, mut data) = (None, None);
        let (mut kind, mut seen) = (EventType::Unknown, 0_u32);
        while let Some(attribute) = map.next_key::<Attribute>()? {
            let bit = 1 << attribute as u32;
            if attribute != Attribute::Other && seen & bit != 0 {
                return Err(de::Error::custom("an attribute comes twice"));
            }
            seen |= bit;
            match attribute {
                Attribute::Specversion => specversion = Some(map.next_value()?),
                Attribute::Id => id = Some(map.next_value()?),
                Attribute::Source => source = Some(map.next_value()?),
                Attribute::Type => {
                    let name: super::parse::Text<'de> = map.next_value()?;
                    kind = EventType::from_name(name.as_str());
                    type_name = Some(name);
                }
                Attribute::Time => time = map.next_value()?,
                Attribute::Sequence => sequence = map.next_value()?,
                Attribute::Subject => subject = map.next_value()?,
                Attribute::Partitionkey => partitionkey = map.next_value()?,
                Attribute::Businessday => businessday = map.next_value()?,
                Attribute::Training => training = map.next_value()?,
                Attribute::Causationid => causationid = map.next_value()?,
                Attribute::Correlationid => correlationid = map.next_value()?,
                Attribute::Datacontenttype => datacontenttype = map.next_value()?,
                Attribute::Data => data = Some(map.next_value_seed(Data(kind))?),
                Attribute::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let (Some(specversion), Some(id), Some(source), Some(type_name), Some(parsed)) =
            (specversion, id, source, type_name, data)
        else {
            return Err(de::Error::custom("something is missing"));
        };
        let envelope = Envelope {
            specversion,
            id,
            source,
            type_name,
            time,
            subject,
            datacontenttype,
            data: None,
            sequence,
            partitionkey,
            businessday,
            training,
            causationid,
            correlationid,
        };
        Ok((envelope, parsed))
    }
}

/// `data` of a type that is known already.
struct Data(EventType);

impl<'de> DeserializeSeed<'de> for Data {
    type Value = EventData;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<EventData, D::Error> {
        if self.0 == EventType::Unknown || self.0.class() != EventClass::Terminal {
            return Err(de::Error::custom("not a terminal's event"));
        }
        EventData::read(self.0, UniqueKeys { inner: deserializer, check: &mut forbidden })
    }
}
