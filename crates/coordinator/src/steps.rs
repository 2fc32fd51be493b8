//! What a split went through, read off the plans: each step of a transition is a plan of its own. Values only.

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use weir_model::SplitName;
use weir_planner::{Leg, SplitPlan};

/// One split of one plan. The others are passed over unread: a plan may hold ten thousand.
#[derive(Debug)]
pub(crate) struct Of {
    /// When the plan was made.
    pub(crate) created: Timestamp,
    /// Whether the plan was made from another.
    pub(crate) has_parent: bool,
    /// The split there.
    pub(crate) split: Option<SplitPlan>,
}

/// Reads one split out of a plan as it was written.
///
/// # Errors
/// It is no plan.
pub(crate) fn read(json: &str, name: &SplitName) -> Result<Of, serde_json::Error> {
    #[derive(Deserialize)]
    struct Times {
        created: Timestamp,
        #[serde(default)]
        parent: Option<IgnoredAny>,
    }
    let times: Times = serde_json::from_str(json)?;
    let mut reader = serde_json::Deserializer::from_str(json);
    let split = reader.deserialize_map(Splits(name))?;
    Ok(Of {
        created: times.created,
        has_parent: times.parent.is_some(),
        split,
    })
}

/// Looks for `splits`, and in there for the one.
struct Splits<'a>(&'a SplitName);

impl<'de> Visitor<'de> for Splits<'_> {
    type Value = Option<SplitPlan>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plan")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == "splits" {
                found = map.next_value_seed(One(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

struct One<'a>(&'a SplitName);

impl<'de> serde::de::DeserializeSeed<'de> for One<'_> {
    type Value = Option<SplitPlan>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = Option<SplitPlan>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("splits by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.0.as_str() {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Which step a plan is for a split, after the plan before it; none if it changes nothing of it. `before` is none where the
/// plan before is not kept any more.
pub(crate) fn step(before: Option<&Of>, of: &Of) -> Option<String> {
    let Some(now) = &of.split else {
        return before
            .and_then(|before| before.split.as_ref())
            .map(|_| "removed".to_owned());
    };
    let was = match before {
        Some(before) => match &before.split {
            Some(was) if was == now => return None,
            was => was.as_ref(),
        },
        None => None,
    };
    let course = now.course.as_ref();
    if let Some(motion) = course.and_then(|course| course.motion.as_ref()) {
        return Some(match &motion.leg {
            Leg::Shift { bites, bite, wave } if *wave == u32::MAX => {
                format!("bite {bite} of {bites}, all waves")
            }
            Leg::Shift { bites, bite, wave } => format!("bite {bite} of {bites}, wave {wave}"),
            Leg::Return { why } => format!("return: {why}"),
        });
    }
    if let Some(quarantine) = course.and_then(|course| course.quarantine.as_ref()) {
        return Some(format!("rests; quarantined: {}", quarantine.why));
    }
    let moved = was
        .and_then(|was| was.course.as_ref())
        .is_some_and(|course| course.motion.is_some());
    Some(match (was, before) {
        (Some(_), _) if moved => "rests".to_owned(),
        (Some(_), _) => "at once: no share of requests changes".to_owned(),
        (None, Some(_)) => "first plan of it".to_owned(),
        (None, None) if !of.has_parent => "first plan of it".to_owned(),
        (None, None) => "the oldest plan that is kept".to_owned(),
    })
}
