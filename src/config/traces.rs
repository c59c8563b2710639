//! The settings of traces: which there are, and where they go.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use actix_web::http::Uri;
use actix_web::http::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer, de};

use super::ValueError;
use super::values::{between, file, optional, parts, within, words};

/// The attribute of a resource that names it.
const SERVICE_NAME: &str = "service.name";

/// `[traces]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// Whether there are none.
    pub disabled: bool,
    /// What they go by.
    pub exporter: Exporter,
    /// What the process is called; empty if that follows from its roles.
    pub service_name: String,
    /// What else is known of the process.
    pub resource_attributes: Attributes,
    /// Which traces are sampled.
    pub sampler: SamplerKind,
    /// The share that a sampler by ratio takes, 0 to 1.
    #[serde(deserialize_with = "ratio")]
    pub sampler_arg: f64,
    /// How long a request takes that is kept whatever the sampler says; 0 means none is.
    #[serde(deserialize_with = "between::<_, 0, 86_400_000>")]
    pub slow: Duration,
    /// Whether traces are recorded also while nobody watches them.
    pub always: bool,
    /// How many slow and failed traces are kept to be watched.
    #[serde(deserialize_with = "within::<_, _, 0, 10000>")]
    pub recent: usize,
    /// The collector.
    pub otlp: Otlp,
    /// What is sent at once, and when.
    pub batch: Batch,
}

/// `[traces.otlp]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// Where traces go.
    #[serde(deserialize_with = "optional")]
    pub endpoint: Option<Endpoint>,
    /// The headers of each request.
    pub headers: Headers,
    /// How long sending a batch may take, with all attempts.
    #[serde(deserialize_with = "span::<_, 1, 3_600_000>")]
    pub timeout: Duration,
    /// How batches are compressed.
    pub compression: Compression,
    /// Authorities that are trusted besides those of this machine, PEM.
    #[serde(deserialize_with = "file")]
    pub certificate: Option<PathBuf>,
    /// The one protocol.
    pub protocol: Protocol,
}

/// `[traces.batch]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// How long spans wait at most until they are sent.
    #[serde(deserialize_with = "span::<_, 1, 3_600_000>")]
    pub schedule_delay: Duration,
    /// How long sending a batch may take, with all attempts.
    #[serde(deserialize_with = "span::<_, 1, 3_600_000>")]
    pub export_timeout: Duration,
    /// The most spans that wait.
    #[serde(deserialize_with = "within::<_, _, 1, 1000000>")]
    pub max_queue_size: usize,
    /// The most spans of a batch; [`Batch::limit`] is what holds.
    #[serde(deserialize_with = "within::<_, _, 1, 1000000>")]
    pub max_export_batch_size: usize,
}

words!(Exporter: "otlp" Otlp, "none" None);
words!(Protocol: "http/protobuf" HttpProtobuf);
words!(Compression: "none" None, "gzip" Gzip);
words!(SamplerKind: "always_on" AlwaysOn, "always_off" AlwaysOff, "traceidratio" Ratio,
    "parentbased_always_on" ParentOrOn, "parentbased_always_off" ParentOrOff,
    "parentbased_traceidratio" ParentOrRatio);

/// What traces go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Exporter {
    /// To a collector.
    Otlp,
    /// Nowhere.
    None,
}

/// How spans are encoded and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Protocol {
    /// OTLP over HTTP, in protobuf.
    HttpProtobuf,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Compression {
    /// They are not.
    None,
    /// By gzip.
    Gzip,
}

/// Which traces are sampled, by the names of OpenTelemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum SamplerKind {
    /// `always_on`: all.
    AlwaysOn,
    /// `always_off`: none.
    AlwaysOff,
    /// `traceidratio`: a share, by the trace's id.
    Ratio,
    /// `parentbased_always_on`: as the caller says; without one all.
    ParentOrOn,
    /// `parentbased_always_off`: as the caller says; without one none.
    ParentOrOff,
    /// `parentbased_traceidratio`: as the caller says; without one a share.
    ParentOrRatio,
}

