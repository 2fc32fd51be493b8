//! Whether what was counted is what is declared.

use std::collections::BTreeSet;

use weir_wire::api::{SplitStatus, Standing};

use super::{Gateway, Story};
use crate::bound::{bounds, inside};
use crate::traffic::Tally;

impl Story {
    pub(super) fn at_gateway(
        &mut self,
        step: &str,
        name: &str,
        (tally, during): (&Tally, &Tally),
        split: Option<&SplitStatus>,
        (zone, gateway): (&str, &str),
    ) -> Gateway {
        let proof = match split {
            None => "none".to_owned(),
            Some(split) => {
                let zone = split.zones.iter().find(|status| status.zone == zone);
                let door = zone.and_then(|zone| zone.doors.iter().find(|door| door.gateway == gateway));
                match door {
                    Some(door) if door.standing == Standing::Converged => "exact".to_owned(),
                    Some(door) => format!("{:?}", door.standing).to_lowercase(),
                    None => "unknown".to_owned(),
                }
            }
        };
        let failed = tally.failures() + during.failures();
        self.failed += failed;
        self.sent += tally.requests + during.requests;
        if split.is_some() {
            self.judge(step, name, tally, &proof);
        }
        let of = self.play.gateways.iter().find(|gateway| gateway.door() == name);
        Gateway {
            channel: of
                .map_or("unknown", |gateway| gateway.edge.channel.word())
                .to_owned(),
            requests: tally.requests,
            failed,
            counted: tally.counted.clone(),
            proof,
        }
    }

    pub(super) fn judge(&mut self, step: &str, zone: &str, tally: &Tally, word: &str) {
        if word != "exact" {
            self.wrong
                .push(format!("{step}, {zone}: the weights are {word}, not exact"));
        }
        let answered: u64 = tally.counted.values().sum();
        let backends = self.in_force.keys().chain(tally.counted.keys());
        let backends: BTreeSet<&String> = backends.collect();
        for backend in backends {
            let points = self.in_force.get(backend).copied().unwrap_or(0);
            let count = tally.counted.get(backend).copied().unwrap_or(0);
            if !inside(count, answered, points) {
                let (least, most) = bounds(answered, points);
                self.wrong.push(format!(
                    "{step}, {zone}: {backend} answered {count} of {answered}, not between {least} and {most}"
                ));
            }
        }
    }
}
