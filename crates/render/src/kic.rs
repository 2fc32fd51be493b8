//! A zone's doors at a Kong that Kong Ingress Controller (KIC) runs: HTTPRoutes of Gateway API, and what the controller makes of
//! them.
//!
//! `route` writes a split's HTTPRoute, `taken` what becomes of one that a split takes over; `cluster` reads Services and EndpointSlices; `shares` computes what the controller gives
//! each endpoint, and what share that really is; `standing` reads what the controller says of a route, `router` which requests Kong itself takes for it. Facts are those of
//! KIC 3.5.13 before Kong 3.9.3.

pub mod cluster;
pub mod route;
pub mod router;
pub mod shares;
pub mod standing;
pub mod taken;

pub use cluster::{Reached, Service, Services, Slice};
pub use route::{
    HttpRoute, LABEL_GATEWAY, LABEL_GATEWAY_GENERATION, Routes, Rule, http_route, leads_elsewhere, name,
};
pub use router::{Request, Router, is_of, is_plain, made_of};
pub use shares::{Backends, Unmet, backends, expected, target_weight};
pub use standing::{Said, attached_elsewhere, overlaps, parents, said};
pub use taken::{Mark, Over, Taker, let_go, over};
