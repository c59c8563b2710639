//! Passing a request on, and its answer back, content in a stream both ways.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, TRANSFER_ENCODING};
use actix_web::{HttpMessage as _, HttpResponse};
use futures_util::StreamExt as _;

use super::cache::Cache;
use super::compress::{compress, restore_tags};
use super::forwarding::{self, Hop};
use super::limit::Limiter;
use super::plan::{Found, wanders};
use super::table::{Routed, Tables};
use crate::auth::Caller;
use crate::config::Networks;
use crate::edge::{BodyLimit, Bounds, RouteName, admit, discard, too_large};
use crate::error::{Error, allow_header};
use crate::transport::{Body, Context, Request, number};

/// What the proxy of one worker thread works with.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) tables: Tables,
    pub(super) limiter: Limiter,
    pub(super) cache: Cache,
    pub(super) compress: bool,
    /// What clients speak here.
    pub(super) scheme: &'static str,
    pub(super) trusted_proxies: Networks,
    /// Those of a route that says nothing else.
    pub(super) bounds: Bounds,
}

/// What the edge has found, for the proxy to use.
struct Search(Result<Routed, Found>);

impl Proxy {
    /// Finds the route of `request`, and gives its bounds.
    pub(super) fn bounds(&self, request: &ServiceRequest) -> Bounds {
        let found = self.tables.find(request.method(), request.path());
        let mut bounds = self.bounds;
        if let Ok(routed) = &found {
            bounds = routed.route().bounds(bounds);
            let name = routed.table.names[routed.place].clone();
            request.extensions_mut().insert(RouteName(name));
        }
        request.extensions_mut().insert(Search(found));
        bounds
    }

    /// Any request that is not for the gateway itself.
    pub(super) async fn serve(
        self: Rc<Self>,
        mut request: ServiceRequest,
    ) -> Result<ServiceResponse, actix_web::Error> {
        match self.answer(&mut request).await {
            Ok(response) => Ok(request.into_response(response)),
            Err(error) => Ok(request.error_response(error)),
        }
    }

    async fn answer(&self, request: &mut ServiceRequest) -> Result<HttpResponse, Error> {
        let search = request.extensions_mut().remove::<Search>();
        let routed = match search {
            Some(Search(Ok(routed))) if !wanders(request.path()) => routed,
            other => {
                let limit = BodyLimit::of(request.request());
                discard(request.take_payload(), limit).await;
                return Err(match other {
                    Some(Search(Err(Found::OtherMethods(methods)))) => {
                        Error::method_not_allowed(allow_header(&methods))
                    }
                    _ => Error::not_found("path"),
                });
            }
        };
        let route = routed.route();
        let admitted = admit(route.rule, request).await;
        let context = request.extract::<Context>().await?;
        // Who is not let in has asked all the same.
        let user = admitted.as_ref().ok().and_then(Caller::user);
        let within = self.limiter.check(&route.limits, context.client, user).await;
        let within = match within {
            Ok(within) => within,
            Err(error) => {
                discard(request.take_payload(), BodyLimit::of(request.request())).await;
                return Err(error);
            }
        };
        admitted?;
        let mut response = self.forward(&routed, request, &context).await?;
        within.write(response.headers_mut());
        Ok(if self.compress { compress(request.head(), response) } else { response })
    }

    async fn forward(
        &self,
        routed: &Routed,
        request: &mut ServiceRequest,
        context: &Context,
    ) -> Result<HttpResponse, Error> {
        let payload = request.take_payload();
        let limit = routed.route().bounds(self.bounds).body_limit;
        let overflow = Rc::new(Cell::new(false));
        let content = content(request.headers(), payload, limit, overflow.clone());
        let may = |name: &HeaderName| !forwarding::is_identity(name);
        let mut onward = Request::forward(request.request(), content, may);
        let hop = self.hop(request, context);
        if routed.upstream().is_here() {
            forwarding::introduce(&mut onward.headers, &hop);
        } else {
            forwarding::trace(&mut onward.headers, &hop);
        }
        if self.compress {
            restore_tags(&mut onward.headers);
        }
        let reply = if routed.route().cache {
            let (routed, kept) = (routed.clone(), context.clone());
            let fetch = async move |request| routed.upstream().send(request, &kept).await;
            self.cache.through(onward, context, fetch).await
        } else {
            routed.upstream().send(onward, context).await
        };
        if overflow.get() {
            // Whatever the upstream made of half a body.
            return Err(too_large(limit));
        }
        Ok(reply?.into_response())
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

/// The request's content, which breaks off, and sets `overflow`, behind `limit` bytes.
fn content(headers: &HeaderMap, payload: Payload, limit: usize, overflow: Rc<Cell<bool>>) -> Body {
    let length = number(headers, CONTENT_LENGTH);
    if length.is_none() && !headers.contains_key(TRANSFER_ENCODING) {
        return Body::None;
    }
    let mut left = limit;
    let limited = payload.map(move |chunk| {
        let chunk = chunk.map_err(io::Error::other)?;
        left = left.checked_sub(chunk.len()).ok_or_else(|| {
            overflow.set(true);
            io::Error::other("the body is too large")
        })?;
        Ok::<_, io::Error>(chunk)
    });
    Body::stream(length, limited)
}
