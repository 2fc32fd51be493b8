//! What Kuma says to a policy that it does not like, and what it keeps of one that it does: unknown fields go without a
//! word, weights get their default. First the shape (as its schema words it), then the meaning.
//!
//! Pure. Held against recorded answers.

use serde_json::{Map, Value, json};

use super::store::Kind;

/// A field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `spec.to[0].rules[0].matches`.
    pub field: String,
    /// `in body is required`.
    pub reason: String,
}

/// A fault.
pub fn fault(field: impl Into<String>, reason: impl Into<String>) -> Fault {
    Fault {
        field: field.into(),
        reason: reason.into(),
    }
}

const REF_KINDS: &str = "Mesh MeshSubset MeshGateway MeshService MeshExternalService MeshMultiZoneService \
                         MeshServiceSubset MeshHTTPRoute Dataplane";
const METHODS: &str = "CONNECT DELETE GET HEAD OPTIONS PATCH POST PUT TRACE";

/// The `spec` as it is kept, or all faults of the first of the two looks that finds any.
///
/// # Errors
/// The faults.
pub fn spec(kind: Kind, given: &Value) -> Result<(Value, Vec<String>), Vec<Fault>> {
    let mut look = Look {
        kind,
        shape: Vec::new(),
        meaning: Vec::new(),
        warnings: Vec::new(),
    };
    let kept = look.policy(given);
    if !look.shape.is_empty() {
        return Err(look.shape);
    }
    if !look.meaning.is_empty() {
        return Err(look.meaning);
    }
    Ok((kept, look.warnings))
}

struct Look {
    kind: Kind,
    shape: Vec<Fault>,
    meaning: Vec<Fault>,
    warnings: Vec<String>,
}

impl Look {
    fn policy(&mut self, given: &Value) -> Value {
        let mut kept = Map::new();
        if let Some(top) = given.get("targetRef").filter(|v| !v.is_null()) {
            let top = self.target_ref(top, "spec.targetRef");
            match top["kind"].as_str() {
                Some(kind @ ("MeshSubset" | "MeshService" | "MeshServiceSubset")) => {
                    self.warnings.push(format!(
                        "{kind} value for 'targetRef.kind' is deprecated, use Dataplane with labels instead"
                    ));
                }
                Some("Mesh" | "Dataplane") | None => {}
                Some(kind) => {
                    self.meaning.push(fault(
                        "spec.targetRef.kind",
                        format!("value '{kind}' is not supported"),
                    ));
                }
            }
            kept.insert("targetRef".into(), top);
        }
        let to = each(given, "to", |i, item| self.to(item, &format!("spec.to[{i}]")));
        if let Some(to) = to {
            kept.insert("to".into(), to);
        }
        Value::Object(kept)
    }

    fn to(&mut self, given: &Value, path: &str) -> Value {
        let at = format!("{path}.targetRef");
        let target = self.target_ref(&given["targetRef"], &at);
        if let Some(kind) = target["kind"].as_str() {
            if REF_KINDS.split(' ').any(|k| k == kind)
                && !matches!(
                    kind,
                    "MeshService" | "MeshExternalService" | "MeshMultiZoneService"
                )
            {
                let reason = format!("value '{kind}' is not supported");
                self.meaning.push(fault(format!("{at}.kind"), reason));
            }
            self.named(&target, &at);
        }
        if given["hostnames"].as_array().is_some_and(|h| !h.is_empty()) {
            self.meaning
                .push(fault(format!("{path}.hostnames"), "must not be defined"));
        }
        let mut kept = Map::new();
        kept.insert("targetRef".into(), target);
        let count = given["rules"].as_array().map_or(0, Vec::len);
        if self.kind == Kind::MeshTCPRoute && count > 1 {
            let reason = "in body should have at most 1 items";
            self.shape.push(fault(format!("{path}.rules"), reason));
        }
        let rules = each(given, "rules", |i, rule| {
            self.rule(rule, &format!("{path}.rules[{i}]"))
        });
        if let Some(rules) = rules {
            kept.insert("rules".into(), rules);
        }
        Value::Object(kept)
    }

