//! Dead letters for operators: those of every consumer that this process knows.

use std::collections::BTreeSet;
use std::str::FromStr;

use actix_web::http::header::LINK;
use actix_web::web::{Data, Path};
use actix_web::{HttpResponse, Responder};
use utoipa::IntoParams;

use crate::auth::{Audit, Caller};
use crate::contract::DeadLetter;
use crate::error::Error;
use crate::events::{DeadLetters, Decision};
use crate::middleware::{Limit, Query};

/// The longest id.
const LONGEST: usize = 100;

/// The parameters of a page of dead letters.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters for the OpenAPI document")]
pub(super) struct DeadLetterQuery {
    /// How many a page has.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u8>,
    /// From the `Link` header of the page before.
    #[param(pattern = "^[a-z_.]{1,60}:[0-9a-f-]{36}$")]
    cursor: Option<String>,
}

/// The id of a dead letter, or what looks like one.
struct LetterId(String);

impl FromStr for LetterId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"_.:-".contains(&c);
        match text.len() <= LONGEST && text.contains(':') && text.bytes().all(is_plain) {
            true => Ok(Self(text.to_owned())),
            false => Err("must come from the Link header of a page before"),
        }
    }
}

/// Lists dead letters: events that a consumer could not take.
///
/// They are sorted by consumer. With RabbitMQ they are those of all roles, the first 1,000 of each consumer; without it those
/// of the roles in this process. One that is redriven is listed until its consumer has taken it, or its queue has it.
#[utoipa::path(
    get,
    path = "/events/dead-letters",
    operation_id = "listDeadLetters",
    tag = "orders",
    params(DeadLetterQuery),
    responses(
        (status = 200, description = "A page", body = Vec<DeadLetter>, headers(
            ("Link" = String, description = "Where the next page is, with `rel=\"next\"`; absent on the last"),
        )),
    )
)]
pub(super) async fn list(
    letters: Data<DeadLetters>,
    mut query: Query,
) -> Result<impl Responder, Error> {
    let limit = query.optional::<Limit>("limit").unwrap_or_default().get();
    let after = query.optional("cursor").map_or_else(String::new, |LetterId(id)| id);
    query.finish(())?;
    let mut found = letters.list(&after, limit + 1).await?;
    let is_last = found.len() <= limit;
    found.truncate(limit);
    let mut response = HttpResponse::Ok();
    if let Some(last) = found.last().filter(|_| !is_last) {
        let next = format!("/events/dead-letters?limit={limit}&cursor={}", last.id);
        response.insert_header((LINK, format!("<{next}>; rel=\"next\"")));
    }
    Ok(response.json(found))
}

/// Gives a dead letter to its consumer again, and to no other one.
///
/// The consumer takes it behind what waits for it already, within a second where events are in memory. What it has taken before has no
/// second effect, and an event is ignored if the consumer has taken a later one of the same subject, which says more. If it
/// cannot take it this time either, it is a dead letter again, with one attempt more.
#[utoipa::path(
    post,
    path = "/events/dead-letters/{id}/redrive",
    operation_id = "redriveDeadLetter",
    tag = "orders",
    params(("id" = String, Path, description = "The dead letter's id")),
    responses(
        (status = 202, description = "The consumer will take it"),
        (status = 409, description = "Nobody takes events: there is no broker, and consumers run elsewhere"),
    )
)]
pub(super) async fn redrive(
    letters: Data<DeadLetters>,
    id: Path<String>,
    caller: Caller,
    audit: Audit,
) -> Result<impl Responder, Error> {
    decide(&letters, (Decision::Redrive, &id), &caller, &audit).await?;
    Ok(HttpResponse::Accepted().finish())
}

/// Drops a dead letter: its consumer will never take it.
#[utoipa::path(
    delete,
    path = "/events/dead-letters/{id}",
    operation_id = "dropDeadLetter",
    tag = "orders",
    params(("id" = String, Path, description = "The dead letter's id")),
    responses((status = 204, description = "It is gone"))
)]
pub(super) async fn discard(
    letters: Data<DeadLetters>,
    id: Path<String>,
    caller: Caller,
    audit: Audit,
) -> Result<impl Responder, Error> {
    decide(&letters, (Decision::Drop, &id), &caller, &audit).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn decide(
    letters: &DeadLetters,
    (decision, id): (Decision, &str),
    caller: &Caller,
    audit: &Audit,
) -> Result<(), Error> {
    let unknown = || Error::not_found("dead letter");
    let LetterId(id) = id.parse().map_err(|_| unknown())?;
    let mut done = BTreeSet::new();
    letters.decide(decision, std::slice::from_ref(&id), &mut done).await?;
    if done.is_empty() {
        return Err(unknown());
    }
    audit.note(decision.audit_event(), caller.user(), &id);
    Ok(())
}
