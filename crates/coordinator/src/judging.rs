//! What becomes of orders: which of them are carried out beside those that stand, and in which words each is answered. Pure:
//! the ledger's rows and what is declared come in, and whoever plans by it answers.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{Declaration, SplitName, sabotaged};
use weir_planner::{Drain, Orders, Outlook, Plan};

use crate::ledger::{Answer, Order, OrderKind};

/// What orders are judged by.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// What the commits in force declare; none while that is not known: before the first of them, where this version cannot
    /// read them, and where others may come into force with this look.
    pub declared: Option<&'a Declaration>,
    /// The plan in force.
    pub plan: Option<&'a Plan>,
}

/// Orders for one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Orders that are to be answered by this look, with why those are refused that it does not obey.
    pub waiting: Vec<(Order, Option<String>)>,
    /// What is ordered, those of `waiting` included.
    pub orders: Orders,
}

/// Judges orders that wait, oldest first, beside those that stand. What is decided here is what is answered: an order that is
/// refused changes nothing. One of which nothing can be said yet is in neither, and waits for the next look.
pub fn judge(waiting: Vec<Order>, standing: Vec<Order>, ground: Ground<'_>) -> Judged {
    let mut judged = Vec::new();
    let (mut drains, mut freezes): (Vec<Order>, Vec<Order>) = standing
        .into_iter()
        .partition(|order| matches!(order.kind, OrderKind::Drain { .. }));
    if sabotaged("forget-drains") && ground.declared.is_none() {
        drains.clear();
    }
    let mut orders = Orders::default();
    let aborted = waiting.iter().filter(|order| order.kind == OrderKind::Abort);
    let aborted: BTreeSet<SplitName> = aborted.filter_map(|order| order.split.clone()).collect();
    for order in waiting {
        let mut refused = None;
        match (&order.kind, &order.split) {
            // Nothing is known yet to judge it by: a later look does.
            (OrderKind::Drain { .. } | OrderKind::Undrain { .. }, _) if ground.declared.is_none() => {
                continue;
            }
            // An abort goes back from where the split is, and what it leaves is what drains are judged by.
            (OrderKind::Drain { .. } | OrderKind::Undrain { .. }, Some(split)) if aborted.contains(split) => {
                continue;
            }
            (OrderKind::Freeze, _) => freezes.push(order.clone()),
            (OrderKind::Drain { .. }, Some(_)) => match ground.drains(&order, &drains) {
                Ok(()) => drains.push(order.clone()),
                Err(why) => refused = Some(why),
            },
            (OrderKind::Undrain { backend }, split) => match ground.undrains(&order, &drains) {
                Ok(()) => {
                    drains.retain(|drain| drain.split != *split || drain.kind.backend() != Some(backend));
                }
                Err(why) => refused = Some(why),
            },
            (OrderKind::Abort, Some(split)) => {
                orders
                    .aborts
                    .insert(split.clone(), format!("it was aborted: {}", order.told()));
            }
            (OrderKind::Resume, split) => {
                if let Some(split) = split {
                    orders.resumes.insert(split.clone());
                }
                freezes.retain(|freeze| freeze.split != *split);
            }
            (OrderKind::Abort, None) => {}
            (OrderKind::Drain { .. }, None) => refused = Some("a drain names its split".to_owned()),
        }
        judged.push((order, refused));
    }
    for drain in drains {
        if let (Some(split), OrderKind::Drain { backend, to }) = (&drain.split, &drain.kind) {
            let of = orders.drains.entry(split.clone()).or_default();
            let to = to.clone();
            let why = drain.told();
            of.insert(backend.clone(), Drain { to, why });
        }
    }
    for freeze in freezes {
        match &freeze.split {
            Some(split) => {
                orders.frozen.insert(split.clone(), freeze.told());
            }
            None => orders.all_frozen = Some(freeze.told()),
        }
    }
    Judged {
        waiting: judged,
        orders,
    }
}

