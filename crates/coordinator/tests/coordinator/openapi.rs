//! `docs/api/openapi.json` says what the program does. `UPDATE_OPENAPI=1 cargo test -p weir-coordinator --test coordinator openapi`
//! writes it anew.

use std::fs;
use std::path::Path;

#[test]
fn the_document_is_fresh() {
    let made = weir_coordinator::api::document().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api/openapi.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &made).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == made,
        "docs/api/openapi.json is stale: UPDATE_OPENAPI=1 cargo test -p weir-coordinator --test coordinator openapi"
    );
}
