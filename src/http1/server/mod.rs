//! HTTP/1.1 (RFC 9112) on a connection that is open.
//!
//! actix has this too, but keeps sixteen kilobytes for a client that is idle, has no clock for the second head of a
//! connection and none for a client that does not read, asks for content (`100 Continue`) that will be refused, and says
//! nothing but a status to a head that it cannot read.

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
use futures_util::future::Either;
use futures_util::stream::{self, Stream};
use tokio::time::sleep;

use super::head::{HeadError, RequestHead};
use super::shutdown::Shutdown;
use super::socket::Socket;
use super::{AbortOnDisconnect, DISCONNECT, Interims, Upgraded, content::Framing};
use connection::{End, ServerConnection};
use response::Client;

/// How a server treats its clients.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long the head of a request may take from its first byte to its last; of the first request, from the beginning.
    pub head_timeout: Duration,
    /// How long a client may be idle; at most as much as `head_timeout` is added.
    pub keep_alive: Duration,
    /// How long a client may take nothing of a response.
    pub write_timeout: Duration,
    /// The response to a client whose head is not one, behind which its connection ends.
    pub refuse: fn(SocketAddr, HeadError) -> String,
}

/// Serves `stream` until its end with `app`, one request after the other. Once the process begins its `shutdown`,
/// a client that is idle is left, and another behind its response.
pub async fn serve<S, A>(
    stream: S,
    peer: SocketAddr,
    app: &A,
    options: &Options,
    shutdown: &Shutdown,
) where
    S: Socket + 'static,
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error>,
{
    let connection = Rc::new(RefCell::new(ServerConnection::new(stream, *options)));
    let mut drained = pin!(async {
        shutdown.begun().await;
        // A client that has just connected has something to ask.
        if connection.borrow().is_fresh() {
            Box::pin(sleep(DISCONNECT)).await;
        }
    });
    let interims = Interims::default();
    let mut is_registered = false;
    let end = loop {
        let next = poll_fn(|cx| {
            let polled = connection.borrow_mut().poll_head(cx);
            let is_idle = polled.is_pending() && connection.borrow().is_idle();
            if is_idle && (shutdown.has_begun() || !is_registered) {
                // The bell wakes this task ever after.
                is_registered = true;
                return drained.as_mut().poll(cx).map(|()| Ok(None));
            }
            polled
        });
        // Boxed, as all is that is not yet to come: a client that is idle does not take the room of one that is not.
        let exchange = match next.await {
            Ok(Some(head)) => Either::Left(Box::pin(exchange(
                &connection,
                app,
                head,
                (peer, &interims),
                shutdown,
            ))),
            Ok(None) => break End::Idle,
            Err(error) => {
                let refusal = (options.refuse)(peer, error);
                Either::Right(Box::pin(refuse(&connection, refusal)))
            }
        };
        match exchange.await {
            Ok(true) => {}
            Ok(false) => break End::Response,
            Err(_gone) => return,
        }
    };
    Box::pin(connection::close(&connection, end, shutdown)).await;
}

/// Says why there is no request; there will be no other.
async fn refuse<S>(connection: &RefCell<ServerConnection<S>>, refusal: String) -> io::Result<bool>
where
    S: Socket,
{
    // A client that does not take it goes without.
    let _ = connection::write(connection, refusal).await;
    Ok(false)
}

/// Answers one request; whether there may be another.
///
/// # Errors
/// When the client is gone, or must not take what it has got for the whole answer.
async fn exchange<S, A>(
    connection: &Rc<RefCell<ServerConnection<S>>>,
    app: &A,
    mut head: RequestHead,
    (peer, interims): (SocketAddr, &Interims),
    shutdown: &Shutdown,
) -> io::Result<bool>
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
    // A handler that may write runs on when the client is gone, unless it allows otherwise; that a client goes while it
    // sends content is seen by reading it.
    let may_write = !head.request.method().is_safe() || has_content;
    let abort = may_write.then(AbortOnDisconnect::default);
    if let Some(abort) = &abort {
        head.request.extensions_mut().insert(abort.clone());
    }
    if !client.is_http10 {
        head.request.extensions_mut().insert(interims.next_request());
    }
    let mut answer = pin!(app.call(head.request));
    let mut answered = None;
    let answered = loop {
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
        match next.await? {
            Some(interim) => Box::pin(response::interim(connection, interim)).await?,
            None => break answered.take(),
        }
    };
    interims.close();
    let Some(answered) = answered else { unreachable!("the loop ends with an answer") };
    let mut response: HttpResponse = match answered {
        Ok(response) => response.into_parts().1,
        Err(error) => error.error_response(),
    };
    let upgraded = response.extensions_mut().remove::<Upgraded>();
    if let Some(upgraded) = upgraded {
        // However it ends, this connection speaks HTTP no more.
        let _ =
            Box::pin(upgrade::switch_protocols(connection, &response, upgraded, shutdown)).await;
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let keep_alive = head.keep_alive && !shutdown.has_begun() && response.head().keep_alive();
    response::send(connection, response, client, keep_alive).await
}

/// The content of the request whose head was read last, which a handler reads when it wants to: what it does not take,
/// the client cannot send.
fn request_body<S: Socket>(
    connection: &Rc<RefCell<ServerConnection<S>>>,
    framing: Framing,
    expects_continue: bool,
) -> impl Stream<Item = Result<Bytes, PayloadError>> + use<S> {
    let epoch = connection.borrow_mut().next_request_with_content(framing, expects_continue);
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
