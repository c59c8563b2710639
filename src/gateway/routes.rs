//! The route table, compiled from the settings and shared by all threads of a process.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{HeaderName, HeaderValue};
use rustls::ClientConfig;

use super::cache::Cache;
use super::pages::Pages;
use super::path::{is_below, is_plain, not_plain};
use super::rewrite::Rewrite;
use crate::auth::{Rule, admin, anyone, public, signed_in};
use crate::config::{self, PeerUrl, Resilience, Route as Options, SettingError, Tokens};
use crate::limits::Policies;
use crate::middleware::{Bounds, METHODS};
use crate::peer::State;
use crate::role::Behind;

/// How long an upgraded connection may last by default.
const UPGRADE: Duration = Duration::from_secs(3600);

/// The routes and their upstreams.
#[derive(Debug)]
pub(super) struct RouteTable {
    /// Exact paths first, then the longest prefix.
    routes: Vec<Route>,
    pub(super) upstreams: Vec<Upstream>,
    /// The cached responses; a table has its own, because a path may lead to another upstream.
    pub(super) cache: Cache,
    /// How certificates of upstreams are verified, if that has changed since the start.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// A set of requests and where they go.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) name: String,
    path: String,
    exact: bool,
    methods: Vec<Method>,
    pub(super) rule: Rule,
    pub(super) timeout: Option<Duration>,
    body_limit: Option<usize>,
    pub(super) limits: Policies,
    /// Whether responses are cached.
    pub(super) cache: bool,
    /// The Host header for the upstream; `None` keeps the client's.
    pub(super) host: Option<HeaderValue>,
    /// Rewrites the path for the upstream.
    pub(super) rewrite: Option<Rewrite>,
    /// Whether paths may have encoded slashes.
    pub(super) encoded_slashes: bool,
    /// How long a response may pause, if that is set.
    pub(super) read_timeout: Option<Duration>,
    /// How long an upgraded connection may last; `None` refuses upgrades.
    pub(super) upgrade: Option<Duration>,
    /// Response headers to set or to remove.
    pub(super) response_headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Its index in the table.
    pub(super) upstream: usize,
}

/// A role or a service behind the gateway.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) name: String,
    /// Empty for the role of that name.
    pub(super) urls: Vec<PeerUrl>,
    options: Resilience,
    pub(super) state: Arc<State>,
}

impl Upstream {
    /// At `urls`, or where `role` is if there are none.
    fn new(name: &str, urls: Vec<PeerUrl>, role: Option<&Behind>, options: Resilience) -> Self {
        let addresses = match role {
            Some(role) if urls.is_empty() => role.addresses.clone(),
            _ => urls.iter().map(PeerUrl::to_string).collect(),
        };
        let state = Arc::new(State::new("gateway", name, addresses, options.clone()));
        Self { name: name.to_owned(), urls, options, state }
    }

    /// Takes over the state of `before`, if its settings are the same.
    fn inherit(&mut self, before: &Self) {
        let same = |all: &Self| (all.name.clone(), all.urls.clone(), all.options.clone());
        if same(self) == same(before) {
            self.state = before.state.clone();
        }
    }
}

/// The result of the search for a route.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RouteMatch {
    /// Its index in the table.
    Route(usize),
    /// The path has routes, but only for these methods.
    OtherMethods(Vec<Method>),
    Nothing,
}

