//! What an API server's refusal means: whose fault it is, and whether waiting helps. Pure: answers come in as values.
//!
//! Codes alone lie (`kubernetes.md` fact 12): a field of the wrong type is a 500 that never passes, Kuma's webhooks refuse
//! with 400, 403 and 422, and a 500 may mean that Kuma is down. So the text and who wrote it decide, the code comes last.

use std::error::Error;
use std::io;
use std::time::Duration;

use serde_json::Value;

use crate::{DriverError, Fault};

/// The longest wait that an answer may ask for; whoever asks for more is asked again after this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// An answer that is no success.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    /// `Retry-After`, in seconds.
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Vec<u8>,
}

/// A Kubernetes `Status`, as far as it decides anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Status {
    message: String,
    reason: String,
    kind: String,
    causes: Vec<Cause>,
    retry_after: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Cause {
    reason: String,
    message: String,
    field: String,
}

impl Status {
    /// None if it is something else: an error page, an empty body.
    fn read(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        Self::of(&value)
    }

    fn of(value: &Value) -> Option<Self> {
        if value.get("kind")?.as_str()? != "Status" {
            return None;
        }
        let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let details = value.get("details").unwrap_or(&Value::Null);
        Some(Self {
            message: text(value, "message"),
            reason: text(value, "reason"),
            kind: text(details, "kind"),
            causes: details
                .get("causes")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|cause| Cause {
                    reason: text(cause, "reason"),
                    message: text(cause, "message"),
                    field: text(cause, "field"),
                })
                .collect(),
            retry_after: details.get("retryAfterSeconds").and_then(Value::as_u64),
        })
    }

    /// Fields that somebody does not like, each once, as far as the message does not name them already.
    fn fields(&self) -> String {
        let mut said = String::new();
        for cause in &self.causes {
            let part = format!("; {}: {}", cause.field, cause.message);
            if !cause.field.is_empty() && !self.message.contains(&cause.field) && !said.contains(&part) {
                said.push_str(&part);
            }
        }
        said
    }
}

/// One field that another manager holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Conflict {
    pub(crate) manager: String,
    pub(crate) field: String,
}

impl Refusal {
    /// The fields that other managers hold, if that is what this says.
    pub(crate) fn conflicts(&self) -> Option<Vec<Conflict>> {
        let status = Status::read(&self.body).filter(|_| self.code == 409)?;
        let mut conflicts: Vec<_> = status
            .causes
            .iter()
            .filter(|cause| cause.reason == "FieldManagerConflict")
            .map(|cause| Conflict {
                // `conflict with "kubectl-edit" using kuma.io/v1alpha1`
                manager: cause
                    .message
                    .split('"')
                    .nth(1)
                    .unwrap_or("an unknown manager")
                    .to_owned(),
                field: cause.field.clone(),
            })
            .collect();
        conflicts.sort();
        conflicts.dedup();
        (!conflicts.is_empty()).then_some(conflicts)
    }

    /// Whether what was listed or watched is too old to go on from.
    pub(crate) fn is_too_old(&self) -> bool {
        self.code == 410
            || Status::read(&self.body)
                .is_some_and(|status| ["Expired", "Gone"].contains(&status.reason.as_str()))
    }

    /// How long the server wants to be left alone.
    pub(crate) fn wait(&self) -> Option<Duration> {
        if is_starting(&String::from_utf8_lossy(&self.body)) {
            return None;
        }
        let asked = self
            .retry_after
            .or_else(|| Status::read(&self.body).and_then(|status| status.retry_after));
        let wait = match (self.code, asked) {
            (429, None) => 1,
            (429 | 503, Some(seconds)) => seconds,
            _ => return None,
        };
        Some(Duration::from_secs(wait).min(LONGEST_WAIT))
    }

    /// From the object of an `ERROR` event in a watch.
    pub(crate) fn of_event(object: &Value) -> Self {
        let code = object.get("code").and_then(Value::as_u64);
        Self {
            code: code.and_then(|code| u16::try_from(code).ok()).unwrap_or(500),
            retry_after: None,
            body: object.to_string().into_bytes(),
        }
    }

