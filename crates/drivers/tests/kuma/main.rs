//! The Kuma driver against scripted answers, most of them recorded from real Kuma 2.14.3 (`recorded/`), and against
//! stand-ins for Envoy's admin interface on unix sockets.

#![expect(clippy::unwrap_used, reason = "a test: what is not there ends it")]

mod applying;
#[path = "../checkout/mod.rs"]
mod checkout;
mod elsewhere;
mod observing;
mod proving;
mod stage;

use std::sync::Arc;

use serde_json::Value;
use stage::item;
use weir_render::{Form, Object, Options, render, to_document};

fn object(weights: [u32; 2], generation: u64) -> Object {
    let item = item(weights, generation);
    let federation = stage::federation();
    render(&item, &federation, &Form::Universal, Options { anchored: true }).remove(0)
}

fn document(weights: [u32; 2], generation: u64) -> Value {
    to_document(&object(weights, generation), &Form::Universal)
}

/// The item that the recorded Envoy runs: all to fra, anchored.
fn recorded_item() -> Arc<weir_planner::Item> {
    let mut item = item([10_000, 0], 7);
    item.anchor = "3f9c".to_owned();
    Arc::new(item)
}
