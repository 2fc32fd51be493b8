//! What a field may hold: types, defaults and checks, in the order and with the words of Kong.

use serde_json::{Map, Value, json};

use super::texts;

/// An entity or a record: field names and values.
pub(super) type Object = Map<String, Value>;

/// A type.
#[derive(Debug)]
pub(super) enum Type {
    /// Text.
    Text,
    /// A number without fraction.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A list.
    Array(Box<Field>),
    /// A list in which nothing comes twice.
    Set(Box<Field>),
    /// Names of this kind, values of that.
    Map(Box<Field>, Box<Field>),
    /// Fields.
    Record(Vec<Field>),
    /// A reference.
    Foreign,
}

/// A check of a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Check {
    /// One of these.
    OneOf(&'static [&'static str]),
    /// One of these numbers.
    OneOfNumbers(&'static [i64]),
    /// From here to there.
    Between(i64, i64),
    /// From here to there, with fractions.
    Within(f64, f64),
    /// An id.
    Id,
    /// What a text must be.
    Text(fn(&str) -> Result<(), String>),
    /// At least so many.
    Least(usize),
    /// From one of these sets only.
    OneSet(&'static [&'static [&'static str]]),
}

/// A field.
#[derive(Debug)]
pub(super) struct Field {
    /// Its name; empty for elements.
    pub(super) name: &'static str,
    /// Its type.
    pub(super) of: Type,
    /// Whether it must have a value.
    pub(super) required: bool,
    /// What it has if nobody says.
    pub(super) default: Option<Value>,
    /// Its checks.
    pub(super) checks: Vec<Check>,
}

/// A field of this name and type.
pub(super) fn field(name: &'static str, of: Type) -> Field {
    Field {
        name,
        of,
        required: false,
        default: None,
        checks: Vec::new(),
    }
}

/// An element of a list or map.
pub(super) fn element(of: Type) -> Field {
    field("", of)
}

impl Field {
    /// Must have a value.
    pub(super) fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }

    /// Has this value if nobody says.
    pub(super) fn or(self, value: impl Into<Value>) -> Self {
        Self {
            default: Some(value.into()),
            ..self
        }
    }

    /// Is checked so as well.
    pub(super) fn that(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    fn fill(&self, value: Option<Value>) -> Value {
        let value = match value {
            // A null resets to the default; where a value must be, it stays, and is refused.
            Some(Value::Null) if !self.required => self.default.clone().unwrap_or_default(),
            Some(value) => value,
            None => self.default.clone().unwrap_or_else(|| match &self.of {
                Type::Record(_) if self.required => json!({}),
                _ => Value::Null,
            }),
        };
        match (&self.of, value) {
            (Type::Record(fields), Value::Object(mut object)) => {
                fill(fields, &mut object);
                object.into()
            }
            (Type::Array(one), Value::Array(all)) => {
                all.into_iter().map(|value| one.fill(Some(value))).collect()
            }
            (Type::Set(one), Value::Array(all)) => {
                let mut seen: Vec<Value> = Vec::new();
                for value in all {
                    let value = one.fill(Some(value));
                    if !seen.contains(&value) {
                        seen.push(value);
                    }
                }
                seen.into()
            }
            (_, value) => value,
        }
    }

    /// What is wrong with a value.
    pub(super) fn check(&self, value: &Value) -> Result<(), Value> {
        if value.is_null() {
            return Ok(());
        }
        self.check_type(value)?;
        for check in &self.checks {
            check.of(value).map_err(Value::String)?;
        }
        Ok(())
    }

    fn check_type(&self, value: &Value) -> Result<(), Value> {
        let wrong = |what: &str| Err(format!("expected {what}").into());
        match (&self.of, value) {
            (Type::Text, Value::String(text)) if text.is_empty() => Err("length must be at least 1".into()),
            (Type::Text, Value::String(_))
            | (Type::Number, Value::Number(_))
            | (Type::Boolean, Value::Bool(_)) => Ok(()),
            (Type::Integer, Value::Number(number)) if number.as_f64().is_some_and(|n| n.fract() == 0.0) => {
                Ok(())
            }
            (Type::Array(one) | Type::Set(one), Value::Array(all)) => {
                let found: Vec<Value> = all
                    .iter()
                    .map(|value| one.check(value).err().unwrap_or_default())
                    .collect();
                sparse(found).map_or(Ok(()), Err)
            }
            // An empty object of JSON and an empty list are one thing to Kong.
            (Type::Array(_) | Type::Set(_), Value::Object(object)) if object.is_empty() => Ok(()),
            (Type::Map(key, one), Value::Object(object)) => {
                for (name, value) in object {
                    key.check(&Value::String(name.clone()))?;
                    one.check(value)?;
                }
                Ok(())
            }
            (Type::Record(fields), Value::Object(object)) => {
                let found = check(fields, object);
                if found.is_empty() {
                    Ok(())
                } else {
                    Err(found.into())
                }
            }
            (Type::Foreign, Value::Object(object)) => match object.get("id").and_then(Value::as_str) {
                None => Err(json!({"id": "missing primary key"})),
                Some(id) if texts::is_id(id) => Ok(()),
                Some(_) => Err(json!({"id": "expected a valid UUID"})),
            },
            (Type::Foreign, _) => wrong("a record"),
            (Type::Text, _) => wrong("a string"),
            (Type::Integer, _) => wrong("an integer"),
            (Type::Number, _) => wrong("a number"),
            (Type::Boolean, _) => wrong("a boolean"),
            (Type::Array(_), _) => wrong("an array"),
            (Type::Set(_), _) => wrong("a set"),
            (Type::Map(..), _) => wrong("a map"),
            (Type::Record(_), _) => wrong("a record"),
        }
    }
}

/// Errors by position: none if there is none, and nothing after the last.
fn sparse(mut found: Vec<Value>) -> Option<Value> {
    let last = found.iter().rposition(|error| !error.is_null())?;
    found.truncate(last + 1);
    Some(found.into())
}

impl Check {
    fn of(self, value: &Value) -> Result<(), String> {
        match (self, value) {
            (Self::OneOf(all), Value::String(text)) if !all.contains(&text.as_str()) => {
                Err(format!("expected one of: {}", all.join(", ")))
            }
            (Self::OneOfNumbers(all), Value::Number(number))
                if !number
                    .as_f64()
                    .is_some_and(|n| all.iter().any(|one| *one as f64 == n)) =>
            {
                let all: Vec<String> = all.iter().map(i64::to_string).collect();
                Err(format!("expected one of: {}", all.join(", ")))
            }
            (Self::Between(from, to), Value::Number(number))
                if !number
                    .as_f64()
                    .is_some_and(|n| n >= from as f64 && n <= to as f64) =>
            {
                Err(format!("value should be between {from} and {to}"))
            }
            (Self::Within(from, to), Value::Number(number))
                if !number.as_f64().is_some_and(|n| n >= from && n <= to) =>
            {
                Err(format!("value should be between {from} and {to}"))
            }
            (Self::Id, Value::String(text)) if !texts::is_id(text) => Err("expected a valid UUID".to_owned()),
            (Self::Text(check), Value::String(text)) => check(text),
            (Self::Least(least), Value::Array(all)) if all.len() < least => {
                Err(format!("length must be at least {least}"))
            }
            (Self::OneSet(sets), Value::Array(all)) => {
                let has = |set: &&&[&str]| all.iter().any(|v| v.as_str().is_some_and(|v| set.contains(&v)));
                let found: Vec<String> = sets
                    .iter()
                    .filter(has)
                    .map(|set| format!("({})", quoted(set)))
                    .collect();
                if found.len() < 2 {
                    return Ok(());
                }
                Err(format!("these sets are mutually exclusive: {}", found.join(", ")))
            }
            _ => Ok(()),
        }
    }
}

/// `'a', 'b'`.
pub(super) fn quoted(names: &[&str]) -> String {
    let all: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    all.join(", ")
}

/// Gives every field that has none its default, or null.
pub(super) fn fill(fields: &[Field], object: &mut Object) {
    for field in fields {
        let given = object.remove(field.name);
        object.insert(field.name.to_owned(), field.fill(given));
    }
}

/// What is wrong, by field.
pub(super) fn check(fields: &[Field], object: &Object) -> Object {
    let mut found = Object::new();
    for (name, value) in object {
        let error = match fields.iter().find(|field| field.name == name) {
            Some(field) => field.check(value),
            None => Err("unknown field".into()),
        };
        if let Err(error) = error {
            found.insert(name.clone(), error);
        }
    }
    for field in fields.iter().filter(|field| field.required) {
        if object.get(field.name).is_none_or(Value::is_null) {
            found.insert(field.name.to_owned(), "required field missing".into());
        }
    }
    found
}

/// Puts the one over the other: records field by field, all else whole.
pub(super) fn merge(fields: &[Field], top: Object, bottom: &mut Object) {
    for (name, value) in top {
        let known = fields.iter().find(|field| field.name == name);
        match (known.map(|field| &field.of), value, bottom.get_mut(&name)) {
            (Some(Type::Record(inner)), Value::Object(top), Some(Value::Object(below))) => {
                merge(inner, top, below);
            }
            (_, value, _) => {
                bottom.insert(name, value);
            }
        }
    }
}
