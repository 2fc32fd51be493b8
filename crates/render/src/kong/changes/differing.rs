//! Whether an entity that is there is what it should be, field by field, as Kong means them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Row;
use crate::kong::base::strings;
use crate::kong::database::Entity;
use crate::kong::entities::PIN;

/// Tags that say when an entity was last written, and not what it is: they follow with the next write.
const MARKS: [&str; 3] = ["weir.commit.", "weir.generation.", "weir.gateway."];

/// The fields in which an entity is not as it should be. Its marks alone are no difference.
pub(super) fn differing(row: &Row, entity: &Entity) -> Map<String, Value> {
    let nothing = Value::Null;
    let mut fields = Map::new();
    for (field, should) in &entity.fields {
        let same = match field.as_str() {
            "tags" => {
                let lasting = |tag: &&str| !MARKS.iter().any(|mark| tag.starts_with(mark));
                let lasts = strings(Some(should))
                    .filter(lasting)
                    .all(|tag| row.tags.contains(tag));
                // The tag of a pin that is over must not stay.
                let pins = row.tags.iter().filter(|tag| tag.starts_with(PIN));
                let over = pins.map(String::as_str);
                lasts
                    && over
                        .into_iter()
                        .all(|tag| strings(Some(should)).any(|is| is == tag))
            }
            // What a plugin is not told has what Kong says of it.
            "config" => within(row.fields.get(field).unwrap_or(&nothing), should),
            _ => alike(row.fields.get(field).unwrap_or(&nothing), should),
        };
        if !same {
            fields.insert(field.clone(), should.clone());
        }
    }
    fields
}

/// Whether all that should be is so, in a record that may say more.
fn within(is: &Value, should: &Value) -> bool {
    match (is, should) {
        (Value::Object(is), Value::Object(should)) => should
            .iter()
            .all(|(key, should)| within(is.get(key).unwrap_or(&Value::Null), should)),
        (is, should) => alike(is, should),
    }
}

/// Whether two values mean the same to Kong: its lists are sets, and nothing, an empty list and an empty object are nothing.
fn alike(is: &Value, should: &Value) -> bool {
    let nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        _ => false,
    };
    match (is, should) {
        (is, should) if nothing(is) || nothing(should) => nothing(is) && nothing(should),
        (Value::Array(_), Value::Array(_)) => {
            let set = |value| strings(Some(value)).collect::<BTreeSet<&str>>();
            set(is) == set(should)
        }
        (Value::Object(is), Value::Object(should)) => {
            is.len() == should.len()
                && should
                    .iter()
                    .all(|(key, should)| is.get(key).is_some_and(|is| alike(is, should)))
        }
        // A database may give whole numbers back as such or with a fraction of nothing.
        (Value::Number(is), Value::Number(should)) => is.as_f64() == should.as_f64(),
        (is, should) => is == should,
    }
}
