//! What people declare: types with their places, parsing, checking, diagnostics and their pages, JSON Schema.
//!
//! Pure: nothing here opens a file, reads a clock or draws a random number. Files come in as
//! [`SourceFile`] values; what comes out is a [`Parsed`]: the declaration *and* every diagnostic.

pub mod codes;
pub mod declaration;
pub mod diagnostic;
pub mod duration;
pub mod freeze;
pub mod gateway;
pub mod limits;
pub mod names;
pub mod transition;
pub mod weight;

mod base;
mod check;
mod draft;
mod nearest;
mod parse;
mod pattern;
mod precedence;
mod read;
mod read_match;
mod reader;
pub mod report;
mod sabotage;
mod schema;
mod shape;
mod yaml;

pub use codes::page;
pub use declaration::{
    Backend, CommitId, Declaration, Federation, HeaderMatch, Match, PathMatch, Place, Platform, Protocol,
    Prune, QueryMatch, Route, SourceCommit, SourceFile, SourceName, Split, ValueMatch, Zone,
};
pub use diagnostic::{Code, Diagnostic, Label, Severity, Span};
pub use freeze::{Day, Freeze, Frozen, TimeOfDay, Window, WindowZone};
pub use gateway::{
    Address, AddressError, AtGateway, Base, Channel, ClusterService, Door, Entry, Gateway, Host, ParentRef,
    Redirect, Routing, Via,
};
pub use names::{
    BackendName, DnsLabel, FederationName, GatewayName, MeshName, NameError, PortName, PortNameError,
    RouteName, ServiceName, SplitName, ZoneName,
};
pub use parse::{Parsed, parse};
pub use precedence::{Specificity, precedence};
pub use read_match::ANCHOR_HEADER;
pub use report::{Style, render_diagnostics};
#[cfg(feature = "sabotage")]
pub use sabotage::sabotage;
pub use sabotage::sabotaged;
pub use schema::json_schema;
pub use transition::{Fallback, Insufficient, LATENCIES, Transition, Verify};
pub use weight::{BasisPoints, WeightError};
