//! What an Envoy of Kuma's calls a destination, and which one that is.

use serde_json::Value;
use weir_model::DnsLabel;
use weir_planner::ServiceFact;

use super::unified_name;

pub(crate) enum Called<'a> {
    /// The service and port.
    This(Kri<'a>),
    /// The service, by a name of a port that is not known to be the port's.
    Named(Kri<'a>),
    Other,
    Unclear,
}

/// A Kuma resource identifier of a service's port.
#[derive(Clone, Copy)]
pub(crate) struct Kri<'a> {
    kind: &'a str,
    pub(super) zone: &'a str,
    namespace: &'a str,
    service: &'a str,
    pub(super) port: &'a str,
}

pub(super) enum Number<'a> {
    Of(u16, &'a ServiceFact),
    Unknown,
}

impl<'a> Kri<'a> {
    /// Without the port.
    pub(super) fn destination(self) -> (&'a str, &'a str, &'a str) {
        (self.kind, self.zone, self.namespace)
    }

    fn is_at(self, fact: &ServiceFact) -> bool {
        let namespace = fact.namespace.as_ref().map_or("", DnsLabel::as_str);
        fact.service.as_str() == self.service
            && fact.kuma_zone.as_str() == self.zone
            && namespace == self.namespace
    }

    /// The name of a port, where this says its number all the same: as the outbounds do that are written into a
    /// Dataplane. Those that Kuma makes for virtual addresses go by the name.
    pub(crate) fn named(self, port: u16, services: &[ServiceFact]) -> Option<&str> {
        if self.kind != "msvc" || self.port != port.to_string() {
            return None;
        }
        let fact = services.iter().find(|fact| self.is_at(fact))?;
        fact.port_names.get(&port).map(String::as_str)
    }

    /// The number of the port that goes by this name. A MeshMultiZoneService gives ports names of its own, most likely
    /// those that its MeshServices have.
    pub(super) fn number(self, services: &[ServiceFact]) -> Number<'_> {
        let many = self.kind == "mzsvc";
        for fact in services
            .iter()
            .filter(|fact| fact.service.as_str() == self.service)
        {
            let namespace = fact.namespace.as_ref().map_or("", DnsLabel::as_str);
            let here = fact.kuma_zone.as_str() == self.zone && namespace == self.namespace;
            let port = fact.port_names.iter().find(|(_, name)| *name == self.port);
            if let Some((port, _)) = port.filter(|_| many || here) {
                return Number::Of(*port, fact);
            }
        }
        Number::Unknown
    }
}

/// Which service an outbound listener is for. The name in its metadata has the parts of a Kuma resource identifier:
/// `kri_<kind>_<mesh>_<zone>_<namespace>_<name>_<port>`, where the port is its name if it has one, else its number.
///
/// Two kinds of outbound listener are for no service that a plan names, and carry no such name: a transparent proxy's
/// pass-through, which sends on to wherever a connection was meant for, and one for a legacy service, which says so in
/// its tags.
/// `ours` says whether a port's name, or its number, is that of the port.
pub(crate) fn called<'a>(
    mesh: &str,
    service: &str,
    ours: impl Fn(&str) -> bool,
    listener: &'a Value,
) -> Called<'a> {
    if listener.get("traffic_direction").and_then(Value::as_str) != Some("OUTBOUND") {
        return Called::Other;
    }
    if listener.get("use_original_dst") == Some(&Value::Bool(true)) {
        return Called::Other;
    }
    let tags = listener.pointer("/metadata/filter_metadata/io.kuma.tags");
    let Some(name) = unified_name(listener) else {
        let legacy = tags.is_some_and(|tags| tags.get("kuma.io/service").is_some());
        return if legacy { Called::Other } else { Called::Unclear };
    };
    let parts: Vec<_> = name.split('_').collect();
    let ["kri", kind, in_mesh, zone, namespace, called, port] = parts.as_slice() else {
        // Another kind of destination (a pass-through, a legacy service) has another kind of name.
        return Called::Other;
    };
    if !["msvc", "mzsvc"].contains(kind) || *in_mesh != mesh || *called != service {
        return Called::Other;
    }
    let kri = Kri {
        kind,
        zone,
        namespace,
        service: called,
        port,
    };
    if ours(port) {
        Called::This(kri)
    } else if port.parse::<u16>().is_ok() {
        Called::Other
    } else {
        Called::Named(kri)
    }
}
