//! The federation's own certificate authority: made once, kept in `<data>/ca`, and the only thing that agents trust.
//!
//! It signs two kinds of certificates: the coordinator's (for serving, nothing else) and agents' (for calling, nothing
//! else), each with exactly one name that says who it is. Who loses `key.pem` loses the federation's identity: every
//! agent must join again.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_util::sync::CancellationToken;
use weir_link::identity::coordinator_uri;
use weir_link::{Fingerprint, Identity, ServerTls, private_file};
use weir_model::FederationName;

/// How long the authority itself is valid.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// How long the coordinator's own certificate is valid; it is replaced at two thirds of that, without a restart.
const SERVER_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Clocks differ: certificates begin a little in the past.
const SKEW: Duration = Duration::from_secs(300);

/// The certificate authority, open for signing.
pub struct Authority {
    federation: FederationName,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    server_life: Duration,
}

/// Why the authority cannot be opened or cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("certificate authority: {what} {}: {error}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error(
        "certificate authority: {} {what}; restore {} from a backup (without it every agent must join again)",
        path.display(),
        path.parent().unwrap_or(path).display()
    )]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The authority of another federation.
    #[error(
        "the certificate authority in {} was made for another federation than `{wanted}` ({found}); \
         a federation cannot be renamed: set `federation` back, or use another `data` directory and join all agents again",
        path.display()
    )]
    OtherFederation {
        /// Where.
        path: PathBuf,
        /// What the configuration says.
        wanted: FederationName,
        /// What the certificate says.
        found: String,
    },
    /// The certificate request of an agent cannot be used.
    #[error("the certificate request cannot be used: {0}")]
    Request(String),
    /// A name for the coordinator's certificate that is none.
    #[error("`{0}` in `names` is neither a DNS name nor an IP address")]
    Name(String),
    /// Signing failed.
    #[error("a certificate could not be signed: {0}")]
    Signing(String),
}

fn signing(error: impl ToString) -> AuthorityError {
    AuthorityError::Signing(error.to_string())
}

/// A certificate for an agent.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// What to trust.
    pub roots: Vec<CertificateDer<'static>>,
    /// When the leaf ends.
    pub expires: Timestamp,
}

/// An agent's certificate request whose signature has been checked: whoever made it holds the key.
pub struct CheckedRequest(CertificateSigningRequestParams);

impl CheckedRequest {
    /// Checks a PKCS#10 request in DER.
    ///
    /// # Errors
    /// If it is none, is not signed by its own key, or its key is of a kind that we do not sign.
    pub fn check(der: &[u8]) -> Result<Self, AuthorityError> {
        let refuse = |e: rcgen::Error| AuthorityError::Request(e.to_string());
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der.to_vec()))
                .map_err(refuse)?;
        if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
            return Err(AuthorityError::Request(
                "its key is not an ECDSA P-256 key".to_owned(),
            ));
        }
        Ok(Self(request))
    }
}

impl Authority {
    /// Opens the authority in `dir`, or makes it there if there is none. Safe beside another process that does the same.
    /// Blocks.
    ///
    /// # Errors
    /// If its files cannot be read or written, or belong to another federation.
    pub fn open(dir: &Path, federation: &FederationName) -> Result<Self, AuthorityError> {
        if !dir.join("key.pem").exists() && !dir.join("ca.pem").exists() {
            create(dir, federation)?;
        }
        let path = dir.join("ca.pem");
        let text = read(&path)?;
        let certificate = CertificateDer::from_pem_slice(&text).map_err(|_| AuthorityError::Content {
            path: path.clone(),
            what: "does not hold a certificate in PEM",
        })?;
        let wanted = authority_uri(federation);
        let found = uri_of(&certificate).unwrap_or_default();
        if found != wanted {
            return Err(AuthorityError::OtherFederation {
                path: dir.to_owned(),
                wanted: federation.clone(),
                found,
            });
        }
        let path = dir.join("key.pem");
        let key = String::from_utf8(read(&path)?)
            .ok()
            .and_then(|text| KeyPair::from_pem(&text).ok())
            .ok_or_else(|| AuthorityError::Content {
                path: path.clone(),
                what: "does not hold a private key in PEM",
            })?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(signing)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(AuthorityError::Content {
                path,
                what: "is not the key of ca.pem",
            });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(signing)?;
        Ok(Self {
            federation: federation.clone(),
            issuer,
            certificate,
            server_life: SERVER_LIFE,
        })
    }

    /// The same, with another life for the coordinator's own certificates.
    #[must_use]
    pub fn with_server_life(mut self, life: Duration) -> Self {
        self.server_life = life;
        self
    }

    /// Whose it is.
    pub fn federation(&self) -> &FederationName {
        &self.federation
    }

    /// What a token carries, so that a joining agent knows this authority.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Signs an agent's key. Of the request only the key is used: who it is, `identity` says.
    ///
    /// # Errors
    /// If signing fails.
    pub fn issue_agent(
        &self,
        request: &CheckedRequest,
        identity: &Identity,
        life: Duration,
        now: Timestamp,
    ) -> Result<Issued, AuthorityError> {
        let mut params = leaf(identity.agent(), &identity.uri(), life, now)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let signed = params
            .signed_by(&request.0.public_key, &self.issuer)
            .map_err(signing)?;
        Ok(Issued {
            chain: vec![signed.der().clone()],
            roots: vec![self.certificate.clone()],
            // As the certificate has it: in whole seconds.
            expires: Timestamp::from_second((now + life).as_second()).map_err(signing)?,
        })
    }

