//! Which splits and zones are asked for, cut out of an answer without changing its shape.

use serde_json::Value;
use weir_wire::api::{SplitList, Standing, over_zones, proves};

use super::belief;
use crate::layout::nearest;
use crate::trouble::{Kind, Trouble};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    pub(crate) split: Option<String>,
    pub(crate) zone: Option<String>,
}

impl Scope {
    /// Leaves only what is asked for.
    pub(super) fn cut(&self, list: &mut SplitList, zones: &[String]) -> Result<(), Trouble> {
        if let Some(asked) = &self.split {
            let names: Vec<String> = list.splits.iter().map(|split| split.name.clone()).collect();
            known("split", "in force", asked, &names)?;
            list.splits.retain(|split| split.name == *asked);
        }
        if let Some(asked) = &self.zone {
            known("zone", "declared", asked, zones)?;
            for split in &mut list.splits {
                // one zone that follows does not make a split converged that is not where it is declared
                let floor = belief::floor(split);
                let mut others = split.zones.iter().filter(|zone| zone.detached.is_none());
                let proven = others.any(proves);
                split.zones.retain(|zone| zone.zone == *asked);
                let counts = split.zones.iter().all(|zone| zone.detached.is_none());
                let zones = match over_zones(&split.zones) {
                    // nobody calls it there, and another zone proves it
                    Some(Standing::Idle) if counts && proven => Standing::Converged,
                    zones => zones.unwrap_or(Standing::Unknown),
                };
                split.standing = zones.max(floor);
            }
            list.splits.retain(|split| !split.zones.is_empty());
            list.notes.retain(|note| note.zone == *asked);
        }
        Ok(())
    }

    /// The same cut from the answer as it came, with the standings as they are believed: one split by itself if one is asked
    /// for, else the list.
    pub(super) fn cut_value(&self, mut value: Value, list: &SplitList) -> Value {
        if let (Some(asked), Some(notes)) = (&self.zone, value.get_mut("notes").and_then(Value::as_array_mut))
        {
            notes.retain(|note| note["zone"] == **asked);
        }
        if let Some(splits) = value.get_mut("splits").and_then(Value::as_array_mut) {
            splits.retain_mut(|split| {
                let Some(kept) = list.splits.iter().find(|kept| split["name"] == *kept.name) else {
                    return false;
                };
                if let (Some(asked), Some(zones)) = (&self.zone, split["zones"].as_array_mut()) {
                    zones.retain(|zone| zone["zone"] == **asked);
                }
                // what is not believed is not passed on either
                stand(split, kept.standing);
                for zone in split["zones"].as_array_mut().into_iter().flatten() {
                    let believed = kept.zones.iter().find(|kept| zone["zone"] == *kept.zone);
                    if let Some(believed) = believed
                        && stand(zone, believed.standing)
                    {
                        zone["reason"] = believed.reason.clone().into();
                    }
                }
                true
            });
            if self.split.is_some() && splits.len() == 1 {
                return splits.remove(0);
            }
        }
        value
    }
}

/// Gives what the answer describes its standing; whether that is another than it had.
fn stand(of: &mut Value, standing: Standing) -> bool {
    let standing = serde_json::to_value(standing).unwrap_or_default();
    let changed = of["standing"] != standing;
    of["standing"] = standing;
    changed
}

/// Whether a name is one of these; if not, which was probably meant.
fn known(what: &str, how: &str, asked: &str, names: &[String]) -> Result<(), Trouble> {
    if names.iter().any(|name| name == asked) {
        return Ok(());
    }
    let mut trouble = Trouble::new(Kind::Asked, format!("no {what} named `{asked}` is {how}"), "");
    trouble.help = Some(match nearest(asked, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => {
            format!("no {what} is {how} at all; `weir history` shows what became of the commits")
        }
        None => {
            let some: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
            let more = if names.len() > some.len() { ", …" } else { "" };
            format!("there are: {}{more}", some.join(", "))
        }
    });
    Err(trouble)
}
