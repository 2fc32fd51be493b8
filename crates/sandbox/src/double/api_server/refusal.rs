//! What an API server answers when it does not do what it is asked, as recorded. Pure.

use serde_json::{Value, json};

use super::fields::{Conflict, conflict_text};
use super::kinds::{Target, Type};

/// An answer that is none of what was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Refusal {
    /// A `Status`.
    Status(u16, Value),
    /// Text.
    NoSuchPath,
}

/// A `Status` that says no.
fn status(code: u16, reason: &str, message: impl Into<String>, details: Option<Value>) -> Refusal {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message.into(), "code": code,
    });
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    if let Some(details) = details {
        status["details"] = details;
    }
    Refusal::Status(code, status)
}

/// What `details` says of a target; by its plural, or by its kind where the store itself speaks.
fn details(target: &Target, name: Option<&str>, kind: &str) -> Value {
    let mut details = json!({"kind": kind});
    if let Some(name) = name {
        details["name"] = name.into();
    }
    if !target.group.is_empty() {
        details["group"] = target.group.clone().into();
    }
    details
}

pub(super) fn unauthorized() -> Refusal {
    status(401, "Unauthorized", "Unauthorized", None)
}

pub(super) fn forbidden(target: &Target, user: &str, verb: &str) -> Refusal {
    let what = match target
        .name
        .as_deref()
        .filter(|_| verb != "list" && verb != "watch")
    {
        Some(name) => format!("{} \"{name}\"", target.qualified()),
        None => target.qualified(),
    };
    let place = match &target.namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".to_owned(),
    };
    let message = format!(
        "{what} is forbidden: User \"{user}\" cannot {verb} resource \"{}\" in API group \"{}\" {place}",
        target.righted(),
        target.group
    );
    let details = details(target, target.name.as_deref(), &target.resource);
    status(403, "Forbidden", message, Some(details))
}

pub(super) fn forbidden_path(path: &str, user: &str, verb: &str) -> Refusal {
    let message = format!("forbidden: User \"{user}\" cannot {verb} path \"{path}\"");
    status(403, "Forbidden", message, Some(json!({})))
}

pub(super) fn not_found(target: &Target, name: &str) -> Refusal {
    let message = format!("{} \"{name}\" not found", target.qualified());
    let details = details(target, Some(name), &target.resource);
    status(404, "NotFound", message, Some(details))
}

pub(super) fn no_namespace(name: &str) -> Refusal {
    let message = format!("namespaces \"{name}\" not found");
    status(
        404,
        "NotFound",
        message,
        Some(json!({"name": name, "kind": "namespaces"})),
    )
}

pub(super) fn exists(target: &Target, name: &str) -> Refusal {
    let message = format!("{} \"{name}\" already exists", target.qualified());
    let details = details(target, Some(name), &target.resource);
    status(409, "AlreadyExists", message, Some(details))
}

pub(super) fn modified(target: &Target, name: &str) -> Refusal {
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    conflict(target, name, &target.qualified(), &target.resource, why)
}

pub(super) fn no_such_uid(target: &Target, name: &str, uid: &str) -> Refusal {
    let why =
        format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
    conflict(target, name, &target.qualified(), &target.resource, &why)
}

/// A precondition of a removal that does not hold; `what` is `UID` or `ResourceVersion`.
pub(super) fn precondition(target: &Target, known: &Type, what: &str, wanted: &str, is: &str) -> Refusal {
    let hint = if what == "UID" {
        "deleted and then recreated"
    } else {
        "modified"
    };
    let why = format!(
        "the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). The object might have been \
         {hint}"
    );
    let kind = if target.group.is_empty() {
        known.kind.to_owned()
    } else {
        format!("{}.{}", known.kind, target.group)
    };
    conflict(
        target,
        target.name.as_deref().unwrap_or_default(),
        &kind,
        known.kind,
        &why,
    )
}

fn conflict(target: &Target, name: &str, what: &str, kind: &str, why: &str) -> Refusal {
    let message = format!("Operation cannot be fulfilled on {what} \"{name}\": {why}");
    status(409, "Conflict", message, Some(details(target, Some(name), kind)))
}

pub(super) fn conflicts(all: &[Conflict]) -> Refusal {
    let cause = |c: &Conflict| json!({"reason": "FieldManagerConflict", "message": format!("conflict with {}", c.who), "field": c.field});
    let causes: Vec<Value> = all.iter().map(cause).collect();
    status(
        409,
        "Conflict",
        conflict_text(all),
        Some(json!({"causes": causes})),
    )
}

/// The guard against an object that was made anew: said twice, as measured.
pub(super) fn immutable_uid(target: &Target, known: &Type, name: &str, uid: &str) -> Refusal {
    let said = format!("Invalid value: \"{uid}\": field is immutable");
    let cause = json!({"reason": "FieldValueInvalid", "message": said, "field": "metadata.uid"});
    let mut details = details(target, Some(name), known.kind);
    details["causes"] = json!([cause, cause]);
    let kind = format!("{}.{}", known.kind, target.group);
    let message = format!("{kind} \"{name}\" is invalid: metadata.uid: {said}");
    status(422, "Invalid", message, Some(details))
}

pub(super) fn no_manager() -> Refusal {
    let said = "Required value: is required for apply patch";
    let details = json!({
        "group": "meta.k8s.io", "kind": "PatchOptions",
        "causes": [{"reason": "FieldValueRequired", "message": said, "field": "fieldManager"}],
    });
    let message = format!("PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: {said}");
    status(422, "Invalid", message, Some(details))
}

pub(super) fn untyped(target: &Target, known: &Type, name: &str, why: &str) -> Refusal {
    let place = match &target.namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => format!("/{name}"),
    };
    let message = format!(
        "failed to create typed patch object ({place}; {}, Kind={}): {why}",
        known.api_version(),
        known.kind
    );
    status(500, "", message, None)
}

pub(super) fn bad_request(why: impl Into<String>) -> Refusal {
    status(400, "BadRequest", why, None)
}

pub(super) fn unknown_format() -> Refusal {
    let why = "the body of the request was in an unknown format - accepted media types include: \
               application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
    status(415, "UnsupportedMediaType", why, None)
}

pub(super) fn not_allowed() -> Refusal {
    let why = "the server does not allow this method on the requested resource";
    status(405, "MethodNotAllowed", why, Some(json!({})))
}

/// What was listed up to there is not kept any more.
pub(super) fn expired(why: impl Into<String>) -> Refusal {
    status(410, "Expired", why, None)
}

/// A webhook that does not answer.
pub(super) fn webhook_away(name: &str, url: &str, why: &str) -> Refusal {
    let said = format!("failed calling webhook \"{name}\": failed to call webhook: Post \"{url}\": {why}");
    let details = json!({"causes": [{"message": said}]});
    status(
        500,
        "InternalError",
        format!("Internal error occurred: {said}"),
        Some(details),
    )
}

/// A webhook that says no; `code`, reason, words and details are its own.
pub(super) fn denied(name: &str, denied: &Value) -> Refusal {
    let code = denied["code"]
        .as_u64()
        .and_then(|c| u16::try_from(c).ok())
        .unwrap_or(403);
    let said = denied["message"].as_str().unwrap_or_default();
    let message = format!("admission webhook \"{name}\" denied the request: {said}");
    let reason = denied["reason"].as_str().unwrap_or_default();
    let details = Some(denied["details"].clone()).filter(|d| !d.is_null());
    status(code, reason, message, details)
}
