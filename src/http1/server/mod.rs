//! The server side of HTTP/1.1 (RFC 9112), on an open connection.
//!
//! actix's own keeps 16 kB for an idle client, has no timeout for the second head of a connection or for a client that does
//! not read, asks for content (`100 Continue`) that will be refused, and answers a malformed head with a bare status.

mod connection;
mod response;
mod upgrade;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use actix_http::{Payload, Request};
use actix_service::Service;
use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::error::PayloadError;
use actix_web::http::{Method, Version};
use actix_web::web::Bytes;
use actix_web::{HttpMessage as _, HttpResponse};
use futures_util::future::{Either, ready};
use futures_util::stream::{self, Stream};
use tokio::time::sleep;

use super::head::{HeadError, RequestHead};
use super::shutdown::Shutdown;
use super::socket::Socket;
use super::{AbortOnDisconnect, DISCONNECT, Interims, Upgraded, content::Framing};
use connection::{End, ServerConnection};
use response::{Client, Sent};

/// The limits that a server sets its clients.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long the head of a request may take from its first byte to its last; for the first request, from the connect.
    pub head_timeout: Duration,
    /// How long a client may be idle; the server may notice up to `head_timeout` later.
    pub keep_alive: Duration,
    /// How long a client may take no byte of a response.
    pub write_timeout: Duration,
    /// The response to a head that is malformed or too slow, after which the connection ends.
    pub refuse: fn(SocketAddr, HeadError) -> String,
}

/// What the connections of one thread share.
#[derive(Debug)]
pub struct ConnectionContext<A> {
    /// It answers the requests.
    pub app: A,
    /// The limits that clients are set.
    pub options: Rc<Options>,
    /// The signal that ends the connections.
    pub shutdown: Rc<Shutdown>,
}

/// Serves the requests on `stream`, one after the other, until the connection ends. Once the shutdown begins, it closes an
/// idle connection at once, and any other after its response.
pub fn serve<S, A>(
    stream: S,
    peer: SocketAddr,
    context: Rc<ConnectionContext<A>>,
) -> impl Future<Output = ()>
where
    S: Socket + 'static,
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error>,
{
    let connection = Rc::new(RefCell::new(ServerConnection::new(stream, context.options.clone())));
    // An `async fn` would keep room for the stream, and store its arguments twice.
    async move {
        let (mut registration, mut grace) = (None, None);
        let end = loop {
            let next = poll_fn(|cx| {
                let polled = connection.borrow_mut().poll_head(cx);
                if polled.is_ready() || !connection.borrow().is_idle() {
                    return polled;
                }
                if !context.shutdown.has_begun() {
                    // Once: a connection stays in one task.
                    registration.get_or_insert_with(|| context.shutdown.register(cx.waker()));
                    return Poll::Pending;
                }
                if !connection.borrow().is_fresh() {
                    return Poll::Ready(Ok(None));
                }
                // A client that has just connected is about to send a request.
                let grace = grace.get_or_insert_with(|| Box::pin(sleep(DISCONNECT)));
                grace.as_mut().poll(cx).map(|()| Ok(None))
            });
            // Boxed, so that an idle connection has no memory for an exchange.
            let exchange = match next.await {
                Ok(Some(head)) => Either::Left(Box::pin(exchange(
                    &connection,
                    &context.app,
                    head,
                    peer,
                    &context.shutdown,
                ))),
                Ok(None) => break End::Idle,
                Err(error) => {
                    let refusal = (context.options.refuse)(peer, error);
                    Either::Right(Box::pin(refuse(&connection, refusal)))
                }
            };
            let rest = match exchange.await {
                Ok(Sent::Nothing(streamed)) => Either::Left(Box::pin(streamed.send(&connection))),
                Ok(Sent::Whole(persists)) => Either::Right(ready(Ok(persists))),
                Err(gone) => Either::Right(ready(Err(gone))),
            };
            match rest.await {
                Ok(true) => {}
                Ok(false) => break End::Response,
                Err(_gone) => return,
            }
        };
        Box::pin(connection::close(&connection, end, &context.shutdown)).await;
    }
}

/// Sends `refusal`; no request follows it.
async fn refuse<S>(connection: &RefCell<ServerConnection<S>>, refusal: String) -> io::Result<Sent>
where
    S: Socket,
{
    // The connection ends either way.
    let _ = connection::write(connection, refusal).await;
    Ok(Sent::Whole(false))
}

