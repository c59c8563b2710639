//! A role on this thread: a bounded mailbox in front of the role's own actix `App`.
//!
//! Every middleware and extractor runs as behind a socket. A call that has started runs to its end, even if its caller has
//! left.

use std::rc::Rc;

use actix_http::Request as HttpRequest;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, map_config};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::http::{Method, StatusCode};
use actix_web::{Error, HttpResponse};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Body, Context, Headers, PeerError, Reply, Request, origin, remove_of_connection};
use crate::config::Transport;
use crate::tasks;
use crate::telemetry::{Part, Wait};

struct Envelope {
    request: HttpRequest,
    /// Until somebody takes it out of the mailbox.
    turn: Wait,
    answer: oneshot::Sender<Reply>,
}

/// A role on this thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct Peer {
    mailbox: mpsc::Sender<Envelope>,
}

impl Peer {
    /// Starts `app` on this thread. It ends with the last clone of the peer.
    pub fn start<I, F, B>(app: I, options: &Transport) -> Self
    where
        I: IntoServiceFactory<F, HttpRequest> + 'static,
        F: ServiceFactory<
                HttpRequest,
                Config = AppConfig,
                Response = ServiceResponse<B>,
                Error = Error,
            > + 'static,
        F::InitError: std::fmt::Debug,
        B: MessageBody + 'static,
    {
        let (mailbox, letters) = mpsc::channel(options.mailbox_capacity.max(1));
        let concurrency = options.mailbox_concurrency.max(1);
        tasks::spawn("mailbox", async move {
            let factory = map_config(app, |()| AppConfig::default());
            match factory.new_service(()).await {
                Ok(service) => serve(Rc::new(service), letters, concurrency).await,
                Err(error) => log::error!("a role could not be started: {error:?}"),
            }
        });
        Self { mailbox }
    }

    /// Puts `request` into the mailbox on behalf of `context`, and waits for the reply.
    pub(super) async fn send(
        &self,
        request: Request,
        context: Context,
    ) -> Result<Reply, PeerError> {
        let (answer, reply) = oneshot::channel();
        let is_head = request.method == Method::HEAD;
        let envelope = Envelope {
            request: message(request, context),
            turn: Wait::begin(Part::Queues),
            answer,
        };
        self.mailbox.try_send(envelope).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => PeerError::Busy,
            mpsc::error::TrySendError::Closed(_) => PeerError::broken("the role has stopped"),
        })?;
        let mut reply =
            reply.await.map_err(|_| PeerError::broken("the role gave up the request"))?;
        let declared = remove_of_connection(&mut reply.headers);
        if is_head || reply.status == StatusCode::NOT_MODIFIED {
            reply.body = reply.body.into_head(declared);
        }
        Ok(reply)
    }
}

/// Handles requests, at most `concurrency` at once.
async fn serve<S, B>(service: Rc<S>, mut letters: mpsc::Receiver<Envelope>, concurrency: usize)
where
    S: Service<HttpRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    let permits = std::sync::Arc::new(Semaphore::new(concurrency));
    // The semaphore is never closed.
    while let Ok(permit) = permits.clone().acquire_owned().await {
        let Some(Envelope { request, turn, answer }) = letters.recv().await else { return };
        drop(turn);
        if answer.is_closed() {
            // The caller left before the work started.
            continue;
        }
        let service = service.clone();
        tasks::detach(async move {
            let _permit = permit;
            let response = match service.call(request).await {
                Ok(response) => response.into_parts().1.map_into_boxed_body(),
                Err(error) => error.error_response(),
            };
            // The caller may have left.
            let _ = answer.send(reply(response));
        });
    }
}

fn message(request: Request, context: Context) -> HttpRequest {
    let length = request.body.length();
    let mut message = HttpRequest::with_payload(request.body.into_payload());
    let head = message.head_mut();
    head.method = request.method;
    head.uri = request.target;
    for (name, value) in request.headers {
        head.headers.append(name, value);
    }
    if let Some(length) = length {
        head.headers.insert(actix_web::http::header::CONTENT_LENGTH, length.into());
    }
    origin::deliver(&mut message, context);
    message
}

fn reply(response: HttpResponse<BoxBody>) -> Reply {
    // Keeps the map's capacity for the next response.
    let mut headers = Headers::with_capacity(response.headers().len() + Headers::SPARE);
    for (name, value) in response.headers() {
        headers.append(name.clone(), value.clone());
    }
    Reply { status: response.status(), headers, body: Body::from_response(response.into_body()) }
}
