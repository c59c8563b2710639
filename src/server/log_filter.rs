//! The log filter on the management port: what is written can be changed for a time.

use std::time::Duration;

use actix_web::web::ServiceConfig;
use actix_web::{HttpResponse, Responder};

use crate::auth::public;
use crate::config::check_filter;
use crate::error::Error;
use crate::middleware::{Fields, path};
use crate::telemetry;

/// How long a filter is used, in seconds, unless the request says so.
const SECONDS: u32 = 600;
/// A day.
const MOST_SECONDS: u32 = 86_400;
/// The most bytes of a filter: it is a part of log lines.
const LONGEST: usize = 1024;

/// The route.
pub(super) fn routes(routes: &mut ServiceConfig) {
    let filter = path("/log/filter").get(public(), show).put(public(), put);
    routes.service(filter.delete(public(), delete));
}

/// `GET /log/filter`
async fn show() -> Result<impl Responder, Error> {
    let state = telemetry::filter().ok_or_else(no_log)?;
    Ok(HttpResponse::Ok().json(state))
}

/// `PUT /log/filter`: uses a filter for a time, and then that of the settings again.
async fn put(mut fields: Fields) -> Result<impl Responder, Error> {
    let filter = fields.required::<String>("filter");
    let seconds = fields.optional::<u32>("seconds").unwrap_or(SECONDS);
    if !(1..=MOST_SECONDS).contains(&seconds) {
        fields.refuse("seconds", format!("must be from 1 to {MOST_SECONDS}"));
    }
    match &filter {
        Some(text) if text.len() > LONGEST => {
            fields.refuse("filter", format!("must have at most {LONGEST} bytes"));
        }
        Some(text) => {
            if let Err(error) = check_filter(text) {
                fields.refuse("filter", error.to_string());
            }
        }
        None => {}
    }
    let filter = fields.finish(filter)?;
    telemetry::replace_filter(&filter, Duration::from_secs(seconds.into()))
        .map_err(Error::internal)?;
    show().await
}

/// `DELETE /log/filter`: uses that of the settings again.
async fn delete() -> impl Responder {
    telemetry::reset_filter();
    HttpResponse::NoContent().finish()
}

fn no_log() -> Error {
    Error::unavailable("this process writes no log", "no logger was started")
}