    /// A fresh key and certificate for the coordinator, valid for these DNS names and IP addresses (for people's tools;
    /// agents look at its URI alone). The authority's certificate comes last in the chain: joining agents look at it.
    ///
    /// # Errors
    /// If a name is none, or signing fails.
    pub fn issue_server(
        &self,
        names: &[String],
        now: Timestamp,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), AuthorityError> {
        let uri = coordinator_uri(self.federation.as_str()).map_err(signing)?;
        let mut params = leaf("coordinator", &uri, self.server_life, now)?;
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) if rustls::pki_types::DnsName::try_from(name.as_str()).is_ok() => SanType::DnsName(
                    name.clone()
                        .try_into()
                        .map_err(|_| AuthorityError::Name(name.clone()))?,
                ),
                Err(_) => return Err(AuthorityError::Name(name.clone())),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = new_key()?;
        let signed = params.signed_by(&key, &self.issuer).map_err(signing)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Ok((vec![signed.der().clone(), self.certificate.clone()], key))
    }

    /// TLS for the coordinator's port, with a fresh certificate.
    ///
    /// # Errors
    /// If a name is none, or signing fails.
    pub fn server_tls(&self, names: &[String]) -> Result<ServerTls, AuthorityError> {
        let (chain, key) = self.issue_server(names, Timestamp::now())?;
        ServerTls::new(chain, key, std::slice::from_ref(&self.certificate)).map_err(signing)
    }

    /// Replaces the coordinator's certificate at two thirds of its life, until stopped. Connections are not touched.
    pub async fn keep_server_fresh(&self, tls: &ServerTls, names: &[String], stop: CancellationToken) {
        let due = |from: Timestamp| from + self.server_life * 2 / 3;
        let mut next = due(Timestamp::now());
        loop {
            // Looked at now and then, so that a machine that slept does not miss the day.
            let left = Timestamp::now()
                .duration_until(next)
                .max(SignedDuration::from_millis(100));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(left.unsigned_abs().min(Duration::from_secs(3600))) => {}
            }
            let now = Timestamp::now();
            if now < next {
                continue;
            }
            let replaced = self
                .issue_server(names, now)
                .and_then(|(chain, key)| tls.replace(chain, key).map_err(signing));
            next = match replaced {
                Ok(()) => {
                    tracing::info!("the coordinator's certificate was replaced");
                    due(now)
                }
                Err(error) => {
                    tracing::error!(%error, "the coordinator's certificate could not be replaced");
                    now + self.server_life / 24
                }
            };
        }
    }
}

fn authority_uri(federation: &FederationName) -> String {
    format!("spiffe://{federation}")
}

fn read(path: &Path) -> Result<Vec<u8>, AuthorityError> {
    fs::read(path).map_err(|error| AuthorityError::File {
        what: "cannot read",
        path: path.to_owned(),
        error,
    })
}

fn new_key() -> Result<KeyPair, AuthorityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(signing)
}

fn base(
    common_name: &str,
    uri: &str,
    life: Duration,
    now: Timestamp,
) -> Result<CertificateParams, AuthorityError> {
    let at = |when: Timestamp| {
        let seconds = u64::try_from(when.as_second()).map_err(signing)?;
        Ok::<_, AuthorityError>(date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds))
    };
    let mut params = CertificateParams::default();
    params.not_before = at(now - SKEW.min(life / 10))?;
    params.not_after = at(now + life)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = vec![SanType::URI(uri.to_owned().try_into().map_err(signing)?)];
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| signing("the system has no randomness to give"))?;
    // Positive and of full length, as RFC 5280 wants it.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn leaf(
    common_name: &str,
    uri: &str,
    life: Duration,
    now: Timestamp,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = base(common_name, uri, life, now)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Makes key and certificate in a directory of their own and moves it into place: both are there, or neither is. Of two
/// processes that do this at a time, one wins, and the other uses what the winner made.
fn create(dir: &Path, federation: &FederationName) -> Result<(), AuthorityError> {
    let file = |what: &'static str, path: &Path| {
        let path = path.to_owned();
        move |error| AuthorityError::File { what, path, error }
    };
    let now = Timestamp::now();
    let mut params = base(
        &format!("Weir {federation}"),
        &authority_uri(federation),
        AUTHORITY_LIFE,
        now,
    )?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = new_key()?;
    let certificate = params.self_signed(&key).map_err(signing)?;
    let draft = dir.with_extension(format!("{:016x}.draft", weir_link::backoff::random()));
    private_file::create_dir(&draft).map_err(file("cannot create", &draft))?;
    let write = |name: &str, text: String, mode| {
        let path = draft.join(name);
        private_file::write_with_mode(&path, text.as_bytes(), mode).map_err(file("cannot write", &path))
    };
    write("key.pem", key.serialize_pem(), 0o600)?;
    write("ca.pem", certificate.pem(), 0o644)?;
    let moved = fs::rename(&draft, dir);
    let lost = moved.is_err() && dir.join("key.pem").exists();
    if lost {
        fs::remove_dir_all(&draft).map_err(file("cannot remove", &draft))?;
        return Ok(());
    }
    moved.map_err(file("cannot create", dir))
}

fn uri_of(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        x509_parser::extensions::GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    })
}
