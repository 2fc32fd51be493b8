//! HTTPRoutes that somebody pinned on another host of the zone.

use weir_model::SplitName;
use weir_render::kong::{comes, may_be_unpinned};

use super::Stop;
use crate::kong::Bringing;

/// Whether a route that is there under one pin, or none, may be written over by whoever gives its split under another, or under none.
pub(super) fn is_free(
    (is, gives): (Option<&str>, Option<&str>),
    split: &SplitName,
    by: Bringing<'_>,
) -> Result<(), Stop> {
    let pins = by.pins.at("cluster");
    if let Some(pin) = gives {
        comes(pin, split, is == gives, &pins).map_err(Stop::Held)?;
    }
    match is {
        Some(pin) => may_be_unpinned(pin, split.as_str(), gives, &pins).map_err(Stop::Held),
        None => Ok(()),
    }
}
