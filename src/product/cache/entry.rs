//! Cached responses, in memory and as bytes on a server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::web::Bytes;
use bson::oid::ObjectId;
use serde::Serialize;

use super::super::page::PageRequest;
use crate::error::Error;
use crate::storage::digest;

/// A cached resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in super::super) enum Key {
    /// A page of the list.
    Page(PageRequest),
    /// A single product.
    Product(ObjectId),
    /// The categories.
    Categories,
}

/// What is read, as far as the cache tells reads apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadKind {
    /// A single product.
    Product,
    /// A page of all products, in any order.
    List,
    /// A page of a search.
    Search,
    /// A page of those that pass a filter.
    Filtered,
    /// The categories.
    Categories,
}

impl ReadKind {
    pub(super) const ALL: [Self; 5] =
        [Self::Product, Self::List, Self::Search, Self::Filtered, Self::Categories];

    /// Its name in `/metrics`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::List => "list",
            Self::Search => "search",
            Self::Filtered => "filtered",
            Self::Categories => "categories",
        }
    }

    /// Whether clients may ask for any number of them.
    pub(super) fn is_endless(self) -> bool {
        matches!(self, Self::Search | Self::Filtered)
    }
}

impl Key {
    pub(super) fn kind(&self) -> ReadKind {
        match self {
            Self::Product(_) => ReadKind::Product,
            Self::Categories => ReadKind::Categories,
            Self::Page(page) => match page.filter.as_deref() {
                Some(filter) if !filter.words.is_empty() => ReadKind::Search,
                Some(filter) if filter.narrows() => ReadKind::Filtered,
                _ => ReadKind::List,
            },
        }
    }

    /// About how many bytes of memory it takes beside its own size, which is part of every entry.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Page(page) => page.weight(),
            Self::Product(_) | Self::Categories => 0,
        }
    }

    /// The key's name on a server.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Page(page) => format!("page:{}", page.target()),
            Self::Product(id) => format!("product:{id}"),
            Self::Categories => "categories".to_owned(),
        }
    }
}

/// A response, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Entry {
    /// The JSON text.
    pub(in super::super) body: Bytes,
    /// The value of the ETag header.
    pub(in super::super) etag: Box<str>,
    /// The value of the Link header, or empty.
    pub(in super::super) link: Box<str>,
}

impl Entry {
    /// The response with `value`. Without an `etag`, it is the digest of the body and the link.
    pub(in super::super) fn new(
        value: &impl Serialize,
        etag: Option<String>,
        link: Option<String>,
    ) -> Result<Self, Error> {
        let body = serde_json::to_vec(value).map_err(Error::internal)?;
        // Without spare capacity, which would stay allocated.
        let body = Bytes::from(body.into_boxed_slice());
        let link = link.unwrap_or_default().into_boxed_str();
        let etag = etag
            .unwrap_or_else(|| format!("\"{:032x}\"", digest(&[&body, link.as_bytes()].concat())));
        Ok(Self { body, etag: etag.into_boxed_str(), link })
    }
}

/// A cached response; `entry` is `None` for a resource that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) entry: Option<Entry>,
    /// Milliseconds since 1970; on servers that several machines share, their clocks must agree to a second.
    fresh_until: u64,
}

/// The result of a cache lookup.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The current generation.
    pub(super) generation: u128,
    pub(super) stored: Option<Stored>,
    /// Whether the response is older than a write with an unknown outcome.
    pub(super) in_doubt: bool,
}

impl Found {
    pub(super) fn nothing(generation: u128) -> Self {
        Self { generation, stored: None, in_doubt: false }
    }
}

/// About how many bytes of memory an entry takes beside its texts: the key, the cache's own structures, and the
/// allocator's rounding.
const OVERHEAD: usize = 544;

/// Bytes in front of the texts: generation, time, whether there is an entry, and the lengths of two texts.
const HEAD: usize = 16 + 8 + 1 + 2 + 2;

