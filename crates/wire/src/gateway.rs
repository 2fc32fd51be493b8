//! Gateways and doors on their way: what is the same for all splits at a gateway, each item's door there, and what an agent
//! says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use weir_model::{
    Address, AddressError, BackendName, Base, Channel, Door, Entry, GatewayName, ParentRef, Redirect,
    Routing, SourceName, Via,
};
use weir_planner::{
    Counts, Digest, DoorCounting, DoorFact, GatewayPlan, GatewayRef, Generation, Proof, gateway_digest,
};

use crate::item::twice;
use crate::scalar::{hash, read};
use crate::{WireError, v1};

impl From<&GatewayRef> for v1::GatewayRef {
    fn from(gateway: &GatewayRef) -> Self {
        Self {
            gateway: gateway.gateway.to_string(),
            generation: gateway.generation.0,
            digest: gateway.digest.0.to_vec(),
        }
    }
}

impl TryFrom<&v1::GatewayRef> for GatewayRef {
    type Error = WireError;

    fn try_from(from: &v1::GatewayRef) -> Result<Self, WireError> {
        Ok(Self {
            gateway: read("gateway", &from.gateway)?,
            generation: Generation(from.generation),
            digest: Digest(hash("digest", &from.digest)?),
        })
    }
}

pub(crate) fn gateway_out((name, gateway): (&GatewayName, &GatewayPlan)) -> v1::Gateway {
    v1::Gateway {
        gateway: name.to_string(),
        channel: gateway.channel.to_string(),
        in_mesh: gateway.in_mesh,
        base: gateway.base.as_ref().map(|base| v1::Base {
            source: base.source.0.clone(),
            file: base.file.clone(),
            document: base.document.to_string(),
        }),
        generation: gateway.generation.0,
        digest: gateway.digest.0.to_vec(),
        parent: gateway.parent.as_ref().map(|parent| v1::ParentRef {
            namespace: parent.namespace.to_string(),
            name: parent.name.to_string(),
            section: parent.section.as_ref().map(ToString::to_string),
        }),
    }
}

fn parent_in(from: &v1::ParentRef) -> Result<ParentRef, WireError> {
    let section = from.section.as_ref();
    Ok(ParentRef {
        namespace: read("namespace", &from.namespace)?,
        name: read("name", &from.name)?,
        section: section.map(|section| read("section", section)).transpose()?,
    })
}

/// Refuses content that does not match its digest, as for items.
pub(crate) fn gateway_in(from: &v1::Gateway) -> Result<(GatewayName, GatewayPlan), WireError> {
    let channel = match from.channel.as_str() {
        "admin-dbless" => Channel::AdminDbless,
        "admin-db" => Channel::AdminDb,
        "kic" => Channel::Kic,
        other => {
            return Err(WireError::new(
                "channel",
                format!("`{other}` is no channel that is known here"),
            ));
        }
    };
    let gateway = GatewayPlan {
        channel,
        in_mesh: from.in_mesh,
        base: from.base.as_ref().map(|base| Base {
            source: SourceName(base.source.clone()),
            file: base.file.clone(),
            document: base.document.as_str().into(),
        }),
        parent: from.parent.as_ref().map(parent_in).transpose()?,
        generation: Generation(from.generation),
        digest: Digest(hash("digest", &from.digest)?),
    };
    let computed = gateway_digest(&gateway);
    if computed != gateway.digest {
        return Err(WireError::new(
            "digest",
            format!(
                "the content is {}, but the message says {}: it was changed on its way, or made by a version that means something else by it",
                computed.short(),
                gateway.digest.short()
            ),
        ));
    }
    Ok((read("gateway", &from.gateway)?, gateway))
}

pub(crate) fn door_out((name, door): (&GatewayName, &Door)) -> v1::Door {
    use v1::door::{Entry as EntryOut, Reach};
    let texts = |set: &BTreeSet<String>| set.iter().cloned().collect();
    let entry = match &door.entry {
        Entry::Service(service) => EntryOut::Service(service.clone()),
        Entry::HttpRoute(route) => EntryOut::HttpRoute(route.clone()),
        Entry::Routes(routing) => EntryOut::Routes(v1::Routing {
            hosts: texts(&routing.hosts),
            paths: texts(&routing.paths),
            methods: texts(&routing.methods),
            headers: routing
                .headers
                .iter()
                .map(|(name, values)| v1::RoutingHeader {
                    name: name.clone(),
                    values: texts(values),
                })
                .collect(),
            https_only: routing.https_only,
            strip_path: routing.strip_path,
            preserve_host: routing.preserve_host,
            snis: texts(&routing.snis),
            https_redirect: match routing.https_redirect.is_default() {
                true => 0,
                false => routing.https_redirect.code().into(),
            },
        }),
    };
    let reach = match &door.via {
        Via::Mesh(address) => Reach::Mesh(address.to_string()),
        Via::Addresses(backends) => Reach::Addresses(v1::Reached {
            backends: backends
                .iter()
                .map(|(backend, addresses)| v1::BackendAddresses {
                    backend: backend.to_string(),
                    addresses: addresses.iter().map(ToString::to_string).collect(),
                })
                .collect(),
        }),
    };
    v1::Door {
        gateway: name.to_string(),
        entry: Some(entry),
        reach: Some(reach),
    }
}

