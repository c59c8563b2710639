//! Conditions in SQL, with their values, and the orders of the listing.

use diesel::prelude::*;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;

use super::super::super::super::page::{Filter, Rank, Sort};
use super::place::Start;

/// A value of a condition.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Number(i64),
    Text(String),
}

impl From<Rank> for Operand {
    fn from(rank: Rank) -> Self {
        match rank {
            Rank::None => Self::Number(0),
            Rank::Number(number) => Self::Number(number),
            Rank::Text(text) => Self::Text(text),
        }
    }
}

/// Conditions that all hold, or an alternative of such.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    sql: Vec<String>,
    pub(super) operands: Vec<Operand>,
}

impl Conditions {
    pub(super) fn with(
        mut self,
        sql: impl Into<String>,
        operands: impl IntoIterator<Item = Operand>,
    ) -> Self {
        self.sql.push(sql.into());
        self.operands.extend(operands);
        self
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            sql: [self.sql, other.sql].concat(),
            operands: [self.operands, other.operands].concat(),
        }
    }

    /// That one of `alternatives` holds.
    pub(super) fn any(alternatives: Vec<Self>) -> Self {
        let texts = alternatives.iter().map(Self::text).collect::<Vec<_>>().join(" OR ");
        let operands = alternatives.into_iter().flat_map(|one| one.operands);
        Self::default().with(format!("({texts})"), operands)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sql.is_empty()
    }

    pub(super) fn text(&self) -> String {
        if self.sql.is_empty() { "TRUE".to_owned() } else { self.sql.join(" AND ") }
    }
}

/// What the columns of `listing` must be for `filter`.
pub(super) fn columns(filter: &Filter) -> Conditions {
    let mut all = Conditions::default();
    if let Some(category) = &filter.category {
        all = all.with("category = ?", [Operand::Text(category.clone())]);
    }
    if let Some(price) = filter.min_price {
        all = all.with("price >= ?", [Operand::Number(price.minor())]);
    }
    if let Some(price) = filter.max_price {
        all = all.with("price <= ?", [Operand::Number(price.minor())]);
    }
    if let Some(in_stock) = filter.in_stock {
        all = all.with("in_stock = ?", [Operand::Number(in_stock.into())]);
    }
    all
}

/// The order, in SQL.
pub(super) fn order(sort: Sort) -> &'static str {
    match sort {
        Sort::Newest | Sort::Relevance => "seq DESC",
        Sort::Price => "price, seq",
        Sort::PriceDescending => "price DESC, seq DESC",
        Sort::Name => "name_key, seq DESC",
        Sort::Popular => "popularity DESC, seq DESC",
    }
}

/// What comes after a product of `rank` in the order of `sort`, where its place is `start`: first what is equal but for the
/// place, then the rest. Apart, because SQLite uses no index for a row value with the rowid, which `seq` is, nor for `OR`.
pub(super) fn after(sort: Sort, rank: Rank, start: Start) -> Vec<Conditions> {
    let below = ("seq < ?", [Operand::Number(start.below)]);
    let above = ("seq > ?", [Operand::Number(start.above)]);
    let (column, beyond, seq) = match sort {
        Sort::Newest | Sort::Relevance => {
            return vec![Conditions::default().with(below.0, below.1)];
        }
        Sort::Price => ("price", ">", above),
        Sort::PriceDescending => ("price", "<", below),
        Sort::Name => ("name_key", ">", below),
        Sort::Popular => ("popularity", "<", below),
    };
    let rank = Operand::from(rank);
    let equal = Conditions::default().with(format!("{column} = ?"), [rank.clone()]);
    let rest = Conditions::default().with(format!("{column} {beyond} ?"), [rank]);
    vec![equal.with(seq.0, seq.1), rest]
}

/// The query `sql` with `operands`.
pub(super) fn bound(
    sql: String,
    operands: Vec<Operand>,
) -> BoxedSqlQuery<'static, Sqlite, SqlQuery> {
    let query = diesel::sql_query(sql).into_boxed::<Sqlite>();
    operands.into_iter().fold(query, |query, operand| match operand {
        Operand::Number(number) => query.bind::<BigInt, _>(number),
        Operand::Text(text) => query.bind::<Text, _>(text),
    })
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    id: String,
}

/// The ids that the query `sql` has.
pub(super) fn load(
    file: &mut SqliteConnection,
    sql: String,
    operands: Vec<Operand>,
) -> QueryResult<Vec<String>> {
    let found = bound(sql, operands).load::<Found>(file)?;
    Ok(found.into_iter().map(|found| found.id).collect())
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How many rows `sql` has.
pub(super) fn count(
    file: &mut SqliteConnection,
    sql: &str,
    operands: Vec<Operand>,
) -> QueryResult<i64> {
    let sql = format!("SELECT count(*) AS count FROM ({sql})");
    Ok(bound(sql, operands).get_result::<Counted>(file)?.count)
}
