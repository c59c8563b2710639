//! Passing a request on, and its answer back, content in a stream both ways.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::StreamExt as _;

use super::client;
use crate::edge::too_large;
use crate::error::Error;
use crate::transport::{Body, Context, Peer, Request, number, remove_hop_by_hop};

/// Where a route leads.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) peer: Peer,
    pub(super) body_limit: usize,
}

/// Any method, any path below the route.
pub(super) async fn forward(
    upstream: Data<Upstream>,
    request: HttpRequest,
    payload: Payload,
    context: Context,
) -> Result<HttpResponse, Error> {
    let overflow = Rc::new(Cell::new(false));
    let content = content(request.headers(), payload, upstream.body_limit, overflow.clone());
    let mut onward = Request::forward(&request, content);
    // What the client says of its own connection must not touch what the gateway says next.
    remove_hop_by_hop(&mut onward.headers);
    client::introduce(&mut onward.headers, context.client);
    let reply = upstream.peer.send(onward, &context).await;
    if overflow.get() {
        // Whatever the upstream made of half a body.
        return Err(too_large(upstream.body_limit));
    }
    Ok(reply?.into_response())
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