impl Ground<'_> {
    /// Whether a drain can be carried out beside those that stand; or why not.
    fn drains(&self, order: &Order, standing: &[Order]) -> Result<(), String> {
        let (Some(name), OrderKind::Drain { backend, .. }) = (&order.split, &order.kind) else {
            return Ok(());
        };
        let split = self
            .declared
            .and_then(|declared| Some((declared.splits.get(name)?, &declared.zones)));
        let (split, zones) = split.ok_or_else(|| format!("no split is named {name}"))?;
        self.unquarantined(name)?;
        if !split.backends.contains_key(backend) {
            return Err(format!("split {name} has no backend {backend}"));
        }
        let of_split = standing.iter().filter(|drain| drain.split.as_ref() == Some(name));
        let all = of_split.chain([order]).filter_map(|drain| match &drain.kind {
            OrderKind::Drain { backend, to } => {
                let (to, why) = (to.clone(), drain.told());
                Some((backend.clone(), Drain { to, why }))
            }
            _ => None,
        });
        let all: BTreeMap<_, _> = all.collect();
        if let Some(drain) = all.get(backend) {
            weir_planner::drain::can_take(split, (backend, drain), (&all, zones))?;
        }
        weir_planner::drain::without(split, (&all, zones)).map(|_| ())
    }

    /// Whether there is a drain to end, and nothing comes of its end that nobody wants.
    fn undrains(&self, order: &Order, drains: &[Order]) -> Result<(), String> {
        let (Some(split), Some(backend)) = (&order.split, order.kind.backend()) else {
            return Err("an undrain names its split and backend".to_owned());
        };
        let of = |drain: &Order| drain.split.as_ref() == Some(split) && drain.kind.backend() == Some(backend);
        if !drains.iter().any(of) {
            return Err(format!("backend {backend} of split {split} is not drained"));
        }
        self.unquarantined(split)
    }

    /// A quarantine is of the very weights that were judged: with a drain they would be others, and be gone towards.
    fn unquarantined(&self, split: &SplitName) -> Result<(), String> {
        let split_plan = self.plan.and_then(|plan| plan.splits.get(split));
        let course = split_plan.and_then(|of| of.course.as_ref());
        match course.and_then(|course| course.quarantine.as_ref()) {
            Some(quarantine) => Err(format!(
                "split {split} is quarantined ({}): commit what is wanted, or `weir resume` it, first",
                quarantine.why
            )),
            None => Ok(()),
        }
    }
}

/// Answers to what was judged, by what came of the look.
pub fn answers(
    waiting: &[(Order, Option<String>)],
    known: Option<(&Plan, &BTreeMap<SplitName, Outlook>)>,
) -> Vec<(Order, Answer)> {
    let of = |(order, refused): &(Order, Option<String>)| {
        let answer = match refused {
            Some(message) => Answer {
                done: false,
                message: message.clone(),
            },
            None => answer(order, known),
        };
        (order.clone(), answer)
    };
    waiting.iter().map(of).collect()
}

/// What became of an order that was not refused, by the plan and what it waits for; none before the first plan.
fn answer(order: &Order, known: Option<(&Plan, &BTreeMap<SplitName, Outlook>)>) -> Answer {
    let done = |message: &str| Answer {
        done: true,
        message: message.to_owned(),
    };
    let refused = |message: String| Answer { done: false, message };
    let Some((plan, outlook)) = known else {
        return refused("there is no plan yet".to_owned());
    };
    let gone = |split: &SplitName| !plan.splits.contains_key(split) && !outlook.contains_key(split);
    let declares = |split: &SplitName, backend| {
        let mut items = plan
            .splits
            .get(split)
            .into_iter()
            .flat_map(|of| of.items.values());
        items
            .next()
            .is_none_or(|item| item.destinations.contains_key(backend) && !item.retiring.contains(backend))
    };
    match (&order.kind, &order.split) {
        (OrderKind::Undrain { backend }, Some(split)) if gone(split) => done(&format!(
            "undrained: split {split} is not declared now; when it comes again, {backend} gets what Git declares"
        )),
        (_, Some(split)) if gone(split) => refused(format!("no split is named {split}")),
        (OrderKind::Drain { backend, .. }, _) => done(&format!(
            "drained: {backend} goes to 0 % in every zone, as any other change of weights does, and stays there until it is undrained"
        )),
        (OrderKind::Undrain { backend }, Some(split)) if !declares(split, backend) => done(&format!(
            "undrained: split {split} declares no backend {backend} now; when it comes again, it gets what Git declares"
        )),
        (OrderKind::Undrain { backend }, _) => {
            done(&format!("undrained: {backend} goes to what Git declares"))
        }
        (OrderKind::Freeze, _) => done("frozen: nothing but reverts and aborts moves until it is resumed"),
        (OrderKind::Resume, _) => done("resumed"),
        (OrderKind::Abort, None) => refused("an abort names its split".to_owned()),
        (OrderKind::Abort, Some(split)) => {
            let course = plan.splits.get(split).and_then(|of| of.course.as_ref());
            let motion = course.and_then(|course| course.motion.as_ref());
            if motion.is_some_and(|motion| motion.stopped.is_some()) {
                done(
                    "it is stopped where it is and does not go back, for that would give more to who is drained, or to who gained \
                     already: `weir undrain` ends the drain, a commit says what else is wanted",
                )
            } else if course.is_some_and(|course| course.quarantine.is_some()) {
                done(
                    "it goes back everywhere at once; what Git declares is not gone towards until a commit changes the split, \
                     or it is resumed",
                )
            } else {
                refused(format!(
                    "nothing of {split} is under way that could go back (a drain is ended by `weir undrain`)"
                ))
            }
        }
    }
}
