//! Which definitions of Kuma's and of Kong's types a cluster gets: the published ones where they are, and small ones of our own
//! where not. The published ones are not part of Weir.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

use super::api::{documents, documents_in};

/// The folder of Kuma's definitions inside the folder of all of them.
const KUMA: &str = "kuma-2.14.3";
/// The folder of those that Kong Ingress Controller 3.5 pins.
const KIC: &str = "kic-3.5";

/// Definitions and where they are from.
#[derive(Debug, Clone)]
pub struct Definitions {
    /// Where they are from.
    pub source: Source,
    /// The definitions.
    pub documents: Vec<Value>,
}

/// Where definitions are from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// As they were published, from this folder.
    Published(PathBuf),
    /// Our own small ones: names, scopes and lists as in the published ones, but hardly any schema.
    Own,
}

impl Definitions {
    /// Kuma's, from the folder `WEIR_CRDS` or, where that is not set, from `beside`; our own if `beside` is not there.
    ///
    /// # Errors
    /// If `WEIR_CRDS` names no such folder, or a file in it is not what it should be.
    pub fn find(beside: &Path) -> anyhow::Result<Self> {
        Self::in_folder(KUMA, beside, Self::own)
    }

    /// Those of Kong's that Kong Ingress Controller reads (`configuration.konghq.com`), in the same way.
    ///
    /// # Errors
    /// As of [`Self::find`].
    pub fn of_kong(beside: &Path) -> anyhow::Result<Self> {
        Self::in_folder(KIC, beside, Self::own_of_kong)
    }

    fn in_folder(
        folder: &str,
        beside: &Path,
        own: impl FnOnce() -> anyhow::Result<Self>,
    ) -> anyhow::Result<Self> {
        let named = std::env::var_os("WEIR_CRDS").filter(|dir| !dir.is_empty());
        let dir = match &named {
            Some(dir) => PathBuf::from(dir).join(folder),
            None => beside.join(folder),
        };
        if named.is_none() && !dir.is_dir() {
            return own();
        }
        let documents = documents_in(&dir).context("WEIR_CRDS, or the folder beside the checkout")?;
        anyhow::ensure!(!documents.is_empty(), "{} holds no definition", dir.display());
        Ok(Self {
            source: Source::Published(dir),
            documents,
        })
    }

    /// Our own small ones.
    ///
    /// # Errors
    /// If they are no YAML.
    pub fn own() -> anyhow::Result<Self> {
        Ok(Self {
            source: Source::Own,
            documents: documents(include_str!("definitions.yaml"))?,
        })
    }

    /// Our own small ones of Kong's types.
    ///
    /// # Errors
    /// If they are no YAML.
    pub fn own_of_kong() -> anyhow::Result<Self> {
        Ok(Self {
            source: Source::Own,
            documents: documents(include_str!("definitions_kong.yaml"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_serve_where_no_published_ones_are() {
        let nowhere = tempfile::tempdir().expect("a directory");
        // Where somebody set the variable, this says nothing.
        if std::env::var_os("WEIR_CRDS").is_some_and(|d| !d.is_empty()) {
            return;
        }
        let names = |found: anyhow::Result<Definitions>| {
            let found = found.expect("our own");
            assert_eq!(found.source, Source::Own);
            let documents = found.documents.iter();
            let names = documents.filter_map(|d| d["spec"]["names"]["plural"].as_str());
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            names(Definitions::of_kong(nowhere.path())),
            ["kongplugins", "kongconsumers", "kongupstreampolicies"]
        );
        assert_eq!(
            names(Definitions::find(nowhere.path())),
            [
                "meshes",
                "meshservices",
                "meshmultizoneservices",
                "meshhttproutes",
                "meshtcproutes",
                "dataplanes",
                "dataplaneinsights"
            ]
        );
    }
}
