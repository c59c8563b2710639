//! Passes requests on and responses back, with streamed bodies.

use std::borrow::Cow;
use std::cell::Cell;
use std::future::ready;
use std::io;
use std::rc::Rc;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use actix_web::http::{Method, Uri};
use actix_web::web::Bytes;
use actix_web::{HttpMessage as _, HttpResponse};
use futures_util::StreamExt as _;
use futures_util::future::Either;

use super::compress::{compress, restore_tags};
use super::forwarding::{self, Hop};
use super::pages::{Page, Pages};
use super::path::{
    canonical, canonical_with_encoded, has_encoded, with_slashes, without_parameters,
};
use super::prefix::{Below, FORWARDED_PREFIX, lead, prefix};
use super::rewrite::Rewrite;
use super::router::{RoutedRequest, Router};
use super::routes::RouteMatch;
use crate::auth::Caller;
use crate::config::Networks;
use crate::error::{Error, Kind};
use crate::limits::Limiter;
use crate::middleware::{
    BodyLimit, Bounds, Interceptor, RouteLookup, RouteName, admit, discard, other_method, too_large,
};
use crate::peer::{Body, Context, Headers, INTERNAL, Reply, Request, number};

/// The proxy of one worker thread.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) router: Router,
    pub(super) limiter: Limiter,
    /// The paths that the gateway answers itself.
    pub(super) own: Vec<&'static str>,
    /// The pages; `None` where they are turned off.
    pub(super) pages: Option<Rc<Pages>>,
    pub(super) compress: bool,
    /// The clients' scheme.
    pub(super) scheme: &'static str,
    pub(super) trusted_proxies: Networks,
    /// The default bounds of routes.
    pub(super) bounds: Bounds,
}

/// What was found for a request.
pub(super) enum Search {
    /// A route, and the canonical path, if the client's differs.
    Route(RoutedRequest, Option<String>),
    /// A page of the gateway's own.
    Page(Page),
}

/// The methods of the path's routes, if none accepts the request's method.
struct OtherMethods(Vec<Method>);

impl Interceptor for Rc<Proxy> {
    type Found = Search;

    /// Finds the route of `request`.
    fn lookup(&self, request: &ServiceRequest) -> RouteLookup<Search> {
        let path = canonical(request.path()).or_else(|| self.slashed(request));
        if let Some((pages, path)) = self.pages.as_ref().zip(path.as_deref())
            && let Some(page) = pages.find(path)
        {
            return self.page(request, page);
        }
        let is_own = path.as_deref().is_some_and(|path| self.own.contains(&path));
        let found = match &path {
            // In any spelling, even if a route matches it.
            _ if is_own => Err(RouteMatch::Nothing),
            Some(path) => self.router.find(request.method(), &without_parameters(path)),
            None => Err(RouteMatch::Nothing),
        };
        let found = found.and_then(|routed| match forwarding::ends_here(request.head()) {
            true => Err(RouteMatch::OtherMethods(routed.route().allowed())),
            false => Ok(routed),
        });
        match found {
            Ok(routed) => {
                let path = match path {
                    Some(Cow::Owned(path)) => Some(path),
                    _ => None,
                };
                let bounds = routed.route().bounds(self.bounds);
                let name = RouteName(routed.worker.names[routed.index].clone());
                let aborts = !routed.is_role();
                let found = Some(Search::Route(routed, path));
                RouteLookup { bounds, name: Some(name), aborts, found }
            }
            Err(missed) => {
                if let RouteMatch::OtherMethods(methods) = missed {
                    request.extensions_mut().insert(OtherMethods(methods));
                }
                RouteLookup { bounds: self.bounds, name: None, aborts: false, found: None }
            }
        }
    }

    fn answer(
        &self,
        mut request: ServiceRequest,
        found: Search,
        context: Context,
    ) -> impl Future<Output = Result<ServiceResponse, actix_web::Error>> + 'static {
        match found {
            Search::Page(page) => Either::Left(ready(self.answer_page(request, &page))),
            Search::Route(routed, path) => {
                let proxy = self.clone();
                // Boxed, because this future is large and the futures around it would move it several times.
                Either::Right(Box::pin(async move {
                    match proxy.respond(&mut request, (routed, path), &context).await {
                        Ok(response) => Ok(request.into_response(response)),
                        Err(error) => Ok(request.error_response(error)),
                    }
                }))
            }
        }
    }
}

/// The response to a request without a route.
pub(super) async fn miss(mut request: ServiceRequest) -> Result<ServiceResponse, actix_web::Error> {
    let limit = BodyLimit::from_app_data(request.request());
    let content = request.take_payload();
    discard(request.headers(), content, limit).await;
    let methods = request.extensions_mut().remove::<OtherMethods>();
    let answer = match methods {
        Some(OtherMethods(methods)) => other_method(request.head(), &methods),
        None => Err(Error::not_found("path")),
    };
    Ok(match answer {
        Ok(response) => request.into_response(response),
        Err(error) => request.error_response(error),
    })
}

