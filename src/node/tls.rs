//! What the settings say of certificates: which listeners speak TLS, and how other roles are asked.

use std::path::Path;
use std::sync::Arc;

use prometheus::core::Collector;
use rustls::{ClientConfig, ServerConfig};

use super::{Role, asks_away};
use crate::auth::Mode;
use crate::config::{self, Effective, EventsUrl, PeerUrl, Settings};
use crate::metrics::{Family, Sampled};
use crate::tls::{self, File, InUse, Mutual, Problem};

/// What a process shows, and by what it judges others; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Tls {
    gateway: Option<Arc<ServerConfig>>,
    roles: Option<Arc<ServerConfig>>,
    client: Option<Arc<ClientConfig>>,
    broker: Option<Arc<ClientConfig>>,
    traces: Option<Arc<ClientConfig>>,
    /// The certificates that are in use, by the settings of their files.
    in_use: Vec<(&'static str, InUse)>,
}

const END: &str = "tls_certificate_not_after_timestamp_seconds";
const FAMILIES: &[Family] = &[Family::gauge(
    END,
    "When the first certificate of the file of a setting ends, since 1970.",
    &["setting"],
)];

impl Tls {
    /// What `settings` say of a process that runs `roles`.
    ///
    /// # Errors
    /// Names the setting that does not work: a file, one that is missing beside others, or a peer that would be asked
    /// in the clear by a process that has a certificate for it.
    pub(super) fn load(
        settings: &Settings,
        effective: &Effective,
        roles: &[Role],
        mode: Mode,
    ) -> Result<Self, config::Error> {
        let (gateway, broker) = (gateway(settings, effective)?, broker(settings, effective)?);
        let traces = traces(settings, effective)?;
        let (gateway, in_use) = gateway.unzip();
        let in_use = in_use.map(|in_use| ("gateway.tls_certificate", in_use));
        let mut in_use = Vec::from_iter(in_use);
        let peers = asks_away(roles, mode);
        let peers = peers.flat_map(|role| {
            role.urls(settings).iter().map(move |url| (role.peer_key().to_owned(), url))
        });
        let peers = peers.collect::<Vec<_>>();
        let Some(mutual) = mutual(settings, effective)? else {
            let others = upstreams(settings).filter(|_| roles.iter().any(|role| role.is_public()));
            let asked = peers.into_iter().chain(others);
            let client = platform(asked, effective)?;
            return Ok(Self { gateway, roles: None, client, broker, traces, in_use });
        };
        if let Some((key, url)) = peers.iter().find(|(_, url)| !url.is_secure()) {
            let problem =
                format!("{url} is asked in the clear, while mtls.certificate is set; say https://");
            return Err(effective.blame(key, problem));
        }
        let blame = |problem: Problem| effective.blame("mtls.certificate", problem);
        let roles = mutual.server(settings.mtls.names.iter()).map_err(blame)?;
        let client = mutual.client().map_err(blame)?;
        in_use.extend(["mtls.certificate", "mtls.authority"].into_iter().zip(mutual.in_use()));
        Ok(Self { gateway, roles: Some(roles), client: Some(client), broker, traces, in_use })
    }

    /// When the certificates that are in use end.
    pub(super) fn collector(&self) -> Box<dyn Collector> {
        let in_use = self.in_use.clone();
        Sampled::boxed(FAMILIES, move |samples| {
            for (setting, in_use) in &in_use {
                if let Some(end) = in_use.end() {
                    samples.add(END, &[setting], end as f64);
                }
            }
        })
    }

    /// What the listener of `role` speaks, unless that is plain HTTP.
    pub(super) fn listener(&self, role: Role) -> Option<Arc<ServerConfig>> {
        if role.is_public() { self.gateway.clone() } else { self.roles.clone() }
    }

    /// What the listener of the role `name` speaks; the management port has plain HTTP alone.
    pub(super) fn scheme(&self, name: &str) -> &'static str {
        let role = Role::ALL.iter().copied().find(|role| role.name() == name);
        if role.and_then(|role| self.listener(role)).is_some() { "https" } else { "http" }
    }

    /// How a role is asked whose URL is `https`.
    pub(super) fn client(&self) -> Option<Arc<ClientConfig>> {
        self.client.clone()
    }

    /// The same, for the upstreams of other `settings` than those that the process has begun with.
    ///
    /// # Errors
    /// Names the upstream that cannot be asked.
    pub(super) fn client_for(
        &self,
        settings: &Settings,
        effective: &Effective,
    ) -> Result<Option<Arc<ClientConfig>>, config::Error> {
        match self.client() {
            None => platform(upstreams(settings), effective),
            client => Ok(client),
        }
    }

    /// How the collector of traces is reached, if that is over TLS.
    pub(super) fn traces(&self) -> Option<Arc<ClientConfig>> {
        self.traces.clone()
    }

    /// How the broker of events is reached, if that is over TLS.
    pub(super) fn broker(&self) -> Option<Arc<ClientConfig>> {
        self.broker.clone()
    }
}

