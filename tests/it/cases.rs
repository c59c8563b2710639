//! Macros that make a test of a function for each of its cases, named by the case.

/// Tests `$test` with what stands behind the name of each case.
macro_rules! each_case {
    ($test:ident: $($case:ident($($value:expr),+)),+ $(,)?) => {
        mod $test {
            use super::*;

            $(
                #[actix_rt::test]
                async fn $case() {
                    super::$test($($value),+).await;
                }
            )+
        }
    };
}

/// Tests `$test` with all roles in one process, and with a process for each.
macro_rules! each_topology {
    ($test:ident) => {
        each_case!($test:
            one_process(Topology::OneProcess),
            one_process_a_role(Topology::OneProcessARole),
        );
    };
}

/// Tests `$test` on embedded storage, and on servers.
macro_rules! each_storage {
    ($test:ident) => {
        each_case!($test: embedded(Storage::Embedded), polyglot(Storage::Polyglot));
    };
}

/// Tests `$test` with accounts in SQLite, in PostgreSQL, and in PostgreSQL behind PgBouncer.
macro_rules! each_account_store {
    ($test:ident) => {
        each_case!($test:
            embedded(Storage::Embedded),
            polyglot(Storage::Polyglot),
            pooled(Storage::Pooled),
        );
    };
}

/// Tests `$test` on a PostgreSQL that knows nothing of tables which a rush has filled, and on one that has seen them nearly empty.
macro_rules! each_statistics {
    ($test:ident) => {
        each_case!($test:
            unknown(Statistics::Unknown),
            nearly_empty(Statistics::NearlyEmpty),
        );
    };
}
