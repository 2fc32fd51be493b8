//! Shares read back: `GET /upstreams/{upstream}/health?balancer_health=1`, the only exact account that Kong gives of them.

use std::collections::BTreeMap;

use serde_json::Value;
use weir_model::{BackendName, BasisPoints};

use crate::kong::document::Upstream;

/// Whether the worker that answered gives each target exactly its weight, and all of it is available.
///
/// # Errors
/// What is different, in words.
pub fn shares(answer: &Value, expected: &Upstream) -> Result<(), String> {
    let _ = (answer, expected);
    unimplemented!()
}

/// The shares that the worker that answered really gives, by backend; none if the answer does not tell, if a target is
/// nobody's, or if they are no whole basis points.
pub fn weights(answer: &Value, expected: &Upstream) -> Option<BTreeMap<BackendName, BasisPoints>> {
    let _ = (answer, expected);
    unimplemented!()
}