impl RouteTable {
    /// Compiles `options`, in a process that reaches `roles`.
    ///
    /// # Errors
    /// The setting that does not work.
    pub(super) fn compile(
        options: &config::Gateway,
        roles: &[Behind],
    ) -> Result<Self, SettingError> {
        let cache = Cache::new(options.cache_size, options.cache_entry_limit);
        let mut table = Self { routes: Vec::new(), upstreams: Vec::new(), cache, tls: None };
        for (name, route) in &options.routes {
            let blame = |SettingError { key, problem }| {
                SettingError::from((format!("gateway.routes.{name}.{key}"), problem))
            };
            let nowhere = route.upstream.is_empty();
            if nowhere && route.path.is_empty() && route.prefix.is_empty() {
                // Probably a misspelt name.
                let problem = "there is no such route, and a new one needs an upstream";
                return Err(blame(("upstream", problem).into()));
            }
            if nowhere {
                continue;
            }
            let upstream = table.upstream(&route.upstream, options, roles).map_err(blame)?;
            let mut compiled = Route::compile(name, route, upstream).map_err(blame)?;
            if options.pages && Pages::has(&compiled.path) {
                let field = if compiled.exact { "path" } else { "prefix" };
                let problem = "the gateway has pages there; gateway.pages=false makes room";
                return Err(blame((field, problem).into()));
            }
            if let Some(known) = options.upstreams.get(&route.upstream) {
                compiled.inherit(known);
            }
            table.routes.push(compiled);
        }
        table.routes.sort_by(|one, other| {
            let key = |route: &Route| (!route.exact, usize::MAX - route.path.len());
            key(one).cmp(&key(other)).then_with(|| one.path.cmp(&other.path))
        });
        Ok(table)
    }

    /// The index of the upstream `name`, which is added where it is new.
    fn upstream(
        &mut self,
        name: &str,
        options: &config::Gateway,
        roles: &[Behind],
    ) -> Result<usize, SettingError> {
        if let Some(index) = self.upstreams.iter().position(|upstream| upstream.name == name) {
            return Ok(index);
        }
        let known = options.upstreams.get(name);
        let urls = known.map(|upstream| upstream.urls.as_slice().to_vec()).unwrap_or_default();
        let role = roles.iter().find(|role| role.name == name);
        if urls.is_empty() && role.is_none() {
            let roles = roles.iter().map(|role| role.name).collect::<Vec<_>>().join(", ");
            let problem = format!(
                "{name:?} is not a role ({roles}), and gateway.upstreams.{name}.urls names no address"
            );
            return Err(("upstream", problem).into());
        }
        let resilience = known.map_or(&options.resilience, |known| &known.resilience);
        self.upstreams.push(Upstream::new(name, urls, role, resilience.clone()));
        Ok(self.upstreams.len() - 1)
    }

    /// Takes over the state of upstreams whose settings are the same in `before`.
    pub(super) fn inherit(&mut self, before: &Self) {
        for upstream in &mut self.upstreams {
            before.upstreams.iter().for_each(|before| upstream.inherit(before));
        }
    }

    pub(super) fn has_limits(&self) -> bool {
        self.routes.iter().any(|route| !route.limits.is_empty())
    }

    pub(super) fn routes(&self) -> &[Route] {
        &self.routes
    }

    pub(super) fn route(&self, index: usize) -> &Route {
        &self.routes[index]
    }

    /// The route of a request with `method` for `path`. An exact path wins, then the longest prefix, then the method filter.
    /// A request never falls through to a shorter path, which may require less.
    pub(super) fn find(&self, method: &Method, path: &str) -> RouteMatch {
        let Some(first) = self.routes.iter().position(|route| route.fits(path)) else {
            return RouteMatch::Nothing;
        };
        // Routes are sorted by path, so those of one path are adjacent.
        let decided = &self.routes[first];
        let same = self.routes[first..].iter().take_while(|route| route.is_beside(decided));
        match same.clone().position(|route| route.takes(method)) {
            Some(behind) => RouteMatch::Route(first + behind),
            None => {
                RouteMatch::OtherMethods(same.flat_map(|route| route.methods.clone()).collect())
            }
        }
    }
}