/// How those are asked, by their keys, of whom one is `https`: by what the machine trusts.
fn platform<'a>(
    mut asked: impl Iterator<Item = (String, &'a PeerUrl)>,
    effective: &Effective,
) -> Result<Option<Arc<ClientConfig>>, config::Error> {
    let Some((key, _)) = asked.find(|(_, url)| url.is_secure()) else { return Ok(None) };
    let hint = "set mtls.authority or SSL_CERT_FILE";
    let client = tls::platform_client();
    client.map(Some).map_err(|why| effective.blame(&key, format!("{why}; {hint}")))
}

/// How the broker of events is reached whose URL is `amqps`: by what the machine trusts.
pub(super) fn broker(
    settings: &Settings,
    effective: &Effective,
) -> Result<Option<Arc<ClientConfig>>, config::Error> {
    match &settings.events.url {
        EventsUrl::Amqp(url) if url.is_secure() => {
            let client = tls::platform_client();
            let blame = |why| effective.blame("events.url", format!("{why}; set SSL_CERT_FILE"));
            client.map(Some).map_err(blame)
        }
        _ => Ok(None),
    }
}

/// How the collector of traces is reached whose URL is `https`: by what the machine trusts, and by a file of its own.
fn traces(
    settings: &Settings,
    effective: &Effective,
) -> Result<Option<Arc<ClientConfig>>, config::Error> {
    let options = &settings.traces;
    let Some(_) = options.endpoint().filter(|endpoint| endpoint.is_secure()) else {
        return Ok(None);
    };
    match &options.otlp.certificate {
        Some(path) => {
            let blame = |why| effective.blame("traces.otlp.certificate", why);
            tls::platform_client_and(path).map(Some).map_err(blame)
        }
        None => {
            let hint = "set traces.otlp.certificate or SSL_CERT_FILE";
            let blame = |why| effective.blame("traces.otlp.endpoint", format!("{why}; {hint}"));
            tls::platform_client().map(Some).map_err(blame)
        }
    }
}

/// Where the gateway's own upstreams are, and the settings that say so.
fn upstreams(settings: &Settings) -> impl Iterator<Item = (String, &PeerUrl)> {
    settings.gateway.upstreams.iter().flat_map(|(name, upstream)| {
        let key = format!("gateway.upstreams.{name}.urls");
        upstream.urls.as_slice().iter().map(move |url| (key.clone(), url))
    })
}

/// For the gateway's clients.
fn gateway(
    settings: &Settings,
    effective: &Effective,
) -> Result<Option<(Arc<ServerConfig>, InUse)>, config::Error> {
    let files = [
        ("gateway.tls_certificate", settings.gateway.tls_certificate.as_deref()),
        ("gateway.tls_key", settings.gateway.tls_key.as_deref()),
    ];
    let Some([certificate, key]) = together(effective, files)? else { return Ok(None) };
    let read = tls::public_server(certificate, key);
    let blame = |problem: Problem| {
        let at = if problem.file == File::Key { 1 } else { 0 };
        effective.blame(files[at].0, problem)
    };
    read.map(Some).map_err(blame)
}

/// For roles among themselves.
fn mutual(settings: &Settings, effective: &Effective) -> Result<Option<Mutual>, config::Error> {
    let options = &settings.mtls;
    let files = [
        ("mtls.certificate", options.certificate.as_deref()),
        ("mtls.key", options.key.as_deref()),
        ("mtls.authority", options.authority.as_deref()),
    ];
    let Some([certificate, key, authority]) = together(effective, files)? else { return Ok(None) };
    let blame = |problem: Problem| {
        let at = match problem.file {
            File::Certificate => 0,
            File::Key => 1,
            File::Authority => 2,
        };
        effective.blame(files[at].0, problem)
    };
    Mutual::read(certificate, key, authority).map(Some).map_err(blame)
}

/// The files of `settings`, which are all set, or none of them is.
fn together<'a, const N: usize>(
    effective: &Effective,
    settings: [(&str, Option<&'a Path>); N],
) -> Result<Option<[&'a Path; N]>, config::Error> {
    let set = settings.iter().find(|(_, path)| path.is_some());
    let missing = settings.iter().find(|(_, path)| path.is_none());
    match (set, missing) {
        (Some((set, _)), Some((missing, _))) => {
            Err(effective.blame(missing, format!("{set} is set, which takes this file too")))
        }
        (None, _) => Ok(None),
        (Some(_), None) => Ok(Some(settings.map(|(_, path)| path.unwrap_or(Path::new(""))))),
    }
}
