//! JSON values of clients.

use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::fields::{REPEATED, shorten};

/// The beginning of names that mean something to serde_json: it reads the text behind one of them as JSON of its own, as deep
/// as that may be, on the same stack.
const RESERVED: &str = "$serde_json::private::";

/// A value that a client has sent. Whatever its names are, they are only names.
#[derive(Clone, Debug)]
pub struct Json(pub Value);

/// serde_json's error for a number that no double represents. It counts as an error of syntax.
const OUT_OF_RANGE: &str = "number out of range";

impl Json {
    /// Why a value is refused that is JSON; `None` if the `error` of reading it is one of syntax.
    pub fn refusal(error: &serde_json::Error) -> Option<String> {
        let told = error.to_string();
        let (why, _) = told.rsplit_once(" at line ")?;
        (error.is_data() || why == OUT_OF_RANGE).then(|| why.to_owned())
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Json(entry)) = entries.next_element()? {
            list.push(entry);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Json(value))) = entries.next_entry::<String, Json>()? {
            if name.starts_with(RESERVED) {
                return Err(A::Error::custom(format_args!(
                    "a name must not begin with {RESERVED}"
                )));
            }
            if object.insert(name.clone(), value).is_some() {
                return Err(A::Error::custom(format_args!("{:?} {REPEATED}", shorten(name))));
            }
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_is() {
        let text = r#"{"a":[null,true,-1,18446744073709551615,1.5,"x",{"b":{}}],"":"\u0000","z":6.626e-34}"#;
        let Json(value) = serde_json::from_str(text).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn what_is_refused_is_told_from_what_is_no_json() {
        let refusal = |text: &str| Json::refusal(&serde_json::from_str::<Json>(text).unwrap_err());
        assert_eq!(refusal("[1e400]").as_deref(), Some("number out of range"));
        let twice = refusal(r#"[{"a":1,"b":{},"a":{}}]"#);
        assert_eq!(twice.as_deref(), Some("\"a\" must be given once"));
        for text in ["", "{", "[1 2]", r#"{"a":1,}"#, r#""\ud800""#] {
            assert_eq!(refusal(text), None, "{text}");
        }
    }

    /// Each text is JSON in a string of the one before, and names the next in the form that serde_json gives a meaning.
    #[test]
    fn text_within_text_is_no_json() {
        let mut text = "{}".to_owned();
        for _ in 0..3 {
            text = serde_json::json!({ "$serde_json::private::RawValue": text }).to_string();
            let told = serde_json::from_str::<Json>(&text).unwrap_err().to_string();
            assert!(told.contains("must not begin"), "{told}");
            let list = format!("[{text}]");
            assert!(serde_json::from_str::<Json>(&list).is_err(), "{list}");
        }
    }
}
