//! Reservations in a SQLite file. Each step is one transaction.

use std::collections::HashMap;
use std::sync::Once;

use bson::oid::ObjectId;
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel::sqlite::SqliteConnection;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::super::reservations::{HeldLine, Hold, Refusal, State, Step, Wanted, WantedLine};
use super::super::super::supply::Supply;
use super::super::{decode_price, decode_time};
use super::{Store, listing, products};
use crate::contract::{Stock, Timestamp, now};
use crate::error::Shortage;
use crate::storage::StoreError;
use crate::storage::copy::BATCH;

diesel::table! {
    reservations (id) {
        id -> Text,
        state -> Text,
        expires_at -> BigInt,
        source -> Nullable<Text>,
        lines -> Text,
        changed_at -> BigInt,
    }
}

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = reservations, treat_none_as_null = true, treat_none_as_default_value = false)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite))]
struct Row {
    id: String,
    state: String,
    expires_at: i64,
    source: Option<String>,
    lines: String,
    changed_at: i64,
}

/// An entry of the column `lines`.
#[derive(Serialize, Deserialize)]
struct Line {
    product: String,
    quantity: i64,
    name: String,
    price: i64,
    #[serde(default)]
    counted: bool,
}

/// Whether a reservation that cannot be read was reported: each sweep finds it again.
static SAID: Once = Once::new();

/// How many reservations a sweep ends per transaction, because other writes wait for it.
const SWEEP: i64 = 200;

impl Store {
    pub(in super::super) async fn reserve(
        &self,
        id: Uuid,
        wanted: Wanted,
        expires_at: Timestamp,
    ) -> Result<Step<Result<Hold, Refusal>>, StoreError> {
        self.step(move |file, shows| {
            if let Some(hold) = find(file, id)? {
                return Ok(hold.repeat(&wanted, now()));
            }
            let (source, lines) = match &wanted {
                Wanted::Lines(lines) => (None, take(file, lines, shows)?),
                Wanted::From(source) => (Some(*source), take_over(file, *source, shows)?),
            };
            match lines {
                Ok(lines) => {
                    let changed_at = now();
                    let hold =
                        Hold { id, state: State::Held, expires_at, source, lines, changed_at };
                    write(file, hold).map(Ok)
                }
                Err(refusal) => Ok(Err(refusal)),
            }
        })
        .await
    }

    pub(in super::super) async fn commit(
        &self,
        id: Uuid,
    ) -> Result<Step<Result<Hold, Refusal>>, StoreError> {
        self.step(move |file, shows| {
            let Some(mut hold) = find(file, id)? else { return Ok(Err(Refusal::Missing)) };
            match hold.state_at(now()) {
                State::Committed => Ok(Ok(hold)),
                State::Held => {
                    for line in &mut hold.lines {
                        line.counted = change(file, line, shows, |stock, quantity| Stock {
                            on_hand: stock.on_hand.map(|on_hand| on_hand - quantity),
                            reserved: stock.reserved - quantity,
                        })?;
                    }
                    hold.state = State::Committed;
                    write(file, hold).map(Ok)
                }
                ended => Ok(Err(Refusal::Ended(ended))),
            }
        })
        .await
    }

    pub(in super::super) async fn release(&self, id: Uuid) -> Result<Step<()>, StoreError> {
        self.step(move |file, shows| {
            let none = || Hold {
                id,
                state: State::Released,
                expires_at: now(),
                source: None,
                lines: Vec::new(),
                changed_at: now(),
            };
            match find(file, id)? {
                // Its id is used up, too.
                None => write(file, none()).map(drop),
                Some(hold) => give_back(file, hold, State::Released, shows),
            }
        })
        .await
    }

    /// Whether [`Store::sweep`] has anything to do.
    pub(in super::super) async fn is_due(&self, forgotten: Timestamp) -> Result<bool, StoreError> {
        let forgotten = forgotten.timestamp_micros();
        let is_due = self.pool.read(move |file| {
            Ok(!expired(file, 1)?.is_empty() || !ended(file, forgotten, 1)?.is_empty())
        });
        is_due.await
    }

