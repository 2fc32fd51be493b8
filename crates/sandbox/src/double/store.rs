//! What a control plane of the double holds: objects with the names, labels and times that Kuma gives them.
//!
//! Pure but for the values handed in. Changed when a recording shows an object differently.

mod kind;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use kind::Kind;

/// The label that names the zone of an object.
pub const ZONE: &str = "kuma.io/zone";
/// The label that says where an object was written.
pub const ORIGIN: &str = "kuma.io/origin";
/// The label with the name that an object had where it was written.
pub const DISPLAY_NAME: &str = "kuma.io/display-name";

/// Which control plane this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The global one.
    Global,
    /// A federated Universal zone's.
    Zone(String),
    /// A federated zone's that is a cluster: nothing is written by its REST API.
    Cluster(String),
}

/// Where a MeshService can be reached. Kuma keeps this in dataplanes and ingresses; the double sends it along: its ingresses are
/// shown, and nothing goes through them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Address of the proxy in front of the application.
    pub address: SocketAddr,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// Kind.
    pub kind: Kind,
    /// Mesh; empty for meshes and zones.
    pub mesh: String,
    /// Name in this store.
    pub name: String,
    /// When it was made here.
    pub created: Timestamp,
    /// When it was last written here.
    pub modified: Timestamp,
    /// Labels, computed ones included.
    pub labels: BTreeMap<String, String>,
    /// Everything that stands beside name and labels: `spec`, or `networking`, `mtls`, ...
    pub body: Map<String, Value>,
    /// `status`, where there is one.
    pub status: Option<Value>,
    /// For MeshServices; never shown.
    pub endpoints: Vec<Endpoint>,
}

impl Object {
    /// A new object without labels.
    pub fn new(kind: Kind, mesh: &str, name: &str, now: Timestamp) -> Self {
        Self {
            kind,
            mesh: mesh.to_owned(),
            name: name.to_owned(),
            created: now,
            modified: now,
            labels: BTreeMap::new(),
            body: Map::new(),
            status: None,
            endpoints: Vec::new(),
        }
    }

    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// The name that it has where it was written.
    pub fn display_name(&self) -> &str {
        self.label(DISPLAY_NAME).unwrap_or(&self.name)
    }

    /// Its `spec`.
    pub fn spec(&self) -> &Value {
        self.body.get("spec").unwrap_or(&Value::Null)
    }

    /// Kuma's resource identifier, with a section (a port) or without.
    pub fn kri(&self, section: &str) -> String {
        let zone = self.label(ZONE).unwrap_or_default();
        let namespace = self.label("k8s.kuma.io/namespace").unwrap_or_default();
        format!(
            "kri_{}_{}_{zone}_{namespace}_{}_{section}",
            self.kind.words().2,
            self.mesh,
            self.display_name()
        )
    }

    /// Whether all of these labels are there.
    pub fn has_labels(&self, wanted: &Map<String, Value>) -> bool {
        wanted
            .iter()
            .all(|(name, value)| self.label(name) == value.as_str())
    }

    /// The cluster that Envoy has for one port of this MeshService or MeshMultiZoneService.
    pub fn cluster(&self, port: u64) -> String {
        format!(
            "{}_{}_{}_{}_{}_{port}",
            self.mesh,
            self.display_name(),
            self.label("k8s.kuma.io/namespace").unwrap_or_default(),
            self.label(ZONE).unwrap_or_default(),
            self.kind.words().2
        )
    }

