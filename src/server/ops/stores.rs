//! The stores of the process, its pools and its caches.

use serde::Serialize;

use super::arrows::{Arrow, Tally, whole};
use super::families::{Families, Series};

const POOL: &str = "db_client_connection_pool_name";
const SYSTEM: &str = "db_system_name";
const MAX: &str = "db_client_connection_max";

/// A pool of connections to a store.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pool {
    /// As in `user.database`.
    name: String,
    /// As in `postgresql`.
    system: String,
    used: f64,
    max: f64,
    waiting: f64,
    timeouts: f64,
}

/// A cache, and what has become of reads since the process began.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cache {
    name: &'static str,
    hits: u64,
    stale: u64,
    misses: u64,
}

/// All pools.
pub(super) fn pools(families: &Families) -> Vec<Pool> {
    let pools = families.series(MAX).map(|series| {
        let (name, system) = (series.label(POOL), series.label(SYSTEM));
        let of = |family| families.sum(family, &[(POOL, name), (SYSTEM, system)]);
        Pool {
            name: name.to_owned(),
            system: system.to_owned(),
            used: of("db_client_connection_used"),
            max: series.value(),
            waiting: of("db_client_connection_pending_requests"),
            timeouts: of("db_client_connection_timeouts_total"),
        }
    });
    pools.collect()
}

/// The caches of the roles here.
pub(super) fn caches(families: &Families) -> Vec<Cache> {
    let of = |name, family: &str| {
        let mut cache = Cache { name, hits: 0, stale: 0, misses: 0 };
        let mut is_here = false;
        for series in families.series(family) {
            is_here = true;
            match series.label("result") {
                "hit" | "collapsed" => cache.hits += whole(series),
                "stale" => cache.stale += whole(series),
                "miss" | "expired" => cache.misses += whole(series),
                // What must not be answered from the cache.
                _ => {}
            }
        }
        is_here.then_some(cache)
    };
    let gateway = of("gateway", "gateway_cache_requests_total");
    let product = of("product", "product_cache_reads_total");
    gateway.into_iter().chain(product).collect()
}

/// An arrow from a role to each store that it has connections to.
pub(super) fn arrows(families: &Families) -> Vec<Arrow> {
    let pools = pools(families);
    let arrows = pools.iter().map(|pool| {
        let (role, purpose) = pool.name.split_once('.').unwrap_or((&pool.name, ""));
        // Limits of two roles are counted as calls of one module.
        let module = if purpose == "limits" { purpose } else { role };
        let alike = pools.iter().filter(|other| {
            other.system == pool.system && purpose == "limits" && other.name.ends_with(".limits")
        });
        let tally = (alike.count() <= 1).then(|| calls(families, module, &pool.system));
        Arrow {
            from: vec![role.to_owned()],
            to: pool.name.clone(),
            what: "store",
            tally,
            callee: None,
            checks: vec![pool.name.clone()],
        }
    });
    arrows.collect()
}

/// The calls that `module` made to stores of the kind `system`.
fn calls(families: &Families, module: &str, system: &str) -> Tally {
    let is_meant = |series: &Series<'_>| {
        let operation = series.label("db_operation_name").split('.').next();
        operation == Some(module) && series.label(SYSTEM) == system
    };
    let mut tally = Tally::default();
    for series in families.series("db_client_operation_duration_seconds").filter(is_meant) {
        series.add_to(&mut tally, !series.label("error_type").is_empty());
    }
    tally
}
