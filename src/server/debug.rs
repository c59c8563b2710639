//! What the management port shows where `management.debug` is on: where the process spends its time and its memory.

use std::str::FromStr;
use std::time::Duration;

use actix_web::http::header::{ContentType, HeaderValue};
use actix_web::web::ServiceConfig;
use actix_web::{HttpResponse, Responder};

use crate::auth::public;
use crate::error::{Error, Kind};
use crate::middleware::{Query, path};
use crate::telemetry::{Memory, Profile, ProfileError};

/// For how many seconds a profile is made, unless the request says so.
const SECONDS: u64 = 10;
const MOST_SECONDS: u64 = 60;

/// How long such a request may take: the longest profile, and what its names take.
pub const LONGEST: Duration = Duration::from_secs(2 * MOST_SECONDS);

/// The routes.
pub(super) fn routes(routes: &mut ServiceConfig) {
    routes
        .service(path("/debug/profile").get(public(), profile))
        .service(path("/debug/heap").get(public(), heap));
}

/// The format of a profile.
#[derive(Clone, Copy, Debug)]
enum Format {
    FlameGraph,
    Pprof,
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "flamegraph" => Ok(Self::FlameGraph),
            "pprof" => Ok(Self::Pprof),
            _ => Err("must be flamegraph or pprof"),
        }
    }
}

/// `GET /debug/profile?seconds=10&format=flamegraph`: watches the process for that time.
async fn profile(mut query: Query) -> Result<impl Responder, Error> {
    let seconds = query.optional("seconds").unwrap_or(SECONDS);
    if !(1..=MOST_SECONDS).contains(&seconds) {
        query.refuse("seconds", "must be from 1 to 60");
    }
    let format = query.optional("format").unwrap_or(Format::FlameGraph);
    let seconds = query.finish(Duration::from_secs(seconds))?;
    let profile = Profile::record(seconds).await.map_err(refusal)?;
    let mut response = HttpResponse::Ok();
    Ok(match format {
        Format::FlameGraph => {
            let svg = HeaderValue::from_static("image/svg+xml; charset=utf-8");
            response.content_type(svg).body(profile.flame_graph())
        }
        Format::Pprof => {
            response.content_type(ContentType::octet_stream()).body(profile.protobuf())
        }
    })
}

/// `GET /debug/heap`
async fn heap() -> Result<impl Responder, Error> {
    let memory = Memory::read()
        .map_err(|error| Error::unavailable("this system gives no figures of memory", error))?;
    Ok(HttpResponse::Ok().json(memory))
}

fn refusal(error: ProfileError) -> Error {
    match error {
        ProfileError::Running => Error::new(Kind::Conflict, "another profile is being made"),
        error @ ProfileError::Failed(_) => Error::unavailable(
            "the profiler does not start; it needs a folder for temporary files, as TMPDIR names",
            error,
        ),
        error @ ProfileError::Unnamed(_) => Error::internal(error),
    }
}
