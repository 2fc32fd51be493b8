//! A zone's plan in Kuma's own terms, and back from live objects and Envoy dumps to weights.
//!
//! Pure. `object` is what is written; `render` makes it; `live` reads policies back; `envoy` reads configuration dumps;
//! `steps` compares live with wanted; `ready` decides I3.

pub mod object;

pub use object::{Form, Kind, Object, Step};
