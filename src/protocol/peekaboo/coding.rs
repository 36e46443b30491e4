//! How Swift writes Codable values as JSON, for serde: what derived types do not say by themselves.
//!
//! Reading goes through [`Decoder`], which is as strict as the real one where serde_json is not (a
//! struct is never an array, a case is exactly one known member whose value is an object) and as lenient
//! where serde_json is not (`1.0` is an integer, members and array elements past the known ones are
//! ignored). Source: spec peekaboo-bridge §2.

use crate::limits;
use crate::protocol::strict;
use data_encoding::BASE64;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, VariantAccess, Visitor,
};
use serde::ser::{Error as _, SerializeMap, Serializer};
use serde::{Deserialize, Serialize, forward_to_deserialize_any};
use serde_json::value::to_raw_value;
use serde_json::{Map, Value};
use std::fmt;

/// Why a document is not what it should be. Its text may quote the document: never for the wire (A135).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable(String);

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Undecodable {}

impl serde::de::Error for Undecodable {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(what.to_string())
    }
}

/// Reads one document.
///
/// # Errors
/// It is not UTF-8, not one JSON value that means one thing only, or not such a `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Undecodable> {
    let text = std::str::from_utf8(bytes).map_err(Undecodable::custom)?;
    strict::check(text, limits::RELAYED_JSON_DEPTH).map_err(Undecodable::custom)?;
    let value: Value = serde_json::from_str(text).map_err(Undecodable::custom)?;
    from_value(&value)
}

/// Reads one value.
///
/// # Errors
/// It is not such a `T`.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Undecodable> {
    T::deserialize(Decoder(Some(value)))
}

/// A value, or the place where one is missing.
#[derive(Clone, Copy)]
struct Decoder<'a>(Option<&'a Value>);

impl<'a> Decoder<'a> {
    fn object(self) -> Result<&'a Map<String, Value>, Undecodable> {
        self.0.and_then(Value::as_object).ok_or_else(|| Undecodable::custom("expected an object"))
    }

    fn integer<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Undecodable> {
        match self.0.and_then(Value::as_f64) {
            // Past 2^53 a float may have been rounded, which a whole one written with its digits is not.
            Some(float)
                if self.0.is_some_and(Value::is_f64) && float.fract() == 0.0 && float.abs() <= 2_f64.powi(53) =>
            {
                visitor.visit_i64(float as i64)
            }
            _ => self.deserialize_any(visitor),
        }
    }
}