impl Traces {
    /// Where traces are sent; `None` if they are not.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        let is_on = !self.disabled && self.exporter == Exporter::Otlp;
        self.otlp.endpoint.as_ref().filter(|_| is_on)
    }

    /// What a process of `roles` is called.
    pub fn service_name(&self, roles: &[&str]) -> String {
        let attribute = self.resource_attributes.0.get(SERVICE_NAME);
        let set = Some(&self.service_name).filter(|name| !name.is_empty()).or(attribute);
        match (set, roles) {
            (Some(name), _) => name.clone(),
            (None, [role]) => format!("shop-{role}"),
            (None, _) => "shop".to_owned(),
        }
    }

    /// What else is known of the process: names and values.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.resource_attributes.0.iter();
        all.map(|(name, value)| (&**name, &**value)).filter(|(name, _)| *name != SERVICE_NAME)
    }
}

impl Batch {
    /// The most spans of a batch: no more than wait.
    pub fn limit(&self) -> usize {
        self.max_export_batch_size.min(self.max_queue_size)
    }
}

/// The URL that traces are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is reached over TLS.
    pub fn is_secure(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl FromStr for Endpoint {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parsed = text.parse::<Uri>().ok().filter(|uri| {
            let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
            is_http && uri.host().is_some_and(|host| !host.is_empty()) && !text.contains(['@', '#'])
        });
        let wanted = "not the URL of a collector, such as http://localhost:4318/v1/traces";
        parsed.map(|_| Self(text.to_owned())).ok_or_else(|| wanted.into())
    }
}

/// Attributes of a resource, as in `deployment.environment.name=test,host.name=a`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Attributes(BTreeMap<String, String>);

impl TryFrom<String> for Attributes {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        pairs(&text).collect::<Result<_, _>>().map(Self)
    }
}

/// Headers of requests, as in `authorization=Bearer%20TOKEN,x-tenant=shop`; their values are secret.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Headers {
    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name.as_str())).finish()
    }
}

impl TryFrom<String> for Headers {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let header = |pair: Result<(String, String), ValueError>| {
            let (name, value) = pair?;
            let name = HeaderName::from_bytes(name.as_bytes());
            let pair = name.ok().zip(HeaderValue::from_str(&value).ok());
            pair.ok_or_else(|| ValueError::from("has a name or a value that no header can have"))
        };
        pairs(&text).map(header).collect::<Result<_, _>>().map(Self)
    }
}

/// The names and the decoded values in `text`, as in `a=1,b=2%2C3`. What is wrong is not quoted: it may be secret.
fn pairs(text: &str) -> impl Iterator<Item = Result<(String, String), ValueError>> {
    parts(text).map(|pair| {
        let pair = pair.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        let pair = pair.filter(|(name, _)| !name.is_empty());
        let (name, value) = pair.ok_or("must be of the form name=value,name=value")?;
        let value = decode(value).ok_or("has a % that is not one of two hexadecimal digits")?;
        Ok((name.to_owned(), value))
    })
}

