//! What a process consists of and what is around it: what does not change while it runs.

use serde::Serialize;

/// The roles of a process, and what they reach.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// Every role that the process runs or calls.
    pub roles: Vec<RolePlace>,
    /// Who calls the role that is named first.
    pub callers: Vec<(&'static str, Vec<&'static str>)>,
    /// What carries events: `memory` or `rabbitmq`.
    pub events: &'static str,
    /// The payment provider, `sandbox` or `stripe`, if the order role runs here.
    pub payments: Option<&'static str>,
}

/// Where a role is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolePlace {
    /// Its name.
    pub name: &'static str,
    /// Whether it runs in this process.
    pub is_here: bool,
    /// Whether others than roles of this process send it requests.
    pub is_entrance: bool,
    /// Its URLs, which have no passwords, where it runs elsewhere.
    pub addresses: Vec<String>,
}

impl Topology {
    /// Who calls the role `name`.
    pub(super) fn callers_of(&self, name: &str) -> Vec<&'static str> {
        let found = self.callers.iter().find(|(callee, _)| *callee == name);
        found.map(|(_, callers)| callers.clone()).unwrap_or_default()
    }

    /// Those of this process.
    pub(super) fn here(&self) -> impl Iterator<Item = &RolePlace> {
        self.roles.iter().filter(|role| role.is_here)
    }
}