    fn rule(&mut self, given: &Value, path: &str) -> Value {
        let mut kept = Map::new();
        if self.kind == Kind::MeshHTTPRoute {
            let at = format!("{path}.matches");
            match given["matches"].as_array() {
                None if given.get("matches").is_some_and(Value::is_null) => {
                    self.shape
                        .push(fault(at, "in body must be of type array: \"null\""));
                }
                None => self.shape.push(fault(at, "in body is required")),
                Some(all) if all.is_empty() => {
                    self.shape.push(fault(at, "in body should have at least 1 items"));
                }
                Some(all) => {
                    let all = all.iter().enumerate();
                    let all = all.map(|(i, m)| self.matches(m, &format!("{at}[{i}]")));
                    kept.insert("matches".into(), all.collect());
                }
            }
        }
        let mut default = Map::new();
        if let Some(filters) = given["default"].get("filters") {
            default.insert("filters".into(), filters.clone());
        }
        let at = format!("{path}.default.backendRefs");
        let refs = each(&given["default"], "backendRefs", |i, r| {
            self.backend_ref(r, &format!("{at}[{i}]"))
        });
        let none = refs.as_ref().and_then(Value::as_array).is_none_or(Vec::is_empty);
        if self.kind == Kind::MeshTCPRoute && none {
            self.meaning.push(fault(at, "must be defined"));
        }
        if let Some(refs) = refs {
            default.insert("backendRefs".into(), refs);
        }
        kept.insert("default".into(), Value::Object(default));
        Value::Object(kept)
    }

    fn matches(&mut self, given: &Value, path: &str) -> Value {
        let mut kept = Map::new();
        if let Some(of) = given.get("path").filter(|v| !v.is_null()) {
            let at = format!("{path}.path");
            self.one_of(of, &at, "type", "Exact PathPrefix RegularExpression", true);
            let value = self.text(of, &at, "value", true);
            if of.get("value").is_some() && value.is_empty() {
                let reason = "in body should be at least 1 chars long";
                self.shape.push(fault(format!("{at}.value"), reason));
            }
            if of["type"] != "RegularExpression" && !value.is_empty() && !value.starts_with('/') {
                self.meaning
                    .push(fault(format!("{at}.value"), "must be an absolute path"));
            } else if of["type"] == "PathPrefix" && value.len() > 1 && value.ends_with('/') {
                let reason = "does not need a trailing slash because only a `/`-separated prefix or an entire path \
                              is matched";
                self.meaning.push(fault(format!("{at}.value"), reason));
            }
            kept.insert("path".into(), json!({"type": of["type"], "value": value}));
        }
        if let Some(method) = given.get("method").filter(|v| !v.is_null()) {
            self.one_of(given, path, "method", METHODS, false);
            kept.insert("method".into(), method.clone());
        }
        let headers = each(given, "headers", |i, h| {
            self.header(h, &format!("{path}.headers[{i}]"))
        });
        if let Some(headers) = headers {
            kept.insert("headers".into(), headers);
        }
        let mut seen: Vec<String> = Vec::new();
        let query = each(given, "queryParams", |i, q| {
            let at = format!("{path}.queryParams[{i}]");
            self.one_of(q, &at, "type", "Exact RegularExpression", true);
            let (name, value) = (self.text(q, &at, "name", true), self.text(q, &at, "value", true));
            if seen.contains(&name) {
                let reason = format!("multiple entries for name {name}");
                self.meaning.push(fault(format!("{at}.name"), reason));
            }
            seen.push(name.clone());
            json!({"type": q["type"], "name": name, "value": value})
        });
        if let Some(query) = query {
            kept.insert("queryParams".into(), query);
        }
        Value::Object(kept)
    }

    fn header(&mut self, given: &Value, path: &str) -> Value {
        let known = "Exact Present RegularExpression Absent Prefix";
        self.one_of(given, path, "type", known, false);
        let kind = given["type"].as_str().unwrap_or("Exact").to_owned();
        let name = self.text(given, path, "name", true);
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "!#$%&'*+-.^_`|~".contains(c);
        if given["name"].is_string() && (name.is_empty() || !name.chars().all(fits)) {
            let reason = "in body should match '^[a-z0-9!#$%&'*+\\-.^_\\x60|~]+$'";
            self.shape.push(fault(format!("{path}.name"), reason));
        }
        let value = self.text(given, path, "value", false);
        if matches!(kind.as_str(), "Present" | "Absent") && !value.is_empty() {
            self.meaning
                .push(fault(format!("{path}.value"), "must not be defined"));
        }
        let mut kept = Map::new();
        kept.insert("type".into(), kind.into());
        kept.insert("name".into(), name.into());
        if given["value"].is_string() && !value.is_empty() {
            kept.insert("value".into(), value.into());
        }
        Value::Object(kept)
    }

