//! The values of requests about orders. A value of one of these types is valid.

use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder};
use utoipa::openapi::{RefOr, Schema, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};
use uuid::Uuid;

use super::store::Filter;
use crate::contract::{NewLine, Order, OrderStatus};
use crate::error::Error;
use crate::middleware::{Fields, Limit, Query};

/// The most lines of an order, and the most pieces of a product.
const LINES: usize = 100;
const PIECES: i64 = 999;
/// The bounds of an address or a contact: fields, and characters of a name and of a text.
const FIELDS: usize = 20;
const NAME: usize = 64;
const TEXT: usize = 500;
/// The longest name of a payment method, in characters.
const METHOD: usize = 255;

/// A request to place an order.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the fields for the OpenAPI document")]
pub(super) struct NewOrder {
    items: Items,
    /// Where it goes.
    #[schema(required = false, value_type = Details)]
    ship_to: Option<Details>,
    /// How to reach the customer.
    #[schema(required = false, value_type = Details)]
    contact: Option<Details>,
    /// Who orders: required in an open shop; otherwise the token says it, and this field is unknown.
    #[schema(required = false)]
    user_id: Option<Uuid>,
}

/// A request to place an order, and who places it.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) user: Uuid,
    pub(super) lines: Vec<NewLine>,
    pub(super) ship_to: Option<Value>,
    pub(super) contact: Option<Value>,
}

impl NewOrder {
    /// Reads the request of `user`, or of the user that it names if the shop is open.
    ///
    /// # Errors
    /// 422 with one entry per field that is missing or invalid.
    pub(super) fn read(mut fields: Fields, user: Option<Uuid>) -> Result<Wanted, Error> {
        let items = fields.required::<Items>("items");
        let ship_to = fields.optional::<Details>("shipTo");
        let contact = fields.optional::<Details>("contact");
        let user = user.or_else(|| fields.required("userId"));
        let wanted = items.zip(user).map(|(items, user)| Wanted {
            user,
            lines: items.0,
            ship_to: ship_to.map(|details| details.0),
            contact: contact.map(|details| details.0),
        });
        fields.finish(wanted)
    }
}

impl Wanted {
    /// The digest of the request, to tell it from another one with the same key.
    pub(super) fn fingerprint(&self) -> String {
        let lines = self.lines.iter().map(|line| (&line.product_id, line.quantity));
        let parts = (self.user, lines.collect::<Vec<_>>(), &self.ship_to, &self.contact);
        // Texts and numbers always serialise.
        let text = serde_json::to_vec(&parts).unwrap_or_default();
        format!("{:032x}", crate::storage::digest(&text))
    }
}

/// The pieces that are ordered: 1 to 100 products, 1 to 999 pieces of each.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Vec<ItemFields>")]
struct Items(Vec<NewLine>);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemFields {
    product_id: String,
    quantity: i64,
}

/// Why items are refused.
#[derive(Debug, thiserror::Error)]
enum ItemsError {
    #[error("must have 1 to {LINES} entries")]
    Count,
    #[error("entry {0} names no product: an id has 24 hexadecimal digits")]
    Id(usize),
    #[error(
        "entry {0} must have 1 to {PIECES} pieces, those of other entries with the same product included"
    )]
    Quantity(usize),
}

impl TryFrom<Vec<ItemFields>> for Items {
    type Error = ItemsError;

    /// Entries with the same product are one line.
    fn try_from(fields: Vec<ItemFields>) -> Result<Self, ItemsError> {
        if !(1..=LINES).contains(&fields.len()) {
            return Err(ItemsError::Count);
        }
        let mut lines: Vec<NewLine> = Vec::with_capacity(fields.len());
        for (n, ItemFields { product_id, quantity }) in fields.into_iter().enumerate() {
            let is_pieces = |quantity: i64| (1..=PIECES).contains(&quantity);
            let product_id = product_id.to_ascii_lowercase();
            if product_id.len() != 24 || !product_id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(ItemsError::Id(n + 1));
            }
            let known = lines.iter_mut().find(|line| line.product_id == product_id);
            let all = known.as_ref().map_or(0, |line| line.quantity).saturating_add(quantity);
            if !is_pieces(quantity) || !is_pieces(all) {
                return Err(ItemsError::Quantity(n + 1));
            }
            match known {
                Some(line) => line.quantity = all,
                None => lines.push(NewLine { product_id, quantity }),
            }
        }
        Ok(Self(lines))
    }
}