impl Proxy {
    async fn respond(
        &self,
        request: &mut ServiceRequest,
        (routed, path): (RoutedRequest, Option<String>),
        context: &Context,
    ) -> Result<HttpResponse, Error> {
        let route = routed.route();
        let admitted = admit(route.rule, request, context).await;
        // Refused requests count too.
        let user = admitted.as_ref().ok().and_then(Caller::user);
        let within = self.limiter.check(&route.limits, context.client, user).await;
        let within = match within {
            Ok(within) => within,
            Err(error) => {
                let (content, limit) =
                    (request.take_payload(), BodyLimit::from_app_data(request.request()));
                discard(request.headers(), content, limit).await;
                return Err(error);
            }
        };
        admitted?;
        let hop = self.hop(request, context);
        let mut reply = self.forward(&routed, request, path, (context, &hop)).await?;
        // A service gets the prefix in a header and uses it itself.
        let below = if routed.is_role() { below(&hop, request) } else { None };
        if routed.is_role() && (below.is_some() || route.rewrite.is_some()) {
            let rewrite = route.rewrite.as_ref();
            lead(&mut reply.headers, |path| {
                let path = rewrite.map_or_else(|| path.to_owned(), |rewrite| rewrite.outside(path));
                [below.as_deref().unwrap_or_default(), &path].concat()
            });
        }
        for (name, value) in &route.response_headers {
            reply.headers.remove(name);
            value.iter().for_each(|value| reply.headers.append(name.clone(), value.clone()));
        }
        within.write(&mut reply.headers);
        Ok(if self.compress { compress(request.head(), reply) } else { reply.into_response() })
    }

    /// A page, which has no methods but GET and HEAD.
    fn page(&self, request: &ServiceRequest, page: Page) -> RouteLookup<Search> {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if !is_read {
            request.extensions_mut().insert(OtherMethods(vec![Method::GET, Method::HEAD]));
        }
        RouteLookup {
            bounds: self.bounds,
            name: Some(page.route()),
            aborts: false,
            found: is_read.then_some(Search::Page(page)),
        }
    }

    fn answer_page(
        &self,
        request: ServiceRequest,
        page: &Page,
    ) -> Result<ServiceResponse, actix_web::Error> {
        let below = || Below::of(request.request(), &self.trusted_proxies).0;
        let answer = page.answer(request.request(), below);
        Ok(match answer {
            Ok(response) => request.into_response(response),
            Err(error) => request.error_response(error),
        })
    }

    async fn forward(
        &self,
        routed: &RoutedRequest,
        request: &mut ServiceRequest,
        path: Option<String>,
        (context, hop): (&Context, &Hop),
    ) -> Result<Reply, Error> {
        let limit = routed.route().bounds(self.bounds).body_limit;
        let upgrade = forwarding::upgrade(request.head());
        let total = routed.route().upgrade;
        if upgrade.is_some() && total.is_none() {
            let detail = "protocol upgrades are not allowed here; send the request without Upgrade";
            return Err(Error::new(Kind::NotImplemented, detail));
        }
        let (content, overflow) = content(request, limit);
        let mut onward = self.onward(routed, request, path, hop, content)?;
        if matches!(onward.body, Body::None) {
            onward.upgrade = upgrade.map(Box::new);
        }
        let reply = if routed.route().cache && onward.upgrade.is_none() {
            let (way, kept) = (routed.clone(), context.clone());
            let fetch = async move |mut request| {
                turn(&way, &mut request)?;
                Ok(way.upstream().send(request, &kept).await?)
            };
            // Boxed, as all rare cases, to keep the common future small.
            Box::pin(routed.worker.table.cache.through(onward, context, fetch)).await
        } else {
            turn(routed, &mut onward)?;
            routed.upstream().send(onward, context).await.map_err(Error::from)
        };
        if overflow.is_some_and(|overflow| overflow.get()) {
            // Even if the upstream answered to half a body.
            return Err(too_large(limit));
        }
        match (reply, total) {
            (Ok(Reply { status, headers, body: Body::Upgraded(upgraded) }), Some(total)) => {
                let body = Body::Upgraded(Box::new(upgraded.within(total)));
                Ok(Reply { status, headers, body })
            }
            (reply, _) => reply,
        }
    }

