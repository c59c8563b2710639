//! The files of the pages, which the build script has packed.

use actix_web::HttpResponse;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ContentEncoding, ETAG, HeaderMap, HeaderValue,
    VARY,
};
use actix_web::web::Bytes;

use super::super::compress::negotiate;
use crate::middleware::Condition;

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// The digest of all files, which is in their addresses.
pub(super) const CONTENT_DIGEST: &str = DIGEST;
/// The languages of the texts, separated by spaces.
pub(super) const TEXT_LANGUAGES: &str = LANGUAGES;
/// What the storefront and the administration load at once.
pub(super) const FIRST_MODULES: [&[&str]; 2] = [SHOP_MODULES, ADMIN_MODULES];

/// A file in the codings in which it is smaller.
#[derive(Debug)]
pub(super) struct File {
    name: &'static str,
    content_type: &'static str,
    /// The ETags of the three, in their order.
    tags: [&'static str; 3],
    plain: &'static [u8],
    gzip: Option<&'static [u8]>,
    brotli: Option<&'static [u8]>,
}

/// How long a browser may keep a file: for ever if its address has the digest of its content; not at all if that is of another
/// release, whose page asked while the processes were being replaced.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ONCE: HeaderValue = HeaderValue::from_static("no-store");

impl File {
    /// The file called `name`, as in `shop/main.js`.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        let at = FILES.binary_search_by(|file| file.name.cmp(name)).ok()?;
        FILES.get(at)
    }

    /// The file in the coding that the client prefers, or 304; `is_current` says whether its address has this release's digest.
    pub(super) fn answer(
        &self,
        headers: &HeaderMap,
        condition: &Condition,
        is_current: bool,
    ) -> HttpResponse {
        let (content, coding, tag) = self.coded(headers);
        let is_known = condition.if_none_match(tag);
        let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response
            .insert_header((ETAG, HeaderValue::from_static(tag)))
            .insert_header((CACHE_CONTROL, if is_current { FOR_EVER } else { ONCE }))
            .insert_header((VARY, HeaderValue::from_static("accept-encoding")));
        if is_known {
            return response.finish();
        }
        if let Some(coding) = coding {
            response.insert_header((CONTENT_ENCODING, HeaderValue::from_static(coding)));
        }
        response
            .insert_header((CONTENT_TYPE, HeaderValue::from_static(self.content_type)))
            .body(Bytes::from_static(content))
    }
}

impl File {
    /// Its bytes in the coding that the client prefers of those that there are, the coding's name, and the ETag.
    fn coded(&self, headers: &HeaderMap) -> (&'static [u8], Option<&'static str>, &'static str) {
        use ContentEncoding::{Brotli, Gzip};
        let plain = (self.plain, None, self.tags[0]);
        let gzip = self.gzip.map(|bytes| (bytes, Some("gzip"), self.tags[1]));
        let brotli = self.brotli.map(|bytes| (bytes, Some("br"), self.tags[2]));
        let coding = match (gzip, brotli) {
            (Some(_), Some(_)) => negotiate(headers, &[Gzip, Brotli]),
            (Some(_), None) => negotiate(headers, &[Gzip]),
            (None, Some(_)) => negotiate(headers, &[Brotli]),
            (None, None) => None,
        };
        let coded = match coding {
            Some(Gzip) => gzip,
            Some(_) => brotli,
            None => None,
        };
        coded.unwrap_or(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_in_order_and_none_is_missing() {
        assert!(FILES.is_sorted_by_key(|file| file.name));
        let missing = FIRST_MODULES.concat().into_iter().filter(|name| File::find(name).is_none());
        assert_eq!(missing.collect::<Vec<_>>(), [""; 0]);
    }
}