impl Route {
    fn compile(name: &str, options: &Options, upstream: usize) -> Result<Self, SettingError> {
        let (field, path, exact) = match (options.prefix.as_str(), options.path.as_str()) {
            (prefix, "") => ("prefix", prefix, false),
            ("", path) => ("path", path, true),
            _ => return Err(("path", "there is a prefix as well; leave one of them empty").into()),
        };
        // Canonical, like the paths that are compared with it.
        if !is_plain(path) || path.contains(['?', '#']) {
            return Err((field, not_plain(path)).into());
        }
        let mut methods = options.methods.as_slice().to_vec();
        if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
            methods.push(Method::HEAD);
        }
        Ok(Self {
            name: name.to_owned(),
            path: if exact { path } else { path.trim_end_matches('/') }.to_owned(),
            exact,
            methods,
            rule: match options.tokens {
                Tokens::Ignored => public(),
                Tokens::Checked => anyone(),
                Tokens::Required => signed_in(),
                Tokens::Admin => admin(),
            },
            timeout: options.timeout,
            limits: Policies::new(name, &options.limits),
            cache: options.cache,
            body_limit: (options.body_limit > 0).then_some(options.body_limit),
            host: options.host.as_ref().map(|host| host.0.clone()),
            rewrite: Rewrite::new(path, &options.strip_prefix, &options.rewrite)?,
            encoded_slashes: options.encoded_slashes,
            read_timeout: options.read_timeout,
            upgrade: options.upgrade.then(|| options.upgrade_timeout.unwrap_or(UPGRADE)),
            response_headers: options.response_headers.0.clone(),
            upstream,
        })
    }

    /// Takes missing settings from `upstream`.
    fn inherit(&mut self, upstream: &config::Upstream) {
        let host = || upstream.host.as_ref().map(|host| host.0.clone());
        self.host = self.host.take().or_else(host);
        self.read_timeout = self.read_timeout.or(upstream.read_timeout);
    }

    /// Its bounds, or those in `default`.
    pub(super) fn bounds(&self, default: Bounds) -> Bounds {
        Bounds {
            timeout: self.timeout.unwrap_or(default.timeout),
            body_limit: self.body_limit.unwrap_or(default.body_limit),
        }
    }

    /// Whether it has the same path as `other`.
    fn is_beside(&self, other: &Self) -> bool {
        self.exact == other.exact && self.path == other.path
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    /// The methods that it accepts, as far as the gateway knows.
    pub(super) fn allowed(&self) -> Vec<Method> {
        let any = || METHODS.to_vec();
        Some(self.methods.clone()).filter(|methods| !methods.is_empty()).unwrap_or_else(any)
    }

    fn fits(&self, path: &str) -> bool {
        if self.exact { path == self.path } else { is_below(path, &self.path) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(routes: &[(&str, &str, &str)]) -> config::Gateway {
        let sources = config::Sources {
            overrides: routes
                .iter()
                .map(|(name, field, value)| {
                    (format!("gateway.routes.{name}.{field}"), (*value).to_owned())
                })
                .collect(),
            ..config::Sources::default()
        };
        config::load(&sources).unwrap().0.gateway
    }

    fn behind(names: &[&'static str]) -> Vec<Behind> {
        let role = |name: &&'static str| Behind { name, addresses: vec![(*name).to_owned()] };
        names.iter().map(role).collect()
    }

    fn taken(table: &RouteTable, method: Method, path: &str) -> String {
        match table.find(&method, path) {
            RouteMatch::Route(index) => table.route(index).name.clone(),
            RouteMatch::OtherMethods(_) => "405".into(),
            RouteMatch::Nothing => "404".into(),
        }
    }

    #[test]
    fn the_longest_path_that_fits_takes_a_request() {
        let options = options(&[
            ("all", "prefix", "/"),
            ("all", "upstream", "product"),
            ("new", "prefix", "/products/new/"),
            ("new", "upstream", "product"),
            ("new", "methods", "GET, POST"),
            ("one", "path", "/products/new/one"),
            ("one", "upstream", "user"),
            ("off", "prefix", "/products/off"),
            ("off", "upstream", ""),
        ]);
        let table = RouteTable::compile(&options, &behind(&["user", "product", "order"])).unwrap();
        for (method, path, name) in [
            (Method::GET, "/products", "products"),
            (Method::GET, "/products/1", "products"),
            (Method::GET, "/productsx", "all"),
            (Method::GET, "/", "all"),
            (Method::HEAD, "/products/new", "new"),
            (Method::POST, "/products/new/x", "new"),
            (Method::GET, "/products/newer", "products"),
            (Method::DELETE, "/products/new/one", "one"),
            (Method::GET, "/products/new/one/more", "new"),
            (Method::GET, "/products/off", "products"),
        ] {
            assert_eq!(taken(&table, method, path), name, "{path}");
        }
    }

    #[test]
    fn no_method_falls_through_to_a_shorter_path() {
        let options = options(&[
            ("up", "prefix", "/up"),
            ("up", "upstream", "product"),
            ("read", "prefix", "/up/admin"),
            ("read", "upstream", "product"),
            ("read", "methods", "GET"),
            ("tokens", "prefix", "/up/token"),
            ("tokens", "upstream", "product"),
            ("tokens", "methods", "GET"),
            ("write", "prefix", "/up/admin/"),
            ("write", "upstream", "user"),
            ("write", "methods", "PUT"),
            ("exact", "path", "/up/admin/one"),
            ("exact", "upstream", "user"),
            ("exact", "methods", "GET"),
            ("same", "path", "/up"),
            ("same", "upstream", "user"),
            ("same", "methods", "PATCH"),
        ]);
        let table = RouteTable::compile(&options, &behind(&["user", "product", "order"])).unwrap();
        for (method, path, name) in [
            (Method::POST, "/up/admin", "405"),
            (Method::POST, "/up/admin/x", "405"),
            (Method::OPTIONS, "/up/admin/", "405"),
            (Method::GET, "/up/admin/x", "read"),
            (Method::HEAD, "/up/admin/x", "read"),
            (Method::PUT, "/up/admin/x", "write"),
            (Method::DELETE, "/up/token", "405"),
            (Method::PUT, "/up/admin/one", "405"),
            (Method::PUT, "/up/admin/one/more", "write"),
            (Method::POST, "/up/administrator", "up"),
            (Method::POST, "/up/x", "up"),
            // A path is another than a prefix, however long that is.
            (Method::POST, "/up", "405"),
            (Method::PATCH, "/up", "same"),
        ] {
            assert_eq!(taken(&table, method, path), name, "{path}");
        }
        let found = table.find(&Method::POST, "/up/admin/x");
        let allowed = vec![Method::GET, Method::HEAD, Method::PUT];
        assert_eq!(found, RouteMatch::OtherMethods(allowed));
    }

    #[test]
    fn a_method_that_no_route_takes_is_told_which_would() {
        let options = options(&[("auth", "methods", "GET")]);
        let table = RouteTable::compile(&options, &behind(&["user", "product", "order"])).unwrap();
        let found = table.find(&Method::PUT, "/auth/me");
        assert_eq!(found, RouteMatch::OtherMethods(vec![Method::GET, Method::HEAD]));
        assert_eq!(table.find(&Method::GET, "/nowhere"), RouteMatch::Nothing);
    }

    #[test]
    fn what_does_not_work_is_named() {
        for (field, value, problem) in [
            ("prefix", "auth", "gateway.routes.auth.prefix: \"auth\" is not a path"),
            ("prefix", "/a%7Eb", "gateway.routes.auth.prefix: \"/a%7Eb\" is not a path"),
            ("prefix", "/a;b", "gateway.routes.auth.prefix: \"/a;b\" is not a path"),
            ("path", "/auth", "gateway.routes.auth.path: there is a prefix as well"),
            (
                "upstream",
                "reviews",
                "gateway.routes.auth.upstream: \"reviews\" is not a role (user)",
            ),
        ] {
            let options = options(&[("auth", field, value), ("products", "upstream", "")]);
            let error = RouteTable::compile(&options, &behind(&["user"])).unwrap_err().to_string();
            assert!(error.starts_with(problem), "{error}");
        }
    }
}
