//! HTTP/1.1 (RFC 9112) on a connection that is open.
//!
//! actix has this too, but keeps sixteen kilobytes for a client that is idle, has no clock for the second head of a
//! connection and none for a client that does not read, asks for content (`100 Continue`) that will be refused, and says
//! nothing but a status to a head that it cannot read.

mod body;
mod connection;
mod head;
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

use actix_http::{Payload, Request};
use actix_service::Service;
use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::{HttpMessage as _, HttpResponse, ResponseError as _};
use futures_util::future::Either;
use tokio::time::sleep;

use crate::config;
use crate::error::Error;
use crate::http1::DISCONNECT;
use crate::http1::shutdown::Leaving;
use crate::http1::socket::Socket;
use crate::http1::{Interims, Upgraded};
use body::Content;
use connection::{Last, Patience, Wire};
use head::Head;

/// Serves `stream` until its end with `app`, one request after the other. Once the process is `leaving`, a client that
/// is idle is left, and another behind its answer.
pub async fn serve<S, A>(
    stream: S,
    peer: SocketAddr,
    app: &A,
    options: &config::Server,
    leaving: &Leaving,
) where
    S: Socket + 'static,
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error>,
{
    let wire = Rc::new(RefCell::new(Wire::new(stream, Patience::of(options))));
    let mut told = pin!(async {
        leaving.begun().await;
        // Whoever has just connected has something to ask.
        if wire.borrow().is_fresh() {
            Box::pin(sleep(DISCONNECT)).await;
        }
    });
    let interims = Interims::default();
    let mut listens = false;
    let last = loop {
        let next = poll_fn(|cx| {
            let polled = wire.borrow_mut().poll_head(cx);
            let is_idle = polled.is_pending() && wire.borrow().is_idle();
            if is_idle && (leaving.has_begun() || !listens) {
                // The bell wakes this task ever after.
                listens = true;
                return told.as_mut().poll(cx).map(|()| Ok(None));
            }
            polled
        });
        // Boxed, as all is that is not yet to come: a client that is idle does not take the room of one that is not.
        let exchange = match next.await {
            Ok(Some(head)) => {
                Either::Left(Box::pin(exchange(&wire, app, head, (peer, &interims), leaving)))
            }
            Ok(None) => break Last::Silence,
            Err(error) => {
                let status = error.status_code().as_u16();
                log::info!(target: "http", peer:% = peer, status; "no request: {error}");
                Either::Right(Box::pin(refuse(&wire, error)))
            }
        };
        match exchange.await {
            Ok(true) => {}
            Ok(false) => break Last::Answer,
            Err(_gone) => return,
        }
    };
    Box::pin(connection::end(&wire, last, leaving)).await;
}

/// Says why there is no request; there will be no other.
async fn refuse<S>(wire: &RefCell<Wire<S>>, error: Error) -> io::Result<bool>
where
    S: Socket,
{
    // Whoever does not take it goes without.
    let _ = connection::write(wire, error.bare()).await;
    Ok(false)
}

/// Answers one request; whether there may be another.
///
/// # Errors
/// When the client is gone, or must not take what it has got for the whole answer.
async fn exchange<S, A>(
    wire: &Rc<RefCell<Wire<S>>>,
    app: &A,
    mut head: Head,
    (peer, interims): (SocketAddr, &Interims),
    leaving: &Leaving,
) -> io::Result<bool>
where
    S: Socket + 'static,
    A: Service<Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error>,
{
    head.request.head_mut().peer_addr = Some(peer);
    let has_content = head.framing.chunked || head.framing.length.is_some_and(|length| length > 0);
    if has_content {
        let content = Content::begin(wire, head.framing, head.expects);
        *head.request.payload() = Payload::Stream { payload: Box::pin(content) };
    } else {
        wire.borrow_mut().next_request();
    }
    // A handler that may write runs on whoever is gone, and whoever sends content is seen to go by who reads it.
    let goes_on = !head.request.method().is_safe() || has_content;
    if !head.client.is_old {
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
                Poll::Pending if goes_on => Poll::Pending,
                Poll::Pending => wire.borrow_mut().poll_gone(cx).map(Err),
            }
        });
        match next.await? {
            Some(interim) => Box::pin(response::interim(wire, interim)).await?,
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
        // Whatever it comes to, nobody speaks HTTP here any more.
        let _ = Box::pin(upgrade::go_on(wire, &response, upgraded, leaving)).await;
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let keeps = head.keeps && !leaving.has_begun() && response.head().keep_alive();
    response::send(wire, response, head.client, keeps).await
}