    /// Gives back what has expired, and deletes what ended before `forgotten`; returns whether there may be more.
    pub(in super::super) async fn sweep(
        &self,
        forgotten: Timestamp,
    ) -> Result<Step<bool>, StoreError> {
        let forgotten = forgotten.timestamp_micros();
        self.step(move |file, shows| {
            let over = expired(file, SWEEP)?;
            let mut lapsed = 0;
            for row in &over {
                match hold(row) {
                    Ok(hold) => {
                        give_back(file, hold, State::Lapsed, shows)?;
                        lapsed += 1;
                    }
                    // It holds up none of the others.
                    Err(error) => SAID.call_once(|| {
                        log::warn!("the reservation {} does not lapse: {error}", row.id);
                    }),
                }
            }
            let old = ended(file, forgotten, SWEEP)?;
            let deleted = reservations::table.filter(reservations::id.eq_any(&old));
            diesel::delete(deleted).execute(file)?;
            Ok(lapsed.max(old.len() as i64) == SWEEP)
        })
        .await
    }

    pub(in super::super) async fn count_holds(&self) -> Result<u64, StoreError> {
        let count = reservations::table.count();
        let count = self.pool.read(move |file| count.get_result::<i64>(file)).await?;
        Ok(count.unsigned_abs())
    }

    pub(in super::super) async fn holds_behind(
        &self,
        last: String,
    ) -> Result<Vec<Hold>, StoreError> {
        let rows = reservations::table.filter(reservations::id.gt(last)).order_by(reservations::id);
        let rows = rows.select(Row::as_select()).limit(BATCH as i64);
        self.pool.read(move |file| rows.load(file)).await?.iter().map(hold).collect()
    }

    pub(in super::super) async fn supplies_behind(
        &self,
        last: String,
    ) -> Result<Vec<Supply>, StoreError> {
        Ok(self.holds_behind(last).await?.into_iter().map(Supply::from).collect())
    }

    pub(in super::super) async fn excess(
        &self,
        products: Vec<ObjectId>,
    ) -> Result<HashMap<ObjectId, i64>, StoreError> {
        let ids = products.iter().map(|product| product.to_hex()).collect::<Vec<_>>();
        let read = self.pool.read(move |file| {
            // Both statements see the same moment.
            file.transaction(|file| {
                let reserved = products::table.filter(products::id.eq_any(ids));
                let reserved = reserved.select((products::id, products::reserved));
                let reserved = reserved.load::<(String, i64)>(file)?.into_iter();
                let holds = held_until(i64::MAX).select(Row::as_select()).load(file)?;
                Ok((reserved.collect::<HashMap<_, _>>(), holds))
            })
        });
        let (reserved, rows) = read.await?;
        // One that is gone has none.
        let reserved = |id: &ObjectId| reserved.get(&id.to_hex()).copied();
        let gone = products.iter().filter(|id| reserved(id).is_none()).map(|id| (*id, 0));
        let mut excess = products.iter().filter_map(|id| Some((*id, reserved(id)?))).collect();
        for row in &rows {
            Supply::from(hold(row)?).subtract_from(&mut excess);
        }
        excess.extend(gone);
        Ok(excess)
    }

    pub(in super::super) async fn holds_among(
        &self,
        ids: Vec<String>,
    ) -> Result<Vec<Hold>, StoreError> {
        let rows =
            reservations::table.filter(reservations::id.eq_any(ids)).select(Row::as_select());
        self.pool.read(move |file| rows.load(file)).await?.iter().map(hold).collect()
    }

    /// Inserts `holds`; those that are there already stay, or `replaces` says that they do not. Returns how many were written.
    pub(in super::super) async fn write_holds(
        &self,
        holds: Vec<Hold>,
        replaces: bool,
    ) -> Result<u64, StoreError> {
        self.pool
            .write_blocking(move |file| {
                let mut written = 0;
                for hold in holds {
                    if replaces || find(file, hold.id)?.is_none() {
                        diesel::replace_into(reservations::table)
                            .values(row(&hold)?)
                            .execute(file)?;
                        written += 1;
                    }
                }
                Ok(written)
            })
            .await
    }

    /// Runs `work` in a transaction. It sets its flag if a product comes into stock or goes out of it.
    async fn step<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteConnection, &mut bool) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<Step<T>, StoreError> {
        self.pool
            .write_blocking(move |file| {
                let mut shows = false;
                let outcome = work(file, &mut shows)?;
                Ok(Step { outcome, shows })
            })
            .await
    }
}