/// 0 is what whoever knows of no other says.
fn redirect_in(code: u32) -> Result<Redirect, WireError> {
    let known = match code {
        0 => Some(Redirect::default()),
        code => u16::try_from(code).ok().and_then(Redirect::of_code),
    };
    known.ok_or_else(|| {
        WireError::new(
            "https_redirect",
            format!("{code} is no status that Kong answers with"),
        )
    })
}

pub(crate) fn door_in(from: &v1::Door) -> Result<(GatewayName, Door), WireError> {
    use v1::door::{Entry as EntryIn, Reach};
    let entry = match from
        .entry
        .as_ref()
        .ok_or_else(|| WireError::new("entry", "there is none"))?
    {
        EntryIn::Service(service) => Entry::Service(service.clone()),
        EntryIn::HttpRoute(route) => Entry::HttpRoute(route.clone()),
        EntryIn::Routes(routing) => {
            let mut headers = BTreeMap::new();
            for header in &routing.headers {
                let values = once("headers.values", &header.values)?;
                if headers.insert(header.name.clone(), values).is_some() {
                    return Err(twice("headers", &header.name));
                }
            }
            Entry::Routes(Routing {
                hosts: once("hosts", &routing.hosts)?,
                paths: once("paths", &routing.paths)?,
                methods: once("methods", &routing.methods)?,
                headers,
                snis: once("snis", &routing.snis)?,
                https_only: routing.https_only,
                https_redirect: redirect_in(routing.https_redirect)?,
                strip_path: routing.strip_path,
                preserve_host: routing.preserve_host,
            })
        }
    };
    let via = match from
        .reach
        .as_ref()
        .ok_or_else(|| WireError::new("reach", "there is none"))?
    {
        Reach::Mesh(address) => Via::Mesh(address_in("mesh", address)?),
        Reach::Addresses(reached) => {
            let mut backends: BTreeMap<BackendName, BTreeSet<Address>> = BTreeMap::new();
            for of in &reached.backends {
                let read_one = |text: &String| address_in("addresses", text);
                let addresses: BTreeSet<Address> =
                    of.addresses.iter().map(read_one).collect::<Result<_, _>>()?;
                if backends
                    .insert(read("backend", &of.backend)?, addresses)
                    .is_some()
                {
                    return Err(twice("addresses", &of.backend));
                }
            }
            Via::Addresses(backends)
        }
    };
    Ok((read("gateway", &from.gateway)?, Door { entry, via }))
}

fn address_in(field: &str, text: &str) -> Result<Address, WireError> {
    Address::new(text).map_err(|error: AddressError| WireError::new(field, format!("`{text}`: {error}")))
}

fn once<T: FromStr<Err: Display> + Ord>(field: &str, texts: &[String]) -> Result<BTreeSet<T>, WireError> {
    let mut set = BTreeSet::new();
    for text in texts {
        if !set.insert(read(field, text)?) {
            return Err(twice(field, text));
        }
    }
    Ok(set)
}

pub(crate) fn door_fact_out((name, fact): (&GatewayName, &DoorFact)) -> v1::DoorFact {
    let (counts, unplaced, uncounted) = match &fact.counting {
        None => (None, 0, String::new()),
        Some(DoorCounting::Counted { counts, unplaced }) => {
            (Some(v1::Counts::from(counts)), *unplaced, String::new())
        }
        Some(DoorCounting::Not(why)) => (None, 0, why.clone()),
    };
    v1::DoorFact {
        counts,
        unplaced,
        uncounted,
        gateway: name.to_string(),
        held: fact.held.clone().unwrap_or_default(),
        proof: fact.proof.as_ref().map(v1::Proof::from),
        dead: fact
            .dead
            .iter()
            .map(|(backend, why)| v1::DeadBackend {
                backend: backend.to_string(),
                why: why.clone(),
            })
            .collect(),
    }
}

pub(crate) fn door_fact_in(from: &v1::DoorFact) -> Result<(GatewayName, DoorFact), WireError> {
    let proof = from
        .proof
        .as_ref()
        .map(Proof::try_from)
        .transpose()
        .map_err(|e| e.within("proof"))?;
    let counts = from.counts.as_ref().map(Counts::try_from).transpose();
    let counting = match counts.map_err(|e| e.within("counts"))? {
        Some(counts) => Some(DoorCounting::Counted {
            counts,
            unplaced: from.unplaced,
        }),
        None => (!from.uncounted.is_empty()).then(|| DoorCounting::Not(from.uncounted.clone())),
    };
    let mut dead = BTreeMap::new();
    for of in &from.dead {
        if dead.insert(read("dead", &of.backend)?, of.why.clone()).is_some() {
            return Err(twice("dead", &of.backend));
        }
    }
    Ok((
        read("gateway", &from.gateway)?,
        DoorFact {
            counting,
            dead,
            held: Some(from.held.clone()).filter(|held| !held.is_empty()),
            proof,
        },
    ))
}
