//! The first words of a session: who the agent says it is and what it holds; what the coordinator answers.

use std::time::Duration;

use weir_model::{DnsLabel, FederationName, ZoneName};
use weir_planner::{GatewayRef, Generation, ItemRef, PlanId};

use crate::scalar::read;
use crate::term::Term;
use crate::update::Holds;
use crate::{WireError, v1};

/// What an agent says first. Its certificate decides who it is: a greeting that says otherwise is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The federation.
    pub federation: FederationName,
    /// The zone.
    pub zone: ZoneName,
    /// The agent's own name.
    pub agent: DnsLabel,
    /// Version of its program.
    pub version: String,
    /// Highest plan generation ever taken.
    pub highest: Generation,
    /// Plan that is held now; none if none.
    pub plan: Option<PlanId>,
    /// That plan's generation; 0 if none.
    pub generation: Generation,
    /// What is held, whole and intact.
    pub holds: Holds,
    /// Highest term of a coordinator under which a plan was ever taken.
    pub term: Term,
}

impl From<&Greeting> for v1::Hello {
    fn from(greeting: &Greeting) -> Self {
        Self {
            federation: greeting.federation.to_string(),
            zone: greeting.zone.to_string(),
            agent: greeting.agent.to_string(),
            version: greeting.version.clone(),
            highest_generation: greeting.highest.0,
            plan_id: plan_out(greeting.plan),
            generation: greeting.generation.0,
            holds: greeting.holds.items.iter().map(v1::ItemRef::from).collect(),
            holds_gateways: greeting.holds.gateways.iter().map(v1::GatewayRef::from).collect(),
            highest_term: greeting.term.0,
        }
    }
}

impl TryFrom<&v1::Hello> for Greeting {
    type Error = WireError;

    fn try_from(hello: &v1::Hello) -> Result<Self, WireError> {
        let items: Result<_, _> = hello
            .holds
            .iter()
            .map(|item| {
                ItemRef::try_from(item).map_err(|e| e.within(format_args!("hello.holds[{}]", item.split)))
            })
            .collect();
        let gateways: Result<_, _> = hello
            .holds_gateways
            .iter()
            .map(|held| {
                GatewayRef::try_from(held)
                    .map_err(|e| e.within(format_args!("hello.holds_gateways[{}]", held.gateway)))
            })
            .collect();
        Ok(Self {
            federation: read("hello.federation", &hello.federation)?,
            zone: read("hello.zone", &hello.zone)?,
            agent: read("hello.agent", &hello.agent)?,
            version: hello.version.chars().take(64).collect(),
            highest: Generation(hello.highest_generation),
            plan: plan("hello.plan_id", &hello.plan_id)?,
            generation: Generation(hello.generation),
            holds: Holds {
                items: items?,
                gateways: gateways?,
            },
            term: Term(hello.highest_term),
        })
    }
}

pub(crate) fn plan_out(plan: Option<PlanId>) -> String {
    plan.map(|id| id.to_string()).unwrap_or_default()
}

pub(crate) fn plan(field: &str, text: &str) -> Result<Option<PlanId>, WireError> {
    if text.is_empty() {
        return Ok(None);
    }
    read(field, text).map(Some)
}

/// What the coordinator answers to a greeting that it accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// For logs on both sides.
    pub session: String,
    /// How often to report at the least.
    pub report_interval: Duration,
}

impl From<&Welcome> for v1::Welcome {
    fn from(welcome: &Welcome) -> Self {
        Self {
            session: welcome.session.clone(),
            report_interval_ms: u32::try_from(welcome.report_interval.as_millis()).unwrap_or(u32::MAX),
        }
    }
}

impl TryFrom<&v1::Welcome> for Welcome {
    type Error = WireError;

    fn try_from(welcome: &v1::Welcome) -> Result<Self, WireError> {
        if welcome.report_interval_ms == 0 {
            return Err(WireError::new(
                "welcome.report_interval_ms",
                "reporting without a pause is refused",
            ));
        }
        Ok(Self {
            session: welcome.session.chars().take(64).collect(),
            report_interval: Duration::from_millis(welcome.report_interval_ms.into()),
        })
    }
}