    /// The object as the REST API shows it.
    pub fn document(&self) -> Value {
        let mut out = Map::new();
        out.insert("type".into(), self.kind.name().into());
        if self.kind.in_mesh() {
            out.insert("mesh".into(), self.mesh.clone().into());
        }
        out.insert("name".into(), self.name.clone().into());
        out.insert("creationTime".into(), self.created.to_string().into());
        out.insert("modificationTime".into(), self.modified.to_string().into());
        if !self.labels.is_empty() {
            out.insert("labels".into(), json!(self.labels));
        }
        out.insert("kri".into(), self.kri("").into());
        if let Some(snis) = self.snis() {
            out.insert("snis".into(), snis);
        }
        out.extend(self.body.clone());
        // What the double keeps of a proxy's session there is shown in overviews alone.
        if let Some(status) = self.status.as_ref().filter(|_| self.kind != Kind::Dataplane) {
            out.insert("status".into(), status.clone());
        }
        Value::Object(out)
    }

    fn snis(&self) -> Option<Value> {
        let (mesh, name) = (&self.mesh, self.display_name());
        let ports = self.spec().get("ports")?.as_array()?;
        let sni = |port: &str| match self.kind {
            Kind::MeshService => {
                let zone = self.label(ZONE).unwrap_or_default();
                let namespace = self.label("k8s.kuma.io/namespace");
                let namespace = namespace.map(|n| format!("{n}.")).unwrap_or_default();
                Some(format!("sni.msvc.{mesh}.{zone}.{namespace}{name}.{port}"))
            }
            Kind::MeshMultiZoneService => Some(format!("sni.mzsvc.{mesh}.{name}.{port}")),
            _ => None,
        };
        let of_port = |p: &Value| {
            let port = p.get("port")?.as_u64()?;
            let section = p["name"].as_str().map_or_else(|| port.to_string(), str::to_owned);
            Some(json!({"port": port, "sni": sni(&section)?}))
        };
        let all: Vec<Value> = ports.iter().filter_map(of_port).collect();
        (!all.is_empty()).then_some(Value::Array(all))
    }
}

/// Where an object is in a store. Lists come in this order: by mesh, then by name.
type Key = (Kind, String, String);

/// All objects of one control plane.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// Which control plane.
    pub mode: Mode,
    /// Which process of it: another after each start.
    pub process: u32,
    /// Whether what it holds outlives the process: then it stands for PostgreSQL.
    pub lasting: bool,
    objects: BTreeMap<Key, Object>,
}

