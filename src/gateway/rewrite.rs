//! Rewriting of paths between clients and upstreams.

use super::path::{is_below, is_of_path, is_plain, not_plain};
use crate::config::{SettingError, Strip};

/// Replaces one path prefix by another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rewrite {
    /// The clients' prefix, as in `/api`; empty matches every path.
    from: String,
    /// The upstream's prefix; may be empty.
    to: String,
    /// The number of segments of `from`.
    segments: usize,
}

impl Rewrite {
    /// The rewriting of a route for `path`, which strips `strip` and prepends `to`; `None` if both are empty.
    ///
    /// # Errors
    /// The route's setting that does not work.
    pub(super) fn new(path: &str, strip: &Strip, to: &str) -> Result<Option<Self>, SettingError> {
        let path = path.trim_end_matches('/');
        let from = match strip {
            Strip::Nothing if to.is_empty() => return Ok(None),
            Strip::Nothing | Strip::Path => path,
            Strip::Prefix(prefix) => {
                let prefix = plain("strip_prefix", prefix)?;
                if !is_below(path, prefix) {
                    let problem =
                        format!("{path:?}, which the route takes, does not begin with it");
                    return Err(("strip_prefix", problem).into());
                }
                prefix
            }
        };
        let to = if to.is_empty() { "" } else { plain("rewrite", to)? };
        let segments = from.matches('/').count();
        Ok(Some(Self { from: from.to_owned(), to: to.to_owned(), segments }))
    }

    /// The upstream's path for the clients' `path`. It counts segments, because they may have parameters.
    pub(super) fn target(&self, path: &str) -> String {
        let rest = path.match_indices('/').nth(self.segments);
        let rest = rest.map_or("", |(at, _)| &path[at..]);
        match [&*self.to, rest].concat() {
            empty if empty.is_empty() => "/".to_owned(),
            target => target,
        }
    }

    /// The clients' path for `target`, a path of the upstream with its query.
    pub(super) fn outside(&self, target: &str) -> String {
        let end = target.find(['?', '#']).unwrap_or(target.len());
        match target.strip_prefix(&self.to).filter(|_| is_below(&target[..end], &self.to)) {
            Some("/") if !self.from.is_empty() => self.from.clone(),
            Some(rest) => [&self.from, rest].concat(),
            None => target.to_owned(),
        }
    }

    /// The prefix that is stripped, if nothing else is rewritten.
    pub(super) fn prefix(&self) -> Option<&str> {
        self.from.strip_suffix(&self.to).filter(|prefix| !prefix.is_empty())
    }
}

/// `text` as a canonical path without a trailing slash.
fn plain<'a>(field: &'static str, text: &'a str) -> Result<&'a str, SettingError> {
    if !is_plain(text) || !text.bytes().all(is_of_path) {
        return Err((field, not_plain(text)).into());
    }
    Ok(text.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(path: &str, strip: &Strip, to: &str) -> Rewrite {
        Rewrite::new(path, strip, to).unwrap().unwrap()
    }

    #[test]
    fn one_beginning_takes_the_place_of_another_both_ways() {
        let api = || Strip::Prefix("/api".into());
        for (path, strip, to, asked, target) in [
            ("/up", Strip::Path, "", "/up/a/b", "/a/b"),
            ("/up/", Strip::Path, "", "/up/", "/"),
            ("/up", Strip::Path, "/", "/up/x", "/x"),
            ("/api/reviews", api(), "", "/api/reviews/1", "/reviews/1"),
            ("/api/reviews", api(), "/v2", "/api/reviews/1", "/v2/reviews/1"),
            ("/up", Strip::Nothing, "/v2/", "/up/a", "/v2/a"),
            ("/", Strip::Nothing, "/v2", "/a", "/v2/a"),
            ("/", Strip::Path, "", "/a", "/a"),
        ] {
            let rewrite = rewrite(path, &strip, to);
            assert_eq!(rewrite.target(asked), target, "{path} {to}");
            let query = format!("{target}?x=/y");
            assert_eq!(rewrite.outside(&query), format!("{asked}?x=/y"), "{path} {to}");
        }
        let up = rewrite("/up", &Strip::Path, "");
        assert_eq!((up.target("/up"), up.outside("/")), ("/".into(), "/up".into()));
        assert_eq!(up.target("/up;v=1/a;b"), "/a;b");
        let other = rewrite("/up", &Strip::Nothing, "/v2");
        assert_eq!((other.target("/up"), other.outside("/v2")), ("/v2".into(), "/up".into()));
        assert_eq!(other.outside("/v20/x"), "/v20/x");
        assert_eq!((up.prefix(), other.prefix()), (Some("/up"), None));
    }

    #[test]
    fn what_does_not_work_is_named() {
        assert_eq!(Rewrite::new("/up", &Strip::Nothing, ""), Ok(None));
        for (strip, to, field) in [
            (Strip::Prefix("/ap".into()), "", "strip_prefix"),
            (Strip::Prefix("api".into()), "", "strip_prefix"),
            (Strip::Prefix("/other".into()), "", "strip_prefix"),
            (Strip::Path, "v2", "rewrite"),
            (Strip::Nothing, "/v2/../x", "rewrite"),
            (Strip::Nothing, "//evil.example", "rewrite"),
            (Strip::Nothing, "/x?y", "rewrite"),
            (Strip::Nothing, "/x y", "rewrite"),
        ] {
            let error = Rewrite::new("/api/reviews", &strip, to).unwrap_err();
            assert_eq!(error.key, field, "{strip:?} {to}");
        }
    }
}
