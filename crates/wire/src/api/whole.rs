//! From how a split stands in its zones to how it stands as a whole: one rule, for who says it and for who checks it. Pure.

use super::{SplitInZone, Standing};

/// How a split stands over its zones: the worst of them; none if there are none.
///
/// Those that are detached do not count, while any other is there. Where nobody calls the service there is nothing to prove, so
/// such a zone keeps none from being converged that another one proves; where no zone proves anything, the whole is idle.
pub fn over_zones<'a>(zones: impl IntoIterator<Item = &'a SplitInZone>) -> Option<Standing> {
    let all: Vec<&SplitInZone> = zones.into_iter().collect();
    let mut count: Vec<&SplitInZone> = all
        .iter()
        .copied()
        .filter(|zone| zone.detached.is_none())
        .collect();
    if count.is_empty() {
        count = all;
    }
    let worst = count.iter().map(|zone| zone.standing).max()?;
    Some(match worst {
        Standing::Idle if count.iter().any(|zone| proves(zone)) => Standing::Converged,
        worst => worst,
    })
}

/// Whether something of what the split gives was read back there: by callers of the mesh, or at a gateway that carries the
/// weights itself.
pub fn proves(zone: &SplitInZone) -> bool {
    match zone.standing {
        Standing::Converged => true,
        Standing::Idle => {
            let mut doors = zone.doors.iter();
            doors.any(|door| door.carries && door.standing == Standing::Converged)
        }
        _ => false,
    }
}