    /// What it means.
    pub(crate) fn meaning(&self, what: &str, server: &str) -> DriverError {
        let (fault, why, help) = match Status::read(&self.body) {
            Some(status) => of_status(self.code, &status, self.wait()),
            None => of_text(self.code, &self.body, self.wait(), server),
        };
        DriverError::new(what.to_owned(), why, fault, help)
    }
}

type Meaning = (Fault, String, String);

fn says(fault: Fault, why: impl Into<String>, help: impl Into<String>) -> Meaning {
    (fault, why.into(), help.into())
}

fn of_status(code: u16, status: &Status, wait: Option<Duration>) -> Meaning {
    let said = format!("{code}: {}{}", status.message, status.fields());
    // Who speaks decides before what number it says.
    if status.message.contains("failed calling webhook") {
        return webhook_away(&status.message);
    }
    if status.message.starts_with("admission webhook ") {
        return webhook_refuses(said, &status.message);
    }
    if status.message.starts_with("failed to create typed patch object") {
        return says(
            Fault::Refused,
            said,
            "the definitions installed in this cluster do not know what Weir writes, or know it otherwise: is Kuma 2.14 \
             or newer installed with its own definitions? If so, please report it with this message",
        );
    }
    match code {
        401 => says(
            Fault::Setup,
            "401: the API server does not accept the agent's token: it has ended, or is of another cluster",
            "in the cluster it is replaced by itself within a minute; outside, look at the user in the kubeconfig, or \
             run its credential plugin by hand",
        ),
        403 if status.message.contains("system:anonymous") => says(
            Fault::Setup,
            format!("403: the API server does not know who asks: {}", status.message),
            "the agent sent no token, or none that this server knows: look at the user in the kubeconfig",
        ),
        403 if status.causes.iter().any(|c| c.reason == "NamespaceTerminating") => says(
            Fault::NotYet,
            said,
            "somebody is removing Kuma's namespace; once it is there again, the next activation writes",
        ),
        403 if status.message.contains("cannot ") => says(
            Fault::Setup,
            said,
            "give the agent's user this right: deploy/kubernetes/rbac.yaml has all that it needs, and no more",
        ),
        403 => says(
            Fault::Refused,
            said,
            "a rule of this cluster forbids it (a quota, a policy engine); ask who runs it",
        ),
        404 if status.kind == "namespaces" => says(
            Fault::Setup,
            said,
            "is Kuma installed there? Its namespace is set with kuma.kubernetes.systemNamespace",
        ),
        404 => says(Fault::NotYet, said, "it is gone; the next activation looks again"),
        409 if status.causes.iter().any(|c| c.reason == "FieldManagerConflict") => says(
            Fault::Refused,
            said,
            "another field manager holds what Weir writes; Weir does not fight it. Let that manager go of the object, or \
             set kuma.kubernetes.takeBack",
        ),
        409 => says(
            Fault::NotYet,
            said,
            "somebody wrote the same object at the same moment; the next activation looks again",
        ),
        410 => says(
            Fault::NotYet,
            said,
            "what was listed is too old to go on from; it is listed anew",
        ),
        // The only immutable field that we send is the guard against an object made anew.
        422 if status.causes.iter().any(|c| c.field == "metadata.uid") => says(
            Fault::NotYet,
            "422: the object was removed and made anew at the same moment",
            "the next activation looks again",
        ),
        429 => too_often(wait, &status.message),
        400 | 405 | 406 | 413 | 415 | 422 => says(
            Fault::Refused,
            said,
            "the API server does not accept what Weir sent; please report it with this message and the versions of Kuma \
             and Kubernetes",
        ),
        500..=599 => says(
            Fault::Away,
            said,
            "the API server answers but cannot work now (its etcd?); it is tried again. Traffic stays as it is",
        ),
        _ => says(
            Fault::Unknown,
            said,
            "please report it with this message and the version of Kubernetes",
        ),
    }
}

