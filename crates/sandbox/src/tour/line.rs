//! A line of the tour: what `--json` prints, and how people read it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::traffic::Tally;

/// One line of the tour.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Its name.
    pub step: String,
    /// The newest commit of the repository.
    pub commit: String,
    /// What is in force: per cent by backend.
    pub declared: BTreeMap<String, f64>,
    /// What was seen.
    pub zones: BTreeMap<String, Zone>,
    /// What was seen at gateways, by `zone/gateway`.
    pub gateways: BTreeMap<String, Gateway>,
    /// From the commit to the last zone's proof; none where nothing was committed or it was refused.
    pub commit_to_proof_ms: Option<u64>,
    /// While the change was under way: not part of the line.
    #[serde(skip)]
    pub meanwhile: BTreeMap<String, Tally>,
    /// What people are told besides: not part of the line.
    #[serde(skip)]
    pub note: String,
}

/// One zone of a line.
#[derive(Debug, Clone, Serialize)]
pub struct Zone {
    /// Counted after the proof.
    pub requests: u64,
    /// Failed, since the step began.
    pub failed: u64,
    /// Who answered, of `requests`.
    pub counted: BTreeMap<String, u64>,
    /// `exact`, `different`, `unknown`; `none` where nothing is declared.
    pub weights: String,
    /// `live`, `sampled`, `acknowledged`, `unknown`; `none` where nothing is declared.
    pub evidence: String,
}

/// One gateway of a line.
#[derive(Debug, Clone, Serialize)]
pub struct Gateway {
    /// How it is configured.
    pub channel: String,
    /// Counted after the proof.
    pub requests: u64,
    /// Failed, since the step began.
    pub failed: u64,
    /// Who answered, of `requests`.
    pub counted: BTreeMap<String, u64>,
    /// `exact`, or how it stands else; `none` where nothing is declared.
    pub proof: String,
}

/// A step for people: within 80 columns.
pub(super) fn text(line: &Line) -> String {
    let mut out = format!("\n{}", line.step);
    let weights: Vec<String> = line.declared.iter().map(|(b, w)| format!("{b} {w} %")).collect();
    out += &format!(
        "   declared: {}   commit {}",
        weights.join(", "),
        &line.commit[..8.min(line.commit.len())]
    );
    if let Some(took) = line.commit_to_proof_ms {
        out += &format!("   proven after {took} ms");
    }
    out.push('\n');
    for note in line.note.lines() {
        out += &format!("  {note}\n");
    }
    let zones = line.zones.iter().map(|(name, zone)| {
        let rest = format!("weights {} ({})", zone.weights, zone.evidence);
        (name, &zone.counted, zone.requests, zone.failed, rest)
    });
    let gateways = line.gateways.iter().map(|(name, gateway)| {
        let rest = format!("Kong {}", gateway.proof);
        (name, &gateway.counted, gateway.requests, gateway.failed, rest)
    });
    for (name, counted, requests, failed, rest) in zones.chain(gateways) {
        let counted: Vec<String> = counted.iter().map(|(b, n)| format!("{b} {n}")).collect();
        let during = &line.meanwhile[name];
        out += &format!(
            "  {name:<8} {} of {requests} requests, {failed} failed; {rest}\n",
            counted.join(", "),
        );
        if during.failures() > 0 {
            let why: Vec<String> = during
                .failed
                .iter()
                .map(|(why, n)| format!("{why}: {n}"))
                .collect();
            out += &format!(
                "           during the change: {} of {} failed ({})\n",
                during.failures(),
                during.requests,
                why.join(", ")
            );
        }
    }
    out
}
