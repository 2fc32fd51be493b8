//! What Kong means by what it refuses: whose fault, and which line of which declaration.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use weir_model::SplitName;

use crate::kong::admin::Answer;
use crate::kong::{Refused, Unposted};
use crate::{DriverError, Fault};

/// So many errors of one document are told.
const TOLD: usize = 5;

/// Why a call failed: [`DriverError`] without what was tried.
#[derive(Debug, Clone)]
pub struct Failure {
    why: String,
    fault: Fault,
    help: String,
    again: Option<Duration>,
}

impl Failure {
    /// For this reason, with what a person can do.
    pub fn new(fault: Fault, why: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            fault,
            help: help.into(),
            again: None,
        }
    }

    /// With the time for which an answer asks to be left alone, if it says one.
    fn again(self, answer: &Answer) -> Self {
        Self {
            again: answer.again(),
            ..self
        }
    }

    /// With what was tried.
    pub(crate) fn at(self, what: &str) -> DriverError {
        DriverError {
            what: what.to_owned(),
            why: self.why,
            fault: self.fault,
            help: self.help,
            again: self.again,
        }
    }
}

impl From<DriverError> for Unposted {
    /// Of a failure that says nothing of the document.
    fn from(error: DriverError) -> Self {
        Self { error, refused: None }
    }
}

/// Something that answers, and is not Kong.
pub(crate) fn no_kong(why: &str) -> Failure {
    Failure::new(
        Fault::Setup,
        why,
        "is this really the address of Kong's Admin API (8001 or 8444), and not of its proxy, its manager or a login page?",
    )
}

/// Something that Kong never said.
pub(crate) fn unknown(why: &str) -> Failure {
    Failure::new(
        Fault::Unknown,
        why,
        "is this really the address of Kong's Admin API? If so, its version may be new to Weir: please report it",
    )
}

/// What Kong says for itself.
fn words(answer: &Answer) -> String {
    let said = answer.json().ok();
    let message = said.as_ref().and_then(|said| said.get("message")?.as_str());
    match message {
        Some(message) => format!("{}: {message}", answer.status),
        None if answer.kind.is_empty() => answer.status.to_string(),
        None => format!("{}, {}", answer.status, answer.kind),
    }
}

