//! A thin deserializer around another that reports the keys of one object and refuses a key that comes twice.
//!
//! JSON leaves open what a duplicate key means; two readers could see two different events.

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};
use smallvec::SmallVec;

/// Wraps a deserializer; the outermost object's keys are checked, what lies within is not.
pub(super) struct UniqueKeys<'a, D> {
    pub inner: D,
    pub check: &'a mut dyn FnMut(&str) -> Option<String>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for UniqueKeys<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(Checked { inner: visitor, check: self.check, fields: &[] })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_struct(name, fields, Checked { inner: visitor, check: self.check, fields })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_map(Checked { inner: visitor, check: self.check, fields: &[] })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct enum identifier ignored_any
    }
}

struct Checked<'a, V> {
    inner: V,
    check: &'a mut dyn FnMut(&str) -> Option<String>,
    fields: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Checked<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let Self { inner, check, fields } = self;
        inner.visit_map(CheckedMap { inner: map, check, fields, expected: 0, seen: SmallVec::new() })
    }
}

struct CheckedMap<'a, A> {
    inner: A,
    check: &'a mut dyn FnMut(&str) -> Option<String>,
    /// Keys of the struct that is read; whoever reads it notices by itself if one comes twice.
    fields: &'static [&'static str],
    /// Index of the field that comes next if keys come in the struct's order, as they nearly always do.
    expected: usize,
    /// Hashes of the other keys.
    seen: SmallVec<[u64; 8]>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for CheckedMap<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let Self { inner, check, fields, expected, seen } = self;
        let mut fault = None;
        let mut note = |key: &str| {
            if !is_field(key, fields, expected) {
                fault = note_other(key, seen, *check);
            }
        };
        let key = inner.next_key_seed(Key { seed, note: &mut note })?;
        match fault {
            Some(message) => Err(de::Error::custom(message)),
            None => Ok(key),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(seed)
    }
}

fn is_field(key: &str, fields: &[&str], expected: &mut usize) -> bool {
    let (before, behind) = fields.split_at(*expected);
    let index = match behind.iter().position(|field| *field == key) {
        Some(index) => Some(before.len() + index),
        None => before.iter().position(|field| *field == key),
    };
    *expected = index.map_or(*expected, |index| index + 1);
    index.is_some()
}

fn note_other(
    key: &str,
    seen: &mut SmallVec<[u64; 8]>,
    check: &mut dyn FnMut(&str) -> Option<String>,
) -> Option<String> {
    use std::hash::Hasher;
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(key.as_bytes());
    hasher.write_usize(key.len());
    let hash = hasher.finish();
    if seen.contains(&hash) {
        return Some(format!("duplicate field `{key}`"));
    }
    seen.push(hash);
    check(key)
}

struct Key<'a, K> {
    seed: K,
    note: &'a mut dyn FnMut(&str),
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, K> {
    type Value = K::Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K::Value, D::Error> {
        self.seed.deserialize(KeyDeserializer { inner: deserializer, note: self.note })
    }
}

struct KeyDeserializer<'a, D> {
    inner: D,
    note: &'a mut dyn FnMut(&str),
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for KeyDeserializer<'_, D> {
    type Error = D::Error;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_str(KeyVisitor { inner: visitor, note: self.note })
    }
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct KeyVisitor<'a, V> {
    inner: V,
    note: &'a mut dyn FnMut(&str),
}

impl<'de, V: Visitor<'de>> Visitor<'de> for KeyVisitor<'_, V> {
    type Value = V::Value;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }
    fn visit_borrowed_str<E: de::Error>(self, key: &'de str) -> Result<V::Value, E> {
        (self.note)(key);
        self.inner.visit_borrowed_str(key)
    }
    fn visit_str<E: de::Error>(self, key: &str) -> Result<V::Value, E> {
        (self.note)(key);
        self.inner.visit_str(key)
    }
}
