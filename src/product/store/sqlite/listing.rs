//! What products are found by in a SQLite file: the tables `listing` and `search`, of products that were not removed.
//!
//! A page is a range of an index, or of the full-text index, which has products in the order in which they were added. Where
//! a filter leaves few of what a range has, the products that pass are collected and sorted instead.

use bson::oid::ObjectId;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;

use super::super::super::page::{Filter, Position, Rank, Sort};
use super::super::super::words::{sort_key, words};
use super::products;
use crate::contract::{CategorySummary, Product};

diesel::table! {
    listing (seq) {
        seq -> BigInt,
        id -> Text,
        price -> BigInt,
        category -> Nullable<Text>,
        name_key -> Text,
        in_stock -> Bool,
        popularity -> BigInt,
    }
}

diesel::table! {
    search (rowid) {
        rowid -> BigInt,
        name -> Text,
        more -> Text,
        facets -> Text,
    }
}

diesel::table! {
    categories (name) {
        name -> Text,
        products -> BigInt,
    }
}

/// The bits of a place that number the products of one microsecond.
const TIE_BITS: u32 = 11;
/// The last microsecond that a place can have: in the year 2112.
const LAST_MOMENT: i64 = (1 << (63 - TIE_BITS)) - 1;
/// How many products of a range are looked at before those that pass the filter are counted.
const BUDGET: i64 = 4000;
/// The most products that are collected and sorted if there is another way.
const FEW: i64 = 10_000;

/// The first place of the microsecond `created_at`.
fn first_place(created_at: i64) -> i64 {
    created_at.clamp(0, LAST_MOMENT) << TIE_BITS
}

/// Lists a product that was added.
pub(super) fn add(connection: &mut SqliteConnection, product: &Product) -> QueryResult<()> {
    let first = first_place(product.created_at.timestamp_micros());
    let last = products::table
        .filter(products::seq.ge(first).and(products::seq.lt(first + (1 << TIE_BITS))))
        .select(diesel::dsl::max(products::seq))
        .first::<Option<i64>>(connection)?;
    let place = last.map_or(first, |last| last + 1);
    diesel::update(products::table.find(product.id.to_hex()))
        .set(products::seq.eq(place))
        .execute(connection)?;
    let values = (
        listing::seq.eq(place),
        listing::id.eq(product.id.to_hex()),
        listing::price.eq(product.price.minor()),
        listing::category.eq(product.category.as_deref()),
        listing::name_key.eq(sort_key(&product.name)),
        listing::in_stock.eq(product.stock.is_in()),
        listing::popularity.eq(product.popularity),
    );
    diesel::insert_into(listing::table).values(values).execute(connection)?;
    index(connection, place, product)
}

/// Lists the product `before`, which was changed to `after`, as it is now.
pub(super) fn change(
    connection: &mut SqliteConnection,
    before: &Product,
    after: &Product,
) -> QueryResult<()> {
    let Some(place) = place(connection, after.id)? else { return add(connection, after) };
    let values = (
        listing::price.eq(after.price.minor()),
        listing::category.eq(after.category.as_deref()),
        listing::name_key.eq(sort_key(&after.name)),
        listing::in_stock.eq(after.stock.is_in()),
    );
    diesel::update(listing::table.find(place)).set(values).execute(connection)?;
    if texts(before) != texts(after) {
        diesel::delete(search::table.find(place)).execute(connection)?;
        index(connection, place, after)?;
    }
    Ok(())
}

/// Lists whether a piece of a product can be ordered.
pub(super) fn set_in_stock(
    connection: &mut SqliteConnection,
    id: ObjectId,
    in_stock: bool,
) -> QueryResult<()> {
    let Some(place) = place(connection, id)? else { return Ok(()) };
    let values = listing::in_stock.eq(in_stock);
    diesel::update(listing::table.find(place)).set(values).execute(connection)?;
    Ok(())
}

/// Takes a product that was removed out of the listing. It keeps its place, for cursors.
pub(super) fn remove(connection: &mut SqliteConnection, id: ObjectId) -> QueryResult<()> {
    let Some(place) = place(connection, id)? else { return Ok(()) };
    diesel::delete(listing::table.find(place)).execute(connection)?;
    diesel::delete(search::table.find(place)).execute(connection)?;
    Ok(())
}

