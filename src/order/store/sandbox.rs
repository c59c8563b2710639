//! Queries on the payments of the sandbox.

use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel_async::{AsyncConnection as _, RunQueryDsl};

use super::Store;
use super::schema::order_sandbox::{self, dsl};
use crate::contract::{Money, now};
use crate::storage::sql::{in_transaction, read, write_one};
use crate::storage::{Prepared, StoreError, run_to_completion};

/// How far a payment of the sandbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::order) enum SandboxState {
    Open,
    Succeeded,
    Cancelled,
}

const STATES: [(SandboxState, &str); 3] = [
    (SandboxState::Open, "open"),
    (SandboxState::Succeeded, "succeeded"),
    (SandboxState::Cancelled, "cancelled"),
];

impl SandboxState {
    fn name(self) -> &'static str {
        STATES.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }

    fn parse(name: &str) -> Result<Self, StoreError> {
        let found = STATES.iter().find(|(_, known)| *known == name);
        found.map(|(state, _)| *state).ok_or_else(|| StoreError::corrupt("state of a payment"))
    }
}

/// A payment of the sandbox after a request about it.
#[derive(Clone, Debug)]
pub(in crate::order) struct SandboxIntent {
    pub(in crate::order) state: SandboxState,
    /// Why the attempt was declined.
    pub(in crate::order) declined: Option<String>,
}

/// A row of the table of payments.
#[derive(Clone, Debug, PartialEq, Queryable, Insertable, AsChangeset)]
#[diesel(table_name = order_sandbox, primary_key(intent), treat_none_as_null = true, treat_none_as_default_value = false)]
pub(super) struct PaymentRow {
    pub(super) intent: String,
    amount: i64,
    currency: String,
    state: String,
    charges: i64,
    refunds: i64,
    last_key: Option<String>,
    declined: Option<String>,
    created_at: NaiveDateTime,
}

/// The columns that a request about a payment reads.
type Columns = (String, Option<String>, Option<String>);

fn intent((state, _, declined): Columns) -> Result<SandboxIntent, StoreError> {
    Ok(SandboxIntent { state: SandboxState::parse(&state)?, declined })
}

impl Store {
    /// Makes a payment of the sandbox, unless there is one of this name.
    pub(in crate::order) async fn sandbox_open(
        &self,
        name: String,
        amount: Money,
        currency: String,
    ) -> Result<(), StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let values = (
                dsl::intent.eq(name),
                dsl::amount.eq(amount.minor()),
                dsl::currency.eq(currency),
                dsl::state.eq(SandboxState::Open.name()),
                dsl::charges.eq(0),
                dsl::refunds.eq(0),
                dsl::created_at.eq(now().naive_utc()),
            );
            let insert = diesel::insert_into(order_sandbox::table).values(values);
            write_one!(&pool, insert.on_conflict_do_nothing(), execute)
        })
        .await
        .map(drop)
    }

    /// The payment of this name.
    pub(in crate::order) async fn sandbox_find(
        &self,
        name: String,
    ) -> Result<Option<SandboxIntent>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let found = order_sandbox::table.find(name);
            let found = found.select((dsl::state, dsl::last_key, dsl::declined));
            let row = read!(&pool, found, first::<Columns>, optional)?;
            row.map(intent).transpose()
        })
        .await
    }

    /// Charges or declines the payment of this name, if it is open. The same `key` again has no effect.
    pub(in crate::order) async fn sandbox_confirm(
        &self,
        name: String,
        key: String,
        declined: Option<String>,
    ) -> Result<Option<SandboxIntent>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let row = in_transaction!(&pool, StoreError, connection => {
                let is_new = dsl::last_key.is_null().or(dsl::last_key.ne(&key));
                let open = is_new.and(dsl::state.eq(SandboxState::Open.name()));
                let state = match declined {
                    Some(_) => SandboxState::Open,
                    None => SandboxState::Succeeded,
                };
                let charges = i64::from(declined.is_none());
                let update = diesel::update(order_sandbox::table.find(&name).filter(open));
                let update = update.set((
                    dsl::state.eq(state.name()),
                    dsl::charges.eq(dsl::charges + charges),
                    dsl::last_key.eq(&key),
                    dsl::declined.eq(&declined),
                ));
                Prepared(update).execute(connection).await?;
                let found = order_sandbox::table.find(&name);
                let found = found.select((dsl::state, dsl::last_key, dsl::declined));
                found.first::<Columns>(connection).await.optional()?
            })?;
            row.map(intent).transpose()
        })
        .await
    }

    /// Moves the payment of this name `from` a state `to` another; counts refunds. Returns it then.
    pub(in crate::order) async fn sandbox_move(
        &self,
        name: String,
        from: SandboxState,
        to: SandboxState,
    ) -> Result<Option<SandboxIntent>, StoreError> {
        let pool = self.pool.clone();
        run_to_completion(&self.limits, async move {
            let row = in_transaction!(&pool, StoreError, connection => {
                let refunds = i64::from(from == SandboxState::Succeeded);
                let update = order_sandbox::table.find(&name).filter(dsl::state.eq(from.name()));
                let update = diesel::update(update)
                    .set((dsl::state.eq(to.name()), dsl::refunds.eq(dsl::refunds + refunds)));
                Prepared(update).execute(connection).await?;
                let found = order_sandbox::table.find(&name);
                let found = found.select((dsl::state, dsl::last_key, dsl::declined));
                found.first::<Columns>(connection).await.optional()?
            })?;
            row.map(intent).transpose()
        })
        .await
    }
}
