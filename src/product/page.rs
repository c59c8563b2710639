//! Which products are asked for, in which order, and where a page of them begins.

use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bson::oid::ObjectId;
use utoipa::{IntoParams, ToSchema};

use super::values::{Category, Tag};
use super::words::{self, Words};
use crate::contract::{Money, Product};
use crate::error::Error;
use crate::middleware::{Limit, Query};
use crate::storage::digest;

/// The order of products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ToSchema)]
pub(super) enum Sort {
    /// The newest first.
    #[default]
    #[schema(rename = "newest")]
    Newest,
    /// The cheapest first.
    #[schema(rename = "price")]
    Price,
    /// The dearest first.
    #[schema(rename = "-price")]
    PriceDescending,
    /// By name, without regard to case and accents.
    #[schema(rename = "name")]
    Name,
    /// The most ordered first.
    #[schema(rename = "popular")]
    Popular,
    /// Those with all words in their names first, then the newest. Only with `q`.
    #[schema(rename = "relevance")]
    Relevance,
}

/// The orders and their names.
const SORTS: [(Sort, &str); 6] = [
    (Sort::Newest, "newest"),
    (Sort::Price, "price"),
    (Sort::PriceDescending, "-price"),
    (Sort::Name, "name"),
    (Sort::Popular, "popular"),
    (Sort::Relevance, "relevance"),
];

impl Sort {
    fn name(self) -> &'static str {
        SORTS.iter().find(|(sort, _)| *sort == self).map_or("", |(_, name)| name)
    }
}

impl FromStr for Sort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = SORTS.iter().find(|(_, name)| *name == text);
        let found = found.ok_or("must be one of newest, price, -price, name, popular, relevance");
        found.map(|(sort, _)| *sort)
    }
}

/// What products must have, and their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Filter {
    /// Each begins a word of the product.
    pub(super) words: Vec<String>,
    /// The text that the words are from.
    pub(super) text: String,
    pub(super) category: Option<String>,
    pub(super) tag: Option<String>,
    pub(super) min_price: Option<Money>,
    pub(super) max_price: Option<Money>,
    pub(super) in_stock: Option<bool>,
    pub(super) sort: Sort,
}

impl Filter {
    /// Its parameters, as a query has them.
    fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let price = |price: Option<Money>| price.map(|price| price.to_string());
        let in_stock = self.in_stock.map(|in_stock| in_stock.to_string());
        let text = Some(&self.text).filter(|text| !text.is_empty());
        for (name, value) in [
            ("q", text.cloned()),
            ("category", self.category.clone()),
            ("tag", self.tag.clone()),
            ("minPrice", price(self.min_price)),
            ("maxPrice", price(self.max_price)),
            ("inStock", in_stock),
            ("sort", Some(self.sort.name().to_owned())),
        ] {
            if let Some(value) = value {
                query.append_pair(name, &value);
            }
        }
        query.finish()
    }

    /// Whether it leaves out products, other than by words.
    pub(super) fn narrows(&self) -> bool {
        self.category.is_some()
            || self.tag.is_some()
            || self.min_price.is_some()
            || self.max_price.is_some()
            || self.in_stock.is_some()
    }

    /// About how many bytes of memory it takes.
    fn weight(&self) -> usize {
        let texts = self.words.iter().chain([&self.text]).chain(&self.category).chain(&self.tag);
        size_of::<Self>() + texts.map(|text| size_of::<String>() + text.len()).sum::<usize>()
    }

    /// What a cursor of its pages is bound to.
    fn digest(&self) -> [u8; 8] {
        let digest = digest(self.query().as_bytes()).to_be_bytes();
        digest.first_chunk().copied().unwrap_or_default()
    }

    /// What `product` is sorted by before its age.
    fn rank(&self, product: &Product) -> Rank {
        match self.sort {
            Sort::Newest => Rank::None,
            Sort::Price | Sort::PriceDescending => Rank::Number(product.price.minor()),
            Sort::Name => Rank::Text(words::sort_key(&product.name)),
            Sort::Popular => Rank::Number(product.popularity),
            Sort::Relevance => Rank::Number(tier(&self.words, &product.name)),
        }
    }
}