/// `failed calling webhook "NAME": failed to call webhook: Post "URL": WHY`
fn webhook_away(message: &str) -> Meaning {
    let name = message.split('"').nth(1).unwrap_or("of unknown name");
    let why = message.rsplit("\": ").next().unwrap_or(message);
    if !name.contains("kuma") {
        return says(
            Fault::Away,
            format!("the webhook {name}, which is not Kuma's, does not answer: {why}"),
            "the API server lets nothing be written here without it; ask who runs it. Traffic stays as it is",
        );
    }
    if message.contains("x509:") || message.contains("tls:") {
        return says(
            Fault::Setup,
            format!("the API server does not trust Kuma's webhook {name}: {why}"),
            "the certificate of Kuma's control plane and the caBundle of its webhook configurations do not belong \
             together; installing or upgrading Kuma again puts them right. Until then no policy can be written or removed",
        );
    }
    says(
        Fault::Away,
        format!(
            "Kuma's control plane is down: its webhook {name} does not answer ({why}), and without it the API server lets \
             no policy be written or removed, reverts included"
        ),
        "bring kuma-control-plane back: kubectl -n kuma-system get pods. It is tried again at every activation; traffic \
         stays as it is",
    )
}

fn webhook_refuses(said: String, message: &str) -> Meaning {
    if message.contains("Mesh.kuma.io \"") && message.contains("not found") {
        return says(
            Fault::MeshGone,
            said,
            "the mesh is not in this zone, which gets it from Kuma's global control plane, and no zone may make one. If this \
             stays, make the Mesh there again, with its MeshTrafficPermission and MeshMultiZoneServices; Weir puts its \
             policies back by itself",
        );
    }
    let by_kuma = message
        .split('"')
        .nth(1)
        .is_some_and(|name| name.contains("kuma"));
    says(
        Fault::Refused,
        said,
        if by_kuma {
            "Kuma does not accept what Weir wrote; please report it with this message and the version of Kuma"
        } else {
            "a webhook of this cluster that is not Kuma's forbids it; ask who runs it"
        },
    )
}

/// An API server that has just started refuses watches with a 429, one kind of object after the other, for as long as it
/// fills its memory: nobody asked too often.
fn is_starting(said: &str) -> bool {
    said.contains("storage is (re)initializing")
}

fn too_often(wait: Option<Duration>, said: &str) -> Meaning {
    if is_starting(said) {
        return says(
            Fault::Away,
            format!("429: the API server is just starting: {said}"),
            "it takes a few seconds; it is tried again. Traffic stays as it is",
        );
    }
    says(
        Fault::Away,
        format!(
            "429: the API server is asked too often, and wants {} s of rest: {said}",
            wait.unwrap_or_default().as_secs()
        ),
        "Weir leaves it alone for so long. If it stays, somebody floods this API server, or its priority levels leave \
         nothing for the agent",
    )
}

fn of_text(code: u16, body: &[u8], wait: Option<Duration>, server: &str) -> Meaning {
    let text: String = String::from_utf8_lossy(body).trim().chars().take(120).collect();
    match code {
        404 if text.starts_with("404 page not found") => says(
            Fault::Setup,
            "404: this cluster has no such kind of object",
            "is Kuma 2.14 or newer installed in this cluster?",
        ),
        429 => too_often(wait, &text),
        401 | 403 => says(
            Fault::Setup,
            format!("{code}: {text}"),
            format!("is {server} really a Kubernetes API server, and not something in front of one?"),
        ),
        500..=599 => says(
            Fault::Away,
            format!("{code}: {text}"),
            "the API server, or a proxy in front of it, cannot work now; it is tried again. Traffic stays as it is",
        ),
        _ => says(
            Fault::Unknown,
            format!("{code}: {text}"),
            format!("is {server} really a Kubernetes API server?"),
        ),
    }
}