fn index(connection: &mut SqliteConnection, place: i64, product: &Product) -> QueryResult<()> {
    let [name, more, facets] = texts(product);
    let values = (
        search::rowid.eq(place),
        search::name.eq(name),
        search::more.eq(more),
        search::facets.eq(facets),
    );
    diesel::insert_into(search::table).values(values).execute(connection)?;
    Ok(())
}

fn place(connection: &mut SqliteConnection, id: ObjectId) -> QueryResult<Option<i64>> {
    let found = products::table.find(id.to_hex()).select(products::seq);
    Ok(found.first::<Option<i64>>(connection).optional()?.flatten())
}

/// The columns of the full-text index.
fn texts(product: &Product) -> [String; 3] {
    let name = words(&product.name);
    let more = product.tags.iter().chain(&product.category).chain(&product.description);
    let more = more.flat_map(|text| words(text)).collect::<Vec<_>>();
    let tags = product.tags.iter().map(|tag| facet("t", tag));
    let facets = product.category.iter().map(|category| facet("c", category)).chain(tags);
    [name.join(" "), more.join(" "), facets.collect::<Vec<_>>().join(" ")]
}

/// `text` as a whole, as a single word of the full-text index.
fn facet(kind: &str, text: &str) -> String {
    let digits = text.bytes().map(|byte| format!("{byte:02x}"));
    std::iter::once(kind.to_owned()).chain(digits).collect()
}

/// The categories that have products, by name. The table is kept by triggers.
pub(super) fn categories(connection: &mut SqliteConnection) -> QueryResult<Vec<CategorySummary>> {
    let rows = categories::table.order_by(categories::name).load::<(String, i64)>(connection)?;
    Ok(rows.into_iter().map(|(name, products)| CategorySummary { name, products }).collect())
}

/// The ids of at most `limit` products after `position`.
pub(super) fn page(
    connection: &mut SqliteConnection,
    filter: &Filter,
    position: Option<&Position>,
    limit: i64,
) -> QueryResult<Vec<String>> {
    let from = match position {
        None => None,
        Some(position) => {
            let place = place(connection, position.id)?;
            Some((position.rank.clone(), place.unwrap_or(first_place(position.created_at))))
        }
    };
    let query = Listed { filter, from, limit };
    match (query.full_text(), filter.sort) {
        (None, _) => query.scan(connection),
        (Some(text), Sort::Relevance) => query.by_relevance(connection, &text),
        (Some(text), _) => query.found(connection, &text.all(), query.from.as_ref(), limit),
    }
}

/// A page of the listing.
struct Listed<'a> {
    filter: &'a Filter,
    /// The rank and the place of the last product of the page before.
    from: Option<(Rank, i64)>,
    limit: i64,
}

/// A query of the full-text index: the words, and what else must match.
struct FullText {
    words: String,
    facets: String,
}

impl FullText {
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
}

type Bound<'f> = diesel::query_builder::BoxedSqlQuery<'f, Sqlite, diesel::query_builder::SqlQuery>;

/// A value of a condition.
#[derive(Clone, Debug)]
enum Operand {
    Number(i64),
    Text(String),
}

/// Conditions in SQL, with their values.
#[derive(Clone, Debug, Default)]
struct Conditions {
    sql: Vec<String>,
    operands: Vec<Operand>,
}

impl Conditions {
    fn add(&mut self, sql: impl Into<String>, operands: impl IntoIterator<Item = Operand>) {
        self.sql.push(sql.into());
        self.operands.extend(operands);
    }

    fn text(&self) -> String {
        if self.sql.is_empty() { "TRUE".to_owned() } else { self.sql.join(" AND ") }
    }
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    id: String,
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

impl Listed<'_> {
    fn full_text(&self) -> Option<FullText> {
        let Filter { words, category, tag, .. } = self.filter;
        if words.is_empty() && tag.is_none() {
            return None;
        }
        let words = words.iter().map(|word| format!("\"{word}\" *")).collect::<Vec<_>>();
        let category = category.iter().map(|category| facet("c", category));
        let facets = category.chain(tag.iter().map(|tag| facet("t", tag)));
        let facets = facets.map(|facet| format!("facets : \"{facet}\"")).collect::<Vec<_>>();
        Some(FullText { words: words.join(" AND "), facets: facets.join(" AND ") })
    }