impl Store {
    /// An empty one.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            process: 0,
            lasting: false,
            objects: BTreeMap::new(),
        }
    }

    /// The zone's name; empty for global.
    pub fn zone(&self) -> &str {
        match &self.mode {
            Mode::Global => "",
            Mode::Zone(zone) | Mode::Cluster(zone) => zone,
        }
    }

    /// One object.
    pub fn get(&self, kind: Kind, mesh: &str, name: &str) -> Option<&Object> {
        self.objects.get(&(kind, mesh.to_owned(), name.to_owned()))
    }

    /// Puts an object in, whatever was there.
    pub fn insert(&mut self, object: Object) {
        let key = (object.kind, object.mesh.clone(), object.name.clone());
        self.objects.insert(key, object);
    }

    /// Takes an object out.
    pub fn remove(&mut self, kind: Kind, mesh: &str, name: &str) -> Option<Object> {
        self.objects.remove(&(kind, mesh.to_owned(), name.to_owned()))
    }

    /// All of one kind, by mesh and name.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects.values().filter(move |o| o.kind == kind)
    }

    /// All of them.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    /// Whether the mesh is known here.
    pub fn has_mesh(&self, mesh: &str) -> bool {
        self.get(Kind::Mesh, "", mesh).is_some()
    }

    /// What a zone tells global: its own MeshServices, policies and ingresses.
    pub fn upward(&self) -> Vec<Object> {
        let ours = |o: &&Object| match o.kind {
            // What an ingress' own proxy brought has no labels at home.
            Kind::ZoneIngress => o.label(ORIGIN) != Some("global"),
            kind => (kind == Kind::MeshService || kind.is_policy()) && o.label(ORIGIN) == Some("zone"),
        };
        self.objects.values().filter(ours).cloned().collect()
    }

    /// Takes what a zone told: replaces all that it told before.
    pub fn take_upward(&mut self, zone: &str, told: Vec<Object>, now: Timestamp) {
        let theirs = |o: &Object| o.label(ORIGIN) == Some("zone") && o.label(ZONE) == Some(zone);
        let told = told.into_iter().map(|mut object| {
            let display = object.display_name().to_owned();
            let mut parts = vec![object.mesh.as_str(), &display, zone];
            parts.extend(object.label("k8s.kuma.io/namespace"));
            object.name = hashed_name(&parts);
            object.labels.insert(DISPLAY_NAME.into(), display);
            object.labels.insert(ZONE.into(), zone.to_owned());
            object.labels.insert(ORIGIN.into(), "zone".into());
            if object.kind == Kind::ZoneIngress {
                object.body.insert("zone".into(), zone.into());
            }
            object
        });
        self.replace(theirs, told.collect(), now);
    }

    /// What global tells a zone: meshes, MeshMultiZoneServices, other zones' MeshServices and ingresses, its own policies.
    pub fn downward(&self, zone: &str) -> Vec<Object> {
        let enabled = |zone: &str| {
            let object = self.get(Kind::Zone, "", zone);
            object.and_then(|o| o.body.get("enabled")) != Some(&Value::Bool(false))
        };
        let travels = |o: &&Object| match o.kind {
            Kind::Mesh | Kind::MeshMultiZoneService => true,
            Kind::MeshService | Kind::ZoneIngress => {
                let of = o.label(ZONE).unwrap_or_default();
                of != zone && enabled(of)
            }
            kind => kind.is_policy() && o.label(ORIGIN) != Some("zone"),
        };
        let travel = |object: &Object| {
            let mut object = object.clone();
            if object.kind == Kind::MeshMultiZoneService || object.kind.is_policy() {
                let display = object.display_name().to_owned();
                object.name = hashed_name(&[&object.mesh, &display]);
                object.labels.insert(DISPLAY_NAME.into(), display);
                object.labels.insert("kuma.io/mesh".into(), object.mesh.clone());
                object.labels.remove("kuma.io/env");
            }
            object.labels.insert(ORIGIN.into(), "global".into());
            if object.kind == Kind::MeshService {
                object.status = Some(remote_status(&object));
            }
            object
        };
        self.objects.values().filter(travels).map(travel).collect()
    }

    /// Takes what global told. Without the mesh everything in it goes, our own policies too, as Kuma does.
    pub fn take_downward(&mut self, told: Vec<Object>, now: Timestamp) {
        let theirs = |o: &Object| o.label(ORIGIN) == Some("global");
        self.replace(theirs, told, now);
        let meshes: Vec<String> = self.all(Kind::Mesh).map(|m| m.name.clone()).collect();
        self.objects
            .retain(|(kind, mesh, _), _| !kind.in_mesh() || meshes.contains(mesh));
    }

    fn replace(&mut self, theirs: impl Fn(&Object) -> bool, told: Vec<Object>, now: Timestamp) {
        let mut before = BTreeMap::new();
        let keys: Vec<Key> = self
            .objects
            .iter()
            .filter(|(_, o)| theirs(o))
            .map(|(k, _)| k.clone())
            .collect();
        for key in keys {
            if let Some(object) = self.objects.remove(&key) {
                before.insert(key, object);
            }
        }
        for mut object in told {
            let key = (object.kind, object.mesh.clone(), object.name.clone());
            (object.created, object.modified) = match before.get(&key) {
                Some(old) => {
                    let times = (old.created, old.modified);
                    (object.created, object.modified) = times;
                    if *old == object { times } else { (times.0, now) }
                }
                None => (now, now),
            };
            self.objects.insert(key, object);
        }
    }
}

