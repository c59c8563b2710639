//! The values that a product is made of. A value of one of these types is valid.

use std::borrow::Cow;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems};
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use super::words::without_case;
use crate::middleware::{LineError, is_invisible, line, line_schema};

/// The longest description, in characters.
const DESCRIPTION: usize = 5000;
/// The most tags.
const TAGS: usize = 20;
/// The most images, and the longest URL, in characters.
const IMAGES: usize = 10;
const IMAGE: usize = 2048;
/// The largest attributes as JSON, in bytes, and how deep they may be nested: 1 is an object without objects and arrays.
const ATTRIBUTES: usize = 8192;
const DEPTH: usize = 4;

/// A text on one line, without white space around it.
macro_rules! one_line {
    ($(#[$about:meta])* $name:ident: $schema:literal, $max:literal, $example:literal, $words:literal) => {
        $(#[$about])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(try_from = "String")]
        pub(super) struct $name(pub(super) String);

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                $schema.into()
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                line_schema(concat!($words, ": 1 to ", $max, " characters on one line"), $max, $example).into()
            }
        }

        impl FromStr for $name {
            type Err = LineError;

            fn from_str(text: &str) -> Result<Self, LineError> {
                line(text, $max).map(|line| Self(line.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = LineError;

            fn try_from(text: String) -> Result<Self, LineError> {
                text.parse()
            }
        }
    };
}

one_line! {
    /// What a product is called: 1 to 200 characters.
    Name: "ProductName", 200, "Docker Super Computer", "What the product is called"
}
one_line! {
    /// The category of a product: 1 to 100 characters. Two categories are the same if all their characters are.
    Category: "Category", 100, "Computers", "The category that the product is in"
}
one_line! {
    /// A word that a product can be found by: 1 to 50 characters. Two tags are the same if all their characters are.
    Tag: "Tag", 50, "docker", "A word that the product can be found by"
}
one_line! {
    /// A stock keeping unit: 1 to 64 characters. Two are the same without regard to case.
    Sku: "Sku", 64, "DSC-1", "What the shop calls the product; unique without regard to case"
}

impl Sku {
    /// What is the same for SKUs that differ in case alone.
    pub(super) fn key(sku: &str) -> String {
        without_case(sku.chars()).collect()
    }
}

/// Why a value is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    /// A text that has no line.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A description with control characters.
    #[error("must have no control characters but tabs and line breaks")]
    Control,
    /// A list with more than this.
    #[error("must have at most {0} entries")]
    Many(usize),
    /// An entry of a list, counted from 1.
    #[error("entry {0} {1}")]
    Entry(usize, Box<ValueError>),
    /// An entry that is there already.
    #[error("is there twice")]
    Twice,
    /// Another scheme, no host, or white space.
    #[error("must be an http:// or https:// URL")]
    Url,
    /// Attributes that are no object.
    #[error("must be an object")]
    Object,
    /// Attributes that are too large.
    #[error("must have at most {ATTRIBUTES} bytes as JSON")]
    Large,
    /// Attributes that are nested too deep.
    #[error("must be nested at most {DEPTH} deep")]
    Deep,
}

/// What a customer should know of a product: 1 to 5000 characters, without white space around them.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Description(pub(super) String);

impl TryFrom<String> for Description {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let trimmed = text.trim();
        let is_blank = |letter: char| letter.is_whitespace() || is_invisible(letter);
        if trimmed.is_empty() {
            Err(LineError::Empty.into())
        } else if text.chars().count() > DESCRIPTION {
            Err(LineError::Long(DESCRIPTION).into())
        } else if trimmed
            .contains(|letter: char| letter.is_control() && !matches!(letter, '\t' | '\n' | '\r'))
        {
            Err(ValueError::Control)
        } else if trimmed.chars().all(is_blank) {
            Err(LineError::Invisible.into())
        } else {
            Ok(Self(trimmed.to_owned()))
        }
    }
}

impl ToSchema for Description {}

impl PartialSchema for Description {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("What a customer should know of it; it may have line breaks"))
            .min_length(Some(1))
            .max_length(Some(DESCRIPTION))
            .examples(["Runs 25 containers in 6 GB of memory."])
            .into()
    }
}

