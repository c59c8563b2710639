//! How SQLite runs a query on orders, for tests.

use diesel::{Connection as _, SqliteConnection};

use super::MIGRATIONS;
use crate::storage::sqlite;

/// The plan of `query` on an empty database.
pub(super) fn plan(query: &impl ToString) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("order.db");
    sqlite::migrate(&path, MIGRATIONS.sqlite, |_| Ok(())).unwrap();
    let mut file = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    crate::storage::plan(&mut file, query)
}