/// `text` with each `%` and two hexadecimal digits as the byte that they are (RFC 3986, section 2.1).
fn decode(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.extend(hex::decode(digits).ok()?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// A duration from `MIN` to `MAX` milliseconds: the number of them, or as in `5s`.
fn span<'de, D, const MIN: u64, const MAX: u64>(input: D) -> Result<Duration, D::Error>
where
    D: Deserializer<'de>,
{
    let text = String::deserialize(input)?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = if is_number { format!("{text}ms") } else { text };
    between::<_, MIN, MAX>(de::value::StringDeserializer::new(text))
}

/// A number from 0 to 1.
fn ratio<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    let text = String::deserialize(input)?;
    let number = text.parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| de::Error::custom("must be a number from 0 to 1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, Sources, load};

    fn with(environment: &[(&str, &str)]) -> Result<(Settings, String), String> {
        let environment = environment.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let loaded = load(&Sources { environment, ..Sources::default() });
        let (settings, effective) = loaded.map_err(|error| error.to_string())?;
        Ok((settings, effective.to_string()))
    }

    fn traces(environment: &[(&str, &str)]) -> Traces {
        with(environment).unwrap().0.traces
    }

    fn endpoint(environment: &[(&str, &str)]) -> Option<String> {
        traces(environment).endpoint().map(|endpoint| endpoint.as_str().to_owned())
    }

    const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

    #[test]
    fn traces_are_sent_where_an_endpoint_is_set_and_nothing_turns_them_off() {
        assert_eq!(endpoint(&[]), None);
        let url = Some("http://c:4318/v1/traces".to_owned());
        assert_eq!(endpoint(&[(BASE, "http://c:4318")]), url);
        assert_eq!(endpoint(&[(BASE, "http://c:4318/")]), url);
        let base = (BASE, "https://c/otlp/");
        assert_eq!(endpoint(&[base]), Some("https://c/otlp/v1/traces".into()));
        assert_eq!(endpoint(&[base, (TRACES, "http://c/x")]), Some("http://c/x".into()));
        assert_eq!(endpoint(&[(TRACES, "http://c:4318")]), Some("http://c:4318".into()));
        assert_eq!(endpoint(&[base, (TRACES, "")]), Some("https://c/otlp/v1/traces".into()));
        assert_eq!(endpoint(&[(BASE, ""), (TRACES, "")]), None);
        for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert_eq!(endpoint(&[(BASE, "http://c"), off]), None, "{off:?}");
        }
    }

    #[test]
    fn a_process_is_called_by_its_roles_unless_something_else_is_set() {
        let unset = traces(&[]);
        assert_eq!(unset.service_name(&["order"]), "shop-order");
        assert_eq!(unset.service_name(&["gateway", "user"]), "shop");
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a%2Cb, host.name=h");
        let set = traces(&[attributes]);
        assert_eq!(set.service_name(&["order"]), "a,b");
        assert_eq!(set.attributes().collect::<Vec<_>>(), [("host.name", "h")]);
        let set = traces(&[attributes, ("OTEL_SERVICE_NAME", "c")]);
        assert_eq!(set.service_name(&["order"]), "c");
    }

    #[test]
    fn the_variable_for_traces_wins_and_an_empty_one_is_none() {
        let (all, own) = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT");
        let timeout = |environment: &[(&str, &str)]| traces(environment).otlp.timeout.as_millis();
        assert_eq!(timeout(&[]), 10_000);
        assert_eq!(timeout(&[(all, "250")]), 250);
        assert_eq!(timeout(&[(all, "250"), (own, "2s")]), 2000);
        assert_eq!(timeout(&[(all, "250"), (own, "")]), 250);
        assert_eq!(timeout(&[(all, "")]), 10_000);
        // What is outranked is not read.
        assert_eq!(timeout(&[(all, "soon"), (own, "2s")]), 2000);
        let both = [(own, "2s"), ("APP__TRACES__OTLP__TIMEOUT", "3s")];
        let told = with(&both).unwrap_err();
        assert!(told.contains(own) && told.contains(both[1].0), "{told}");
    }

    #[test]
    fn headers_are_decoded_and_told_to_nobody() {
        let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret, x-a=b=c");
        let (settings, told) = with(&[headers]).unwrap();
        let found = settings.traces.otlp.headers.iter();
        let found = found.map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let expected = [("authorization", "Bearer s3cret"), ("x-a", "b=c")];
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let line = told.lines().find(|line| line.starts_with("traces.otlp.headers = ***")).unwrap();
        assert!(line.ends_with("# environment OTEL_EXPORTER_OTLP_HEADERS"), "{line}");
        assert!(!told.contains("s3cret") && !format!("{settings:?}").contains("s3cret"));
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_variable_and_without_secrets() {
        for (name, value) in [
            ("OTEL_SDK_DISABLED", "perhaps"),
            ("OTEL_TRACES_EXPORTER", "console"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_TRACES_SAMPLER_ARG", "1.1"),
            ("OTEL_TRACES_SAMPLER_ARG", "NaN"),
            ("OTEL_BSP_SCHEDULE_DELAY", "0"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "-1"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "many"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://shop:s3cret@c/v1/traces"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret%2"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a b=s3cret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret%0a"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ] {
            let told = with(&[(name, value)]).unwrap_err();
            assert!(told.starts_with("traces.") && told.contains(name), "{told}");
            assert!(!told.contains("s3cret") && told.lines().count() == 1, "{told}");
        }
    }

    #[test]
    fn a_batch_is_no_larger_than_what_waits() {
        let batch = traces(&[("OTEL_BSP_MAX_QUEUE_SIZE", "100")]).batch;
        assert_eq!((batch.max_queue_size, batch.limit()), (100, 100));
    }
}
