//! Services and EndpointSlices, as far as they decide what the controller gives to Kong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use weir_model::{ClusterService, DnsLabel};

/// The annotation by which Kong is given a Service by its name, and not its endpoints. Kuma puts it on every Service of a
/// namespace with sidecars.
const SERVICE_UPSTREAM: &str = "ingress.kubernetes.io/service-upstream";
/// The controller's own annotations: on the Services of one rule they must be the same, or it leaves the whole rule out.
const KONG: &str = "konghq.com/";

/// What is kept of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// It stands for a name outside, which Kong resolves itself.
    external_name: Option<String>,
    /// Its ports by number, with their names, which may be empty.
    ports: BTreeMap<u16, String>,
    /// `konghq.com/...`.
    kong: BTreeMap<String, String>,
    /// Kong is given its name alone.
    whole: bool,
}

impl Service {
    /// What a document says.
    pub fn of(document: &Value) -> Self {
        let text = |at: &str| document.pointer(at).and_then(Value::as_str);
        let annotations = document
            .pointer("/metadata/annotations")
            .and_then(Value::as_object);
        let annotations = annotations.into_iter().flatten();
        let annotations: BTreeMap<&str, &str> = annotations
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
            .collect();
        let ports = document.pointer("/spec/ports").and_then(Value::as_array);
        let ports = ports.into_iter().flatten().filter_map(|port| {
            let number = port.get("port").and_then(Value::as_u64)?;
            let name = port.get("name").and_then(Value::as_str).unwrap_or_default();
            Some((u16::try_from(number).ok()?, name.to_owned()))
        });
        let is_external = text("/spec/type") == Some("ExternalName");
        Self {
            external_name: is_external.then(|| text("/spec/externalName").unwrap_or_default().to_owned()),
            ports: ports.collect(),
            kong: annotations
                .iter()
                .filter(|(key, _)| key.starts_with(KONG))
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            whole: annotations.get(SERVICE_UPSTREAM) == Some(&"true"),
        }
    }
}

/// What is kept of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    service: String,
    /// By name, which may be empty.
    ports: BTreeMap<String, u16>,
    /// Of those that are ready and not on their way out: the first address of each, which is all that the controller takes.
    ready: BTreeSet<IpAddr>,
}

impl Slice {
    /// What a document says.
    pub fn of(document: &Value) -> Self {
        let service = document
            .pointer("/metadata/labels/kubernetes.io~1service-name")
            .and_then(Value::as_str);
        let list = |at: &str| document.get(at).and_then(Value::as_array).into_iter().flatten();
        let ports = list("ports").filter_map(|port| {
            let number = port.get("port").and_then(Value::as_u64)?;
            let name = port.get("name").and_then(Value::as_str).unwrap_or_default();
            Some((name.to_owned(), u16::try_from(number).ok()?))
        });
        let ready = list("endpoints").filter_map(|endpoint| {
            let condition = |at: &str| endpoint.pointer(at).and_then(Value::as_bool);
            // Not said is ready.
            let serves = condition("/conditions/ready").unwrap_or(true);
            let ends = condition("/conditions/terminating").unwrap_or(false);
            let address = endpoint.pointer("/addresses/0").and_then(Value::as_str)?;
            address.parse().ok().filter(|_| serves && !ends)
        });
        Self {
            service: service.unwrap_or_default().to_owned(),
            ports: ports.collect(),
            ready: ready.collect(),
        }
    }
}

/// Where requests to a port of a Service go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// To its endpoints, each a target of its own.
    Endpoints(BTreeSet<SocketAddr>),
    /// To its name: one target, and the cluster chooses.
    Name(String),
}

impl Reached {
    /// How many targets that is.
    pub fn count(&self) -> usize {
        match self {
            Self::Endpoints(endpoints) => endpoints.len(),
            Self::Name(_) => 1,
        }
    }
}

/// The Services of the namespaces that routes are in, and who stands behind them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services {
    services: BTreeMap<(DnsLabel, String), Service>,
    slices: BTreeMap<(DnsLabel, String), Vec<Slice>>,
}

impl Services {
    /// Takes those of one namespace.
    pub fn put(
        &mut self,
        namespace: &DnsLabel,
        services: impl IntoIterator<Item = (String, Service)>,
        slices: impl IntoIterator<Item = Slice>,
    ) {
        for (name, service) in services {
            self.services.insert((namespace.clone(), name), service);
        }
        for slice in slices {
            let of = (namespace.clone(), slice.service.clone());
            self.slices.entry(of).or_default().push(slice);
        }
    }

    /// Where requests to this port go now.
    ///
    /// # Errors
    /// Why nowhere, or nowhere that a share could be held, in words.
    pub fn reached(&self, of: &ClusterService) -> Result<Reached, String> {
        let key = (of.namespace.clone(), of.name.to_string());
        let Some(service) = self.services.get(&key) else {
            return Err(format!(
                "there is no Service {}/{}: the controller would leave it out and give its share to the others",
                of.namespace, of.name
            ));
        };
        if let Some(outside) = &service.external_name {
            return Err(format!(
                "the Service {}/{} is of type ExternalName: Kong would resolve {outside} itself, where several addresses or an SRV \
                 record change the share; make it a Service without a selector, with EndpointSlices of your own",
                of.namespace, of.name
            ));
        }
        let Some(name) = service.ports.get(&of.port) else {
            let ports: Vec<String> = service.ports.keys().map(ToString::to_string).collect();
            return Err(format!(
                "the Service {}/{} has no port {}, but {}",
                of.namespace,
                of.name,
                of.port,
                if ports.is_empty() {
                    "none".to_owned()
                } else {
                    ports.join(", ")
                }
            ));
        };
        if service.whole {
            return Ok(Reached::Name(format!("{}.{}.svc", of.name, of.namespace)));
        }
        let slices = self.slices.get(&key).into_iter().flatten();
        let of_port = slices
            .clone()
            .filter_map(|slice| Some((slice.ports.get(name)?, &slice.ready)));
        let endpoints: BTreeSet<SocketAddr> = of_port
            .flat_map(|(port, ready)| ready.iter().map(|ip| SocketAddr::new(*ip, *port)))
            .collect();
        if endpoints.is_empty() && slices.clone().any(|slice| !slice.ready.is_empty()) {
            return Err(format!(
                "no EndpointSlice of the Service {}/{} has a port with the name of its port {}, which is `{name}`: the controller \
                 takes no endpoint of it",
                of.namespace, of.name, of.port
            ));
        }
        Ok(Reached::Endpoints(endpoints))
    }

    /// Why the controller would leave out a whole rule over these Services (fact 11): the first annotation in which they differ.
    pub fn at_odds(&self, of: &[&ClusterService]) -> Option<String> {
        let known = of.iter().filter_map(|of| {
            let service = self.services.get(&(of.namespace.clone(), of.name.to_string()))?;
            Some((*of, service))
        });
        let mut known = known;
        let (first, one) = known.next()?;
        known.find_map(|(second, other)| {
            let keys: BTreeSet<&String> = one.kong.keys().chain(other.kong.keys()).collect();
            let key = keys.into_iter().find(|key| one.kong.get(*key) != other.kong.get(*key))?;
            let said = |of: &Service| of.kong.get(key).map_or_else(|| "absent".to_owned(), |value| format!("`{value}`"));
            Some(format!(
                "the annotation {key} is {} on the Service {}/{} and {} on {}/{}: for that the controller leaves out the whole \
                 rule, with all of its requests; make it the same on both",
                said(one),
                first.namespace,
                first.name,
                said(other),
                second.namespace,
                second.name
            ))
        })
    }
}