/// Answers one request, unless the answer's content comes bit by bit; returns what is sent of it. Calls the application at
/// once.
///
/// # Errors
/// When the client has disconnected, or must not take what it has received for a complete response.
fn exchange<S, A>(
    connection: &Rc<RefCell<ServerConnection<S>>>,
    app: &A,
    mut head: RequestHead,
    peer: SocketAddr,
    shutdown: &Shutdown,
) -> impl Future<Output = io::Result<Sent>>
where
    S: Socket + 'static,
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error>,
{
    head.request.head_mut().peer_addr = Some(peer);
    let client = Client {
        is_http10: head.request.version() == Version::HTTP_10,
        is_head: head.request.method() == Method::HEAD,
    };
    let has_content = head.framing != Framing::Length(0);
    if has_content {
        let content = request_body(connection, head.framing, head.expects_continue);
        *head.request.payload() = Payload::Stream { payload: Box::pin(content) };
    } else {
        connection.borrow_mut().next_request();
    }
    // A handler that may write runs on when the client disconnects, unless it allows the abort. While a client sends
    // content, reading that shows the disconnect.
    let may_write = !head.request.method().is_safe() || has_content;
    let abort = may_write.then(AbortOnDisconnect::default);
    if let Some(abort) = &abort {
        head.request.extensions_mut().insert(abort.clone());
    }
    let interims = Interims::default();
    if !client.is_http10 {
        head.request.extensions_mut().insert(interims.sender());
    }
    let (answer, keep_alive) = (app.call(head.request), head.keep_alive);
    // An `async fn` would keep room for the head.
    async move {
        let answered = answered(connection, answer, interims, abort).await?;
        let mut response: HttpResponse = match answered {
            Ok(response) => response.into_parts().1,
            Err(error) => error.error_response(),
        };
        let upgraded = response.extensions_mut().remove::<Upgraded>();
        if let Some(upgraded) = upgraded {
            let switch = upgrade::switch_protocols(connection, &response, upgraded, shutdown);
            // However it ends, the connection is no longer HTTP.
            let _ = Box::pin(switch).await;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let keep_alive = keep_alive && !shutdown.has_begun() && response.head().keep_alive();
        response::send(connection, response, client, keep_alive).await
    }
}

/// Waits for the `answer` of the application, and sends the interim responses that come before it.
///
/// # Errors
/// When the client disconnects before the answer, unless `abort` is there and does not allow that; and when an interim
/// response cannot be written.
async fn answered<S: Socket, F: Future>(
    connection: &RefCell<ServerConnection<S>>,
    answer: F,
    interims: Interims,
    abort: Option<AbortOnDisconnect>,
) -> io::Result<F::Output> {
    let mut answer = pin!(answer);
    let mut answered = None;
    loop {
        let next = poll_fn(|cx| {
            if answered.is_none()
                && let Poll::Ready(answer) = answer.as_mut().poll(cx)
            {
                answered = Some(answer);
            }
            match interims.poll_next(cx) {
                Poll::Ready(interim) => Poll::Ready(Ok(Some(interim))),
                Poll::Pending if answered.is_some() => Poll::Ready(Ok(None)),
                Poll::Pending if abort.as_ref().is_some_and(|abort| !abort.is_allowed()) => {
                    Poll::Pending
                }
                Poll::Pending => connection.borrow_mut().poll_disconnect(cx).map(Err),
            }
        });
        if let Some(interim) = next.await? {
            Box::pin(response::interim(connection, interim)).await?;
        } else if let Some(answer) = answered.take() {
            return Ok(answer);
        }
    }
}

/// The content of the request whose head was parsed last. The connection is read as the handler polls, which is the
/// client's back-pressure.
fn request_body<S: Socket>(
    connection: &Rc<RefCell<ServerConnection<S>>>,
    framing: Framing,
    expects_continue: bool,
) -> impl Stream<Item = Result<Bytes, PayloadError>> + use<S> {
    let epoch = connection.borrow_mut().next_content(framing, expects_continue);
    let (connection, mut is_over) = (connection.clone(), false);
    stream::poll_fn(move |cx| {
        if is_over {
            return Poll::Ready(None);
        }
        let polled = connection.borrow_mut().poll_content(epoch, cx);
        is_over = matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    })
}