/// What it means that nothing came back.
pub(crate) fn no_answer(what: &str, server: &str, error: &(dyn Error + 'static)) -> DriverError {
    let mut refused = false;
    let mut tls = None;
    walk(error, &mut |part| {
        if let Some(io) = part.downcast_ref::<io::Error>() {
            refused |= io.kind() == io::ErrorKind::ConnectionRefused;
        }
        if let Some(error) = part.downcast_ref::<rustls::Error>() {
            tls.get_or_insert_with(|| error.clone());
        }
    });
    let said = chain(error);
    let (fault, why, help) = match tls {
        // Authorities of two clusters often have one name: then it is the signature that does not fit.
        Some(rustls::Error::InvalidCertificate(
            rustls::CertificateError::UnknownIssuer | rustls::CertificateError::BadSignature,
        )) => says(
            Fault::Setup,
            format!("the certificate of {server} is of another authority than the one that is trusted"),
            "the certificate authority in the kubeconfig is of another cluster, or was replaced: write the kubeconfig \
             anew. If neither is so, somebody sits between",
        ),
        Some(rustls::Error::InvalidCertificate(why)) => says(
            Fault::Setup,
            format!("the certificate of {server} does not hold: {why}"),
            "is the address one that the API server's certificate names, and the clock of this host right?",
        ),
        Some(rustls::Error::AlertReceived(why)) => says(
            Fault::Setup,
            format!("{server} does not accept the agent's certificate: {why:?}"),
            "the client certificate in the kubeconfig has ended, or is of another cluster",
        ),
        Some(why) => says(
            Fault::Setup,
            format!("{server} does not speak TLS as it should: {why}"),
            "is that the address of the API server itself, and its TLS port?",
        ),
        None if refused => says(
            Fault::Away,
            format!("nothing listens at {server} (connection refused)"),
            "is the API server running? Traffic stays as it is",
        ),
        None if said.contains("dns error") || said.contains("failed to lookup address") => says(
            Fault::Away,
            format!("the name of {server} cannot be resolved: {said}"),
            "is the name right, and does DNS answer on this host? Traffic stays as it is",
        ),
        None if said.contains("deadline has elapsed") => says(
            Fault::Away,
            format!("no connection to {server} in time"),
            "can it be reached from here (security groups, network policies), and is it up? Traffic stays as it is",
        ),
        None => says(
            Fault::Away,
            said,
            format!("can {server} be reached from here? Traffic stays as it is"),
        ),
    };
    DriverError::new(what.to_owned(), why, fault, help)
}

/// What it means that no answer came in time.
pub(crate) fn too_late(what: &str, server: &str, after: Duration) -> DriverError {
    DriverError::new(
        what.to_owned(),
        format!("no answer from {server} within {} s", after.as_secs()),
        Fault::Away,
        "can the API server be reached from here, and is it up? It is tried again; traffic stays as it is",
    )
}

/// What it means that a success carries something else than what was asked for.
pub(crate) fn strange(what: &str, server: &str, why: &str) -> DriverError {
    DriverError::new(
        what.to_owned(),
        why.to_owned(),
        Fault::Unknown,
        format!("is {server} really a Kubernetes API server? If so, its version may be new to Weir"),
    )
}

/// Every error of a chain, with those that an `io::Error` holds and does not name as its source.
pub(crate) fn walk(error: &(dyn Error + 'static), see: &mut dyn FnMut(&(dyn Error + 'static))) {
    see(error);
    if let Some(held) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        walk(held, see);
    } else if let Some(below) = error.source() {
        walk(below, see);
    }
}

/// An error with everything below it.
pub(crate) fn chain(error: &dyn Error) -> String {
    crate::kuma::chain(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_knows() {
        let dns = io::Error::other("failed to lookup address information: Name or service not known");
        let error = no_answer("GET /version", "https://nowhere.example.com:443/", &dns);
        assert!(error.why.contains("cannot be resolved"), "{error}");
        assert!(error.fault.passes());
    }

    #[test]
    fn what_an_io_error_holds_is_found_however_deep() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let deep = io::Error::other(io::Error::other(tls));
        let error = no_answer("GET /version", "https://c:443/", &deep);
        assert_eq!(error.fault, Fault::Setup);
        let gone = io::Error::other(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(no_answer("GET /", "c", &gone).why.contains("connection refused"));
    }
}
