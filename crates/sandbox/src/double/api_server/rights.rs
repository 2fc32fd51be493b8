//! Who somebody is, by a token file, and what they may, by the roles and bindings in the store (RBAC). Pure.

use serde_json::Value;

use super::kinds::{TYPES, Target};
use super::store::Store;

/// Somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Somebody {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

/// Whom the server knows, by token.
#[derive(Debug, Clone)]
pub(super) struct Tokens(Vec<(String, Somebody)>);

impl Tokens {
    /// Reads lines of `token,name,id,"group,group"`.
    pub(super) fn read(text: &str) -> Self {
        let line = |line: &str| {
            let (token, rest) = line.split_once(',')?;
            let (name, rest) = rest.split_once(',')?;
            let (_, groups) = rest.split_once(',')?;
            let groups = groups.trim_matches('"').split(',').filter(|g| !g.is_empty());
            let somebody = Somebody {
                name: name.to_owned(),
                groups: groups
                    .chain(["system:authenticated"])
                    .map(str::to_owned)
                    .collect(),
            };
            Some((token.to_owned(), somebody))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// Who comes with this `Authorization`; none if the token is nobody's.
    pub(super) fn who(&self, authorization: Option<&str>) -> Option<Somebody> {
        let Some(given) = authorization else {
            return Some(Somebody {
                name: "system:anonymous".into(),
                groups: vec!["system:unauthenticated".into()],
            });
        };
        let token = given.strip_prefix("Bearer ")?;
        self.0
            .iter()
            .find(|(t, _)| t == token)
            .map(|(_, who)| who.clone())
    }
}

impl Somebody {
    fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Whether this path, which is no object's, may be read: everybody's or everybody's with a name.
    pub(super) fn may_look(&self, path: &str) -> bool {
        let open = matches!(path, "/version" | "/readyz" | "/healthz" | "/livez");
        open || self.is_in("system:authenticated")
    }

    fn is_subject(&self, binding: &Value) -> bool {
        let fits = |subject: &Value| {
            let text = |key: &str| subject[key].as_str().unwrap_or_default();
            match text("kind") {
                "User" => text("name") == self.name,
                "Group" => self.is_in(text("name")),
                "ServiceAccount" => {
                    self.name == format!("system:serviceaccount:{}:{}", text("namespace"), text("name"))
                }
                _ => false,
            }
        };
        binding["subjects"].as_array().into_iter().flatten().any(fits)
    }

    /// Whether a verb on a target is allowed by any role that is bound to them.
    pub(super) fn may(&self, store: &Store, verb: &str, target: &Target) -> bool {
        if self.is_in("system:masters") {
            return true;
        }
        let kind = |kind: &str| TYPES.iter().find(|t| t.kind == kind);
        let (Some(roles), Some(bindings), Some(everywhere), Some(bound_everywhere)) = (
            kind("Role"),
            kind("RoleBinding"),
            kind("ClusterRole"),
            kind("ClusterRoleBinding"),
        ) else {
            return false;
        };
        let allows = |role: Option<&Value>| {
            let rules = role.and_then(|r| r["rules"].as_array());
            rules
                .into_iter()
                .flatten()
                .any(|rule| permits(rule, verb, target))
        };
        let named = |binding: &Value| binding["roleRef"]["name"].as_str().unwrap_or_default().to_owned();
        let cluster_role = |binding: &Value| store.get(&(everywhere, String::new(), named(binding)));
        let wide = store.all(bound_everywhere, None).map(|(_, b)| b);
        if wide
            .filter(|b| self.is_subject(b))
            .any(|b| allows(cluster_role(b)))
        {
            return true;
        }
        let Some(namespace) = target.namespace.as_deref() else {
            return false;
        };
        let narrow = store.all(bindings, Some(namespace)).map(|(_, b)| b);
        narrow.filter(|b| self.is_subject(b)).any(|b| {
            let role = if b["roleRef"]["kind"] == "Role" {
                store.get(&(roles, namespace.to_owned(), named(b)))
            } else {
                cluster_role(b)
            };
            allows(role)
        })
    }
}

fn permits(rule: &Value, verb: &str, target: &Target) -> bool {
    let has = |key: &str, wanted: &str| {
        let listed = rule[key].as_array().into_iter().flatten();
        listed
            .filter_map(Value::as_str)
            .any(|one| one == wanted || one == "*")
    };
    let names = rule["resourceNames"].as_array().is_none_or(|names| {
        names.is_empty()
            || names
                .iter()
                .any(|n| n.as_str().is_some() && n.as_str() == target.name.as_deref())
    });
    has("verbs", verb) && has("apiGroups", &target.group) && has("resources", &target.righted()) && names
}
