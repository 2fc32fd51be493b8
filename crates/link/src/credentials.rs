//! What an agent is known by: its key, its certificate, and the certificate authority that it trusts.
//!
//! On disk `cert.pem`, `key.pem` (0600), `ca.pem` in one directory. Key and certificate change together: both are first
//! written beside the old ones, and a reader that finds the change half done takes the pair that belongs together.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::identity::{Identity, IdentityError, certificate_facts};
use crate::{pem, private_file, tls};

/// A key with its certificate.
pub struct Credentials {
    identity: Identity,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Vec<CertificateDer<'static>>,
    starts: Timestamp,
    expires: Timestamp,
}

/// Why credentials are not usable.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file is missing or cannot be read or written.
    #[error("{what} {}: {error}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file holds something else.
    #[error("{} is not {wanted}; join again with a new token", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The certificate carries no agent's name.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No certificate, or none to trust.
    #[error("the coordinator sent {0}")]
    Incomplete(&'static str),
    /// Key and certificate are not a pair.
    #[error("the key and the certificate do not belong together; join again with a new token")]
    Mismatch,
    /// No key could be made.
    #[error("cannot make a key: {0}")]
    Key(String),
}

/// A fresh key, which never leaves this machine, and the request to have it signed.
pub struct KeyAndRequest {
    key: PrivateKeyDer<'static>,
    /// PKCS#10, DER. It names nobody: the coordinator decides whose key it is.
    pub request: Vec<u8>,
}

impl KeyAndRequest {
    /// Makes a key (ECDSA P-256) and its request.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn generate() -> Result<Self, CredentialsError> {
        let failed = |e: rcgen::Error| CredentialsError::Key(e.to_string());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(failed)?;
        Ok(Self {
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            request: request.der().to_vec(),
        })
    }

    /// Joins the key with the certificate that was issued for it.
    ///
    /// # Errors
    /// If they do not belong together or the certificate names nobody.
    pub fn certified(
        self,
        chain: Vec<CertificateDer<'static>>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Credentials, CredentialsError> {
        Credentials::new(chain, self.key, roots)
    }
}

impl Credentials {
    /// Puts key, certificate (leaf first) and roots together.
    ///
    /// # Errors
    /// If they do not belong together or the certificate names nobody.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, CredentialsError> {
        let leaf = chain
            .first()
            .ok_or(CredentialsError::Incomplete("no certificate"))?;
        if roots.is_empty() {
            return Err(CredentialsError::Incomplete("no certificate authority to trust"));
        }
        let facts = certificate_facts(leaf)?;
        let identity = facts.uri.parse()?;
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &tls::provider())
            .map_err(|_| CredentialsError::Mismatch)?;
        Ok(Self {
            identity,
            key,
            roots,
            starts: facts.not_before,
            expires: facts.not_after,
            chain,
        })
    }

    /// Whose they are.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When the certificate ends.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// When it should be renewed: at two thirds of its life.
    pub fn renew_at(&self) -> Timestamp {
        let life = self.starts.duration_until(self.expires);
        self.starts
            .checked_add(SignedDuration::from_secs(life.as_secs() * 2 / 3))
            .unwrap_or(self.expires)
    }

    /// The certificate, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// What to trust.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    pub(crate) fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} until {}", self.identity, self.expires)
    }
}

/// Where an agent keeps its credentials.
#[derive(Debug, Clone)]
pub struct IdentityDir(PathBuf);

impl IdentityDir {
    /// Nothing is touched yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether an agent has joined here.
    pub fn exists(&self) -> bool {
        self.0.join("cert.pem").exists() || self.0.join("next-cert.pem").exists()
    }

    /// Writes credentials, private, so that a crash at any point leaves a whole pair. Blocks.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn store(&self, credentials: &Credentials) -> Result<(), CredentialsError> {
        let certificates = |list: &[CertificateDer<'static>]| -> String {
            list.iter().map(|c| pem::encode("CERTIFICATE", c)).collect()
        };
        let key = match credentials.key() {
            PrivateKeyDer::Pkcs8(der) => pem::encode("PRIVATE KEY", der.secret_pkcs8_der()),
            PrivateKeyDer::Sec1(der) => pem::encode("EC PRIVATE KEY", der.secret_sec1_der()),
            _ => {
                return Err(CredentialsError::Key(
                    "of a kind that cannot be stored".to_owned(),
                ));
            }
        };
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |error| CredentialsError::File { what, path, error }
        };
        private_file::create_dir(&self.0).map_err(failed("cannot create", &self.0))?;
        let write = |name: &str, text: &str, mode| {
            let path = self.0.join(name);
            private_file::write_with_mode(&path, text.as_bytes(), mode).map_err(failed("cannot write", &path))
        };
        let rename = |from: &str, to: &str| {
            let to = self.0.join(to);
            fs::rename(self.0.join(from), &to).map_err(failed("cannot replace", &to))
        };
        write("ca.pem", &certificates(credentials.roots()), 0o644)?;
        write("next-key.pem", &key, 0o600)?;
        write("next-cert.pem", &certificates(credentials.chain()), 0o644)?;
        rename("next-key.pem", "key.pem")?;
        rename("next-cert.pem", "cert.pem")?;
        fs::File::open(&self.0)
            .and_then(|dir| dir.sync_all())
            .map_err(failed("cannot sync", &self.0))
    }

    /// Reads the newest whole pair. Blocks.
    ///
    /// # Errors
    /// If there is none, with the file that is wrong.
    pub fn load(&self) -> Result<Credentials, CredentialsError> {
        let roots = self.certificates("ca.pem")?;
        // The usual pair last, so that its error is the one that is told.
        let mut answer = None;
        for (cert, key) in [
            ("next-cert.pem", "next-key.pem"),
            ("next-cert.pem", "key.pem"),
            ("cert.pem", "key.pem"),
        ] {
            let pair = self.certificates(cert).and_then(|chain| {
                let path = self.0.join(key);
                let text = read(&path)?;
                let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| CredentialsError::Content {
                    path,
                    wanted: "a private key in PEM",
                })?;
                Credentials::new(chain, key, roots.clone())
            });
            match (&answer, pair) {
                (Some(Ok(_)), _) => break,
                (_, pair) => answer = Some(pair),
            }
        }
        answer.unwrap_or(Err(CredentialsError::Incomplete("nothing")))
    }

    fn certificates(&self, name: &str) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
        let path = self.0.join(name);
        let text = read(&path)?;
        let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        list.ok()
            .filter(|list| !list.is_empty())
            .ok_or(CredentialsError::Content {
                path,
                wanted: "a certificate in PEM",
            })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    fs::read(path).map_err(|error| CredentialsError::File {
        what: "cannot read",
        path: path.to_owned(),
        error,
    })
}
