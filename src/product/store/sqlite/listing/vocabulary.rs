//! The words that products have, or had, to see how few begin with what is searched for.
//!
//! A program of an earlier version may write to the same file, and knows of no vocabulary. It leaves the column `worded` of the
//! listing as it is, by which a trigger notices that words may be missing, until the next start.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel::result::Error as QueryError;
use diesel::sql_query;
use diesel::sql_types::Text;

use crate::storage::Prepared;

diesel::table! {
    vocabulary (word) {
        word -> Text,
    }
}

diesel::table! {
    vocabulary_state (complete) {
        complete -> Bool,
    }
}

/// Adds the words of rows of the listing.
pub(super) fn add(file: &mut SqliteConnection, rows: &[&[String; 3]]) -> QueryResult<()> {
    let texts = rows.iter().flat_map(|[name, more, _]| [name, more]);
    let words = texts.flat_map(|text| text.split_whitespace()).collect::<BTreeSet<_>>();
    let words = serde_json::to_string(&words);
    let words = words.map_err(|error| QueryError::SerializationError(error.into()))?;
    let insert = sql_query("INSERT OR IGNORE INTO vocabulary SELECT value FROM json_each(?)");
    Prepared(insert.bind::<Text, _>(words)).execute(file)?;
    Ok(())
}

/// The words that begin with `prefix`; `None` if there are more than `most`, or if words may be missing.
pub(super) fn beginning_with(
    file: &mut SqliteConnection,
    prefix: &str,
    most: usize,
) -> QueryResult<Option<Vec<String>>> {
    if !is_complete(file)? {
        return Ok(None);
    }
    let from_there = vocabulary::table.filter(vocabulary::word.ge(prefix));
    let first = from_there.order_by(vocabulary::word).limit(most as i64 + 1);
    let mut words = first.select(vocabulary::word).load::<String>(file)?;
    words.retain(|word| word.starts_with(prefix));
    Ok(Some(words).filter(|words| words.len() <= most))
}

/// Whether it has all words of the full-text index.
pub(in super::super) fn is_complete(file: &mut SqliteConnection) -> QueryResult<bool> {
    vocabulary_state::table.select(vocabulary_state::complete).first(file)
}

/// Adds all words of the full-text index.
pub(in super::super) fn complete(file: &mut SqliteConnection) -> QueryResult<()> {
    let insert =
        "INSERT OR IGNORE INTO vocabulary SELECT term FROM search_terms WHERE col <> 'facets'";
    sql_query(insert).execute(file)?;
    let complete = vocabulary_state::complete.eq(true);
    diesel::update(vocabulary_state::table).set(complete).execute(file)?;
    Ok(())
}
