//! Pages of the listing.

use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};

use super::super::super::super::page::{Filter, Position, Rank, Sort};
use super::conditions::{Conditions, Operand, after, bound, columns, count, load, order};
use super::full_text::FullText;
use super::place::{Start, start};

/// How many products of a range are looked at before those that pass the filter are counted.
const BUDGET: usize = 4000;
/// The most products that are collected and sorted if there is another way.
const FEW: i64 = 10_000;

/// The ids of at most `limit` products after `position`.
pub(in super::super) fn page(
    file: &mut SqliteConnection,
    filter: &Filter,
    position: Option<&Position>,
    limit: i64,
) -> QueryResult<Vec<String>> {
    let from = match position {
        None => None,
        Some(position) => Some((position.rank.clone(), start(file, position)?)),
    };
    let page = Page { filter, from, limit };
    match (FullText::new(file, filter)?, filter.sort) {
        (None, _) => page.without_words(file),
        (Some(text), Sort::Relevance) => text.by_relevance(file, &page),
        (Some(text), Sort::Newest) => text.newest(file, &page),
        (Some(text), _) => text.sorted(file, &page),
    }
}

/// A page of the listing.
pub(super) struct Page<'a> {
    pub(super) filter: &'a Filter,
    /// The rank of the last product of the page before, and where this page begins.
    pub(super) from: Option<(Rank, Start)>,
    pub(super) limit: i64,
}

/// The part of a range that is looked at for a page.
struct Walk {
    /// The products that pass the filter.
    ids: Vec<String>,
    /// Whether the range ended, or the page is full.
    is_over: bool,
}

#[derive(QueryableByName)]
struct LookedAt {
    /// If the product passes.
    #[diesel(sql_type = Nullable<Text>)]
    id: Option<String>,
}

impl Page<'_> {
    /// The place below which it begins, if it is not the first one.
    pub(super) fn below(&self) -> Option<i64> {
        self.from.as_ref().map(|(_, start)| start.below)
    }

    /// The parts of the order that it may be in, one after the other.
    fn parts(&self) -> Vec<Conditions> {
        match &self.from {
            None => vec![Conditions::default()],
            Some((rank, start)) => after(self.filter.sort, rank.clone(), *start),
        }
    }

    /// That a product comes after the page before.
    pub(super) fn after(&self) -> Conditions {
        Conditions::any(self.parts())
    }

    /// Without the full-text index.
    fn without_words(&self, file: &mut SqliteConnection) -> QueryResult<Vec<String>> {
        let walk = self.walk(file, BUDGET)?;
        if walk.is_over {
            return Ok(walk.ids);
        }
        // Few pass. If they are few in all, they are collected.
        for alone in self.alone() {
            let own = columns(&alone);
            let few = format!("SELECT 1 FROM listing WHERE {} LIMIT {FEW}", own.text());
            if !own.is_empty() && count(file, &few, own.operands.clone())? < FEW {
                return self.collect(file, own);
            }
        }
        Ok(self.walk(file, usize::MAX)?.ids)
    }

    /// Looks at `budget` products of the range of an index that is in the order of the page.
    fn walk(&self, file: &mut SqliteConnection, budget: usize) -> QueryResult<Walk> {
        let (mut ids, mut looked_at) = (Vec::new(), 0);
        for (sql, operands) in self.queries() {
            for row in bound(sql, operands).load_iter::<LookedAt, _>(file)? {
                if looked_at == budget {
                    return Ok(Walk { ids, is_over: false });
                }
                looked_at += 1;
                ids.extend(row?.id);
                if ids.len() as i64 == self.limit {
                    return Ok(Walk { ids, is_over: true });
                }
            }
        }
        Ok(Walk { ids, is_over: true })
    }

    /// The queries for that range, one after the other, with their values.
    pub(super) fn queries(&self) -> Vec<(String, Vec<Operand>)> {
        let (all, range) = (columns(self.filter), columns(&self.range()));
        let query = |part: Conditions| {
            let range = range.clone().and(part);
            let sql = format!(
                "SELECT CASE WHEN {} THEN id END AS id FROM listing WHERE {} ORDER BY {}",
                all.text(),
                range.text(),
                order(self.filter.sort)
            );
            (sql, [all.operands.clone(), range.operands].concat())
        };
        self.parts().into_iter().map(query).collect()
    }

    /// The part of the filter that is one range of the index of the order.
    fn range(&self) -> Filter {
        let Filter { category, min_price, max_price, in_stock, .. } = self.filter.clone();
        let begun = self.from.is_some();
        match self.filter.sort {
            Sort::Newest | Sort::Relevance => {
                let in_stock = in_stock.filter(|_| category.is_none());
                Filter { category, in_stock, ..Filter::default() }
            }
            // The bound that the page before has passed would keep SQLite from beginning behind that page.
            Sort::Price => {
                let min_price = min_price.filter(|_| !begun);
                Filter { category, min_price, max_price, ..Filter::default() }
            }
            Sort::PriceDescending => {
                let max_price = max_price.filter(|_| !begun);
                Filter { category, min_price, max_price, ..Filter::default() }
            }
            Sort::Name | Sort::Popular => Filter { category, ..Filter::default() },
        }
    }

    /// Each part of the filter that an index has, alone.
    fn alone(&self) -> [Filter; 3] {
        let Filter { category, min_price, max_price, in_stock, .. } = self.filter.clone();
        [
            Filter { min_price, max_price, ..Filter::default() },
            Filter { category, ..Filter::default() },
            Filter { in_stock, ..Filter::default() },
        ]
    }

    /// Sorts the products that are `own`, by an index, and pass the filter.
    fn collect(&self, file: &mut SqliteConnection, own: Conditions) -> QueryResult<Vec<String>> {
        let rest = columns(self.filter).and(self.after());
        // The limit keeps SQLite from taking another index. Only the products of the page are read, the others' places are in
        // the index.
        let order = order(self.filter.sort);
        let sql = format!(
            "SELECT id FROM listing WHERE seq IN (\
             SELECT seq FROM (SELECT * FROM listing WHERE {} LIMIT -1) \
             WHERE {} ORDER BY {order} LIMIT {}) ORDER BY {order}",
            own.text(),
            rest.text(),
            self.limit
        );
        load(file, sql, [own.operands, rest.operands].concat())
    }
}
