//! Orders of users whose accounts are erased: what was bought stays, who and where does not.

use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::Store;
use super::schema::order_orders::{self, dsl};
use crate::contract::Event;
use crate::events::Refusal;
use crate::storage::sql::in_transaction;
use crate::storage::{StoreError, run_to_completion};

impl Store {
    /// Takes events of erased users: their orders lose address and contact.
    pub(in crate::order) async fn take_erased(&self, events: Vec<Event>) -> Result<(), Refusal> {
        let users = events.into_iter().map(|event| event.subject).collect::<Vec<_>>();
        let pool = self.pool.clone();
        let taken = run_to_completion(&self.limits, async move {
            in_transaction!(&pool, StoreError, connection => {
                let told = dsl::ship_to.is_not_null().or(dsl::contact.is_not_null());
                let of_users = order_orders::table.filter(dsl::user_id.eq_any(users).and(told));
                let nothing = (dsl::ship_to.eq(None::<String>), dsl::contact.eq(None::<String>));
                diesel::update(of_users).set(nothing).execute(connection).await?;
            })
        });
        Ok(taken.await?)
    }
}
