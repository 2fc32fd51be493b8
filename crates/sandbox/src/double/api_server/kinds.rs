//! The types that the double of an API server has, where their objects are, and what it knows of their shapes.

use serde_json::{Value, json};

/// A type of objects.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Type {
    /// Empty for the core.
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
    pub(super) namespaced: bool,
}

const RBAC: &str = "rbac.authorization.k8s.io";
/// The group of Kuma's types.
pub(super) const KUMA: &str = "kuma.io";
/// The group of Gateway API's types.
const GATEWAY: &str = "gateway.networking.k8s.io";

const fn of(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
) -> Type {
    Type {
        group,
        version,
        kind,
        plural,
        namespaced,
    }
}

/// All of them.
pub(super) static TYPES: [Type; 19] = [
    of("", "v1", "Namespace", "namespaces", false),
    of("", "v1", "ServiceAccount", "serviceaccounts", true),
    of("", "v1", "Service", "services", true),
    of(RBAC, "v1", "Role", "roles", true),
    of(RBAC, "v1", "RoleBinding", "rolebindings", true),
    of(RBAC, "v1", "ClusterRole", "clusterroles", false),
    of(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", false),
    of(KUMA, "v1alpha1", "Mesh", "meshes", false),
    of(KUMA, "v1alpha1", "MeshService", "meshservices", true),
    of(
        KUMA,
        "v1alpha1",
        "MeshMultiZoneService",
        "meshmultizoneservices",
        true,
    ),
    of(KUMA, "v1alpha1", "MeshHTTPRoute", "meshhttproutes", true),
    of(KUMA, "v1alpha1", "MeshTCPRoute", "meshtcproutes", true),
    of(
        KUMA,
        "v1alpha1",
        "MeshTrafficPermission",
        "meshtrafficpermissions",
        true,
    ),
    of(KUMA, "v1alpha1", "ZoneIngress", "zoneingresses", true),
    of(KUMA, "v1alpha1", "MeshZoneAddress", "meshzoneaddresses", true),
    of(KUMA, "v1alpha1", "Dataplane", "dataplanes", true),
    of(KUMA, "v1alpha1", "DataplaneInsight", "dataplaneinsights", true),
    of("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", true),
    of(GATEWAY, "v1", "HTTPRoute", "httproutes", true),
];

impl Type {
    /// `kuma.io/v1alpha1`.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether a definition made it.
    pub(super) fn is_custom(&self) -> bool {
        self.is_kumas() || self.has_status()
    }

    /// Whether its generations are counted: of what Kubernetes itself brings, hardly any are.
    pub(super) fn counts_generations(&self) -> bool {
        self.is_custom() || self.kind == "EndpointSlice"
    }

    /// Whether it is Kuma's, whose webhooks are asked.
    pub(super) fn is_kumas(&self) -> bool {
        self.group == KUMA
    }

    /// Whether its status is written by itself (`/status`), and by nothing else.
    pub(super) fn has_status(&self) -> bool {
        self.kind == "HTTPRoute"
    }

    fn is_route(&self) -> bool {
        matches!(self.kind, "MeshHTTPRoute" | "MeshTCPRoute")
    }

    /// What is wrong with the shape of what is applied: the first field that is of another type or not known, in the words
    /// of a typed patch. Of a policy alone, and no deeper than its `spec`.
    pub(super) fn untyped(&self, wanted: &Value) -> Option<String> {
        let spec = wanted.get("spec").filter(|_| self.is_route())?;
        let Some(spec) = spec.as_object() else {
            return Some(format!(".spec: expected map, got {}", typed(spec)));
        };
        for (key, value) in spec {
            match key.as_str() {
                "targetRef" if value.is_object() => {}
                "to" if value.is_array() => {}
                "targetRef" => return Some(format!(".spec.targetRef: expected map, got {}", typed(value))),
                "to" => return Some(format!(".spec.to: expected list, got {}", typed(value))),
                other => return Some(format!(".spec.{other}: field not declared in schema")),
            }
        }
        None
    }

    /// Puts in what is said where nothing is: weights of 1.
    pub(super) fn default(&self, object: &mut Value) {
        if !self.is_route() {
            return;
        }
        let each = |value: &mut Value, key: &str, change: &dyn Fn(&mut Value)| {
            value[key].as_array_mut().into_iter().flatten().for_each(change);
        };
        if !object["spec"]["to"].is_array() {
            return;
        }
        each(&mut object["spec"], "to", &|to| {
            if to.get("rules").is_none() {
                return;
            }
            each(to, "rules", &|rule| {
                if rule["default"].get("backendRefs").is_none() {
                    return;
                }
                each(&mut rule["default"], "backendRefs", &|reference| {
                    if reference.is_object() && reference.get("weight").is_none() {
                        reference["weight"] = json!(1);
                    }
                });
            });
        });
    }
}

/// A value of the wrong type, as Go prints it.
fn typed(value: &Value) -> String {
    match value {
        Value::String(text) => format!("&{{{text}}}"),
        other => format!("&{{{other}}}"),
    }
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    /// `status`, which a type may have; `token` and others, which none has here.
    pub(super) subresource: Option<String>,
}

impl Target {
    /// Reads a path; none if it names no objects.
    pub(super) fn read(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            _ => (None, rest),
        };
        let (resource, name, more) = match rest {
            [resource] => (*resource, None, None),
            [resource, name] => (*resource, Some(*name), None),
            [resource, name, more] => (*resource, Some(*name), Some(*more)),
            _ => return None,
        };
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            subresource: more.map(str::to_owned),
        })
    }

    /// Its type, if there is one here.
    pub(super) fn known(&self) -> Option<&'static Type> {
        let fits = |t: &&Type| {
            t.group == self.group
                && t.version == self.version
                && t.plural == self.resource
                && (t.namespaced || self.namespace.is_none())
        };
        let known = TYPES.iter().find(fits);
        known.filter(|known| self.subresource.is_none() || (self.is_status() && known.has_status()))
    }

    /// Whether it is an object's status alone.
    pub(super) fn is_status(&self) -> bool {
        self.subresource.as_deref() == Some("status")
    }

    /// What rights to it name: `httproutes`, `httproutes/status`.
    pub(super) fn righted(&self) -> String {
        match &self.subresource {
            None => self.resource.clone(),
            Some(more) => format!("{}/{more}", self.resource),
        }
    }

    /// `meshhttproutes.kuma.io`.
    pub(super) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}