/// One `deserialize_x` for each integer type.
macro_rules! integers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undecodable> {
            self.integer(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Decoder<'de> {
    type Error = Undecodable;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undecodable> {
        match self.0 {
            None => Err(Undecodable::custom("a value is missing")),
            Some(Value::Null) => visitor.visit_unit(),
            Some(Value::Bool(value)) => visitor.visit_bool(*value),
            Some(Value::Number(number)) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(value), ..) => visitor.visit_i64(value),
                (_, Some(value), _) => visitor.visit_u64(value),
                (.., value) => visitor.visit_f64(value.unwrap_or_default()),
            },
            Some(Value::String(text)) => visitor.visit_borrowed_str(text),
            Some(Value::Array(values)) => {
                visitor.visit_seq(SeqDeserializer::new(values.iter().map(|value| Self(Some(value)))))
            }
            Some(Value::Object(members)) => visitor.visit_map(decoders(members)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undecodable> {
        match self.0 {
            None | Some(Value::Null) => visitor.visit_none(),
            Some(_) => visitor.visit_some(self),
        }
    }

    /// The payload of a case without one: whatever stands there is ignored.
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Undecodable> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, Undecodable> {
        v.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Undecodable> {
        match self.0 {
            Some(Value::Null) if fields.is_empty() => {
                visitor.visit_map(Members::new(std::iter::empty::<(&str, Self)>()))
            }
            _ => visitor.visit_map(decoders(self.object()?)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Undecodable> {
        if let Some(Value::String(name)) = self.0 {
            return visitor.visit_enum(name.as_str().into_deserializer());
        }
        let members = self.object()?;
        let mut known = variants.iter().filter_map(|name| members.get(*name).map(|value| (*name, value)));
        match (known.next(), known.next()) {
            (Some((name, value)), None) => visitor.visit_enum(Case { name, payload: Self(Some(value)).object()? }),
            _ => Err(Undecodable::custom("expected exactly one known case")),
        }
    }

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    forward_to_deserialize_any! {
        bool f32 f64 char str string bytes byte_buf unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Undecodable> for Decoder<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

type Members<'a, I> = MapDeserializer<'a, I, Undecodable>;

fn decoders(members: &Map<String, Value>) -> Members<'_, impl Iterator<Item = (&str, Decoder<'_>)>> {
    MapDeserializer::new(members.iter().map(|(name, value)| (name.as_str(), Decoder(Some(value)))))
}

/// A case of a Swift enum and its payload: `_0` for an unnamed one, else members.
struct Case<'a> {
    name: &'static str,
    payload: &'a Map<String, Value>,
}

impl<'de> EnumAccess<'de> for Case<'de> {
    type Error = Undecodable;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Undecodable> {
        Ok((seed.deserialize(IntoDeserializer::<Undecodable>::into_deserializer(self.name))?, self))
    }
}

impl<'de> VariantAccess<'de> for Case<'de> {
    type Error = Undecodable;

    fn unit_variant(self) -> Result<(), Undecodable> {
        Err(Undecodable::custom("expected a string"))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Undecodable> {
        seed.deserialize(Decoder(self.payload.get(PAYLOAD)))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Undecodable> {
        Err(Undecodable::custom("no case has two unnamed payloads"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Undecodable> {
        visitor.visit_map(decoders(self.payload))
    }
}

/// The name of a case's only, unnamed payload.
const PAYLOAD: &str = "_0";

/// Writes the payload of a case: `{"_0": …}`, and `{}` for none.
pub(super) fn case<T: Serialize, S: Serializer>(payload: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let text = to_raw_value(payload).map_err(S::Error::custom)?;
    let mut members = serializer.serialize_map(None)?;
    if text.get() != "null" {
        members.serialize_entry(PAYLOAD, &text)?;
    }
    members.end()
}

/// A default where a member is missing or null.
pub(super) fn or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// A list without the names in it that are not known here: a newer peer may know more.
pub(super) fn known<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    Ok(names.into_iter().filter_map(|name| from_value(&Value::String(name)).ok()).collect())
}

/// The same, where the list itself may be missing.
pub(super) fn known_if_any<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let names = Option::<Vec<String>>::deserialize(from)?;
    Ok(names.map(|names| names.into_iter().filter_map(|name| from_value(&Value::String(name)).ok()).collect()))
}

/// An integer that serde has buffered, where `1.0` has become a float.
pub(super) fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    from_value(&Value::deserialize(from)?).map_err(D::Error::custom)
}

/// Bytes, in padded standard base64.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Data(pub Vec<u8>);

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        BASE64.decode(text.as_bytes()).map(Self).map_err(D::Error::custom)
    }
}

/// A moment in whole seconds since 1970, in ISO 8601 with `Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub i64);

const DAY: i64 = 24 * 60 * 60;

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        // Years begin in March here, so that a leap day is the last one; in eras of 400 of them.
        let (era, day) = ((days + 719_468).div_euclid(146_097), (days + 719_468).rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let (day, late) = (day - (153 * month + 2) / 5 + 1, i64::from(month >= 10));
        let (year, month) = (era * 400 + year + late, month + 3 - 12 * late);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl Date {
    /// Also with a fraction, which is dropped, and with an offset.
    fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.split_once('T')?;
        let (year, month, day) = fields(date, '-')?;
        let (time, offset) = match time.strip_suffix('Z') {
            Some(time) => (time, 0),
            None => {
                let (time, offset) = time.split_at_checked(time.rfind(['+', '-'])?)?;
                let (hours, minutes) = offset.get(1..)?.split_once(':')?;
                let seconds = number(hours)? * 3_600 + number(minutes)? * 60;
                (time, if offset.starts_with('-') { -seconds } else { seconds })
            }
        };
        let whole = time.split_once('.').map_or(Some(time), |(whole, fraction)| number(fraction).map(|_| whole))?;
        let (hour, minute, second) = fields(whole, ':')?;
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let late = i64::from(month <= 2);
        let (era, year) = ((year - late).div_euclid(400), (year - late).rem_euclid(400));
        let day = (153 * (month - 3 + 12 * late) + 2) / 5 + day - 1 + year * 365 + year / 4 - year / 100;
        Some(Self((era * 146_097 + day - 719_468) * DAY + hour * 3_600 + minute * 60 + second - offset))
    }
}

fn fields(text: &str, between: char) -> Option<(i64, i64, i64)> {
    let mut numbers = text.split(between).map(number);
    let fields = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(fields)
}

/// Few enough digits that arithmetic with them never overflows.
fn number(text: &str) -> Option<i64> {
    (text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("expected a date like 2026-05-28T20:26:40Z"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_survive_and_look_like_swifts() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_780_000_000, "2026-05-28T20:26:40Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(Date(seconds).to_string(), text);
            assert_eq!(Date::parse(text), Some(Date(seconds)));
        }
        assert_eq!(Date::parse("2026-05-28T22:26:40.5+02:00"), Some(Date(1_780_000_000)));
        for bad in ["2026-13-01T00:00:00Z", "2026-05-28T20:26:40", "99999999999-01-01T00:00:00Z", "T", "--T::Z"] {
            assert_eq!(Date::parse(bad), None, "{bad}");
        }
    }
}