impl PartialSchema for Items {
    fn schema() -> RefOr<Schema> {
        let id = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9a-fA-F]{24}$"));
        let quantity = ObjectBuilder::new().schema_type(Type::Integer);
        let quantity = quantity.minimum(Some(1)).maximum(Some(PIECES));
        let item = ObjectBuilder::new()
            .property("productId", id.examples(["6b03d45b14e1855e68069e13"]))
            .required("productId")
            .property("quantity", quantity)
            .required("quantity");
        let items = ArrayBuilder::new().items(item).min_items(Some(1)).max_items(Some(LINES));
        items
            .description(Some("Products and pieces; entries with the same product are summed"))
            .into()
    }
}

impl ToSchema for Items {}

/// An address or a contact: one text, or texts by name, as the shop's pages like it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
struct Details(Value);

/// Why an address or a contact is refused.
#[derive(Debug, thiserror::Error)]
enum DetailsError {
    #[error("must be a text, or an object of texts")]
    Type,
    #[error("must have 1 to {FIELDS} fields, whose names have at most {NAME} characters")]
    Fields,
    #[error("a text must have 1 to {TEXT} characters")]
    Text,
}

impl TryFrom<Value> for Details {
    type Error = DetailsError;

    fn try_from(value: Value) -> Result<Self, DetailsError> {
        let check = |text: &str| match text.chars().count() {
            1..=TEXT if !text.contains('\0') => Ok(()),
            _ => Err(DetailsError::Text),
        };
        match &value {
            Value::String(text) => check(text)?,
            Value::Object(fields) => {
                let is_name = |name: &String| {
                    (1..=NAME).contains(&name.chars().count()) && !name.contains('\0')
                };
                if !(1..=FIELDS).contains(&fields.len()) || !fields.keys().all(is_name) {
                    return Err(DetailsError::Fields);
                }
                texts(fields)?.into_iter().try_for_each(check)?;
            }
            _ => return Err(DetailsError::Type),
        }
        Ok(Self(value))
    }
}

fn texts(fields: &Map<String, Value>) -> Result<Vec<&str>, DetailsError> {
    fields.values().map(|value| value.as_str().ok_or(DetailsError::Type)).collect()
}

impl PartialSchema for Details {
    fn schema() -> RefOr<Schema> {
        let text = || {
            let text = ObjectBuilder::new().schema_type(Type::String);
            text.min_length(Some(1)).max_length(Some(TEXT)).pattern(Some("^[^\\u0000]*$"))
        };
        let names = ObjectBuilder::new().schema_type(Type::String);
        let names = names.min_length(Some(1)).max_length(Some(NAME));
        let names = names.pattern(Some("^[^\\u0000]*$"));
        let mut object = ObjectBuilder::new().additional_properties(Some(text())).build();
        object.min_properties = Some(1);
        object.max_properties = Some(FIELDS);
        object.property_names = Some(Box::new(names.build().into()));
        OneOfBuilder::new().item(text()).item(object).into()
    }
}

impl ToSchema for Details {}

/// A request to pay an order.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Payment {
    /// The provider's name of it, which its own pages make of a card; in a sandbox `ok`, `declined`, `slow`, `lost-answer`
    /// or `twice`.
    #[schema(value_type = String, min_length = 1, max_length = 255, pattern = "^[!-~]*$", example = "ok")]
    payment_method: PaymentMethod,
}

impl Payment {
    /// Reads the request: the payment method.
    ///
    /// # Errors
    /// 422 with one entry per field that is missing or invalid.
    pub(super) fn read(mut fields: Fields) -> Result<String, Error> {
        let payment = fields.required("paymentMethod");
        let payment = payment.map(|payment_method| Self { payment_method });
        Ok(fields.finish(payment)?.payment_method.0)
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct PaymentMethod(String);

impl TryFrom<String> for PaymentMethod {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_name = text.bytes().all(|byte| byte.is_ascii_graphic());
        match text.len() {
            1..=METHOD if is_name => Ok(Self(text)),
            _ => Err("must have 1 to 255 visible ASCII characters"),
        }
    }
}

/// A request to give the money back.
#[derive(Debug, ToSchema)]
pub(super) struct RefundRequest {
    /// Whether the pieces can be sold again.
    restock: bool,
}

impl RefundRequest {
    /// Reads the request: whether the pieces can be sold again.
    ///
    /// # Errors
    /// 422 with one entry per field that is missing or invalid.
    pub(super) fn read(mut fields: Fields) -> Result<bool, Error> {
        let request = fields.required("restock").map(|restock| Self { restock });
        Ok(fields.finish(request)?.restock)
    }
}

/// The parameters of [`OrderPage`].
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters for the OpenAPI document")]
pub(super) struct OrderQuery {
    /// Only orders in this state.
    status: Option<OrderStatus>,
    /// How many a page has.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u8>,
    /// From the `Link` header of the page before.
    cursor: Option<Uuid>,
}

/// A requested page of orders, the newest first.
#[derive(Clone, Debug)]
pub(super) struct OrderPage {
    status: Option<OrderStatus>,
    limit: Limit,
    before: Option<Uuid>,
}

/// The id of an order, as links have it.
struct Cursor(Uuid);

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = Uuid::try_parse(text);
        id.map(Self).map_err(|_| "must come from the Link header of a page before")
    }
}