/// Reserves pieces for `lines`, all of them or none.
fn take(
    file: &mut SqliteConnection,
    lines: &[WantedLine],
    shows: &mut bool,
) -> Result<Result<Vec<HeldLine>, Refusal>, StoreError> {
    let (mut held, mut unknown, mut short) = (Vec::new(), Vec::new(), Vec::new());
    for &WantedLine { product, quantity } in lines {
        let found = products::table.find(product.to_hex());
        let found = found.filter(products::deleted_at.is_null());
        let columns = (products::name, products::price, products::on_hand, products::reserved);
        let row =
            found.select(columns).first::<(String, i64, Option<i64>, i64)>(file).optional()?;
        let Some((name, price, on_hand, reserved)) = row else {
            unknown.push(product);
            continue;
        };
        match (Stock { on_hand, reserved }).available() {
            Some(available) if available < quantity => {
                short.push(Shortage { product_id: product.to_hex(), quantity, available });
            }
            _ => {
                let price = decode_price(price)?;
                held.push(HeldLine { product, quantity, name, price, counted: false });
            }
        }
    }
    if !unknown.is_empty() {
        return Ok(Err(Refusal::Unknown(unknown)));
    }
    if !short.is_empty() {
        return Ok(Err(Refusal::Short(short)));
    }
    for line in &held {
        change(file, line, shows, |stock, quantity| Stock {
            reserved: stock.reserved + quantity,
            ..stock
        })?;
    }
    Ok(Ok(held))
}

/// Takes the pieces of the reservation `source`, which ends it.
fn take_over(
    file: &mut SqliteConnection,
    source: Uuid,
    shows: &mut bool,
) -> Result<Result<Vec<HeldLine>, Refusal>, StoreError> {
    let Some(hold) = find(file, source)? else { return Ok(Err(Refusal::Source(None))) };
    let mut lines = hold.lines.clone();
    match hold.state_at(now()) {
        State::Held => {}
        State::Committed => {
            for line in &mut lines {
                unsell(file, line, shows, line.quantity)?;
                line.counted = false;
            }
        }
        ended => return Ok(Err(Refusal::Source(Some(ended)))),
    }
    write(file, Hold { state: State::Moved, ..hold })?;
    Ok(Ok(lines))
}

/// Gives back the pieces of `hold`, if it has any, which ends it in `state`.
fn give_back(
    file: &mut SqliteConnection,
    hold: Hold,
    state: State,
    shows: &mut bool,
) -> Result<(), StoreError> {
    match hold.state {
        State::Held => {
            for line in &hold.lines {
                change(file, line, shows, |stock, quantity| Stock {
                    reserved: stock.reserved - quantity,
                    ..stock
                })?;
            }
        }
        State::Committed => {
            for line in &hold.lines {
                unsell(file, line, shows, 0)?;
            }
        }
        State::Released | State::Lapsed | State::Moved => return Ok(()),
    }
    write(file, Hold { state, ..hold }).map(drop)
}

/// Takes back the sale of `line`, of which `reserved` pieces stay reserved.
fn unsell(
    file: &mut SqliteConnection,
    line: &HeldLine,
    shows: &mut bool,
    reserved: i64,
) -> Result<(), StoreError> {
    change(file, line, shows, |stock, quantity| Stock {
        on_hand: stock.on_hand.map(|on_hand| on_hand + if line.counted { quantity } else { 0 }),
        reserved: stock.reserved + reserved,
    })
    .map(drop)
}

/// Changes the stock of the product of `line`, also of one that was removed; returns whether its pieces are counted.
fn change(
    file: &mut SqliteConnection,
    line: &HeldLine,
    shows: &mut bool,
    change: impl Fn(Stock, i64) -> Stock,
) -> Result<bool, StoreError> {
    let row = products::table.find(line.product.to_hex());
    let columns = (products::on_hand, products::reserved, products::seq);
    let Some((on_hand, reserved, place)) = row.clone().select(columns).first(file).optional()?
    else {
        return Ok(false);
    };
    let before = Stock { on_hand, reserved };
    let after = change(before, line.quantity);
    let values = (products::on_hand.eq(after.on_hand), products::reserved.eq(after.reserved));
    diesel::update(row).set(values).execute(file)?;
    if before.is_in() != after.is_in() {
        listing::set_in_stock(file, place, after.is_in())?;
        *shows = true;
    }
    Ok(on_hand.is_some())
}

