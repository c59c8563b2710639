//! How SQLite runs a query, for tests: without statistics it may prefer an index that finds far too much.

use diesel::sql_types::Text;
use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, SqliteConnection};

use super::MIGRATIONS;
use crate::storage::sqlite;

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// The plan of `query`, as `EXPLAIN QUERY PLAN` has it, on an empty database.
pub(super) fn plan(query: &impl ToString) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("order.db");
    sqlite::migrate(&path, MIGRATIONS.sqlite, |_| Ok(())).unwrap();
    let mut file = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    let text = query.to_string();
    let text = text.split(" -- binds").next().unwrap();
    let plan = diesel::sql_query(format!("EXPLAIN QUERY PLAN {text}"));
    let steps = plan.load::<Step>(&mut file).unwrap();
    let steps = steps.into_iter().map(|step| step.detail).collect::<Vec<_>>().join("; ");
    format!("{text}: {steps}")
}
