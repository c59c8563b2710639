//! `app demo`: the whole shop in one process, on a folder of its own, with products, accounts, orders and visitors.

mod accounts;
mod catalogue;
mod client;
mod folder;
mod load;
mod orders;

use std::net::SocketAddr;
use std::time::Instant;

use super::{Failure, Listener, Opening, Role, for_this_machine, open, print_line};
use crate::config::{self, Effective, Settings, Sources};
use accounts::Accounts;
pub use folder::Folder;

/// What a demo prefers: on a terminal, its addresses stay in sight.
const PRESETS: [(&str, &str); 1] =
    [("log.filter", "warn,audit=warn,lapin=off,pprof=warn,tracing::span=off")];

/// What it needs beside its files: it is the real thing, and uses nothing of anybody else.
const FIXED: [(&str, &str); 12] = [
    ("auth.mode", "enforced"),
    ("events.url", "memory://"),
    ("gateway.limits_url", "memory://"),
    ("gateway.pages", "true"),
    ("order.payments_url", "sandbox://"),
    ("peers.order", ""),
    ("peers.product", ""),
    ("peers.user", ""),
    ("product.cache_url", "memory://"),
    ("shop.stripe_publishable_key", ""),
    ("user.limits_url", "memory://"),
    ("user.signing_keys", ""),
];

/// The settings of a demo in `folder`, with `sources` as the user has them, and where they come from.
///
/// # Errors
/// When a setting does not work, or the folder's path cannot be part of one.
pub fn demo_settings(
    sources: Sources,
    folder: &Folder,
) -> Result<(Sources, (Settings, Effective)), Failure> {
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let mut fixed = FIXED.map(owned).to_vec();
    for role in ["user", "product", "order"] {
        let file = folder.file(&format!("{role}.db"))?;
        fixed.push((format!("{role}.database_url"), format!("sqlite://{file}")));
    }
    fixed.push(("user.signing_keys_path".to_owned(), folder.file("signing-keys")?));
    let mut sources = Sources { presets: PRESETS.map(owned).to_vec(), fixed, ..sources };
    // A browser may know this machine by another name than the addresses of pictures have.
    let gateway = config::load(&sources)?.0.gateway;
    let scheme = if gateway.tls_certificate.is_some() { "https" } else { "http" };
    let origin = format!("{scheme}://{}", for_this_machine(gateway.listen));
    sources.presets.push(("gateway.image_origins".to_owned(), origin));
    let loaded = config::load(&sources)?;
    Ok((sources, loaded))
}

/// Runs a demo in `folder` until the process gets a signal to stop. With `load`, visitors come as long as it runs.
///
/// # Errors
/// When a setting does not work, a listener fails, or the stores cannot be filled.
pub async fn demo(
    folder: &mut Folder,
    sources: Sources,
    loaded: (Settings, Effective),
    load: bool,
) -> Result<(), Failure> {
    let demo = Demo { folder, load, gateway: String::new(), accounts: None };
    Box::pin(open(sources, loaded, Role::ALL, demo)).await
}

/// A demo that starts.
struct Demo<'a> {
    folder: &'a mut Folder,
    load: bool,
    /// The address of the gateway, for this machine.
    gateway: String,
    /// Known once the stores are filled.
    accounts: Option<Accounts>,
}

impl Opening for Demo<'_> {
    async fn prepare(
        &mut self,
        settings: &Settings,
        effective: &Effective,
        listeners: &[(Role, Listener)],
    ) -> Result<(), Failure> {
        let gateway = listeners.iter().find(|(role, _)| *role == Role::Gateway);
        self.gateway = gateway.map(|(_, listener)| url(listener)).unwrap_or_default();
        let accounts = Accounts::prepare(&settings.user).await?;
        match self.folder.pictures() {
            Some(known) if known == self.gateway => {}
            Some(known) => {
                catalogue::move_pictures((settings, effective), known, &self.gateway).await?;
            }
            None => {
                catalogue::fill((settings, effective), &self.gateway).await?;
                orders::fill((settings, effective), &accounts).await?;
            }
        }
        self.folder.note(&self.gateway)?;
        self.accounts = Some(accounts);
        Ok(())
    }

    fn bound(&self, _: &[Role], _: &[(Role, Listener)]) {}

    fn ready(&self, started: Instant, management: SocketAddr) {
        let Some(accounts) = &self.accounts else { return };
        print_line(&self.greeting(accounts, started, management));
        if self.load {
            load::start(self.gateway.clone(), accounts.clone());
        }
    }
}

impl Demo<'_> {
    /// What somebody who tries the shop needs to know.
    fn greeting(&self, accounts: &Accounts, started: Instant, management: SocketAddr) -> String {
        let (gateway, management) = (&self.gateway, for_this_machine(management));
        let millis = started.elapsed().as_millis();
        let mut text = format!(
            "ready after {millis} ms\n\n\
             shop        {gateway}/shop\n\
             admin       {gateway}/admin\n\
             operations  http://{management}/ops\n\n"
        );
        for account in accounts.all() {
            let (what, email, password) = (account.what, account.email, &account.password);
            text += &format!("{what:<11} {email:<19} password {password}\n");
        }
        text += &match self.folder.stays_at() {
            Some(path) => {
                let path = path.display();
                format!(
                    "\nCtrl-C ends it; its data stays in {path}, and app demo --folder {path} goes on with it"
                )
            }
            None => {
                format!("\nCtrl-C ends it and removes its data, {}", self.folder.path().display())
            }
        };
        text
    }
}

/// The base URL of `listener`, for this machine.
fn url(listener: &Listener) -> String {
    let url = listener.url();
    let scheme = url.split(':').next().unwrap_or("http");
    format!("{scheme}://{}", for_this_machine(listener.address))
}
