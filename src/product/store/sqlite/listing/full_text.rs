//! The full-text index.

use diesel::prelude::*;

use super::super::super::super::page::{Filter, Rank};
use super::super::super::super::words::words;
use super::conditions::{Conditions, Operand, columns, load, order};
use super::page::Page;
use super::vocabulary;
use crate::contract::Product;

diesel::table! {
    search (rowid) {
        rowid -> BigInt,
        name -> Text,
        more -> Text,
        facets -> Text,
    }
}

/// How many characters of words the index has prefixes of.
const PREFIX: usize = 3;
/// The most words that a prefix is replaced with.
const MOST_WORDS: usize = 16;

/// Adds the words of the product at `place`, which has these [`texts`].
pub(super) fn add(
    file: &mut SqliteConnection,
    place: i64,
    [name, more, facets]: [String; 3],
) -> QueryResult<()> {
    let values = (
        search::rowid.eq(place),
        search::name.eq(name),
        search::more.eq(more),
        search::facets.eq(facets),
    );
    diesel::insert_into(search::table).values(values).execute(file)?;
    Ok(())
}

/// Removes the words of the product at `place`.
pub(super) fn remove(file: &mut SqliteConnection, place: i64) -> QueryResult<()> {
    diesel::delete(search::table.find(place)).execute(file)?;
    Ok(())
}

/// The columns of the index for `product`.
pub(super) fn texts(product: &Product) -> [String; 3] {
    let name = words(&product.name);
    let more = product.tags.iter().chain(&product.category).chain(&product.description);
    let more = more.flat_map(|text| words(text)).collect::<Vec<_>>();
    let tags = product.tags.iter().map(|tag| facet("t", tag));
    let facets = product.category.iter().map(|category| facet("c", category)).chain(tags);
    [name.join(" "), more.join(" "), facets.collect::<Vec<_>>().join(" ")]
}

/// `text` as a whole, as a single word of the index.
fn facet(kind: &str, text: &str) -> String {
    let digits = text.bytes().map(|byte| format!("{byte:02x}"));
    std::iter::once(kind.to_owned()).chain(digits).collect()
}

/// A query of the index: the words, and what else must match.
pub(super) struct FullText {
    words: String,
    facets: String,
}

impl FullText {
    /// The query for `filter`, if it has what the index is needed for.
    pub(super) fn new(file: &mut SqliteConnection, filter: &Filter) -> QueryResult<Option<Self>> {
        let Filter { words, category, tag, .. } = filter;
        if words.is_empty() && tag.is_none() {
            return Ok(None);
        }
        let words = words.iter().map(|word| beginning_with(file, word));
        let words = words.collect::<QueryResult<Vec<_>>>()?;
        let category = category.iter().map(|category| facet("c", category));
        let facets = category.chain(tag.iter().map(|tag| facet("t", tag)));
        let facets = facets.map(|facet| format!("facets : \"{facet}\"")).collect::<Vec<_>>();
        Ok(Some(Self { words: words.join(" AND "), facets: facets.join(" AND ") }))
    }

    fn all(&self) -> String {
        let words = format!("{{name more}} : ({})", self.words);
        match (self.words.is_empty(), self.facets.is_empty()) {
            (true, _) => self.facets.clone(),
            (false, true) => words,
            (false, false) => format!("({words}) AND {}", self.facets),
        }
    }

    /// Of those, the products with all words in their names, or the others.
    fn tier(&self, in_name: bool) -> String {
        let name = format!("{{name}} : ({})", self.words);
        match in_name {
            true if self.facets.is_empty() => name,
            true => format!("({name}) AND {}", self.facets),
            false => format!("({}) NOT ({name})", self.all()),
        }
    }

    /// The newest first: the index itself has this order.
    pub(super) fn newest(
        &self,
        file: &mut SqliteConnection,
        page: &Page<'_>,
    ) -> QueryResult<Vec<String>> {
        stream(file, page, &self.all(), page.below(), page.limit)
    }

    /// First those with all words in their names.
    pub(super) fn by_relevance(
        &self,
        file: &mut SqliteConnection,
        page: &Page<'_>,
    ) -> QueryResult<Vec<String>> {
        let in_name = matches!(page.from, None | Some((Rank::Number(0), _)));
        let mut ids = Vec::new();
        if in_name {
            ids = stream(file, page, &self.tier(true), page.below(), page.limit)?;
        }
        let left = page.limit - ids.len() as i64;
        if left > 0 {
            let below = page.below().filter(|_| !in_name);
            ids.extend(stream(file, page, &self.tier(false), below, left)?);
        }
        Ok(ids)
    }

    /// In another order: all that match are sorted.
    pub(super) fn sorted(
        &self,
        file: &mut SqliteConnection,
        page: &Page<'_>,
    ) -> QueryResult<Vec<String>> {
        let all = matching(&self.all()).and(page.after()).and(columns(page.filter));
        select(file, all, order(page.filter.sort), page.limit)
    }
}

/// The query for products with a word that begins with `prefix`. Of a prefix that it has not indexed, FTS5 collects all products
/// before it gives the first; those of whole words it gives as it goes. So a few words stand for their prefix.
fn beginning_with(file: &mut SqliteConnection, prefix: &str) -> QueryResult<String> {
    if prefix.chars().count() > PREFIX
        && let Some(words) = vocabulary::beginning_with(file, prefix, MOST_WORDS)?
        && !words.is_empty()
    {
        let words = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>();
        return Ok(format!("({})", words.join(" OR ")));
    }
    Ok(format!("\"{prefix}\" *"))
}

/// At most `limit` products that match `text`, the newest first, from the place `below`.
fn stream(
    file: &mut SqliteConnection,
    page: &Page<'_>,
    text: &str,
    below: Option<i64>,
    limit: i64,
) -> QueryResult<Vec<String>> {
    let mut all = matching(text);
    if let Some(below) = below {
        all = all.with("search.rowid < ?", [Operand::Number(below)]);
    }
    select(file, all.and(columns(page.filter)), "search.rowid DESC", limit)
}

fn matching(text: &str) -> Conditions {
    Conditions::default().with("search MATCH ?", [Operand::Text(text.to_owned())])
}

fn select(
    file: &mut SqliteConnection,
    conditions: Conditions,
    order: &str,
    limit: i64,
) -> QueryResult<Vec<String>> {
    let sql = format!(
        "SELECT listing.id FROM search CROSS JOIN listing ON listing.seq = search.rowid \
         WHERE {} ORDER BY {order} LIMIT {limit}",
        conditions.text()
    );
    load(file, sql, conditions.operands)
}
