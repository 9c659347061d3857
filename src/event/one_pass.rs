//! The short way of a good event: envelope and `data` in one pass over the text, where the `type` comes before the `data`
//! and is a terminal's.
//!
//! Whatever else it meets, a fault above all, it leaves to [`parse`](super::parse), which reads the text again and names
//! the fault; so both ways give the same events.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::parse::{Envelope, Sequence, Text, forbidden};
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

/// What has been read so far. Filled in place: it is large, and results are moved about.
#[derive(Default)]
struct Draft<'a> {
    specversion: Option<Text<'a>>,
    id: Option<Text<'a>>,
    source: Option<Text<'a>>,
    type_name: Option<Text<'a>>,
    time: Option<Text<'a>>,
    sequence: Option<Sequence>,
    subject: Option<Text<'a>>,
    partitionkey: Option<Text<'a>>,
    businessday: Option<Text<'a>>,
    training: Option<bool>,
    causationid: Option<Text<'a>>,
    correlationid: Option<Text<'a>>,
    datacontenttype: Option<Text<'a>>,
    data: Option<EventData>,
}

/// Reads an event, if it can be read this way.
pub(super) fn read(text: &str) -> Option<(Envelope<'_>, EventData)> {
    let mut draft = Draft::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = UniqueKeys { inner: &mut deserializer, check: &mut |_| None };
    read.deserialize_struct("Envelope", ATTRIBUTES, Filling(&mut draft)).ok()?;
    deserializer.end().ok()?;
    let envelope = Envelope {
        specversion: draft.specversion?,
        id: draft.id?,
        source: draft.source?,
        type_name: draft.type_name?,
        time: draft.time,
        subject: draft.subject,
        datacontenttype: draft.datacontenttype,
        data: None,
        sequence: draft.sequence,
        partitionkey: draft.partitionkey,
        businessday: draft.businessday,
        training: draft.training,
        causationid: draft.causationid,
        correlationid: draft.correlationid,
    };
    Some((envelope, draft.data?))
}

struct Filling<'d, 'a>(&'d mut Draft<'a>);

impl<'de> Visitor<'de> for Filling<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(draft) = self;
        let (mut kind, mut seen) = (EventType::Unknown, 0_u32);
        while let Some(attribute) = map.next_key::<Attribute>()? {
            let bit = 1 << attribute as u32;
            if attribute != Attribute::Other && seen & bit != 0 {
                return Err(de::Error::custom("an attribute comes twice"));
            }
            seen |= bit;
            match attribute {
                Attribute::Specversion => draft.specversion = Some(map.next_value()?),
                Attribute::Id => draft.id = Some(map.next_value()?),
                Attribute::Source => draft.source = Some(map.next_value()?),
                Attribute::Type => {
                    let name: Text<'de> = map.next_value()?;
                    kind = EventType::from_name(name.as_str());
                    draft.type_name = Some(name);
                }
                Attribute::Time => draft.time = map.next_value()?,
                Attribute::Sequence => draft.sequence = map.next_value()?,
                Attribute::Subject => draft.subject = map.next_value()?,
                Attribute::Partitionkey => draft.partitionkey = map.next_value()?,
                Attribute::Businessday => draft.businessday = map.next_value()?,
                Attribute::Training => draft.training = map.next_value()?,
                Attribute::Causationid => draft.causationid = map.next_value()?,
                Attribute::Correlationid => draft.correlationid = map.next_value()?,
                Attribute::Datacontenttype => draft.datacontenttype = map.next_value()?,
                Attribute::Data => draft.data = Some(map.next_value_seed(Data(kind))?),
                Attribute::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
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