/// `words` without spare capacity, because the cache keeps them.
fn compact(mut words: Vec<String>) -> Vec<String> {
    words.shrink_to_fit();
    words.iter_mut().for_each(String::shrink_to_fit);
    words
}

/// 0 if each of `wanted` begins a word of `name`, else 1.
pub(super) fn tier(wanted: &[String], name: &str) -> i64 {
    let there = words::words(name);
    let is_there = |word: &String| there.iter().any(|known| known.starts_with(word.as_str()));
    i64::from(!wanted.iter().all(is_there))
}

/// What a product is sorted by before its age.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rank {
    None,
    Number(i64),
    Text(String),
}

/// The last product of a page; the next page begins after it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Position {
    pub(super) rank: Rank,
    /// When the product was added, in microseconds since 1970.
    pub(super) created_at: i64,
    /// Orders products of the same microsecond.
    pub(super) id: ObjectId,
}

/// A position as links have it. Opaque to clients: 20 bytes of age and id; before them eight of the filter, and behind
/// them the rank, where there is a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    filter: Option<[u8; 8]>,
    created_at: i64,
    id: ObjectId,
    rank: Vec<u8>,
}

const FOREIGN: &str =
    "must come from the Link header of a page before, with the same filters and order";

impl Cursor {
    fn new(filter: Option<&Filter>, position: &Position) -> Self {
        let rank = match &position.rank {
            Rank::None => Vec::new(),
            Rank::Number(number) => number.to_be_bytes().to_vec(),
            Rank::Text(text) => text.as_bytes().to_vec(),
        };
        let Position { created_at, id, .. } = *position;
        Self { filter: filter.map(Filter::digest), created_at, id, rank }
    }

    /// The cursor as links have it.
    pub fn encode(&self) -> String {
        let mut bytes = self.filter.map_or_else(Vec::new, Vec::from);
        bytes.extend(self.created_at.to_be_bytes());
        bytes.extend(self.id.bytes());
        bytes.extend(&self.rank);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position, if it is one of `filter`'s.
    fn position(self, filter: Option<&Filter>) -> Option<Position> {
        if self.filter != filter.map(Filter::digest) {
            return None;
        }
        let rank = match filter.map(|filter| filter.sort) {
            None | Some(Sort::Newest) => self.rank.is_empty().then_some(Rank::None),
            Some(Sort::Name) => String::from_utf8(self.rank).ok().map(Rank::Text),
            Some(_) => {
                self.rank.try_into().ok().map(|bytes| Rank::Number(i64::from_be_bytes(bytes)))
            }
        };
        Some(Position { rank: rank?, created_at: self.created_at, id: self.id })
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| FOREIGN)?;
        let (filter, rest) = match bytes.split_first_chunk::<8>() {
            Some((filter, rest)) if bytes.len() != 20 => (Some(*filter), rest),
            _ => (None, &*bytes),
        };
        let (time, rest) = rest.split_first_chunk::<8>().ok_or(FOREIGN)?;
        let (id, rank) = rest.split_first_chunk::<12>().ok_or(FOREIGN)?;
        Ok(Self {
            filter,
            created_at: i64::from_be_bytes(*time),
            id: ObjectId::from_bytes(*id),
            rank: rank.to_vec(),
        })
    }
}

/// The parameters of [`PageRequest`].
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters for the OpenAPI document")]
pub(super) struct PageQuery {
    /// Words of at least two characters, or of one ideograph or emoji. Each must begin a word of the product's name, tags,
    /// category or description, without regard to case and accents.
    #[param(min_length = 1, max_length = 200, example = "super comp")]
    q: Option<String>,
    /// The category.
    #[param(min_length = 1, max_length = 100)]
    category: Option<String>,
    /// A tag.
    #[param(min_length = 1, max_length = 50)]
    tag: Option<String>,
    /// The least price.
    #[param(value_type = Option<Money>, rename = "minPrice")]
    min_price: Option<Money>,
    /// The highest price.
    #[param(value_type = Option<Money>, rename = "maxPrice")]
    max_price: Option<Money>,
    /// Whether a piece can be ordered.
    #[param(rename = "inStock")]
    in_stock: Option<bool>,
    /// The order; by default `relevance` with `q`, else `newest`.
    #[param(inline)]
    sort: Option<Sort>,
    /// How many a page has.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u8>,
    /// From the `Link` header of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{27,}$")]
    cursor: Option<String>,
}

