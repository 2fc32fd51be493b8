//! JSON Schema of the declaration language, for editors. Made from the same table that reading uses.
//!
//! The schema says what a field is; sums, references and shadowing are for `weir check`.

use serde_json::{Map, Value, json};

use crate::freeze::Day;
use crate::shape::{self, Field, Form, Shape};

/// Where the schema says it lives.
const ID: &str = "https://weir.dev/schema/v1alpha1/weir.schema.json";

/// A duration: the longer unit first, each once. That there is one at all is for the length.
const DURATION: &str = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

/// The schema of one document of any kind (JSON Schema 2020-12).
pub fn json_schema() -> Value {
    let kinds = [
        ("Federation", &shape::FEDERATION),
        ("Zone", &shape::ZONE),
        ("Split", &shape::SPLIT),
    ];
    // By `if` rather than `oneOf`: an editor then complains about the field, not about all kinds at once.
    let branches: Vec<Value> = kinds
        .iter()
        .map(|(kind, shape)| {
            json!({
                "if": {"required": ["kind"], "properties": {"kind": {"const": kind}}},
                "then": object(shape),
            })
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "Weir declaration",
        "description": "One document of a Weir declaration: a Federation, a Zone or a Split.",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {
            "apiVersion": {"const": shape::API_VERSION},
            "kind": {"enum": shape::KINDS},
        },
        "allOf": branches,
        "$defs": {"name": name()},
    })
}

fn name() -> Value {
    json!({
        "type": "string",
        "description": "An RFC 1035 label.",
        "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$",
        "maxLength": 63,
    })
}

fn backends() -> Value {
    json!({"type": "array", "items": {"$ref": "#/$defs/name"}, "uniqueItems": true, "minItems": 1})
}

fn texts(most: usize) -> Value {
    json!({
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "uniqueItems": true,
        "minItems": 1,
        "maxItems": most,
    })
}

fn object(shape: &Shape) -> Value {
    let properties: Map<String, Value> = shape.usable().map(|f| (f.name.to_owned(), field(f))).collect();
    let mut schema = json!({
        "type": "object",
        "description": shape.doc,
        "additionalProperties": false,
        "properties": properties,
    });
    let required: Vec<&str> = shape
        .usable()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if !shape.one_of.is_empty() {
        let choices: Vec<Value> = shape
            .one_of
            .iter()
            .map(|name| json!({"required": [name]}))
            .collect();
        schema["oneOf"] = Value::Array(choices);
    }
    schema
}

fn field(field: &Field) -> Value {
    let mut schema = match field.form {
        // A reference may stand beside a description in this draft.
        Form::Name => json!({"$ref": "#/$defs/name"}),
        Form::Text => json!({"type": "string", "minLength": 1}),
        Form::Word([word]) => json!({"const": word}),
        Form::Word(words) => json!({"enum": words}),
        Form::Whole(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Form::OneOf(numbers) => json!({"enum": numbers}),
        Form::PortNames(most) => json!({
            "type": "array",
            "items": {
                "type": "string",
                "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
                "maxLength": 63,
            },
            "uniqueItems": true,
            "maxItems": most,
        }),
        Form::Object(shape) => object(shape),
        Form::List(shape, most) => json!({"type": "array", "items": object(shape), "maxItems": most}),
        Form::Names(shape, most) => json!({
            "type": "object",
            "propertyNames": {"$ref": "#/$defs/name"},
            "additionalProperties": object(shape),
            "minProperties": 1,
            "maxProperties": most,
        }),
        Form::Weights => json!({
            "type": "object",
            "propertyNames": {"$ref": "#/$defs/name"},
            "additionalProperties": {"type": "number", "minimum": 0, "maximum": 100},
            "minProperties": 1,
        }),
        Form::Flag => json!({"type": "boolean"}),
        Form::PerCent { zero: true } => json!({"type": "number", "minimum": 0, "maximum": 100}),
        Form::PerCent { zero: false } => json!({"type": "number", "exclusiveMinimum": 0, "maximum": 100}),
        Form::Duration(_, _) => json!({"type": "string", "pattern": DURATION, "minLength": 2}),
        Form::Freeze(shape) => json!({"oneOf": [{"type": "boolean"}, object(shape)]}),
        Form::Days => json!({
            "type": "array",
            "items": {"enum": Day::ALL.map(Day::as_str)},
            "uniqueItems": true,
            "minItems": 1,
        }),
        Form::TimeOfDay => json!({"type": "string", "pattern": "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"}),
        Form::Backends => backends(),
        Form::Fallbacks(shape) => json!({
            "type": "object",
            "propertyNames": {"$ref": "#/$defs/name"},
            "additionalProperties": {"oneOf": [{"$ref": "#/$defs/name"}, backends(), object(shape)]},
        }),
        Form::NameList(most) => {
            let mut names = backends();
            names["maxItems"] = json!(most);
            names
        }
        Form::Texts(most) => texts(most),
        Form::Addresses(most) => json!({
            "type": "object",
            "propertyNames": {"$ref": "#/$defs/name"},
            "additionalProperties": {"oneOf": [{"type": "string", "minLength": 1}, texts(most)]},
            "minProperties": 1,
        }),
        Form::Refused => json!(false),
    };
    if let Value::Object(schema) = &mut schema {
        schema.insert("description".to_owned(), json!(field.doc));
    }
    schema
}
