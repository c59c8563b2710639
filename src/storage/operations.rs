//! How long calls to stores take, by name, for `/metrics`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;
use std::time::Instant;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramVec};

use super::StoreError;
use crate::metrics::histograms;
use crate::telemetry::watch_statement;

/// Those of OpenTelemetry for clients of databases, in seconds.
pub(super) const BUCKETS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

static ALL: LazyLock<HistogramVec> = LazyLock::new(|| {
    let about = "How long calls to stores took, with the wait for a connection, in seconds.";
    let labels = ["db_system_name", "db_operation_name", "error_type"];
    histograms("db_client_operation_duration_seconds", about, &labels, &BUCKETS)
});

thread_local! {
    /// By the address of the name of the call's type, the system and the error.
    static KNOWN: RefCell<HashMap<(usize, &'static str, &'static str), Histogram>> =
        RefCell::default();
}

/// For the registry.
pub(super) fn collector() -> Box<dyn Collector> {
    Box::new(ALL.clone())
}

/// A call to a store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    /// The name of the type of the call's future or closure, which has the function that makes it.
    kind: &'static str,
    system: &'static str,
    begun: Instant,
}

impl Operation {
    /// One that begins now, whose future or closure has the type named `kind`, to a store of the kind `system`, as
    /// OpenTelemetry calls it.
    pub(super) fn begin(kind: &'static str, system: &'static str) -> Self {
        Self { kind, system, begun: Instant::now() }
    }

    /// Counts it, by its outcome.
    pub(super) fn end<T>(self, outcome: &Result<T, StoreError>) {
        self.end_with(match outcome {
            // Another row has the value: an answer like others.
            Ok(_) | Err(StoreError::Duplicate) => "",
            Err(StoreError::Unreachable(_)) => "unreachable",
            Err(StoreError::Connection(_)) => "connection",
            Err(StoreError::Full(_)) => "full",
            Err(StoreError::ReadOnly(_)) => "read_only",
            Err(StoreError::Failed(_)) => "failed",
        });
    }

    /// Counts it, with the kind of its error or an empty text.
    pub(super) fn end_with(self, error: &'static str) {
        let duration = self.begun.elapsed();
        // That a store is away, readiness tells.
        if !matches!(error, "unreachable" | "connection") {
            watch_statement(Name(self.kind), duration);
        }
        KNOWN.with_borrow_mut(|known| {
            let key = (self.kind.as_ptr().addr(), self.system, error);
            let durations = known.entry(key).or_insert_with(|| {
                ALL.with_label_values(&[self.system, &Name(self.kind).to_string(), error])
            });
            durations.observe(duration.as_secs_f64());
        });
    }
}

/// The name of a call whose future or closure has the type of this name: the module at the crate's top and the function, as
/// in `order.insert`.
struct Name(&'static str);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (module, function) = operation(self.0);
        write!(f, "{module}.{function}")
    }
}

fn operation(kind: &str) -> (&str, &str) {
    let mut function = kind;
    while let Some(outer) = function.strip_suffix("::{{closure}}") {
        function = outer;
    }
    let module = kind.split_once("app::").map_or("", |(_, path)| path);
    let module = module.split("::").next().unwrap_or_default();
    // The last part, before its own parameters: `<` and `>` also enclose types in the middle of a path.
    let mut depth = 0_i32;
    let last = function.rfind(|letter| {
        match letter {
            '>' => depth += 1,
            '<' => depth -= 1,
            _ => {}
        }
        depth == 0 && letter == ':'
    });
    let name = last.map_or(function, |at| &function[at + 1..]);
    let name = name.split('<').next().unwrap_or_default();
    (module, name)
}

#[cfg(test)]
mod tests {
    use std::any::type_name_of_val;

    use super::*;

    struct Store;

    impl Store {
        fn insert<T>(&self) -> impl Future<Output = T> + use<T> {
            async { std::future::pending().await }
        }
    }

    #[test]
    fn a_call_is_named_by_its_module_and_its_function() {
        for (kind, name) in [
            (
                "app::order::store::orders::<impl app::order::store::Store>::insert::{{closure}}::{{closure}}",
                "order.insert",
            ),
            (
                "<app::user::store::Store as app::storage::copy::Rows>::count::{{closure}}",
                "user.count",
            ),
            (
                "app::product::store::Store::page::{{closure}}::{{closure}}::{{closure}}",
                "product.page",
            ),
            ("app::product::store::write::run<alloc::vec::Vec<u8>>::{{closure}}", "product.run"),
        ] {
            assert_eq!(Name(kind).to_string(), name);
        }
        let kind = type_name_of_val(&Store.insert::<Vec<u8>>());
        assert_eq!(Name(kind).to_string(), "storage.insert");
    }
}
