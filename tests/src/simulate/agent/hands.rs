//! The driver of a simulated zone: a call lies on the desk until the world answers it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use weir_drivers::{DriverError, Observed, Outcome, Sighting, ZoneDriver};
use weir_model::MeshName;
use weir_planner::{Counts, Item, Proof};
use weir_render::{Object, Step};

use super::super::Ms;
use super::super::zone::{Answer, Call, away};

/// Where an activation's call and its answer lie.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) call: Option<Call>,
    pub(super) answer: Option<Answer>,
    /// A call was made and its answer was not taken. Calls that are made at one time go one after the other.
    asked: bool,
    /// When it is.
    pub(super) now: Ms,
}

/// The driver of a simulated zone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hands(Arc<Mutex<Desk>>);

impl Hands {
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Desk) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ask<'a, T>(&self, call: Call, take: fn(Answer) -> Option<T>, otherwise: T) -> BoxFuture<'a, T>
    where
        T: Send + Unpin + 'a,
    {
        Asked {
            hands: self.clone(),
            call: Some(call),
            take,
            otherwise: Some(otherwise),
        }
        .boxed()
    }
}

struct Asked<T> {
    hands: Hands,
    call: Option<Call>,
    take: fn(Answer) -> Option<T>,
    otherwise: Option<T>,
}

impl<T: Unpin> Future for Asked<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        if this.call.is_some() {
            this.hands.with(|desk| {
                if !desk.asked {
                    desk.call = this.call.take();
                    desk.asked = true;
                }
            });
            return Poll::Pending;
        }
        let answer = this.hands.with(|desk| {
            let answer = desk.answer.take()?;
            desk.asked = false;
            Some(answer)
        });
        let Some(answer) = answer else {
            return Poll::Pending;
        };
        match (this.take)(answer).or_else(|| this.otherwise.take()) {
            Some(value) => Poll::Ready(value),
            None => Poll::Pending,
        }
    }
}

fn lost(what: &str) -> DriverError {
    away(
        what,
        "the answer is for another question",
        weir_drivers::Fault::Unknown,
    )
}

impl ZoneDriver for Hands {
    fn pulse(&self) -> BoxFuture<'_, Result<String, DriverError>> {
        let take = |answer| match answer {
            Answer::Pulse(of) => Some(of),
            _ => None,
        };
        self.ask(Call::Pulse, take, Err(lost("GET /")))
    }

    fn observe<'a>(
        &'a self,
        _: &'a MeshName,
        _: &'a [Arc<Item>],
    ) -> BoxFuture<'a, Result<Observed, DriverError>> {
        let take = |answer| match answer {
            Answer::Observed(of) => Some(of),
            _ => None,
        };
        self.ask(Call::Observe, take, Err(lost("GET meshes")))
    }

    fn apply<'a>(&'a self, step: &'a Step) -> BoxFuture<'a, Result<Outcome, DriverError>> {
        let take = |answer| match answer {
            Answer::Applied(of) => Some(of),
            _ => None,
        };
        self.ask(Call::Apply(Box::new(step.clone())), take, Err(lost("PUT")))
    }

    fn prove<'a>(&'a self, items: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Proof>> {
        let take = |answer| match answer {
            Answer::Proofs(of) => Some(of),
            _ => None,
        };
        self.ask(Call::Prove(items.to_vec()), take, Vec::new())
    }

    fn sight<'a>(&'a self, anchors: &'a [Object]) -> BoxFuture<'a, Vec<Sighting>> {
        let take = |answer| match answer {
            Answer::Sightings(of) => Some(of),
            _ => None,
        };
        self.ask(Call::Sight(anchors.to_vec()), take, Vec::new())
    }

    fn count<'a>(&'a self, items: &'a [Arc<Item>]) -> BoxFuture<'a, Vec<Option<Counts>>> {
        let take = |answer| match answer {
            Answer::Counts(of) => Some(of),
            _ => None,
        };
        self.ask(Call::Count(items.to_vec()), take, Vec::new())
    }
}
