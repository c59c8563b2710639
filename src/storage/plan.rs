//! How SQLite runs a query, for tests: without statistics it may prefer an index that finds far too much.

use diesel::sql_types::Text;
use diesel::{QueryableByName, RunQueryDsl as _, SqliteConnection};

#[derive(QueryableByName)]
struct Step {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// The plan of `query`, as `EXPLAIN QUERY PLAN` has it, behind the query's text.
pub fn plan(file: &mut SqliteConnection, query: &impl ToString) -> String {
    let text = query.to_string();
    let text = text.split(" -- binds").next().unwrap();
    let plan = diesel::sql_query(format!("EXPLAIN QUERY PLAN {text}"));
    let steps = plan.load::<Step>(file).unwrap();
    let steps = steps.into_iter().map(|step| step.detail).collect::<Vec<_>>().join("; ");
    format!("{text}: {steps}")
}