/// Words that a product can be found by: at most 20 lines of 1 to 50 characters, none of them twice.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub(super) struct Tags(pub(super) Vec<String>);

impl TryFrom<Vec<String>> for Tags {
    type Error = ValueError;

    fn try_from(texts: Vec<String>) -> Result<Self, ValueError> {
        entries(texts, TAGS, |text| Ok(text.parse::<Tag>()?.0)).map(Self)
    }
}

impl ToSchema for Tags {}

impl PartialSchema for Tags {
    fn schema() -> RefOr<Schema> {
        list(Tag::schema(), TAGS)
    }
}

/// The URLs of a product's images, http or https: at most 10 of at most 2048 characters, none of them twice.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub(super) struct Images(pub(super) Vec<String>);

impl TryFrom<Vec<String>> for Images {
    type Error = ValueError;

    fn try_from(texts: Vec<String>) -> Result<Self, ValueError> {
        entries(texts, IMAGES, |text| image(text).map(|()| text.to_owned())).map(Self)
    }
}

impl ToSchema for Images {}

impl PartialSchema for Images {
    fn schema() -> RefOr<Schema> {
        let url = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::Custom("uri".to_owned())))
            .pattern(Some("^[Hh][Tt][Tt][Pp][Ss]?://"))
            .max_length(Some(IMAGE))
            .examples(["https://images.example.com/dsc-1.webp"]);
        list(url.into(), IMAGES)
    }
}

fn image(text: &str) -> Result<(), ValueError> {
    if text.chars().count() > IMAGE {
        return Err(LineError::Long(IMAGE).into());
    }
    // The parser would remove them.
    let is_whole = !text.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    let url = url::Url::parse(text).ok().filter(|_| is_whole);
    let is_web = |url: &url::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    // To the parser, `http:host` and `http:/host` are the same as `http://host`.
    let has_slashes = text.split_once("://").is_some_and(|(scheme, _)| !scheme.contains('/'));
    url.filter(is_web).filter(|_| has_slashes).map(drop).ok_or(ValueError::Url)
}

fn list(items: RefOr<Schema>, most: usize) -> RefOr<Schema> {
    let items = ArrayItems::RefOrSchema(Box::new(items));
    ArrayBuilder::new().items(items).max_items(Some(most)).unique_items(true).into()
}

/// At most `most` of `texts`, each as `check` returns it, and none of them twice.
fn entries(
    texts: Vec<String>,
    most: usize,
    check: impl Fn(&str) -> Result<String, ValueError>,
) -> Result<Vec<String>, ValueError> {
    if texts.len() > most {
        return Err(ValueError::Many(most));
    }
    let mut entries = Vec::with_capacity(texts.len());
    for text in &texts {
        let entry = check(text).and_then(|entry| match entries.contains(&entry) {
            true => Err(ValueError::Twice),
            false => Ok(entry),
        });
        let number = entries.len() + 1;
        entries.push(entry.map_err(|error| ValueError::Entry(number, Box::new(error)))?);
    }
    Ok(entries)
}

/// Further values of a product: a JSON object of at most 8 KiB, at most 4 deep.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Attributes(pub(super) Map<String, Value>);

impl Attributes {
    /// The attributes with `patch` merged into them (RFC 7396).
    ///
    /// # Errors
    /// Why the result is refused.
    pub(super) fn merged(
        attributes: Map<String, Value>,
        patch: AttributesPatch,
    ) -> Result<Self, ValueError> {
        let mut target = Value::Object(attributes);
        merge(&mut target, Value::Object(patch.0));
        target.try_into()
    }
}

/// What is merged into attributes: a JSON object.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct AttributesPatch(Map<String, Value>);

impl TryFrom<Value> for AttributesPatch {
    type Error = ValueError;

    fn try_from(value: Value) -> Result<Self, ValueError> {
        match value {
            Value::Object(object) => Ok(Self(object)),
            _ => Err(ValueError::Object),
        }
    }
}

impl TryFrom<Value> for Attributes {
    type Error = ValueError;

    fn try_from(value: Value) -> Result<Self, ValueError> {
        if depth(&value) > DEPTH {
            return Err(ValueError::Deep);
        }
        let Value::Object(object) = value else { return Err(ValueError::Object) };
        let length = serde_json::to_vec(&object).map_or(usize::MAX, |json| json.len());
        if length > ATTRIBUTES { Err(ValueError::Large) } else { Ok(Self(object)) }
    }
}

