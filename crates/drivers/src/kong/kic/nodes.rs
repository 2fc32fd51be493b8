//! The nodes of a Kong in a cluster: pods come and go, so that each address behind a configured name is one, by what name servers
//! say. A headless Service has one for each pod that is ready.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use weir_render::kong::Resolved;

use crate::dns::Names;
use crate::kong::admin::{Admin, AdminConfig, host_name};

/// See the head of this file.
pub(super) struct Nodes {
    /// With the names that they are by; none of one that is an address.
    configured: Vec<(AdminConfig, Option<String>)>,
    names: Arc<dyn Names>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    resolved: Resolved,
    /// By place in the configuration, and address.
    admins: BTreeMap<(usize, Option<IpAddr>), Arc<Admin>>,
}

impl Nodes {
    pub(super) fn new(configured: &[AdminConfig], names: Arc<dyn Names>) -> Self {
        let with_name = |config: &AdminConfig| (config.clone(), host_name(&config.url));
        Self {
            configured: configured.iter().map(with_name).collect(),
            names,
            known: Mutex::default(),
        }
    }

    /// Those that there are now.
    ///
    /// # Errors
    /// Why they are not known, in words.
    pub(super) async fn now(&self) -> Result<Vec<Arc<Admin>>, String> {
        let before = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .resolved
            .clone();
        let names: BTreeSet<String> = self
            .configured
            .iter()
            .filter_map(|(_, name)| name.clone())
            .collect();
        let answers = self.names.resolve(&names, &before).await;
        // Who stands behind a name that cannot be looked up now is not known, though it was.
        if !answers.troubles.is_empty() {
            return Err(lost(&names, &answers.troubles));
        }
        let mut wanted = BTreeMap::new();
        for (place, (config, name)) in self.configured.iter().enumerate() {
            let Some(name) = name else {
                wanted.insert((place, None), config);
                continue;
            };
            let found = answers.addresses.get(name).into_iter().flatten();
            let before = wanted.len();
            wanted.extend(found.map(|ip| ((place, Some(*ip)), config)));
            if wanted.len() == before {
                return Err(lost(&names, &[format!("{name} has no address")]));
            }
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.resolved = answers.addresses;
        known.admins.retain(|at, _| wanted.contains_key(at));
        let mut nodes = Vec::new();
        for ((place, ip), config) in wanted {
            let admin = match known.admins.get(&(place, ip)) {
                Some(admin) => Arc::clone(admin),
                None => {
                    let name = self.configured.get(place).and_then(|(_, name)| name.as_deref());
                    let admin = match (name, ip) {
                        (Some(name), Some(ip)) => Admin::at(config.clone(), name, ip),
                        _ => Admin::new(config.clone()),
                    };
                    let admin = Arc::new(admin.map_err(|error| error.to_string())?);
                    known.admins.insert((place, ip), Arc::clone(&admin));
                    admin
                }
            };
            nodes.push(admin);
        }
        Ok(nodes)
    }
}

fn lost(names: &BTreeSet<String>, troubles: &[String]) -> String {
    let hint = match names.iter().any(|name| name.ends_with(".svc")) {
        true => "; write the whole name, such as kong-admin.kong.svc.cluster.local",
        false => "",
    };
    format!("the nodes of Kong are not known: {}{hint}", troubles.join("; "))
}
