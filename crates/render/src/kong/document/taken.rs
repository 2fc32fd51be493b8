//! Services of the base that splits take over, and what their backends are called in `Host`.

use serde_json::Value;
use serde_json::value::RawValue;
use weir_model::{Protocol, SplitName, Via};

use super::written::name_of;
use super::{AtDoor, Conflict, Prepared, of_door};
use crate::kong::base::{self, Found, Reading, Taken};
use crate::kong::entities::{self, Names, name};

/// Kong's own.
const DEFAULT_RETRIES: u64 = 5;

impl Prepared<'_> {
    pub(super) fn host_of_names(&mut self, at: &AtDoor<'_>) {
        let split = &at.item.split;
        match entities::one_name(&at.door.via) {
            Names::None => {}
            Names::One(name) => drop(self.hosts.insert(split.clone(), name.to_owned())),
            Names::Several => self.notes.push(format!(
                "split {split}: its backends at this gateway have several names, and Kong calls each by its address in `Host`; \
                 where they go by `Host`, say `preserveHost: true`"
            )),
        }
    }

    /// Takes over a service of the base: its `host`, and all else stays.
    pub(super) fn take(
        &mut self,
        at: &AtDoor<'_>,
        service: &str,
        reading: Option<&Reading<'_>>,
        found: &[Found<'_>],
    ) -> Result<(), Conflict> {
        let split = &at.item.split;
        let no = |what: String, help: &str| of_door(split, what, help);
        let named = |one: &&Found<'_>| {
            one.kind == "services" && one.entity.get("name").and_then(Value::as_str) == Some(service)
        };
        let mut all = found.iter().filter(named);
        let (first, second) = (all.next(), all.next());
        let text = reading.and_then(|reading| named_in(reading, service));
        let text = match (first, second, text) {
            (Some(_), None, Some(text)) => text,
            (Some(_), Some(_), _) => {
                return Err(no(
                    format!("the base has service `{service}` twice"),
                    "remove one of both",
                ));
            }
            (Some(_), None, None) => {
                return Err(no(
                    format!("service `{service}` of the base is written inside of another entity"),
                    "write it in the base's own list of services",
                ));
            }
            (None, ..) => {
                return Err(no(
                    format!("the gateway's base has no service `{service}`"),
                    "add it to the base, or name one that is there",
                ));
            }
        };
        let (host, port) = match (&at.door.via, at.item.routes.last()) {
            (Via::Mesh(address), _) => {
                let (host, port) = entities::host_and_port(address);
                (host, Some(port))
            }
            (Via::Addresses(_), Some(route)) => (name(split, &route.name), None),
            (Via::Addresses(_), None) => return Err(no("it has no route".to_owned(), "please report it")),
        };
        let taken = base::take_over(text, &host, port).map_err(|why| {
            no(
                format!("service `{service}` of the base: {why}"),
                "write `host`, `port` and `protocol`",
            )
        })?;
        let mesh = matches!(at.door.via, Via::Mesh(_));
        let fits: &[&str] = match (at.item.protocol, mesh) {
            (Protocol::Grpc, true) => &["grpc"],
            (Protocol::Grpc, false) => &["grpc", "grpcs"],
            (_, true) => &["http"],
            (_, false) => &["http", "https"],
        };
        if !fits.contains(&taken.protocol.as_str()) {
            return Err(no(
                format!(
                    "service `{service}` of the base speaks {}, and what this split gives it speaks {}",
                    taken.protocol,
                    fits.join(" or ")
                ),
                "write another protocol in the base or in the split",
            ));
        }
        if !mesh {
            self.host_as_before(split, service, &taken, found);
            self.retries(split, service, first);
        }
        self.taken.insert(service.to_owned(), taken.text);
        self.takers.insert(service.to_owned(), split.clone());
        Ok(())
    }

    /// What its service says of retries is the base's: with Kong's default nobody sees that a backend is down (fact 14).
    fn retries(&mut self, split: &SplitName, service: &str, found: Option<&Found<'_>>) {
        let said = found.and_then(|one| one.entity.get("retries")?.as_u64());
        let retries = said.unwrap_or(DEFAULT_RETRIES);
        if retries > u64::from(entities::RETRIES) {
            self.notes.push(format!(
                "split {split}: service `{service}` of the base tries {retries} other targets where one takes no connection{}: of a \
                 backend that is down nobody sees an error, its share goes to the others; write `retries: {}` in the base to see it",
                if said.is_none() { ", which is Kong's default" } else { "" },
                entities::RETRIES
            ));
        }
    }

    /// Backends of a service that was taken over are called in `Host` what they were called before.
    fn host_as_before(&mut self, split: &SplitName, service: &str, taken: &Taken, found: &[Found<'_>]) {
        let text =
            |one: &Found<'_>, field: &str| one.entity.get(field).and_then(Value::as_str).map(str::to_owned);
        let mut upstreams = found.iter().filter(|one| one.kind == "upstreams");
        let upstream = upstreams.find(|one| text(one, "name").as_ref() == Some(&taken.host));
        let host = match upstream {
            Some(upstream) => {
                self.notes.push(format!(
                    "split {split}: service `{service}` of the base does not use its upstream `{}` any more, nor what that \
                     says of hashing and health checks",
                    taken.host
                ));
                text(upstream, "host_header")
            }
            None => {
                Some(taken.host.clone()).filter(|host| host.bytes().any(|byte| byte.is_ascii_alphabetic()))
            }
        };
        if let Some(host) = host.filter(|host| !host.starts_with('[')) {
            self.hosts.insert(split.clone(), host);
        }
    }
}

fn named_in<'a>(reading: &Reading<'a>, service: &str) -> Option<&'a RawValue> {
    let mut services = reading.list("services").ok()?.into_iter();
    services.find(|text| name_of(text).as_deref() == Some(service))
}
