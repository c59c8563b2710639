//! Filters and orders of documents.

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};

use super::super::super::page::{Filter, Position, Rank, Sort};
use crate::contract::Version;

/// A filter for the products that were not removed.
pub(super) fn live() -> Document {
    doc! { "deleted_at": Bson::Null }
}

/// The value of a field for a number that is `number`; old documents have no such field.
pub(super) fn number(number: i64) -> Document {
    let none = (number == 0).then_some(Bson::Null);
    doc! { "$in": none.into_iter().chain([number.into()]).collect::<Vec<_>>() }
}

/// What documents must have for `filter`.
pub(super) fn conditions(filter: &Filter) -> Document {
    let mut conditions = live();
    if let Some(category) = &filter.category {
        conditions.insert("category", category);
    }
    if let Some(tag) = &filter.tag {
        conditions.insert("tags", tag);
    }
    let mut price = Document::new();
    price.extend(filter.min_price.map(|least| ("$gte".to_owned(), least.minor().into())));
    price.extend(filter.max_price.map(|most| ("$lte".to_owned(), most.minor().into())));
    if !price.is_empty() {
        conditions.insert("price", price);
    }
    if let Some(in_stock) = filter.in_stock {
        conditions.insert("in_stock", in_stock);
    }
    if !filter.words.is_empty() {
        conditions = doc! { "$and": [conditions, { "$and": begin("words", &filter.words) }] };
    }
    conditions
}

/// That each of `words` begins one in the field `name`. They have no signs that mean anything in a regular expression.
pub(super) fn begin(name: &str, words: &[String]) -> Vec<Document> {
    let begins = |word: &String| doc! { name: { "$regex": format!("^{word}") } };
    words.iter().map(begins).collect()
}

/// The fields of an order: 1 upwards, -1 downwards.
pub(super) fn order(sort: Sort) -> Vec<(&'static str, i32)> {
    let newest = [("created_at", -1), ("_id", -1)];
    let first = match sort {
        Sort::Newest | Sort::Relevance => return newest.into(),
        Sort::Price => return vec![("price", 1), ("created_at", 1), ("_id", 1)],
        Sort::PriceDescending => ("price", -1),
        Sort::Name => ("name_key", 1),
        Sort::Popular => ("popularity", -1),
    };
    std::iter::once(first).chain(newest).collect()
}

/// That a document comes after `position` in `order`.
pub(super) fn after(order: &[(&str, i32)], position: &Position) -> Document {
    let value = |name: &str| match (name, &position.rank) {
        ("created_at", _) => position.created_at.into(),
        ("_id", _) => position.id.into(),
        (_, Rank::Number(number)) => (*number).into(),
        (_, Rank::Text(text)) => text.into(),
        (_, Rank::None) => Bson::Null,
    };
    let beyond = |(n, (name, way)): (usize, &(&str, i32))| {
        let same = order[..n].iter().map(|(name, _)| ((*name).to_owned(), value(name)));
        let mut beyond = same.collect::<Document>();
        let operator = if *way > 0 { "$gt" } else { "$lt" };
        beyond.insert(*name, doc! { operator: value(name) });
        beyond
    };
    doc! { "$or": order.iter().enumerate().map(beyond).collect::<Vec<_>>() }
}

/// A filter for the product with `id` and the `expected` version; `None` accepts any.
pub(super) fn that(id: ObjectId, expected: Option<Version>) -> Document {
    let mut filter = live();
    filter.insert("_id", id);
    if let Some(Version { count, revision }) = expected {
        filter.insert("version", count);
        // Old documents have no revision.
        let revision =
            if revision == 0 { vec![Bson::Int64(0), Bson::Null] } else { vec![revision.into()] };
        filter.insert("revision", doc! { "$in": revision });
    }
    filter
}