/// A requested page of the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PageRequest {
    limit: Limit,
    /// `None` for all products, the newest first.
    pub(super) filter: Option<Arc<Filter>>,
    /// Where the page begins; without one, at the first product.
    pub(super) position: Option<Position>,
}

impl PageRequest {
    /// Reads the parameters.
    ///
    /// # Errors
    /// 422 with one entry per invalid parameter.
    pub fn read(mut query: Query) -> Result<Self, Error> {
        let limit = query.optional("limit").unwrap_or_default();
        let cursor = query.optional::<Cursor>("cursor");
        let words = query.optional::<Words>("q");
        let sort = query.optional("sort");
        let default = if words.is_some() { Sort::Relevance } else { Sort::Newest };
        let (words, text) =
            words.map_or_else(Default::default, |Words { words, text }| (compact(words), text));
        let filter = Filter {
            category: query.optional::<Category>("category").map(|category| category.0),
            tag: query.optional::<Tag>("tag").map(|tag| tag.0),
            min_price: query.optional("minPrice"),
            max_price: query.optional("maxPrice"),
            in_stock: query.optional("inStock"),
            sort: sort.unwrap_or(default),
            words,
            text,
        };
        if filter.min_price.zip(filter.max_price).is_some_and(|(least, most)| least > most) {
            query.refuse("minPrice", "must not be larger than maxPrice");
        }
        if sort == Some(Sort::Relevance) && filter.text.is_empty() {
            query.refuse("sort", "can be relevance only with q");
        }
        let filter = Some(filter).filter(|filter| *filter != Filter::default()).map(Arc::new);
        let is_valid = query.is_valid();
        let position = cursor.and_then(|cursor| {
            let position = cursor.position(filter.as_deref());
            if position.is_none() && is_valid {
                query.refuse("cursor", FOREIGN);
            }
            position
        });
        query.finish(Self { limit, filter, position })
    }

    /// One more than the page's size, which tells whether another page follows.
    pub(super) fn limit_and_one(&self) -> i64 {
        self.limit.get() as i64 + 1
    }

    /// About how many bytes of memory its texts take.
    pub(super) fn weight(&self) -> usize {
        let rank = self.position.as_ref().map_or(0, |position| match &position.rank {
            Rank::Text(text) => text.len(),
            Rank::None | Rank::Number(_) => 0,
        });
        self.filter.as_ref().map_or(0, |filter| filter.weight()) + rank
    }

    /// The path and query of this page.
    pub fn target(&self) -> String {
        let mut target = "/products?".to_owned();
        if let Some(filter) = &self.filter {
            let _ = write!(target, "{}&", filter.query());
        }
        let _ = write!(target, "limit={}", self.limit.get());
        if let Some(position) = &self.position {
            let cursor = Cursor::new(self.filter.as_deref(), position);
            let _ = write!(target, "&cursor={}", cursor.encode());
        }
        target
    }

    /// Cuts `products` to the page; also returns the target of the next page if there is one.
    pub(super) fn cut(&self, mut products: Vec<Product>) -> (Vec<Product>, Option<String>) {
        let limit = self.limit.get();
        let more = products.len() > limit;
        products.truncate(limit);
        let last = products.last().filter(|_| more).map(|product| Position {
            rank: self.filter.as_ref().map_or(Rank::None, |filter| filter.rank(product)),
            created_at: product.created_at.timestamp_micros(),
            id: product.id,
        });
        let next = last.map(|position| Self { position: Some(position), ..self.clone() }.target());
        (products, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_survives_the_link(
            created_at: i64, id: [u8; 12], filter: Option<[u8; 8]>, rank in prop::collection::vec(any::<u8>(), 0..40)
        ) {
            // Without a filter there is no rank.
            let rank = if filter.is_some() { rank } else { Vec::new() };
            let cursor = Cursor { filter, created_at, id: ObjectId::from_bytes(id), rank };
            prop_assert_eq!(cursor.encode().parse(), Ok(cursor));
        }

        #[test]
        fn what_is_no_cursor_is_refused(text in ".{0,26}") {
            prop_assert!(text.parse::<Cursor>().is_err());
        }
    }
}
