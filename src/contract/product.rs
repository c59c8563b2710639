//! The product role's values, and a client for other roles.

use actix_web::http::Method;
use bson::oid::ObjectId;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Money, NewReservation, Reservation, Timestamp, get, put, read, request};
use crate::error::Error;
use crate::peer::{Context, Peer};

/// A product of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Product {
    /// 24 hexadecimal digits.
    #[schema(value_type = String, pattern = "^[0-9a-f]{24}$", example = "6b03d45b14e1855e68069e13")]
    #[serde(serialize_with = "in_hex")]
    pub id: ObjectId,
    /// The product's name.
    #[schema(example = "Docker Super Computer")]
    pub name: String,
    /// The price.
    pub price: Money,
    /// What a customer should know of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The category that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Computers")]
    pub category: Option<String>,
    /// Words that it can be found by.
    pub tags: Vec<String>,
    /// The stock keeping unit: what the shop calls it. No other product has the same, whatever the case of its letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "DSC-1")]
    pub sku: Option<String>,
    /// The URLs of its images.
    pub images: Vec<String>,
    /// Further values, as the shop likes.
    #[schema(value_type = Object)]
    pub attributes: Map<String, Value>,
    /// Whether a piece can be ordered.
    #[serde(rename = "inStock", serialize_with = "in_stock")]
    #[schema(value_type = bool)]
    pub stock: Stock,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "super::in_microseconds")]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "super::in_microseconds")]
    pub updated_at: Timestamp,
    /// How many pieces of it were ordered.
    #[serde(skip)]
    pub popularity: i64,
    /// The version, which the ETag is made of.
    #[serde(skip)]
    pub version: Version,
}

/// A category of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct CategorySummary {
    /// Its name.
    #[schema(example = "Computers")]
    pub name: String,
    /// How many products are in it.
    #[schema(minimum = 1)]
    pub products: i64,
}

/// The pieces of a product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// The pieces that the shop has; `None` if they are not counted.
    pub on_hand: Option<i64>,
    /// Those that are reserved for orders.
    pub reserved: i64,
}

/// A stock as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StockReport {
    /// The pieces that the shop has; null if they are not counted.
    #[schema(minimum = 0)]
    pub on_hand: Option<i64>,
    /// Those that are reserved for orders.
    #[schema(minimum = 0)]
    pub reserved: i64,
    /// Those that can be ordered; null if they are not counted.
    #[schema(minimum = 0)]
    pub available: Option<i64>,
}

/// A product of which few pieces are left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LowStock {
    /// Its id.
    #[schema(value_type = String, pattern = "^[0-9a-f]{24}$", example = "6b03d45b14e1855e68069e13")]
    #[serde(serialize_with = "in_hex")]
    pub id: ObjectId,
    /// Its name.
    pub name: String,
    /// What the shop calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// Its pieces.
    #[serde(flatten)]
    pub stock: StockReport,
}

impl From<Stock> for StockReport {
    fn from(stock: Stock) -> Self {
        Self { on_hand: stock.on_hand, reserved: stock.reserved, available: stock.available() }
    }
}

impl Stock {
    /// The pieces that can be ordered; `None` if they are not counted.
    pub fn available(self) -> Option<i64> {
        self.on_hand.map(|on_hand| on_hand - self.reserved)
    }

    /// Whether a piece can be ordered.
    pub fn is_in(self) -> bool {
        self.available().is_none_or(|available| available > 0)
    }
}

/// The version of a product; every write makes a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// How often the product was written. A count alone would repeat after a removal, or a restore from a backup.
    pub count: i64,
    /// A random number of the last write; 0 for rows that were last written by a version without it.
    pub revision: i64,
}

impl Version {
    /// The version of a new product.
    pub fn first() -> Self {
        Self { count: 1, revision: Self::draw() }
    }

    /// The revision of another write: random, and positive.
    pub fn draw() -> i64 {
        // The six fixed bits of a UUID are at different places in its halves.
        let (upper, lower) = uuid::Uuid::new_v4().as_u64_pair();
        ((upper ^ lower) >> 1).cast_signed().max(1)
    }
}

fn in_hex<S: Serializer>(id: &ObjectId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&id.to_hex())
}

fn in_stock<S: Serializer>(stock: &Stock, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(stock.is_in())
}

/// The most products that [`ProductClient::recommended`] can be asked about.
pub const MOST_WITH: usize = 20;

/// The largest page that is read, in bytes: 100 of the largest products.
const PAGE_LIMIT: usize = 8 * 1024 * 1024;

/// The largest reservation that is read, in bytes: 200 lines.
const RESERVATION_LIMIT: usize = 1024 * 1024;

fn reservation(id: Uuid) -> String {
    format!("/internal/reservations/{id}")
}

/// A client of the product role.
#[derive(Clone, Debug)]
pub struct ProductClient {
    peer: Peer,
}

impl ProductClient {
    /// A client that calls `peer`.
    pub fn new(peer: Peer) -> Self {
        Self { peer }
    }

    /// The products that were most often bought with those of the ids `with`, of which there may be [`MOST_WITH`]; then
    /// the most popular, and then the newest. At most `limit` (1 to 100), each as the product role writes it.
    ///
    /// # Errors
    /// The product role's error, or why it gave no answer.
    pub async fn recommended(
        &self,
        with: &[String],
        limit: u8,
        context: &Context,
    ) -> Result<Vec<Box<RawValue>>, Error> {
        let target = match with {
            // The same for many callers, and cached.
            [] => format!("/products?sort=popular&limit={limit}"),
            with => format!("/internal/recommendations?with={}&limit={limit}", with.join(",")),
        };
        get(&self.peer, &target, PAGE_LIMIT, context).await
    }

    /// Reserves pieces under `id`, all of them or none. The same request again gets the same answer.
    ///
    /// # Errors
    /// [`Kind::OutOfStock`](crate::error::Kind) with the lines that are short, [`Kind::Invalid`](crate::error::Kind) for
    /// products that are not there, [`Kind::Conflict`](crate::error::Kind) when the id is used up, or why there was no
    /// answer.
    pub async fn reserve(
        &self,
        id: Uuid,
        new: &NewReservation,
        context: &Context,
    ) -> Result<Reservation, Error> {
        let reply = put(&self.peer, &reservation(id), new, context).await?;
        read(reply, RESERVATION_LIMIT).await
    }

    /// Sells the pieces of a reservation. The same request again gets the same answer.
    ///
    /// # Errors
    /// [`Kind::Conflict`](crate::error::Kind) when they were given back before, [`Kind::NotFound`](crate::error::Kind) when
    /// there is no such reservation, or why there was no answer.
    pub async fn commit(&self, id: Uuid, context: &Context) -> Result<Reservation, Error> {
        let commit = request(Method::POST, &format!("{}/commit", reservation(id)))?;
        read(self.peer.send(commit, context).await?, RESERVATION_LIMIT).await
    }

    /// Gives back the pieces of a reservation, held or sold, once. The id is used up.
    ///
    /// # Errors
    /// Why there was no answer.
    pub async fn release(&self, id: Uuid, context: &Context) -> Result<(), Error> {
        let release = request(Method::DELETE, &reservation(id))?;
        self.peer.send(release, context).await?.into_success().await.map(drop)
    }
}
