//! Who may speak to an API server and how each side knows the other: an authority of its own, the server's certificate,
//! the key of ServiceAccount tokens, a token file, and a kubeconfig for each user.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

/// Somebody whom the API server knows by a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// What its kubeconfig is called.
    pub file: String,
    /// Its name to the API server.
    pub name: String,
    /// Its groups.
    pub groups: Vec<String>,
}

impl User {
    /// May do everything.
    pub fn admin() -> Self {
        Self {
            file: "admin".into(),
            name: "admin".into(),
            groups: vec!["system:masters".into()],
        }
    }

    /// What a pod with this ServiceAccount is: role bindings to the account hold for it.
    pub fn service_account(namespace: &str, account: &str) -> Self {
        Self {
            file: account.into(),
            name: format!("system:serviceaccount:{namespace}:{account}"),
            groups: vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
            ],
        }
    }

    /// Somebody else, with no rights but those that are given to this name.
    pub fn named(name: &str) -> Self {
        Self {
            file: name.into(),
            name: name.into(),
            groups: Vec::new(),
        }
    }
}

/// A certificate authority for servers on 127.0.0.1.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes a certificate for a server on 127.0.0.1 and its key.
    ///
    /// # Errors
    /// If they cannot be made or written.
    pub fn serve(&self, certificate: &Path, key: &Path) -> anyhow::Result<()> {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        params
            .distinguished_name
            .push(DnType::CommonName, "a server on loopback");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let pair = KeyPair::generate()?;
        let made = params.signed_by(&pair, &self.issuer)?;
        std::fs::write(certificate, made.pem())?;
        crate::real::write_private(key, &pair.serialize_pem())
    }
}

/// What lies on disk for one API server.
#[derive(Debug)]
pub(crate) struct Identity {
    dir: PathBuf,
    server: String,
    authority: String,
    users: Vec<(User, String)>,
}

impl Identity {
    /// Makes everything below `dir`.
    pub(crate) fn make(dir: &Path, server: &str, users: &[User]) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let authority = Authority::new("weir-sandbox-cluster")?;
        authority.serve(&dir.join("server.crt"), &dir.join("server.key"))?;
        std::fs::write(dir.join("ca.crt"), authority.pem())?;
        let accounts = KeyPair::generate()?;
        crate::real::write_private(&dir.join("accounts.key"), &accounts.serialize_pem())?;
        std::fs::write(dir.join("accounts.pub"), accounts.public_key_pem())?;
        let mut here = Self {
            dir: dir.to_path_buf(),
            server: server.to_owned(),
            authority: authority.pem(),
            users: Vec::new(),
        };
        for user in users {
            // A fresh key's digest: as hard to guess as the key.
            let token = blake3::hash(KeyPair::generate()?.serialize_pem().as_bytes()).to_hex();
            here.users.push((user.clone(), token.to_string()));
        }
        let mut lines = String::new();
        for (id, (user, token)) in here.users.iter().enumerate() {
            lines += &format!("{token},{},{id},\"{}\"\n", user.name, user.groups.join(","));
        }
        crate::real::write_private(&dir.join("tokens.csv"), &lines)?;
        for (user, token) in &here.users {
            crate::real::write_private(&here.kubeconfig(user), &here.config(user, token))?;
        }
        Ok(here)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) fn kubeconfig(&self, user: &User) -> PathBuf {
        self.dir.join(format!("{}.kubeconfig", user.file))
    }

    pub(crate) fn token(&self, user: &User) -> anyhow::Result<&str> {
        let known = self.users.iter().find(|(known, _)| known == user);
        let (_, token) = known.with_context(|| format!("this cluster has no user {}", user.name))?;
        Ok(token)
    }

    /// JSON is YAML.
    fn config(&self, user: &User, token: &str) -> String {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "sandbox",
            "clusters": [{"name": "sandbox", "cluster": {
                "server": self.server, "certificate-authority": self.dir.join("ca.crt"),
            }}],
            "users": [{"name": user.file, "user": {"token": token}}],
            "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": user.file}}],
        });
        format!("{config:#}\n")
    }
}
