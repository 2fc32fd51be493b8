//! How to get at a cluster's API server: from inside, by the ServiceAccount, or from outside, by a kubeconfig.
//!
//! What decides whom to trust is kube's; who we are is `credential`'s, because kube runs a credential plugin without a time
//! limit on the thread that waits for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::FutureExt as _;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use secrecy::ExposeSecret as _;

use super::credential::{Credential, Plugin};
use super::meaning;
use crate::{DriverError, Fault};

/// Which cluster, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cluster {
    /// The one that the agent runs in, as its ServiceAccount.
    InCluster,
    /// The one that a kubeconfig names.
    Kubeconfig {
        /// The file. `KUBECONFIG` and `~/.kube/config` are not looked at: what an agent drives is written down.
        file: PathBuf,
        /// A context of it; its current one if none is given.
        context: Option<String>,
    },
}

/// What is needed to speak to an API server.
pub(crate) struct Access {
    pub(crate) client: Client,
    pub(crate) credential: Credential,
    /// Its address, for people.
    pub(crate) server: String,
}

impl Access {
    /// Reads what the cluster's settings name. Nothing is dialled, no plugin is run.
    pub(crate) fn open(cluster: &Cluster, connect: Duration) -> Result<Self, DriverError> {
        let (mut config, place) = match cluster {
            Cluster::InCluster => (in_cluster()?, "the ServiceAccount of this pod".to_owned()),
            Cluster::Kubeconfig { file, context } => {
                (kubeconfig(file, context.as_deref())?, file.display().to_string())
            }
        };
        let server = config.cluster_url.to_string();
        if config.accept_invalid_certs {
            return Err(setup(
                &place,
                "it says insecure-skip-tls-verify: whoever sits between would be believed".to_owned(),
                "name the cluster's certificate authority there (certificate-authority-data)",
            ));
        }
        let base = match cluster {
            Cluster::Kubeconfig { file, .. } => file.parent(),
            Cluster::InCluster => None,
        };
        let credential = credential(&place, &config.auth_info, base)?;
        // kube keeps what identifies us by certificate; all else is ours.
        config.auth_info = AuthInfo {
            client_certificate: config.auth_info.client_certificate.take(),
            client_certificate_data: config.auth_info.client_certificate_data.take(),
            client_key: config.auth_info.client_key.take(),
            client_key_data: config.auth_info.client_key_data.take(),
            ..AuthInfo::default()
        };
        config.connect_timeout = Some(connect);
        // The next activation is the only retry.
        config.default_retry = false;
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(setup(
                &place,
                "no TLS provider is installed in this program".to_owned(),
                "this is a bug, please report it",
            ));
        }
        let client = Client::try_from(config).map_err(|error| {
            setup(
                &place,
                meaning::chain(&error),
                "are its certificates and keys readable, and in PEM?",
            )
        })?;
        Ok(Self {
            client,
            credential,
            server,
        })
    }
}

fn setup(place: &str, why: String, help: &str) -> DriverError {
    DriverError::new(
        format!("access to the cluster by {place}"),
        why,
        Fault::Setup,
        help.to_owned(),
    )
}

fn in_cluster() -> Result<Config, DriverError> {
    Config::incluster().map_err(|error| {
        setup(
            "the ServiceAccount of this pod",
            meaning::chain(&error),
            "in a pod, let its ServiceAccount's token be mounted (automountServiceAccountToken); elsewhere, name a \
             kubeconfig with kuma.kubernetes.kubeconfig",
        )
    })
}

fn kubeconfig(file: &Path, context: Option<&str>) -> Result<Config, DriverError> {
    let place = file.display().to_string();
    let wrong = |why: String| {
        setup(
            &place,
            why,
            "give a readable kubeconfig (aws eks update-kubeconfig writes one) and a context that it has",
        )
    };
    let read = Kubeconfig::read_from(file).map_err(|error| wrong(meaning::chain(&error)))?;
    let name = context
        .map(str::to_owned)
        .or_else(|| read.current_context.clone());
    let cluster = read.contexts.iter().find(|c| Some(&c.name) == name.as_ref());
    let cluster = cluster.and_then(|c| c.context.as_ref()).map(|c| &c.cluster);
    let proxied = read
        .clusters
        .iter()
        .filter(|c| Some(&c.name) == cluster)
        .any(|c| {
            c.cluster
                .as_ref()
                .is_some_and(|c| c.proxy_url.as_ref().is_some_and(|url| !url.is_empty()))
        });
    if proxied {
        return Err(wrong(
            "it names a proxy (proxy-url), through which Weir does not go".to_owned(),
        ));
    }
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    // It is async by its signature alone.
    let mut config = Config::from_custom_kubeconfig(read, &options)
        .now_or_never()
        .ok_or_else(|| wrong("it cannot be read at once".to_owned()))?
        .map_err(|error| wrong(meaning::chain(&error)))?;
    // A proxy of the environment is no setting of the agent's.
    config.proxy_url = None;
    Ok(config)
}

fn credential(place: &str, user: &AuthInfo, base: Option<&Path>) -> Result<Credential, DriverError> {
    if user.auth_provider.is_some() {
        return Err(setup(
            place,
            "its user has an auth-provider, which Kubernetes itself has given up".to_owned(),
            "use a credential plugin (exec), as the cloud's own command line writes it today",
        ));
    }
    if user.username.is_some() || user.impersonate.is_some() {
        return Err(setup(
            place,
            "its user has a password, or is to act as somebody else".to_owned(),
            "use a token, a client certificate, or a credential plugin (exec)",
        ));
    }
    let relative = |path: &str| match base {
        Some(base) => base.join(path),
        None => PathBuf::from(path),
    };
    Ok(if let Some(exec) = &user.exec {
        Credential::Plugin(Plugin::new(exec, base).map(Box::new).map_err(|why| {
            setup(
                place,
                why,
                "look at the user's `exec` there; `kubectl get --raw /version` with this kubeconfig should work",
            )
        })?)
    } else if let Some(token) = &user.token {
        Credential::Token(token.expose_secret().to_owned())
    } else if let Some(file) = &user.token_file {
        Credential::File(relative(file))
    } else {
        Credential::Certificate
    })
}