impl ToSchema for Attributes {}

impl PartialSchema for Attributes {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .description(Some("Further values, at most 8192 bytes as JSON and at most 4 deep"))
            .additional_properties(Some(AdditionalProperties::FreeForm(true)))
            .examples([serde_json::json!({ "colour": "black", "weight": 1.5 })])
            .into()
    }
}

/// How deep `value` is nested; 0 for one that is neither an object nor an array.
fn depth(value: &Value) -> usize {
    match value {
        Value::Object(object) => 1 + object.values().map(depth).max().unwrap_or(0),
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Merges `patch` into `target` (RFC 7396, section 2).
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(object) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            object.shift_remove(&name);
        } else {
            merge(object.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middleware::allows;
    use serde_json::json;

    #[test]
    fn the_document_says_the_same_of_names() {
        let (fits, too_long) = ("ö".repeat(200), "ö".repeat(201));
        let spaced = format!(" {fits}");
        for text in ["", " ", "Lamp", " Lamp\n", "a\u{7f}b", &fits, &too_long, &spaced] {
            let taken = Name::try_from(text.to_owned()).is_ok();
            assert_eq!(allows::<Name>(text), taken, "{text:?}");
        }
    }

    #[test]
    fn skus_are_the_same_without_regard_to_case() {
        for (one, other) in [("dsc-1", "DSC-1"), ("straße", "STRASSE"), ("ΟΔΟΣ", "οδος")] {
            assert_eq!(Sku::key(one), Sku::key(other));
        }
        assert_ne!(Sku::key("dsc-1"), Sku::key("dsc-2"));
        assert_eq!(Sku::try_from(" A-1 ".to_owned()).unwrap().0, "A-1");
    }

    #[test]
    fn images_are_urls_of_the_web() {
        let long = |length: usize| format!("https://a.example/{}", "x".repeat(length - 18));
        for good in ["http://a.example", "HTTPS://a.example/b?c#d", "https://[::1]/ö", &long(2048)]
        {
            assert_eq!(image(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a.example",
            "//a.example",
            "ftp://a.example",
            "data:image/png;base64,",
            "http://",
            "http:a.example",
            "https:/a.example/b://c",
            "http://a b",
            " http://a.example",
            "http://a\n.example",
            "javascript:alert(1)",
        ] {
            assert_eq!(image(bad), Err(ValueError::Url), "{bad:?}");
        }
        assert_eq!(image(&long(2049)), Err(LineError::Long(2048).into()));
    }

    #[test]
    fn a_list_names_the_entry_that_it_refuses() {
        let tags = |texts: &[&str]| {
            let texts = texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            Tags::try_from(texts).map(|tags| tags.0).map_err(|error| error.to_string())
        };
        assert_eq!(tags(&[" a ", "b"]), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(tags(&["a", " "]), Err("entry 2 must not be empty".to_owned()));
        assert_eq!(tags(&["a", "a "]), Err("entry 2 is there twice".to_owned()));
        assert_eq!(tags(&["a"; 21]), Err("must have at most 20 entries".to_owned()));
    }

    #[test]
    fn attributes_are_an_object_of_a_size_and_a_depth() {
        let taken = |value: Value| Attributes::try_from(value).map(drop);
        assert_eq!(taken(json!({ "a": [{ "b": { "c": 1 } }] })), Ok(()));
        assert_eq!(taken(json!({ "a": [{ "b": { "c": [] } }] })), Err(ValueError::Deep));
        assert_eq!(taken(json!({ "a": "x".repeat(8192 - 8) })), Ok(()));
        assert_eq!(taken(json!({ "a": "x".repeat(8192 - 7) })), Err(ValueError::Large));
        for bad in [json!([]), json!(1), json!(null), json!("a")] {
            assert_eq!(taken(bad), Err(ValueError::Object));
        }
    }

    /// The examples of RFC 7396, appendix A, whose original is an object.
    #[test]
    fn patches_are_merged_as_the_rfc_says() {
        for (original, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let mut target = original;
            merge(&mut target, patch);
            assert_eq!(target, result);
        }
    }
}
