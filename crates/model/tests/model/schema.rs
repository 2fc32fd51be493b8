//! The JSON Schema checked in for editors is the one that the table of fields makes.
#![expect(
    clippy::disallowed_methods,
    reason = "the checked-in file is compared with, and written on demand"
)]

use weir_model::json_schema;

/// `UPDATE_SCHEMA=1 cargo test -p weir-model --test model schema` writes it anew.
#[test]
fn the_checked_in_schema_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/weir.schema.json");
    let made = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == made,
        "docs/schema/weir.schema.json is stale: run UPDATE_SCHEMA=1 cargo test -p weir-model --test model schema"
    );
}
