//! Which line of which file a held door is declared by. What an agent says of it, it says without having the file: Kong names an
//! entity, and whoever is woken by that wants to know where it comes from.

use std::collections::BTreeSet;

use weir_model::{Declaration, GatewayName, SplitName, ZoneName};
use weir_wire::api::{SplitStatus, Standing};

/// So many lines of one base are told.
const LINES: usize = 5;

/// Adds to what is told of held doors where they are declared, and to what is told of a base in which file that is, and in which
/// line of that file what is named stands.
pub fn with_places(mut status: SplitStatus, declared: &Declaration) -> SplitStatus {
    let Ok(split) = status.name.parse::<SplitName>() else {
        return status;
    };
    for zone in &mut status.zones {
        let Ok(of_zone) = zone.zone.parse::<ZoneName>() else {
            continue;
        };
        for door in zone
            .doors
            .iter_mut()
            .filter(|door| door.standing == Standing::Held)
        {
            let Ok(gateway) = door.gateway.parse::<GatewayName>() else {
                continue;
            };
            let Some(why) = door.reason.clone() else { continue };
            let Some(place) = place(declared, (&split, &of_zone, &gateway), &why) else {
                continue;
            };
            let more = format!("{why} ({place})");
            let of_door = |why: &str| format!("gateway {gateway}: {why}");
            if zone.reason.as_ref() == Some(&of_door(&why)) {
                zone.reason = Some(of_door(&more));
            }
            door.reason = Some(more);
        }
    }
    status
}

fn place(
    declared: &Declaration,
    (split, zone, gateway): (&SplitName, &ZoneName, &GatewayName),
    why: &str,
) -> Option<String> {
    let mut doors = declared.splits.get(split)?.gateways.iter();
    let door = doors.find(|door| door.gateway == *gateway)?;
    let place = &door.place;
    let mut said = format!("this door: {} {}:{}", place.source, place.file, place.span.line);
    let of = declared
        .zones
        .get(zone)
        .and_then(|zone| zone.gateways.get(gateway));
    if let Some(base) = of
        .and_then(|of| of.base.as_ref())
        .filter(|_| is_about_a_base(why))
    {
        said.push_str(&format!("; the base: {} {}", base.source, base.file));
        let named = entities(why).filter_map(|entity| of?.entities.get(&entity));
        let lines: BTreeSet<usize> = named.flatten().copied().collect();
        let lines: Vec<String> = lines.iter().take(LINES).map(usize::to_string).collect();
        if !lines.is_empty() {
            said.push_str(&format!(":{}", lines.join(", ")));
        }
    }
    Some(said)
}

/// What is named as Kong names its entities: the last word before a name in backquotes, and that name.
fn entities(why: &str) -> impl Iterator<Item = String> {
    let parts: Vec<&str> = why.split('`').collect();
    let pairs: Vec<String> = parts
        .chunks_exact(2)
        .filter_map(|pair| {
            let kind = pair[0].trim_end().rsplit(' ').next()?;
            Some(format!("{kind} `{}`", pair[1]))
        })
        .collect();
    pairs.into_iter()
}

/// Whether a base is named, and not merely a word that has these letters: a database has no base.
fn is_about_a_base(why: &str) -> bool {
    let mut words = why.split(|one: char| !one.is_alphanumeric());
    words.any(|word| word == "base")
}
