//! What Kong's router can do: whether a split's matches mean at a door what they mean in the mesh.
//!
//! In terms of declarations alone.

use weir_model::{Door, Match, RouteName};

/// Whether these routes, in the order of their precedence, can stand behind this door.
///
/// # Errors
/// Every reason why not, in words.
pub fn fits(routes: &[(&RouteName, &Match)], door: &Door) -> Result<(), Vec<String>> {
    let _ = (routes, door);
    unimplemented!()
}