fn find(file: &mut SqliteConnection, id: Uuid) -> Result<Option<Hold>, StoreError> {
    let row = reservations::table.find(id.to_string()).select(Row::as_select());
    row.first(file).optional()?.as_ref().map(hold).transpose()
}

/// The reservations whose pieces are to be given back.
fn expired(file: &mut SqliteConnection, limit: i64) -> QueryResult<Vec<Row>> {
    held_until(now().timestamp_micros()).select(Row::as_select()).limit(limit).load(file)
}

/// The reservations that expired before `time`, the first before the others.
#[diesel::dsl::auto_type(no_type_alias)]
fn held_until(time: i64) -> _ {
    // A value that is bound would keep SQLite from using the partial index.
    let is_held: SqlLiteral<Bool> = sql::<Bool>("state = 'held'");
    reservations::table
        .filter(is_held)
        .filter(reservations::expires_at.le(time))
        .order_by(reservations::expires_at)
}

/// The ids of reservations that ended before `forgotten`.
fn ended(file: &mut SqliteConnection, forgotten: i64, limit: i64) -> QueryResult<Vec<String>> {
    ended_before(forgotten).select(reservations::id).limit(limit).load(file)
}

/// The reservations that ended before `time`.
#[diesel::dsl::auto_type(no_type_alias)]
fn ended_before(time: i64) -> _ {
    let is_over: SqlLiteral<Bool> = sql::<Bool>("state IN ('released', 'lapsed', 'moved')");
    reservations::table.filter(is_over).filter(reservations::changed_at.lt(time))
}

/// Stores `hold` as it is now.
fn write(file: &mut SqliteConnection, hold: Hold) -> Result<Hold, StoreError> {
    let hold = Hold { changed_at: now(), ..hold };
    diesel::replace_into(reservations::table).values(row(&hold)?).execute(file)?;
    Ok(hold)
}

fn row(hold: &Hold) -> Result<Row, StoreError> {
    let line = |line: &HeldLine| Line {
        product: line.product.to_hex(),
        quantity: line.quantity,
        name: line.name.clone(),
        price: line.price.minor(),
        counted: line.counted,
    };
    let lines = hold.lines.iter().map(line).collect::<Vec<_>>();
    Ok(Row {
        id: hold.id.to_string(),
        state: hold.state.name().into(),
        expires_at: hold.expires_at.timestamp_micros(),
        source: hold.source.map(|source| source.to_string()),
        lines: serde_json::to_string(&lines).map_err(StoreError::corrupt)?,
        changed_at: hold.changed_at.timestamp_micros(),
    })
}

fn hold(row: &Row) -> Result<Hold, StoreError> {
    let uuid = |text: &str| Uuid::parse_str(text).map_err(StoreError::corrupt);
    let line = |line: Line| {
        Ok(HeldLine {
            product: ObjectId::parse_str(&line.product).map_err(StoreError::corrupt)?,
            quantity: line.quantity,
            name: line.name,
            price: decode_price(line.price)?,
            counted: line.counted,
        })
    };
    let lines = serde_json::from_str::<Vec<Line>>(&row.lines).map_err(StoreError::corrupt)?;
    let state = State::from_name(&row.state);
    Ok(Hold {
        id: uuid(&row.id)?,
        state: state.ok_or_else(|| StoreError::corrupt("an unknown state of a reservation"))?,
        expires_at: decode_time(row.expires_at)?,
        source: row.source.as_deref().map(uuid).transpose()?,
        lines: lines.into_iter().map(line).collect::<Result<_, StoreError>>()?,
        changed_at: decode_time(row.changed_at)?,
    })
}

#[cfg(test)]
mod tests {
    use diesel::debug_query;
    use diesel::sqlite::Sqlite;

    use super::*;
    use crate::storage::plan;

    #[test]
    fn a_sweep_costs_what_is_due() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("product.db");
        super::super::migrate(&path).unwrap();
        let mut file = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
        let plans = [
            plan(&mut file, &debug_query::<Sqlite, _>(&held_until(7))),
            plan(&mut file, &debug_query::<Sqlite, _>(&ended_before(7))),
        ];
        for (plan, index) in plans.into_iter().zip(["reservations_held", "reservations_ended"]) {
            assert!(plan.contains(&format!("USING INDEX {index}")), "{plan}");
        }
    }
}
