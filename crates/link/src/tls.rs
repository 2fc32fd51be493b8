//! TLS 1.3 both ways, by rustls on aws-lc-rs, key exchange X25519MLKEM768 where the peer can.
//!
//! An agent trusts the federation's own certificate authority and the name `spiffe://<federation>/coordinator`, never a
//! host name: the coordinator may stand behind any address. No session is resumed: each connection proves itself anew,
//! so that a renewed or expired certificate shows at once.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, PeerIncompatible, RootCertStore,
    ServerConfig, SignatureScheme,
};

use crate::credentials::Credentials;
use crate::identity::{certificate_facts, coordinator_uri};

/// The one provider of cryptography in the tree.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Makes the provider the process's default, for those libraries that ask for one (HTTP clients). Once in each `main`;
/// a second call changes nothing.
pub fn install_provider() {
    // An error only says that one is installed already: it is this one, there is no other in the tree.
    drop(aws_lc_rs::default_provider().install_default());
}

/// Why TLS could not be set up on this side.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot set up TLS: {0}")]
pub struct TlsError(String);

fn setup(what: impl fmt::Display) -> TlsError {
    TlsError(what.to_string())
}

/// The first 16 bytes of the SHA-256 of a certificate: 32 hex digits in a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Of a certificate in DER.
    pub fn of(der: &[u8]) -> Self {
        let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, der);
        let mut half = [0; 16];
        half.copy_from_slice(&digest.as_ref()[..16]);
        Self(half)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || "a fingerprint is 32 lower hex digits".to_owned();
        if text.len() != 32
            || !text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return Err(refuse());
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| refuse())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| refuse())?;
        }
        Ok(Self(bytes))
    }
}

/// The coordinator's side. Its certificate can be replaced while it serves; connections that stand are not touched.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
}

struct Current(ArcSwap<CertifiedKey>);

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server's certificate")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ServerTls {
    /// Serves with `chain` (leaf first, the certificate authority last: joining agents look at it) and asks callers for
    /// certificates of `roots`. A caller without one is let in: it brings a token.
    ///
    /// # Errors
    /// If key and certificate do not belong together or cannot be read.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: &[CertificateDer<'static>],
    ) -> Result<Self, TlsError> {
        let provider = provider();
        let current = Arc::new(Current(ArcSwap::from_pointee(
            CertifiedKey::from_der(chain, key, &provider).map_err(setup)?,
        )));
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(root_store(roots)?), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(setup)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(setup)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            current,
        })
    }

    /// From the next connection on, serves with this certificate.
    ///
    /// # Errors
    /// If key and certificate do not belong together; then the old one stays.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        let next = CertifiedKey::from_der(chain, key, &provider()).map_err(setup)?;
        self.current.0.store(Arc::new(next));
        Ok(())
    }

    /// The certificate that the next connection sees, in DER.
    pub fn shown(&self) -> Option<CertificateDer<'static>> {
        self.current.0.load().cert.first().cloned()
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

fn root_store(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(setup)?;
    }
    Ok(store)
}

/// Whom a client takes for its coordinator.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// While joining: whoever shows the certificate authority of the token.
    Authority(Fingerprint),
    /// Ever after: the coordinator of this federation, by one of these roots.
    Coordinator {
        federation: String,
        roots: Vec<CertificateDer<'static>>,
    },
}

/// Why a coordinator was not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// None of the certificates shown is the token's.
    #[error(
        "it shows another certificate authority than the one that made the token (token {token}, shown {shown}): \
         this is another coordinator, or somebody stands in between; check the address, or create the token anew"
    )]
    OtherAuthority {
        /// The token's.
        token: Fingerprint,
        /// What was shown, in words.
        shown: String,
    },
    /// A certificate that is no coordinator's.
    #[error("its certificate is no coordinator's: {0}")]
    NotACoordinator(String),
    /// The coordinator of another federation.
    #[error("it is the coordinator of another federation: it is named `{shown}`, wanted is `{wanted}`")]
    OtherFederation {
        /// Ours.
        wanted: String,
        /// Theirs.
        shown: String,
    },
}

fn untrusted(why: Untrusted) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

/// Certificates are checked for issuer, dates, purpose and the coordinator's name; the host name says nothing.
#[derive(Debug)]
struct CoordinatorOnly {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for CoordinatorOnly {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut store = RootCertStore::empty();
        match &self.trust {
            Trust::Authority(wanted) => {
                let shown = others.iter().find(|c| Fingerprint::of(c) == *wanted);
                let root = shown.ok_or_else(|| {
                    let shown: Vec<String> = others.iter().map(|c| Fingerprint::of(c).to_string()).collect();
                    untrusted(Untrusted::OtherAuthority {
                        token: *wanted,
                        shown: if shown.is_empty() {
                            "none".to_owned()
                        } else {
                            shown.join(", ")
                        },
                    })
                })?;
                store.add(root.clone().into_owned())?;
            }
            Trust::Coordinator { roots, .. } => {
                for root in roots {
                    store.add(root.clone())?;
                }
            }
        }
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(leaf)?,
            &store,
            &[],
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        let name = certificate_facts(leaf)
            .map_err(|e| untrusted(Untrusted::NotACoordinator(e.to_string())))?
            .uri;
        if let Trust::Coordinator { federation, .. } = &self.trust {
            let wanted = coordinator_uri(federation)
                .map_err(|e| untrusted(Untrusted::NotACoordinator(e.to_string())))?;
            if name != wanted {
                return Err(untrusted(Untrusted::OtherFederation { wanted, shown: name }));
            }
        } else if !name.ends_with("/coordinator") {
            return Err(untrusted(Untrusted::NotACoordinator(format!(
                "it is named `{name}`"
            ))));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn client(trust: Trust, credentials: Option<&Credentials>) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = CoordinatorOnly {
        trust,
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match credentials {
        None => builder.with_no_client_auth(),
        Some(c) => builder
            .with_client_auth_cert(c.chain().to_vec(), c.key().clone_key())
            .map_err(setup)?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

pub(crate) fn joining(authority: Fingerprint) -> Result<ClientConfig, TlsError> {
    client(Trust::Authority(authority), None)
}

pub(crate) fn joined(credentials: &Credentials) -> Result<ClientConfig, TlsError> {
    let trust = Trust::Coordinator {
        federation: credentials.identity().federation().to_owned(),
        roots: credentials.roots().to_vec(),
    };
    client(trust, Some(credentials))
}
