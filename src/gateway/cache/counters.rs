//! What the cache does with requests, for `/metrics`.

use std::sync::LazyLock;

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec};

use crate::metrics::counters;

static COUNTERS: LazyLock<Counters> = LazyLock::new(Counters::new);

/// What the cache did, in words of RFC 9211.
#[derive(Clone, Copy, Debug)]
pub(super) enum Served {
    /// A fresh response was stored.
    Hit,
    /// A stale one was, and was served.
    Stale,
    /// The response that another request was waiting for.
    Collapsed,
    /// The origin was asked, because nothing was stored.
    Miss,
    /// The origin was asked, because what was stored is too old.
    Expired,
    /// The origin was asked, because the client wants that.
    Request,
    /// The cache was not asked.
    Bypass,
}

const NAMES: [&str; 7] = ["hit", "stale", "collapsed", "miss", "expired", "request", "bypass"];

struct Counters {
    all: IntCounterVec,
    each: [IntCounter; NAMES.len()],
}

impl Counters {
    fn new() -> Self {
        let about = "Reads of cached routes, by what the gateway's cache did: hit, stale (served), collapsed (with another read), \
                     or why it asked the origin: miss, expired, request, bypass. A stale answer that is renewed behind it also \
                     counts as expired.";
        let all = counters("gateway_cache_requests_total", about, &["result"]);
        let each = NAMES.map(|result| all.with_label_values(&[result]));
        Self { all, each }
    }
}

impl Served {
    /// Counts a read.
    pub(super) fn count(self) {
        COUNTERS.each[self as usize].inc();
    }

    /// Why the origin is asked, as Cache-Status says it.
    pub(super) fn forwarded(why: &str) -> Self {
        match why {
            "miss" => Self::Miss,
            "stale" => Self::Expired,
            "request" => Self::Request,
            _ => Self::Bypass,
        }
    }
}

/// For the registry.
pub(in crate::gateway) fn collector() -> Box<dyn Collector> {
    Box::new(COUNTERS.all.clone())
}