/// A refusal of whatever was asked.
pub(crate) fn of(answer: &Answer) -> Failure {
    let said = words(answer);
    match answer.status {
        status if status.is_redirection() => {
            let to = answer.hint.as_deref().unwrap_or("somewhere else");
            no_kong(&format!(
                "{status}: it sends us to {to}, where nothing of ours goes"
            ))
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::new(
            Fault::Setup,
            said,
            "this Admin API is protected: give the agent the header and the file with its value, or the client what it asks for",
        ),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => no_kong(&said),
        StatusCode::TOO_MANY_REQUESTS => Failure::new(
            Fault::NotYet,
            match &answer.hint {
                Some(seconds) => format!("{said}; it asks for {seconds} s"),
                None => said,
            },
            "it loads what it was given before, and is left alone for so long; the next activation tries again",
        )
        .again(answer),
        status if status.is_server_error() => Failure::new(
            Fault::Away,
            said,
            "Kong answers and cannot work; its log says why. Traffic stays as it is",
        )
        .again(answer),
        status if status.is_client_error() => Failure::new(
            Fault::Refused,
            said,
            "Kong does not accept what Weir asked; please report it with this message",
        ),
        status => unknown(&format!("{status} is no answer to this")),
    }
}

/// A refusal of one entity.
pub(crate) fn of_entity(answer: &Answer) -> Failure {
    match answer.status {
        StatusCode::NOT_FOUND => match answer.json() {
            Ok(_) => Failure::new(
                Fault::NotYet,
                "it is gone: somebody removed it meanwhile",
                "the next activation looks again",
            ),
            Err(failure) => failure,
        },
        StatusCode::CONFLICT => Failure::new(
            Fault::Refused,
            words(answer),
            "somebody else has an entity of this name or id, which is left alone: remove it, or give it another name",
        ),
        StatusCode::BAD_REQUEST => Failure::new(
            Fault::Refused,
            words(answer),
            "Kong runs on with what it had; what it names is to be corrected, in the declaration or at this Kong",
        ),
        StatusCode::METHOD_NOT_ALLOWED => Failure::new(
            Fault::Setup,
            words(answer),
            "has this Kong lost its database? One without a database is declared as `admin-dbless`",
        ),
        _ => of(answer),
    }
}

/// A document that was not loaded, and what of it is not accepted if that is why.
/// `size` is what was sent, in bytes.
pub(crate) fn of_config(answer: &Answer, size: usize) -> (Failure, Option<Refused>) {
    match answer.status {
        StatusCode::BAD_REQUEST => match answer.json() {
            Ok(said) => (
                Failure::new(
                    Fault::Refused,
                    errors(&said),
                    "Kong runs on with what it had. Correct what is named, in the declaration or in the gateway's base",
                ),
                Some(named(&said)),
            ),
            Err(failure) => (failure, None),
        },
        StatusCode::PAYLOAD_TOO_LARGE => (
            Failure::new(
                Fault::Refused,
                format!("{}; the document has {}", words(answer), mebibytes(size)),
                format!(
                    "the document is larger than this Kong takes: set nginx_admin_client_max_body_size to {}m or more (Kong's default \
                     is 10m), or raise lmdb_map_size if it says so, or take out of the gateway's base what it does not need. Kong runs \
                     on with what it had",
                    // Half as much again: it grows.
                    (size >> 20) + (size >> 21) + 2
                ),
            ),
            Some(Refused::default()),
        ),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (
            Failure::new(
                Fault::Refused,
                words(answer),
                "Kong takes no form here: is there something between the agent and the Admin API that changes requests?",
            ),
            Some(Refused::default()),
        ),
        StatusCode::GATEWAY_TIMEOUT => (
            Failure::new(
                Fault::Away,
                words(answer),
                "Kong did not say in time whether it loaded the document; the next activation looks at what it runs",
            )
            .again(answer),
            None,
        ),
        _ => (of(answer), None),
    }
}

/// For people.
fn mebibytes(size: usize) -> String {
    let tenths = size.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// Whose entities a 400 names.
fn named(said: &Value) -> Refused {
    let mut refused = Refused::default();
    let flat = said.get("flattened_errors").and_then(Value::as_array);
    for one in flat.into_iter().flatten() {
        let tags = one.get("entity_tags").and_then(Value::as_array);
        let mut tags = tags.into_iter().flatten().filter_map(Value::as_str);
        let split = tags.find_map(|tag| tag.strip_prefix("weir.split."));
        if split.is_some() && one.get("entity_type").and_then(Value::as_str) == Some("plugin") {
            refused.counting = true;
            continue;
        }
        match split.and_then(|split| SplitName::new(split).ok()) {
            Some(split) => drop(refused.splits.insert(split)),
            None => refused.base = true,
        }
    }
    refused
}

/// The errors of a 400, each with what it is about.
fn errors(said: &Value) -> String {
    let mut told: Vec<String> = Vec::new();
    // An empty list of Kong's is an object.
    let flat = said.get("flattened_errors").and_then(Value::as_array);
    for one in flat.into_iter().flatten() {
        let about = about(one);
        for error in one.get("errors").and_then(Value::as_array).into_iter().flatten() {
            let text = |field: &str| error.get(field).and_then(Value::as_str);
            let message = text("message").map_or_else(|| error["message"].to_string(), str::to_owned);
            told.push(match text("field") {
                Some(field) => format!("{about}: {field}: {message}"),
                None => format!("{about}: {message}"),
            });
        }
    }
    if let Some(fields) = said.get("fields") {
        leaves("", fields, &mut told);
    }
    if told.is_empty() {
        let message = said.get("message").and_then(Value::as_str);
        return message
            .unwrap_or("Kong refuses the document and does not say why")
            .to_owned();
    }
    let more = told.len().saturating_sub(TOLD);
    told.truncate(TOLD);
    let more = if more == 0 {
        String::new()
    } else {
        format!("; and {more} more")
    };
    format!("{}{more}", told.join("; "))
}

/// Ours by the tags, what is not ours as the base has it.
fn about(error: &Value) -> String {
    let text = |field: &str| error.get(field).and_then(Value::as_str);
    let kind = text("entity_type").unwrap_or("entity");
    let tags = error.get("entity_tags").and_then(Value::as_array);
    let tags = || tags.into_iter().flatten().filter_map(Value::as_str);
    let tag = |what: &str| tags().find_map(|tag| tag.strip_prefix(what));
    match (tag("weir.split."), tag("weir.route.")) {
        (Some(split), Some(route)) => format!("split {split}, route {route}: {kind}"),
        (Some(split), None) => format!("split {split}: {kind}"),
        (None, _) => match text("entity_name").or_else(|| text("entity_id")) {
            Some(name) => format!("base: {kind} `{name}`"),
            // Never the entity itself: it may hold a key or a password.
            None => format!("base: a {kind} without a name"),
        },
    }
}

/// Messages by path: what is wrong with the document itself, or what could not be told by entity.
fn leaves(path: &str, value: &Value, told: &mut Vec<String>) {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::String(message) => told.push(format!("{path}: {message}")),
        Value::Array(all) => {
            for (at, one) in all.iter().enumerate() {
                leaves(&below(&(at + 1).to_string()), one, told);
            }
        }
        Value::Object(all) => {
            for (name, one) in all {
                leaves(&below(name), one, told);
            }
        }
        _ => {}
    }
}
