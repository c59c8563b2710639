//! What was sold, in a SQLite file: sales are counted in one transaction with the events that tell of them.

use bson::oid::ObjectId;
use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;

use super::super::super::page::{Filter, Sort};
use super::super::super::sales::Sale;
use super::{Store, listing, product, products, rows};
use crate::contract::{Product, Timestamp, now};
use crate::storage::StoreError;

diesel::table! {
    inbox (event_id) {
        event_id -> Text,
        created_at -> BigInt,
    }
}

diesel::table! {
    bought_with (product, other) {
        product -> Text,
        other -> Text,
        orders -> BigInt,
    }
}

/// How many events are forgotten together.
const SWEEP: i64 = 500;

impl Store {
    pub(in super::super) async fn count_sales(&self, sales: Vec<Sale>) -> Result<(), StoreError> {
        self.pool
            .write_blocking(move |file| Ok(sales.iter().try_for_each(|sale| count(file, sale))?))
            .await
    }

    pub(in super::super) async fn bought_with(
        &self,
        with: Vec<ObjectId>,
        limit: i64,
    ) -> Result<Vec<(ObjectId, i64)>, StoreError> {
        let with = with.iter().map(|id| id.to_hex()).collect::<Vec<_>>();
        let rows = self.pool.read(move |file| {
            let mut rows = Vec::new();
            for product in &with {
                rows.extend(most(product, &with, limit).load::<(String, i64)>(file)?);
            }
            Ok(rows)
        });
        let pair = |(other, orders)| {
            let other = ObjectId::parse_str(other).map_err(StoreError::corrupt)?;
            Ok((other, orders))
        };
        rows.await?.into_iter().map(pair).collect()
    }

    pub(in super::super) async fn popular(&self, limit: i64) -> Result<Vec<Product>, StoreError> {
        let rows = self.pool.read(move |file| {
            let popular = Filter { sort: Sort::Popular, ..Filter::default() };
            // Both statements see the same products.
            file.transaction(|file| {
                let ids = listing::page(file, &popular, None, limit)?;
                rows(file, ids)
            })
        });
        rows.await?.into_iter().map(product).collect()
    }

    /// Forgets some events from before `forgotten`; returns whether there may be more.
    pub(in super::super) async fn forget_sales(
        &self,
        forgotten: Timestamp,
    ) -> Result<bool, StoreError> {
        let old = inbox::table.filter(inbox::created_at.lt(forgotten.timestamp_micros()));
        let old = old.select(inbox::event_id).limit(SWEEP);
        let old = self.pool.read(move |file| old.load::<String>(file)).await?;
        let number = old.len() as i64;
        if number > 0 {
            let old = inbox::table.filter(inbox::event_id.eq_any(old));
            let delete = move |file: &mut SqliteConnection| Ok(diesel::delete(old).execute(file)?);
            self.pool.write_blocking(delete).await?;
        }
        Ok(number == SWEEP)
    }
}

/// Counts `sale`, unless its event was taken before.
fn count(file: &mut SqliteConnection, sale: &Sale) -> QueryResult<()> {
    let event = (inbox::event_id.eq(&sale.event), inbox::created_at.eq(now().timestamp_micros()));
    let event = diesel::insert_into(inbox::table).values(event).on_conflict_do_nothing();
    if event.execute(file)? == 0 {
        return Ok(());
    }
    let mut there = Vec::new();
    for &(product, quantity) in &sale.lines {
        let row = products::table.find(product.to_hex()).filter(products::deleted_at.is_null());
        let sold = products::popularity.eq(products::popularity + quantity);
        let sold = diesel::update(row).set(sold).returning(products::seq);
        if let Some(place) = sold.get_result::<Option<i64>>(file).optional()? {
            there.push(product);
            listing::sell(file, place, quantity)?;
        }
    }
    let pairs = sale.pairs().filter(|(one, other)| there.contains(one) && there.contains(other));
    for (product, other) in pairs {
        let pair = (
            bought_with::product.eq(product.to_hex()),
            bought_with::other.eq(other.to_hex()),
            bought_with::orders.eq(1),
        );
        diesel::insert_into(bought_with::table)
            .values(pair)
            .on_conflict((bought_with::product, bought_with::other))
            .do_update()
            .set(bought_with::orders.eq(bought_with::orders + 1))
            .execute(file)?;
    }
    Ok(())
}

/// What was bought with `product` most often, but for those of `with`, and in how many orders.
#[diesel::dsl::auto_type(no_type_alias)]
fn most<'a>(product: &'a String, with: &'a Vec<String>, limit: i64) -> _ {
    bought_with::table
        .filter(bought_with::product.eq(product))
        .filter(bought_with::other.ne_all(with))
        .order_by((bought_with::orders.desc(), bought_with::other.desc()))
        .limit(limit)
        .select((bought_with::other, bought_with::orders))
}

#[cfg(test)]
mod tests {
    use diesel::debug_query;
    use diesel::sqlite::Sqlite;

    use super::*;
    use crate::storage::plan;

    #[test]
    fn what_was_bought_together_costs_what_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("product.db");
        super::super::migrate(&path).unwrap();
        let mut file = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        let with = vec!["a".to_owned(), "b".to_owned()];
        let plan = plan(&mut file, &debug_query::<Sqlite, _>(&most(&with[0], &with, 7)));
        assert!(plan.contains("INDEX bought_with_most (product=?)"), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
}
