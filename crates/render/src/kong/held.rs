//! What a Kong with a database has, as one of its nodes reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::{Map, Value};
use weir_model::SplitName;

use crate::kong::base::strings;
use crate::kong::database::Kind;
use crate::kong::entities::said;

/// An entity that a Kong has.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// Its name, if it has one; of a target its address.
    pub name: String,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// All that the Admin API says of it.
    pub fields: Map<String, Value>,
}

impl Row {
    /// Reads what the Admin API gives.
    ///
    /// # Errors
    /// If it is no entity.
    pub fn read(kind: Kind, value: Value) -> Result<Self, String> {
        let Value::Object(fields) = value else {
            return Err(format!("one of its {} is no object", kind.plural()));
        };
        let text = |field: &str| fields.get(field).and_then(Value::as_str).map(str::to_owned);
        let id = text("id").ok_or_else(|| format!("one of its {} has no id", kind.plural()))?;
        Ok(Self {
            kind,
            id,
            name: text(kind.named_by()).unwrap_or_default(),
            tags: strings(fields.get("tags")).map(str::to_owned).collect(),
            fields,
        })
    }

    /// As people know it.
    pub fn called(&self) -> String {
        let name = if self.name.is_empty() {
            &self.id
        } else {
            &self.name
        };
        format!("{} {name}", self.kind)
    }

    pub(crate) fn weight(&self) -> u64 {
        self.fields.get("weight").and_then(Value::as_u64).unwrap_or(0)
    }

    /// Where a target listens; none if it is a name, or no target.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let address: SocketAddr = self.name.parse().ok()?;
        Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// The split that its tags name.
    pub fn split(&self) -> Option<SplitName> {
        said(&self.tags, "split")?.parse().ok()
    }
}

/// What a Kong with a database has that is ours, or stands where ours has to: as one of its nodes reads it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Held {
    /// Upstreams, services and routes.
    pub rows: Vec<Row>,
    /// The targets of the upstreams, by the id of the upstream.
    pub targets: BTreeMap<String, Vec<Row>>,
    /// Plugins of the kind by which requests are counted: all of them where that is chosen, else those that are ours.
    pub plugins: Vec<Row>,
}

impl Held {
    pub(crate) fn of(&self, kind: Kind) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.kind == kind)
    }

    pub(crate) fn under(&self, upstream: &Row) -> impl Iterator<Item = &Row> {
        self.targets.get(&upstream.id).into_iter().flatten()
    }
}
