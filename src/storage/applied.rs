//! The migrations that a database has.

use diesel::backend::Backend;
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::migration::MigrationSource;
use diesel::sql_types::Text;
use diesel_migrations::EmbeddedMigrations;

use super::SetupError;

/// The versions of the applied migrations, from diesel's own table.
pub(super) fn applied_migrations() -> SqlLiteral<Text> {
    sql("SELECT version FROM __diesel_schema_migrations")
}

/// Asserts that all of `migrations` are among those `applied`.
///
/// # Errors
/// [`SetupError::NotMigrated`] for `store`.
pub(super) fn expect_all<DB: Backend>(
    store: String,
    migrations: &EmbeddedMigrations,
    applied: &[String],
) -> Result<(), SetupError> {
    let all = MigrationSource::<DB>::migrations(migrations).map_err(SetupError::of_server)?;
    let missing = all.iter().filter(|migration| {
        let version = migration.name().version().to_string();
        !applied.contains(&version)
    });
    let missing = missing.map(|migration| migration.name().to_string()).collect::<Vec<_>>();
    if missing.is_empty() {
        return Ok(());
    }
    Err(SetupError::NotMigrated { store, missing: missing.join(", ") })
}