    /// The request for the upstream.
    fn onward(
        &self,
        routed: &RoutedRequest,
        request: &ServiceRequest,
        path: Option<String>,
        hop: &Hop,
        content: Body,
    ) -> Result<Request, Error> {
        let may = |name: &HeaderName| forwarding::may_pass(name, hop.trusted);
        let mut onward = Request::forward(request.request(), content, may);
        if let Some(path) = path {
            onward.target = target(path, onward.target.query())?;
        }
        tell_prefix(routed, hop, request, &mut onward.headers);
        // A role in this process has the client's address from the context of the call.
        if !routed.upstream().is_here() {
            forwarding::trace(&mut onward.headers, hop);
        }
        forwarding::count_down(&onward.method, &mut onward.headers);
        if self.compress {
            restore_tags(&mut onward.headers);
        }
        Ok(onward)
    }

    /// The path of `request` with encoded slashes, if its route allows them and the decoded path has the same route.
    fn slashed<'a>(&self, request: &'a ServiceRequest) -> Option<Cow<'a, str>> {
        let path = canonical_with_encoded(request.path()).filter(|path| has_encoded(path))?;
        let read = with_slashes(&path);
        let find = |path: &str| self.router.find(request.method(), &without_parameters(path));
        let (routed, other) = (find(&path).ok()?, find(&read).ok()?);
        let is_same = routed.index == other.index && routed.route().encoded_slashes;
        (is_same && !self.own.contains(&read.as_str())).then_some(path)
    }

    fn hop(&self, request: &ServiceRequest, context: &Context) -> Hop {
        let peer = request.peer_addr().map(|address| address.ip());
        Hop {
            client: context.client,
            peer,
            trusted: peer.is_some_and(|peer| self.trusted_proxies.contain(peer)),
            scheme: self.scheme,
            version: request.version(),
        }
    }
}

/// The path prefix under which a trusted proxy serves the shop.
fn below(hop: &Hop, request: &ServiceRequest) -> Option<String> {
    hop.trusted.then(|| prefix(request.headers())).flatten()
}

/// Sets the header with the prefix that was removed from the path, here and by a trusted proxy.
fn tell_prefix(routed: &RoutedRequest, hop: &Hop, request: &ServiceRequest, headers: &mut Headers) {
    let stripped = routed.route().rewrite.as_ref().and_then(Rewrite::prefix);
    if stripped.is_none() && !headers.contains_key(FORWARDED_PREFIX) {
        return;
    }
    headers.remove(FORWARDED_PREFIX);
    let before = below(hop, request).unwrap_or_default();
    let prefix = [&before, stripped.unwrap_or_default()].concat();
    if let Some(prefix) = HeaderValue::try_from(prefix).ok().filter(|prefix| !prefix.is_empty()) {
        headers.append(FORWARDED_PREFIX, prefix);
    }
}

/// Rewrites `request` for the upstream of `routed`, after the cache has used the client's version.
///
/// # Errors
/// 404 for what roles tell each other alone, wherever routes lead.
fn turn(routed: &RoutedRequest, request: &mut Request) -> Result<(), Error> {
    let route = routed.route();
    if let Some(rewrite) = &route.rewrite {
        let path = rewrite.target(request.target.path());
        request.target = target(path, request.target.query())?;
    }
    if let Some(host) = &route.host {
        request.headers.insert(HOST, host.clone());
    }
    if routed.is_role() && request.target.path().starts_with(INTERNAL) {
        return Err(Error::not_found("path"));
    }
    Ok(())
}

/// `path` with `query`.
fn target(mut path: String, query: Option<&str>) -> Result<Uri, Error> {
    if let Some(query) = query {
        path.push('?');
        path.push_str(query);
    }
    path.try_into().map_err(Error::internal)
}

/// The body of `request`, if any. It fails after `limit` bytes, and then sets the flag.
fn content(request: &mut ServiceRequest, limit: usize) -> (Body, Option<Rc<Cell<bool>>>) {
    let (payload, is_safe) = (request.take_payload(), request.method().is_safe());
    let headers = request.headers();
    let length = number::<u64>(headers.get(CONTENT_LENGTH));
    if length.is_none() && !headers.contains_key(TRANSFER_ENCODING) {
        return (Body::None, None);
    }
    // Some clients send `Content-Length: 0` with every request. For safe methods it means no content; an empty upload keeps
    // its length (RFC 9110, section 8.6).
    if length == Some(0) {
        let body = if is_safe { Body::None } else { Body::Full(Bytes::new()) };
        return (body, None);
    }
    let (mut left, overflow) = (limit, Rc::new(Cell::new(false)));
    let seen = overflow.clone();
    let limited = payload.map(move |chunk| {
        let chunk = chunk.map_err(io::Error::other)?;
        left = left.checked_sub(chunk.len()).ok_or_else(|| {
            overflow.set(true);
            io::Error::other("the body is too large")
        })?;
        Ok::<_, io::Error>(chunk)
    });
    (Body::stream(length, limited), Some(seen))
}