fn remote_status(service: &Object) -> Value {
    let zone = service.label(ZONE).unwrap_or_default();
    // Kuma's own default generator, which every zone has from global, by its hashed name.
    let generator = "synced-universal-mesh-service-46484vczc724vc29";
    json!({
        "addresses": [{
            "hostname": format!("{}.svc.{zone}.mesh.local", service.display_name()),
            "origin": "HostnameGenerator",
            "hostnameGeneratorRef": {"coreName": generator},
        }],
        "hostnameGenerators": generated(generator),
        "vips": [{"ip": "241.0.0.1"}],
        "tls": {},
        "dataplaneProxies": {},
    })
}

/// What a MeshService's status says of the generator that gave it a name.
pub(super) fn generated(generator: &str) -> Value {
    json!([{
        "hostnameGeneratorRef": {"coreName": generator},
        "conditions": [{"type": "Generated", "status": "True", "reason": "Generated", "message": ""}],
    }])
}

/// The name that an object has away from home: `<display name>-<16 characters>`.
pub fn hashed_name(parts: &[&str]) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|part| part.bytes()) {
        hash ^= u64::from(byte);
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
    }
    let hex = format!("{hash:016x}");
    let safe: String = hex
        .bytes()
        .map(|b| char::from(ALPHABET[usize::from(b) % 27]))
        .collect();
    let display: String = parts.get(1).unwrap_or(&"").chars().take(236).collect();
    format!("{display}-{safe}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_away_from_home_are_those_that_kuma_gives() {
        assert_eq!(
            hashed_name(&["default", "checkout", "onprem"]),
            "checkout-4z9x8564669zwxbw"
        );
        assert_eq!(
            hashed_name(&["default", "checkout", "ams"]),
            "checkout-8wb8z5764xx4x42z"
        );
        assert_eq!(
            hashed_name(&["default", "checkout-split"]),
            "checkout-split-6fcc5b2bf9xv4c9w"
        );
        assert_eq!(
            hashed_name(&["default", "checkout", "eks", "shop"]),
            "checkout-cvb4bw49vwcz6c5c"
        );
        assert_eq!(hashed_name(&["", "ingress", "ams"]), "ingress-z6929285976f8zd7");
        assert_eq!(
            hashed_name(&["", "kuma-ingress-0", "eks", "kuma-system"]),
            "kuma-ingress-0-4dwwcd8x75w944x4"
        );
    }

    #[test]
    fn what_a_zone_writes_is_seen_elsewhere_as_kuma_shows_it() {
        let now = Timestamp::UNIX_EPOCH;
        let mut global = Store::new(Mode::Global);
        global.insert(Object::new(Kind::Mesh, "", "default", now));
        let mut service = Object::new(Kind::MeshService, "default", "checkout", now);
        for (name, value) in [(ORIGIN, "zone"), (ZONE, "ams"), (DISPLAY_NAME, "checkout")] {
            service.labels.insert(name.into(), value.into());
        }
        let mut policy = service.clone();
        policy.kind = Kind::MeshHTTPRoute;
        global.take_upward("ams", vec![service, policy], now);

        let mut fra = Store::new(Mode::Zone("fra".into()));
        fra.take_downward(global.downward("fra"), now);
        let seen: Vec<_> = fra.objects.values().map(|o| (o.kind, o.name.as_str())).collect();
        assert_eq!(
            seen,
            [
                (Kind::Mesh, "default"),
                (Kind::MeshService, "checkout-8wb8z5764xx4x42z")
            ],
            "services travel, another zone's policies do not"
        );
        let service = fra.all(Kind::MeshService).next().expect("seen above");
        assert_eq!(
            (service.kri(""), service.cluster(8080), service.label(ORIGIN)),
            (
                "kri_msvc_default_ams__checkout_".to_owned(),
                "default_checkout__ams_msvc_8080".to_owned(),
                Some("global")
            )
        );

        fra.take_downward(Vec::new(), now);
        assert!(
            fra.objects.is_empty(),
            "a global with an empty store takes everything along"
        );
    }
}