    fn backend_ref(&mut self, given: &Value, path: &str) -> Value {
        let Value::Object(mut kept) = self.target_ref(given, path) else {
            return Value::Null;
        };
        match kept.get("kind").and_then(Value::as_str) {
            Some("MeshService" | "MeshServiceSubset" | "MeshExternalService") => {
                self.named(&Value::Object(kept.clone()), path);
            }
            Some("MeshMultiZoneService") if !given["port"].is_number() => {
                let reason = "must be defined with kind MeshMultiZoneService";
                self.meaning.push(fault(format!("{path}.port"), reason));
            }
            _ => {}
        }
        kept.insert("weight".into(), self.weight(given, path));
        if let Some(port) = given["port"].as_u64() {
            kept.insert("port".into(), port.into());
        }
        Value::Object(kept)
    }

    fn weight(&mut self, given: &Value, path: &str) -> Value {
        let at = format!("{path}.weight");
        let weight = &given["weight"];
        match weight {
            Value::Null => 1.into(),
            Value::Number(number) => {
                if let Some(whole) = number.as_u64() {
                    return whole.into();
                }
                let float = number.as_f64().unwrap_or_default();
                if float < 0.0 {
                    let reason = "in body should be greater than or equal to 0";
                    self.shape.push(fault(at, reason));
                } else if float.fract() == 0.0 && float < 9e15 {
                    // A number that only looks like a fraction: 90.0.
                    return format!("{float:.0}").parse::<u64>().unwrap_or_default().into();
                } else {
                    self.shape
                        .push(fault(&at, "in body must be of type integer: \"number\""));
                    let reason = format!("Checked value must be of type integer (default format) in {at}");
                    self.shape.push(fault("", reason));
                }
                Value::Null
            }
            other => {
                let reason = format!("in body must be of type integer: \"{}\"", type_name(other));
                self.shape.push(fault(at, reason));
                Value::Null
            }
        }
    }

    fn target_ref(&mut self, given: &Value, path: &str) -> Value {
        let mut kept = Map::new();
        self.one_of(given, path, "kind", REF_KINDS, true);
        if given.get("labels").is_some_and(Value::is_null) {
            let reason = "in body must be of type object: \"null\"";
            self.shape.push(fault(format!("{path}.labels"), reason));
        }
        for key in [
            "kind",
            "name",
            "namespace",
            "labels",
            "sectionName",
            "tags",
            "proxyTypes",
            "mesh",
        ] {
            if let Some(value) = given.get(key).filter(|v| !v.is_null()) {
                kept.insert(key.into(), value.clone());
            }
        }
        Value::Object(kept)
    }

    fn named(&mut self, reference: &Value, path: &str) {
        let kind = reference["kind"].as_str().unwrap_or_default();
        let labels = reference["labels"].as_object().is_some_and(|l| !l.is_empty());
        match reference["name"].as_str() {
            Some(_) if labels => {
                let reason = "either labels or name and namespace must be specified";
                self.meaning.push(fault(format!("{path}.labels"), reason));
            }
            Some(name) => {
                let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
                if !name.chars().all(fits) {
                    let reason = "invalid characters: must consist of lower case alphanumeric characters, '-', '.' and '_'.";
                    self.meaning.push(fault(format!("{path}.name"), reason));
                }
            }
            None if !labels && kind == "MeshService" => {
                let reason = format!("name or labels must be set when kind is {kind}");
                self.meaning.push(fault(path, reason));
            }
            None => {}
        }
    }

    fn one_of(&mut self, given: &Value, path: &str, key: &str, known: &str, required: bool) {
        let at = format!("{path}.{key}");
        match given[key].as_str() {
            Some(value) if known.split(' ').any(|k| k == value) => {}
            Some(_) => self
                .shape
                .push(fault(at, format!("in body should be one of [{known}]"))),
            None if required => self.shape.push(fault(at, "in body is required")),
            None => {}
        }
    }

    fn text(&mut self, given: &Value, path: &str, key: &str, required: bool) -> String {
        let at = format!("{path}.{key}");
        match &given[key] {
            Value::String(text) => return text.clone(),
            Value::Null if required => self.shape.push(fault(at, "in body is required")),
            Value::Null => {}
            other => {
                let reason = format!("in body must be of type string: \"{}\"", type_name(other));
                self.shape.push(fault(at, reason));
            }
        }
        String::new()
    }
}

fn each(given: &Value, key: &str, mut look: impl FnMut(usize, &Value) -> Value) -> Option<Value> {
    let all = given.get(key)?.as_array()?;
    Some(all.iter().enumerate().map(|(i, item)| look(i, item)).collect())
}

/// The name of a JSON type as Kuma's schema words it.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
