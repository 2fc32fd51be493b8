//! Orders as the ledger keeps them, judged and answered by the coordinator's own code.

use weir_coordinator::judging::{Ground, answers, judge};
use weir_coordinator::ledger::{Answer, Order, OrderKind};
use weir_model::BackendName;

use super::*;

/// For so long whoever gives an order waits for the answer.
const PATIENCE: Ms = 10_000;

/// The rows of orders that matter still.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    /// Without an answer, oldest first.
    pub(crate) waiting: Vec<Order>,
    /// Freezes and drains that are in force, oldest first.
    pub(crate) standing: Vec<Order>,
}

impl Rows {
    /// Whether an order about this backend waits for its answer.
    pub(crate) fn waits_about(&self, split: &str, backend: &str) -> bool {
        let of = |order: &Order| {
            let named = order.split.as_ref().is_some_and(|of| of.as_str() == split);
            named && order.kind.backend().is_some_and(|of| of.as_str() == backend)
        };
        self.waiting.iter().any(of)
    }

    /// The drains in force.
    pub(crate) fn drains(&self) -> Vec<(SplitName, BackendName)> {
        let drains = self.standing.iter().filter_map(|order| match &order.kind {
            OrderKind::Drain { backend, .. } => Some((order.split.clone()?, backend.clone())),
            _ => None,
        });
        drains.collect()
    }

    /// An answer, with what it ends.
    fn answered(&mut self, order: &Order, answer: &Answer) {
        self.waiting.retain(|other| other.id != order.id);
        if !answer.done {
            return;
        }
        match &order.kind {
            OrderKind::Freeze | OrderKind::Drain { .. } => self.standing.push(order.clone()),
            OrderKind::Resume => {
                self.standing
                    .retain(|other| other.kind != OrderKind::Freeze || other.split != order.split);
            }
            OrderKind::Undrain { backend } => self.standing.retain(|other| {
                let drains = matches!(other.kind, OrderKind::Drain { .. });
                !drains || other.split != order.split || other.kind.backend() != Some(backend)
            }),
            OrderKind::Abort => {}
        }
    }
}

impl World {
    /// Somebody leaves an order in the ledger.
    pub(crate) fn give(&mut self, kind: OrderKind, split: SplitName) {
        if self.coordinator.full {
            return;
        }
        let now = self.now;
        self.orders += 1;
        let id = self.orders;
        self.story.tell(now, || {
            let of = kind.backend().map(|backend| format!("{backend} of "));
            format!(
                "somebody orders {} of {}{split}",
                kind.word(),
                of.unwrap_or_default()
            )
        });
        let order = Order {
            id: id.to_string(),
            kind,
            split: Some(split),
            reason: "so it is".to_owned(),
            who: "Ada".to_owned(),
        };
        self.coordinator.ledger.orders.waiting.push(order);
        let looks = self.dice.between(1, 1_000);
        self.at(looks, Event::Turn);
        // Who asks over the API asks the process, and is gone with it; who is at the host takes the order back.
        if self.dice.chance(50) {
            self.at(PATIENCE, Event::TakenBack(id));
        }
    }

    /// Whoever gave an order had no answer.
    pub(crate) fn taken_back(&mut self, id: u64) {
        if self.coordinator.full {
            return;
        }
        let now = self.now;
        let id = id.to_string();
        let waiting = &mut self.coordinator.ledger.orders.waiting;
        let Some(at) = waiting.iter().position(|order| order.id == id) else {
            return;
        };
        let order = waiting.remove(at);
        if order.kind == OrderKind::Abort {
            self.forget_revert();
        }
        self.story.tell(now, || {
            format!("nobody answered the {}, and it is taken back", order.kind.word())
        });
    }

    /// What people ordered, for one look; `decides` for a look at another commit, by which it is not judged.
    pub(super) fn judged(&self, decides: bool) -> Judged {
        let c = &self.coordinator;
        let rows = &c.ledger.orders;
        let ground = Ground {
            declared: c.declared.as_deref().filter(|_| !decides),
            plan: c.plan.as_deref(),
        };
        judge(rows.waiting.clone(), rows.standing.clone(), ground)
    }

    /// Answers orders, by what came of them.
    pub(super) fn answer_orders(
        &mut self,
        judged: &Judged,
        plan: Option<&Plan>,
        outlook: &BTreeMap<SplitName, Outlook>,
    ) {
        let now = self.now;
        for (order, answer) in answers(&judged.waiting, plan.map(|plan| (plan, outlook))) {
            self.coordinator.ledger.orders.answered(&order, &answer);
            self.story.tell(now, || {
                let done = if answer.done { "done" } else { "refused" };
                format!("the {} is {done}: {}", order.kind.word(), answer.message)
            });
            self.note_answer(&order, &answer);
        }
    }

    /// Orders that wait are looked for once a second.
    pub(crate) fn look_for_orders(&mut self) {
        if self.coordinator.up && !self.coordinator.ledger.orders.waiting.is_empty() {
            self.at(1, Event::Turn);
        }
    }
}
