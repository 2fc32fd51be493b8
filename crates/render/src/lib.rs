//! A zone's plan in Kuma's own terms, and back from live objects and Envoy dumps to weights.
//!
//! Pure. `object` is what is written and in which form; `policy` makes it from an item; `envoy` reads configuration
//! dumps; `steps` compares live with wanted, by `difference`; `alone` is the form in which a split comes and goes; `ready` decides I3;
//! `rivals` tells whose policy touches the same service.

pub mod alone;
pub mod difference;
pub mod document;
pub mod envoy;
mod expected;
pub mod kic;
pub mod kong;
pub mod object;
pub mod policy;
pub mod rivals;
pub mod steps;

pub use alone::{Anchored, Extent, Held, anchor_alone, extent, holds, keeps, withdrawn};
pub use difference::difference;
pub use document::{Unreadable, from_document, to_document};
pub use envoy::{Live, weights};
pub use object::{COMMIT, FALLEN, Form, Kind, Object, PINNED, PLAN, Step, pin_in_words};
pub use policy::{ANCHOR_HEADER, Options, as_pinned, render, weights_of};
pub use rivals::touches;
pub use steps::{introduction, steps};
pub use weir_planner::ready::{backends_ready, may_come, ready};
