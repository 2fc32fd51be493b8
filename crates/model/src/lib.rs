//! What people declare: types with their places, parsing, checking, diagnostics and their pages, JSON Schema.
//!
//! Pure: nothing here opens a file, reads a clock or draws a random number. Files come in as
//! [`SourceFile`] values; what comes out is a [`Parsed`]: the declaration *and* every diagnostic.

pub mod declaration;
pub mod diagnostic;
pub mod names;
pub mod weight;

pub use declaration::{
    Backend, CommitId, Declaration, Federation, HeaderMatch, Match, PathMatch, Place, Platform, Protocol,
    QueryMatch, Route, SourceCommit, SourceFile, SourceName, Split, ValueMatch, Zone,
};
pub use diagnostic::{Code, Diagnostic, Label, Severity, Span};
pub use names::{
    BackendName, DnsLabel, FederationName, MeshName, NameError, RouteName, ServiceName, SplitName, ZoneName,
};
pub use weight::{BasisPoints, WeightError};