impl Stored {
    /// A response that is fresh for about `ttl`, with a jitter of a tenth, so that entries of the same time do not expire
    /// together.
    pub(super) fn new(entry: Option<Entry>, ttl: Duration) -> Self {
        let jitter = 0.9 + 0.2 * f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 255.0;
        let ttl = ttl.mul_f64(jitter);
        Self { entry, fresh_until: now() + u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX / 2) }
    }

    pub(super) fn is_fresh(&self) -> bool {
        now() < self.fresh_until
    }

    /// The length of its texts in bytes.
    pub(super) fn length(&self) -> usize {
        let entry = self.entry.as_ref();
        entry.map_or(0, |entry| entry.body.len() + entry.link.len() + entry.etag.len())
    }

    /// About how many bytes of memory it takes.
    pub(super) fn weight(&self) -> usize {
        OVERHEAD + self.length()
    }

    /// How long a server keeps it, if it may be served for `stale` past its time.
    pub(super) fn time_to_live(&self, stale: Duration) -> Duration {
        let stale = if self.entry.is_some() { stale } else { Duration::ZERO };
        Duration::from_millis(self.fresh_until.saturating_sub(now()).max(1)) + stale
    }

    pub(super) fn encode(&self, generation: u128) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.length());
        bytes.extend_from_slice(&generation.to_be_bytes());
        bytes.extend_from_slice(&self.fresh_until.to_be_bytes());
        bytes.push(u8::from(self.entry.is_some()));
        let empty = Entry { body: Bytes::new(), etag: "".into(), link: "".into() };
        let entry = self.entry.as_ref().unwrap_or(&empty);
        for text in [&entry.etag, &entry.link] {
            // Both are far shorter than 64 KiB: a digest, and a cursor.
            bytes.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
        }
        for text in [entry.etag.as_bytes(), entry.link.as_bytes(), &entry.body] {
            bytes.extend_from_slice(text);
        }
        bytes
    }

    /// The generation and the response; `None` for other bytes.
    pub(super) fn decode(bytes: Bytes) -> Option<(u128, Self)> {
        let head = bytes.get(..HEAD)?;
        let generation = u128::from_be_bytes(head[..16].try_into().ok()?);
        let fresh_until = u64::from_be_bytes(head[16..24].try_into().ok()?);
        let length =
            |at: usize| Some(usize::from(u16::from_be_bytes(head[at..at + 2].try_into().ok()?)));
        let link_at = HEAD + length(25)?;
        let body_at = link_at + length(27)?;
        let text = |range: std::ops::Range<usize>| {
            Some(std::str::from_utf8(bytes.get(range)?).ok()?.into())
        };
        let entry = Entry {
            etag: text(HEAD..link_at)?,
            link: text(link_at..body_at)?,
            body: bytes.slice(body_at..),
        };
        Some((generation, Self { entry: (head[24] == 1).then_some(entry), fresh_until }))
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_survives_the_server() {
        let entry =
            Entry::new(&["Zoë"], None, Some("</products?cursor=x>; rel=\"next\"".into())).unwrap();
        for entry in [Some(entry), None] {
            let stored = Stored::new(entry, Duration::from_secs(60));
            assert_eq!(Stored::decode(stored.encode(7).into()), Some((7, stored)));
        }
        for foreign in ["", "short", &"x".repeat(100)] {
            assert!(
                Stored::decode(Bytes::from(foreign.to_owned()))
                    .is_none_or(|(_, stored)| stored.entry.is_none())
            );
        }
    }

    #[test]
    fn an_answer_keeps_no_more_memory_than_it_says() {
        for length in [1, 100, 1_000, 70_000] {
            let entry = Entry::new(&"x".repeat(length), None, None).unwrap();
            let body = entry.body.try_into_mut().unwrap();
            assert_eq!(body.capacity(), body.len());
        }
    }

    #[test]
    fn times_differ_by_a_tenth_at_most() {
        let ttl = Duration::from_secs(100);
        let left = (0..50).map(|_| Stored::new(None, ttl).time_to_live(Duration::ZERO).as_secs());
        let (least, most) =
            left.fold((u64::MAX, 0), |(least, most), left| (least.min(left), most.max(left)));
        assert!((89..=100).contains(&least) && (100..=110).contains(&most), "{least} {most}");
    }
}