    /// The order, with the column `seq` of `listing` under the name `seq`.
    fn order(&self) -> &'static str {
        match self.filter.sort {
            Sort::Newest | Sort::Relevance => "seq DESC",
            Sort::Price => "price, seq",
            Sort::PriceDescending => "price DESC, seq DESC",
            Sort::Name => "name_key, seq DESC",
            Sort::Popular => "popularity DESC, seq DESC",
        }
    }

    /// That a product comes after `from`.
    fn after(&self, from: Option<&(Rank, i64)>, conditions: &mut Conditions) {
        let Some((rank, place)) = from else { return };
        let place = Operand::Number(*place);
        let rank = match rank {
            Rank::None => Operand::Number(0),
            Rank::Number(number) => Operand::Number(*number),
            Rank::Text(text) => Operand::Text(text.clone()),
        };
        match self.filter.sort {
            Sort::Newest | Sort::Relevance => conditions.add("seq < ?", [place]),
            Sort::Price => conditions.add("(price, seq) > (?, ?)", [rank, place]),
            Sort::PriceDescending => conditions.add("(price, seq) < (?, ?)", [rank, place]),
            Sort::Name => conditions
                .add("name_key >= ? AND (name_key > ? OR seq < ?)", [rank.clone(), rank, place]),
            Sort::Popular => conditions.add("(popularity, seq) < (?, ?)", [rank, place]),
        }
    }

    /// What the columns of `listing` must be. Those of `unindexed` are compared without an index.
    fn columns(&self, unindexed: &[&str], conditions: &mut Conditions) {
        let name = |column: &'static str| match unindexed.contains(&column) {
            true => format!("+{column}"),
            false => column.to_owned(),
        };
        if let Some(category) = &self.filter.category {
            let category = [Operand::Text(category.clone())];
            conditions.add(format!("{} = ?", name("category")), category);
        }
        if let Some(price) = self.filter.min_price {
            conditions.add(format!("{} >= ?", name("price")), [Operand::Number(price.minor())]);
        }
        if let Some(price) = self.filter.max_price {
            conditions.add(format!("{} <= ?", name("price")), [Operand::Number(price.minor())]);
        }
        if let Some(in_stock) = self.filter.in_stock {
            conditions.add("in_stock = ?", [Operand::Number(in_stock.into())]);
        }
    }

    /// At most `limit` products of the full-text index that match `text`, after `from`.
    fn found(
        &self,
        connection: &mut SqliteConnection,
        text: &str,
        from: Option<&(Rank, i64)>,
        limit: i64,
    ) -> QueryResult<Vec<String>> {
        let mut conditions = Conditions::default();
        conditions.add("search MATCH ?", [Operand::Text(text.to_owned())]);
        let streams = matches!(self.filter.sort, Sort::Newest | Sort::Relevance);
        let order = if streams { "search.rowid DESC" } else { self.order() };
        match from {
            // The full-text index itself begins behind it.
            Some((_, place)) if streams => {
                conditions.add("search.rowid < ?", [Operand::Number(*place)]);
            }
            from => self.after(from, &mut conditions),
        }
        self.columns(&["category", "price"], &mut conditions);
        let sql = format!(
            "SELECT listing.id FROM search CROSS JOIN listing ON listing.seq = search.rowid \
             WHERE {} ORDER BY {order} LIMIT {limit}",
            conditions.text()
        );
        load(connection, sql, conditions.operands)
    }

    fn by_relevance(
        &self,
        connection: &mut SqliteConnection,
        text: &FullText,
    ) -> QueryResult<Vec<String>> {
        let in_name = matches!(self.from, None | Some((Rank::Number(0), _)));
        let mut ids = Vec::new();
        if in_name {
            ids = self.found(connection, &text.tier(true), self.from.as_ref(), self.limit)?;
        }
        let left = self.limit - ids.len() as i64;
        if left > 0 {
            let from = self.from.as_ref().filter(|_| !in_name);
            ids.extend(self.found(connection, &text.tier(false), from, left)?);
        }
        Ok(ids)
    }

    /// Without the full-text index.
    fn scan(&self, connection: &mut SqliteConnection) -> QueryResult<Vec<String>> {
        // What the index of the order has in one piece.
        let in_range: &[&str] = match self.filter.sort {
            Sort::Newest | Sort::Relevance => &["price"],
            Sort::Price | Sort::PriceDescending => &["category"],
            Sort::Name | Sort::Popular => &["category", "price"],
        };
        let mut all = Conditions::default();
        self.after(self.from.as_ref(), &mut all);
        self.columns(in_range, &mut all);
        let order = self.order();
        let limit = self.limit;
        // The range, as far as the index is about it, and what is left to look at.
        let mut range = Conditions::default();
        self.after(self.from.as_ref(), &mut range);
        let mut ranged = self.filter.clone();
        ranged.in_stock = None;
        if in_range.contains(&"price") {
            (ranged.min_price, ranged.max_price) = (None, None);
        }
        if in_range.contains(&"category") {
            ranged.category = None;
        }
        let is_whole = ranged == *self.filter;
        let direct =
            format!("SELECT id FROM listing WHERE {} ORDER BY {order} LIMIT {limit}", all.text());
        if is_whole {
            return load(connection, direct, all.operands);
        }
        Listed { filter: &ranged, from: None, limit }.columns(&[], &mut range);
        let inner =
            format!("SELECT * FROM listing WHERE {} ORDER BY {order} LIMIT {BUDGET}", range.text());
        let mut rest = Conditions::default();
        self.columns(&[], &mut rest);
        let sql = format!(
            "SELECT id FROM ({inner}) WHERE {} ORDER BY {order} LIMIT {limit}",
            rest.text()
        );
        let operands = range.operands.iter().chain(&rest.operands).cloned().collect();
        let ids = load(connection, sql, operands)?;
        if ids.len() as i64 == limit || count(connection, &inner, range.operands)? < BUDGET {
            return Ok(ids);
        }
        // Few pass. If they are few in all, they are collected.
        for (own, other) in [("price", "category"), ("category", "price")] {
            let mut few = Conditions::default();
            let mut alone = Filter::default();
            match own {
                "price" => {
                    (alone.min_price, alone.max_price) =
                        (self.filter.min_price, self.filter.max_price)
                }
                _ => alone.category.clone_from(&self.filter.category),
            }
            Listed { filter: &alone, from: None, limit }.columns(&[], &mut few);
            let bounded = format!("SELECT 1 FROM listing WHERE {} LIMIT {FEW}", few.text());
            if few.sql.is_empty() || count(connection, &bounded, few.operands)? == FEW {
                continue;
            }
            let mut all = Conditions::default();
            self.columns(&[other], &mut all);
            let inner = format!("SELECT * FROM listing WHERE {} LIMIT -1", all.text());
            let mut after = Conditions::default();
            self.after(self.from.as_ref(), &mut after);
            let sql = format!(
                "SELECT id FROM ({inner}) WHERE {} ORDER BY {order} LIMIT {limit}",
                after.text()
            );
            let operands = all.operands.into_iter().chain(after.operands).collect();
            return load(connection, sql, operands);
        }
        load(connection, direct, all.operands)
    }
}

fn bound(sql: String, operands: Vec<Operand>) -> Bound<'static> {
    let query = diesel::sql_query(sql).into_boxed::<Sqlite>();
    operands.into_iter().fold(query, |query, operand| match operand {
        Operand::Number(number) => query.bind::<BigInt, _>(number),
        Operand::Text(text) => query.bind::<Text, _>(text),
    })
}

fn load(
    connection: &mut SqliteConnection,
    sql: String,
    operands: Vec<Operand>,
) -> QueryResult<Vec<String>> {
    let found = bound(sql, operands).load::<Found>(connection)?;
    Ok(found.into_iter().map(|found| found.id).collect())
}

/// How many rows `sql` has.
fn count(connection: &mut SqliteConnection, sql: &str, operands: Vec<Operand>) -> QueryResult<i64> {
    let sql = format!("SELECT count(*) AS count FROM ({sql})");
    Ok(bound(sql, operands).get_result::<Counted>(connection)?.count)
}
