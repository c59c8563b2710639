//! What products are found by in a SQLite file: the tables `listing` and `search`, of products that were not removed.
//!
//! A page is a range of an index, or of the full-text index, which has products in the order of their places, from the oldest
//! on. Where a filter leaves few of what a range has, the products that pass are collected and sorted instead.

mod conditions;
mod full_text;
mod page;
mod place;
mod vocabulary;

use diesel::prelude::*;

use super::super::super::words::sort_key;
use crate::contract::{CategorySummary, Product};
use full_text::texts;

pub(super) use page::page;
pub(super) use place::{among, newest, place};
pub(super) use vocabulary::{complete, is_complete};

diesel::table! {
    listing (seq) {
        seq -> BigInt,
        id -> Text,
        price -> BigInt,
        category -> Nullable<Text>,
        name_key -> Text,
        in_stock -> Bool,
        popularity -> BigInt,
        worded -> BigInt,
    }
}

diesel::table! {
    categories (name) {
        name -> Text,
        products -> BigInt,
    }
}

/// Lists a product that was added, at a free `place`.
pub(super) fn add(file: &mut SqliteConnection, place: i64, product: &Product) -> QueryResult<()> {
    enter(file, place, product)?;
    let texts = texts(product);
    vocabulary::add(file, &[&texts])?;
    full_text::add(file, place, texts)
}

/// Products that are added together, each newer than those before. Their words are added last: SQLite writes the full-text
/// index out before each statement with triggers, as the one that lists a product is.
#[derive(Default)]
pub(super) struct Additions {
    words: Vec<(i64, [String; 3])>,
}

impl Additions {
    /// Lists a product that was added, at a free `place` behind all others.
    pub(super) fn add(
        &mut self,
        file: &mut SqliteConnection,
        place: i64,
        product: &Product,
    ) -> QueryResult<()> {
        enter(file, place, product)?;
        self.words.push((place, texts(product)));
        Ok(())
    }

    /// Adds the words of those that were listed; to be called before anything else changes the listing, and last.
    pub(super) fn finish(&mut self, file: &mut SqliteConnection) -> QueryResult<()> {
        if self.words.is_empty() {
            return Ok(());
        }
        vocabulary::add(file, &self.words.iter().map(|(_, texts)| texts).collect::<Vec<_>>())?;
        self.words.drain(..).try_for_each(|(place, texts)| full_text::add(file, place, texts))
    }
}

fn enter(file: &mut SqliteConnection, place: i64, product: &Product) -> QueryResult<()> {
    let values = (
        listing::seq.eq(place),
        listing::id.eq(product.id.to_hex()),
        listing::price.eq(product.price.minor()),
        listing::category.eq(product.category.as_deref()),
        listing::name_key.eq(sort_key(&product.name)),
        listing::in_stock.eq(product.stock.is_in()),
        listing::popularity.eq(product.popularity),
        listing::worded.eq(1),
    );
    diesel::insert_into(listing::table).values(values).execute(file)?;
    Ok(())
}

/// Lists the product `before` at `place`, which was changed to `after`, as it is now.
pub(super) fn change(
    file: &mut SqliteConnection,
    place: i64,
    before: &Product,
    after: &Product,
) -> QueryResult<()> {
    let values = (
        listing::price.eq(after.price.minor()),
        listing::category.eq(after.category.as_deref()),
        listing::name_key.eq(sort_key(&after.name)),
        listing::in_stock.eq(after.stock.is_in()),
        listing::worded.eq(listing::worded + 1),
    );
    diesel::update(listing::table.find(place)).set(values).execute(file)?;
    let new = texts(after);
    if texts(before) != new {
        full_text::remove(file, place)?;
        vocabulary::add(file, &[&new])?;
        full_text::add(file, place, new)?;
    }
    Ok(())
}

/// Lists whether a piece of the product at `place` can be ordered; what was removed has none.
pub(super) fn set_in_stock(
    file: &mut SqliteConnection,
    place: Option<i64>,
    in_stock: bool,
) -> QueryResult<()> {
    let Some(place) = place else { return Ok(()) };
    let values = listing::in_stock.eq(in_stock);
    diesel::update(listing::table.find(place)).set(values).execute(file)?;
    Ok(())
}

/// Lists that `quantity` more pieces of the product at `place` were ordered.
pub(super) fn sell(
    file: &mut SqliteConnection,
    place: Option<i64>,
    quantity: i64,
) -> QueryResult<()> {
    let Some(place) = place else { return Ok(()) };
    let values = listing::popularity.eq(listing::popularity + quantity);
    diesel::update(listing::table.find(place)).set(values).execute(file)?;
    Ok(())
}

/// Takes a product out of the listing.
pub(super) fn remove(file: &mut SqliteConnection, place: i64) -> QueryResult<()> {
    diesel::delete(listing::table.find(place)).execute(file)?;
    full_text::remove(file, place)
}

/// The categories that have products, by name. The table is kept by triggers.
pub(super) fn categories(file: &mut SqliteConnection) -> QueryResult<Vec<CategorySummary>> {
    let rows = categories::table.order_by(categories::name).load::<(String, i64)>(file)?;
    Ok(rows.into_iter().map(|(name, products)| CategorySummary { name, products }).collect())
}

#[cfg(test)]
mod tests;
