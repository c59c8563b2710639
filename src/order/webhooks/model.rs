//! Requests about webhooks. A value of one of these types is valid.

use serde::Deserialize;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder};
use utoipa::openapi::{RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::address::Reach;
use super::kinds;
use crate::error::{Error, FieldError, Kind};
use crate::middleware::Fields;

/// The longest description, in characters.
const DESCRIPTION: usize = 500;

/// A request for a webhook.
#[derive(Debug, ToSchema)]
pub(in crate::order) struct NewWebhook {
    /// Where events are sent: `https://`, to an address of the world.
    #[schema(
        format = "uri",
        pattern = "^[Hh][Tt][Tt][Pp][Ss]?://",
        max_length = 2048,
        example = "https://shop.example/events"
    )]
    pub(super) url: String,
    #[schema(required = false, value_type = EventTypes)]
    pub(super) events: Option<EventTypes>,
    /// What it is for.
    #[schema(required = false, value_type = String, min_length = 1, max_length = 500, pattern = "^[^\\u0000]*$", example = "the warehouse")]
    pub(super) description: Option<Description>,
}

impl NewWebhook {
    /// Reads the request; its URL must be within `reach`.
    ///
    /// # Errors
    /// 422 with one entry per field that is missing or invalid.
    pub(super) fn read(mut fields: Fields, reach: Reach) -> Result<Self, Error> {
        let url = fields.required::<String>("url");
        let events = fields.optional("events");
        let description = fields.optional("description");
        let new = fields.finish(url.map(|url| Self { url, events, description }))?;
        let invalid = |why: super::address::AddressError| {
            Error::invalid(vec![FieldError::new("url", why.to_string())])
        };
        let url = reach.parse(&new.url).map_err(invalid)?;
        Ok(Self { url: url.into(), ..new })
    }
}

/// Types of events, each once.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub(in crate::order) struct EventTypes(pub(super) Vec<String>);

impl TryFrom<Vec<String>> for EventTypes {
    type Error = String;

    fn try_from(names: Vec<String>) -> Result<Self, String> {
        let known = kinds();
        if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
            let unknown = unknown.chars().take(64).collect::<String>();
            return Err(format!(
                "{unknown:?} is no type of an event; there are {}",
                known.join(", ")
            ));
        }
        if names.is_empty() {
            return Err("must have an entry, or be absent for all".to_owned());
        }
        let chosen = known.into_iter().filter(|kind| names.contains(kind)).collect::<Vec<_>>();
        if chosen.len() < names.len() {
            return Err("must have each type once".to_owned());
        }
        Ok(Self(chosen))
    }
}

impl PartialSchema for EventTypes {
    fn schema() -> RefOr<Schema> {
        let kind = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(kinds()));
        let kinds = ArrayBuilder::new().items(kind).min_items(Some(1)).unique_items(true);
        let about = "The types of events that are sent; without it all, also those to come";
        kinds.description(Some(about)).into()
    }
}

impl ToSchema for EventTypes {}

/// What a webhook is for.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(in crate::order) struct Description(pub(super) String);

impl TryFrom<String> for Description {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.chars().count() {
            1..=DESCRIPTION if !text.contains('\0') => Ok(Self(text)),
            _ => Err("must have 1 to 500 characters"),
        }
    }
}

/// 409, because there are as many webhooks as there may be.
pub(super) fn too_many(most: i64) -> Error {
    Error::new(Kind::Conflict, format!("there are {most} webhooks already; delete one"))
}
