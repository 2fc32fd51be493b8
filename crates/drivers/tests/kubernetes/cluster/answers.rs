//! Answers of an API server, and the paths of its objects.

use super::*;

pub(super) fn status(code: u16, reason: &str, message: &str, name: &str) -> Response<Answer> {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "details": {"name": name, "group": "kuma.io", "kind": "meshhttproutes"}, "code": code,
    });
    Response::builder()
        .status(code)
        .body(Answer::from(body.to_string()))
        .unwrap()
}

pub(super) fn ok(code: u16, value: &Value) -> Response<Answer> {
    Response::builder()
        .status(code)
        .body(Answer::from(value.to_string()))
        .unwrap()
}

pub(super) fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.ends_with('s') {
        true => format!("{kind}es"),
        false => format!("{kind}s"),
    }
}

pub(super) fn path_of(object: &Value) -> String {
    let metadata = &object["metadata"];
    let kind = plural(object["kind"].as_str().unwrap());
    let name = metadata["name"].as_str().unwrap();
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{KUMA}/namespaces/{namespace}/{kind}/{name}"),
        None => format!("{NAMESPACES}/{name}"),
    }
}

pub(super) fn list_of(path: &str) -> String {
    let kind = path.rsplit('/').nth(1).unwrap();
    match kind {
        "namespaces" => NAMESPACES.to_owned(),
        kind => format!("{KUMA}/{kind}"),
    }
}
