//! Cache-aside for the answers of the catalogue, as the bytes that are sent.
//!
//! A key carries the generation in which it was asked for. A write raises the generation once the store
//! has it, so that a reader who began before can only fill a place where nobody looks any more.

use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::web::Bytes;
use bson::oid::ObjectId;
use moka::future::Cache as Moka;
use serde::Serialize;

use super::model::PageRequest;
use crate::config;
use crate::error::Error;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A page of the list.
    Page(PageRequest),
    /// A single product.
    Product(ObjectId),
}

/// An answer, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The JSON text.
    pub(super) body: Bytes,
    /// The value of the Link header.
    pub(super) next: Option<String>,
}

impl Entry {
    /// The answer that says `value`, followed by the page at `next`.
    pub(super) fn new(value: &impl Serialize, next: Option<String>) -> Result<Self, Error> {
        let body = serde_json::to_vec(value).map_err(Error::internal)?.into();
        Ok(Self { body, next: next.map(|target| format!("<{target}>; rel=\"next\"")) })
    }

    fn weight(&self) -> u32 {
        let text = self.body.len() + self.next.as_ref().map_or(0, String::len);
        // The key and the cache's own books take about this much besides.
        u32::try_from(text + 256).unwrap_or(u32::MAX)
    }
}

/// An answer and where it came from.
#[derive(Debug)]
pub(super) struct Found {
    /// The answer.
    pub(super) entry: Entry,
    hit: bool,
}

impl Found {
    /// The value of the `X-Cache` header.
    pub(super) fn label(&self) -> &'static str {
        if self.hit { "HIT" } else { "MISS" }
    }
}

/// The answers of one process.
#[derive(Debug)]
pub(super) struct Cache {
    generation: AtomicU64,
    entries: Moka<(u64, Key), Entry>,
}

impl Cache {
    pub(super) fn new(options: &config::Product) -> Self {
        let entries = Moka::builder()
            .max_capacity(options.cache_size)
            .weigher(|_, entry: &Entry| entry.weight())
            .time_to_live(options.cache_ttl);
        Self { generation: AtomicU64::new(0), entries: entries.build() }
    }

    /// The answer for `key`, made by `load` where it is missing: once, however many wait for it.
    ///
    /// # Errors
    /// That of `load`; a failure is not kept.
    pub(super) async fn get(
        &self,
        key: Key,
        load: impl Future<Output = Result<Entry, Error>>,
    ) -> Result<Found, Error> {
        let key = (self.generation.load(Ordering::Acquire), key);
        if let Some(entry) = self.entries.get(&key).await {
            return Ok(Found { entry, hit: true });
        }
        let loaded = self.entries.entry(key).or_try_insert_with(load).await;
        let loaded = loaded.map_err(|error| Error::shared(&error))?;
        Ok(Found { hit: !loaded.is_fresh(), entry: loaded.into_value() })
    }

    /// Forgets every answer given so far.
    pub(super) fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}
