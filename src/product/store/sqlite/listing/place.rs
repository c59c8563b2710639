//! The places of products in the listing: whole numbers in the order of age, and of ids among products of one microsecond,
//! as MongoDB sorts them.
//!
//! A microsecond begins at a place of its own and has 2,048 until the next begins. What does not fit goes on in the places
//! of the next microseconds. A product that comes between others without a free place moves those behind it, as far as the
//! next free place; products come nearly always behind all others, or between others of another time.

use bson::oid::ObjectId;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};

use super::super::super::super::page::Position;
use super::super::{Row, product, products};
use super::full_text::texts;
use super::{full_text, listing};
use crate::storage::StoreError;

/// The bits of a place that number the products of one microsecond.
const TIE_BITS: u32 = 11;
/// The last microsecond that begins at a place of its own, in the year 2112, and its negative the first, in 1827. A million
/// microseconds' places are left behind it.
const LAST_MOMENT: i64 = (1 << (63 - TIE_BITS)) - 1_000_000;

/// The place at which the microsecond `created_at` begins.
fn first_place(created_at: i64) -> i64 {
    created_at.clamp(-LAST_MOMENT, LAST_MOMENT) << TIE_BITS
}

/// The place of a product that was added at `created_at`, if none is as new.
pub(in super::super) fn newest(
    file: &mut SqliteConnection,
    created_at: i64,
) -> QueryResult<Option<i64>> {
    let first = first_place(created_at);
    let greatest = listing::table.select(diesel::dsl::max(listing::seq));
    let greatest = greatest.first::<Option<i64>>(file)?;
    Ok(greatest.is_none_or(|greatest| greatest < first).then_some(first))
}

/// A free place for a product with `id` that was added at `created_at`, in microseconds since 1970.
pub(in super::super) fn place(
    file: &mut SqliteConnection,
    created_at: i64,
    id: ObjectId,
) -> Result<i64, StoreError> {
    match newest(file, created_at)? {
        Some(place) => Ok(place),
        None => among(file, created_at, id),
    }
}

/// The same, if others may be as new.
pub(in super::super) fn among(
    file: &mut SqliteConnection,
    created_at: i64,
    id: ObjectId,
) -> Result<i64, StoreError> {
    let first = first_place(created_at);
    let before = last(file, "(created_at, id) < (", created_at, id)?;
    let place = before.map_or(i64::MIN, |(_, place)| place + 1).max(first);
    make_room(file, place)?;
    Ok(place)
}

/// Moves what is at `place` and in the places behind it, as far as the next free one, one place on.
fn make_room(file: &mut SqliteConnection, place: i64) -> Result<(), StoreError> {
    let mut moved = Vec::new();
    let behind = listing::table.filter(listing::seq.ge(place)).order_by(listing::seq);
    let behind = behind.select((listing::seq, listing::id));
    for row in behind.load_iter::<(i64, String), _>(file)? {
        let (there, id) = row?;
        if there != place + moved.len() as i64 {
            break;
        }
        moved.push((there, id));
    }
    for (there, id) in moved.iter().rev() {
        let found = products::table.find(id);
        let moving = product(found.select(Row::as_select()).first(file)?)?;
        diesel::update(found).set(products::seq.eq(there + 1)).execute(file)?;
        let seq = listing::seq.eq(there + 1);
        diesel::update(listing::table.find(there)).set(seq).execute(file)?;
        full_text::remove(file, *there)?;
        full_text::add(file, there + 1, texts(&moving))?;
    }
    Ok(())
}

/// Where a page begins, by places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// Upwards, it has what is above this.
    pub(super) above: i64,
    /// Downwards, it has what is below this.
    pub(super) below: i64,
}

/// Where a page after `position` begins, whether or not there is still a product at it.
pub(super) fn start(file: &mut SqliteConnection, position: &Position) -> QueryResult<Start> {
    let there = last(file, "(created_at, id) <= (", position.created_at, position.id)?;
    Ok(match there {
        None => Start { above: i64::MIN, below: i64::MIN },
        Some((id, place)) if id == position.id.to_hex() => Start { above: place, below: place },
        Some((_, place)) => Start { above: place, below: place + 1 },
    })
}

/// The id and the place of the newest listed product whose age and id are `within` those that are given.
fn last(
    file: &mut SqliteConnection,
    within: &str,
    created_at: i64,
    id: ObjectId,
) -> QueryResult<Option<(String, i64)>> {
    // A row value, so that SQLite uses the index (SQLite, "Row Values", section 3.1).
    let within = sql::<Bool>(within).bind::<BigInt, _>(created_at).sql(", ");
    let within = within.bind::<Text, _>(id.to_hex()).sql(")");
    products::table
        .filter(products::deleted_at.is_null().and(products::seq.is_not_null()).and(within))
        .order_by((products::created_at.desc(), products::id.desc()))
        .select((products::id, products::seq.assume_not_null()))
        .first(file)
        .optional()
}