impl OrderPage {
    /// Reads the parameters.
    ///
    /// # Errors
    /// 422 with one entry per invalid parameter.
    pub(super) fn read(mut query: Query) -> Result<Self, Error> {
        let status = query.optional("status");
        let limit = query.optional("limit").unwrap_or_default();
        let before = query.optional("cursor").map(|Cursor(id)| id);
        query.finish(Self { status, limit, before })
    }

    /// The orders that it may have, of `user` alone if one is given.
    pub(super) fn filter(&self, user: Option<Uuid>) -> Filter {
        Filter { user, status: self.status, before: self.before }
    }

    /// One more than the page's size, which tells whether another page follows.
    pub(super) fn limit_and_one(&self) -> usize {
        self.limit.get() + 1
    }

    /// Cuts `orders` to the page; also returns the target of the next page if there is one.
    pub(super) fn cut(&self, mut orders: Vec<Order>) -> (Vec<Order>, Option<String>) {
        let limit = self.limit.get();
        let more = orders.len() > limit;
        orders.truncate(limit);
        let last = orders.last().filter(|_| more).map(|order| order.id);
        let next = last.map(|id| {
            let status = self.status.map(|status| format!("status={status}&")).unwrap_or_default();
            format!("/orders?{status}limit={limit}&cursor={id}")
        });
        (orders, next)
    }
}

/// The parameters of a summary.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters for the OpenAPI document")]
pub(super) struct SummaryQuery {
    /// How many days, today included.
    #[param(minimum = 1, maximum = 366, default = 30)]
    days: Option<u16>,
}

/// How many days a summary has: 1 to 366.
pub(super) struct Days(pub(super) u16);

impl Days {
    /// Reads the parameters.
    ///
    /// # Errors
    /// 422 with one entry per invalid parameter.
    pub(super) fn read(mut query: Query) -> Result<Self, Error> {
        let days = query.optional("days").unwrap_or(Self(30));
        query.finish(days)
    }
}

impl FromStr for Days {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(days @ 1..=366) => Ok(Self(days)),
            _ => Err("must be a whole number from 1 to 366"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn items(value: Value) -> Result<Vec<(String, i64)>, String> {
        let items = serde_json::from_value::<Items>(value).map_err(|error| error.to_string())?;
        Ok(items.0.into_iter().map(|line| (line.product_id, line.quantity)).collect())
    }

    #[test]
    fn entries_of_one_product_are_one_line() {
        let [a, b] = ["a", "b"].map(|digit| digit.repeat(24));
        let entry = |id: &str, quantity: i64| json!({ "productId": id, "quantity": quantity });
        let summed = items(json!([entry(&a, 1), entry(&b, 2), entry(&a.to_uppercase(), 3)]));
        assert_eq!(summed, Ok(vec![(a.clone(), 4), (b, 2)]));
        for bad in [
            json!([]),
            json!([entry("7", 1)]),
            json!([entry(&a, 0)]),
            json!([entry(&a, -1)]),
            json!([entry(&a, 1000)]),
            json!([entry(&a, 999), entry(&a, 1)]),
            json!(vec![entry(&a, 1); 101]),
        ] {
            assert!(items(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_is_a_text_or_texts_by_name() {
        let is_valid = |value: Value| serde_json::from_value::<Details>(value).is_ok();
        assert!(is_valid(json!("1 Main Street")) && is_valid(json!({ "city": "Zion" })));
        for bad in [json!(""), json!({}), json!(7), json!({ "a": 1 }), json!("x".repeat(501))] {
            assert!(!is_valid(bad.clone()), "{bad}");
        }
        let many = (0..21).map(|n| (n.to_string(), json!("x"))).collect::<Map<_, _>>();
        assert!(!is_valid(Value::Object(many)));
    }
}
