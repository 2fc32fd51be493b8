//! A service of a gateway's base that a split takes over.

use serde_json::Value as Json;

use super::Check;
use crate::codes;
use crate::declaration::Protocol;
use crate::diagnostic::Diagnostic;
use crate::draft::SplitDraft;
use crate::gateway::{Channel, Gateway};
use crate::names::ZoneName;
use crate::nearest::nearest;
use crate::reader::At;

impl Check<'_> {
    /// The service of the base that a split takes over: there, once, and of a form in which only its `host` decides where
    /// requests go.
    pub(super) fn base_service(
        &mut self,
        draft: &SplitDraft,
        name: &At<String>,
        gateway: &Gateway,
        zone: &ZoneName,
    ) -> bool {
        let parsed = gateway
            .base
            .as_ref()
            .map(|base| (base, serde_json::from_str::<Json>(&base.document)));
        let refuse = |check: &mut Self, message: String, help: &str| {
            let diagnostic =
                Diagnostic::error(codes::BASE_SERVICE, message, name.place.label("this service"));
            check.push(diagnostic.also(gateway.place.label("the gateway")).help(help));
            false
        };
        let Some((base, Ok(document))) = parsed else {
            let message = format!(
                "the gateway `{}` of the zone `{zone}` has no base to take a service from",
                gateway.name
            );
            let help = match gateway.channel {
                Channel::AdminDb => {
                    "in a database Weir touches nothing but its own: say which `hosts` and `paths` the split's own route takes"
                }
                Channel::AdminDbless | Channel::Kic => {
                    "name its `base`, or say which `hosts` and `paths` the split's own route takes"
                }
            };
            return refuse(self, message, help);
        };
        let services = document.get("services").and_then(Json::as_array);
        let named = |service: &&Json| service.get("name").and_then(Json::as_str) == Some(name.value.as_str());
        let found: Vec<&Json> = services.into_iter().flatten().filter(named).collect();
        let service = match found.as_slice() {
            [service] => *service,
            [] => {
                let names = services.into_iter().flatten();
                let names = names.filter_map(|service| service.get("name").and_then(Json::as_str));
                let help = match nearest(&name.value, names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!(
                        "add it to {}, or say which `hosts` and `paths` the split's own route takes",
                        base.file
                    ),
                };
                return refuse(
                    self,
                    format!("{} has no service `{}`", base.file, name.value),
                    &help,
                );
            }
            _ => {
                return refuse(
                    self,
                    format!("{} has several services `{}`", base.file, name.value),
                    "keep one of them",
                );
            }
        };
        if service.get("url").is_some() {
            let message = format!(
                "the service `{}` in {} is given by its `url`",
                name.value, base.file
            );
            return refuse(
                self,
                message,
                "give its `protocol`, `host`, `port` and `path` instead: Weir sets `host` alone",
            );
        }
        let protocol = service.get("protocol").and_then(Json::as_str).unwrap_or("http");
        let wanted: &[&str] = match draft.protocol.as_ref().map(|at| at.value) {
            Some(Protocol::Grpc) => &["grpc", "grpcs"],
            _ => &["http", "https"],
        };
        if !wanted.contains(&protocol) {
            let message = format!("the service `{}` in {} speaks {protocol}", name.value, base.file);
            return refuse(self, message, "its `protocol` must be the split's");
        }
        true
    }
}
