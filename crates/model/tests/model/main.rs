//! The model from outside: files to values and diagnostics, the pages of the codes, the schema, and when a freeze holds.
#![expect(clippy::unwrap_used, reason = "a test may stop here")]

mod declaration;
mod freeze;
mod gateway;
mod pages;
mod properties;
mod schema;
mod tls;
mod transcripts;
mod transition;

use std::sync::Arc;

use weir_model::{SourceFile, SourceName};

/// A file of a source.
fn file_of(source: &str, path: &str, bytes: impl AsRef<[u8]>) -> SourceFile {
    SourceFile {
        source: SourceName(source.to_owned()),
        path: path.to_owned(),
        bytes: Arc::from(bytes.as_ref()),
    }
}

/// A file of the source `main`.
fn file(path: &str, bytes: impl AsRef<[u8]>) -> SourceFile {
    file_of("main", path, bytes)
}
