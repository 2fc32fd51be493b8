//! What stands in the place of a network, a clock, name servers and a disk, for an agent's gateways.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use tokio::time::Instant;
use weir_agent::gateways::{Keep, Memory};
use weir_drivers::Fault;
use weir_drivers::dns::Ask;
use weir_drivers::kong::{Answer, Carry, Failure, Question};

use crate::simulate::Ms;

thread_local! {
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Moves the clock of whatever asks for it in this thread.
pub(crate) fn set_clock(at: Instant) {
    NOW.set(Some(at));
}

pub(super) fn clock() -> Instant {
    NOW.get().unwrap_or_else(Instant::now)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A question on its way.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) node: usize,
    pub(super) question: Question,
    pub(super) answer: oneshot::Sender<Result<Answer, Failure>>,
}

/// Where questions lie until the world takes them.
#[derive(Debug, Clone, Default)]
pub(super) struct Desk(Arc<Mutex<Vec<Asked>>>);

impl Desk {
    pub(super) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *lock(&self.0))
    }
}

/// Carries questions to one node.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) desk: Desk,
    pub(super) node: usize,
}

pub(super) fn away(why: &str) -> Failure {
    Failure::new(Fault::Away, why, "is this Kong running? Traffic stays as it is")
}

impl Carry for Carrier {
    fn carry<'a>(&'a self, question: Question) -> BoxFuture<'a, Result<Answer, Failure>> {
        let (answer, comes) = oneshot::channel();
        lock(&self.desk.0).push(Asked {
            node: self.node,
            question,
            answer,
        });
        comes
            .map(|answer| answer.unwrap_or_else(|_| Err(away("the connection was closed"))))
            .boxed()
    }
}

/// What name servers say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    /// Addresses by name.
    pub(crate) now: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Nobody answers.
    pub(crate) down: bool,
    /// Since when somebody answers.
    pub(crate) up_since: Ms,
    /// When an address was last among those of its name.
    pub(crate) last: BTreeMap<IpAddr, Ms>,
    /// Rises with every change.
    pub(crate) version: u64,
    /// When the last one was.
    pub(crate) changed: Ms,
}

impl Records {
    /// Something is other than it was.
    pub(crate) fn news(&mut self, now: Ms) {
        self.version += 1;
        self.changed = now;
    }
}

/// The name servers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lookup(Arc<Mutex<Records>>);

impl Lookup {
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Records) -> T) -> T {
        act(&mut lock(&self.0))
    }
}

impl Ask for Lookup {
    fn ask<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(BTreeSet<IpAddr>, Duration), String>> {
        let said = self.with(|records| match records.now.get(name) {
            _ if records.down => Err("no name server answers".to_owned()),
            Some(all) if !all.is_empty() => Ok((all.clone(), Duration::from_secs(1))),
            _ => Err("there is no such name".to_owned()),
        });
        futures::future::ready(said).boxed()
    }
}

/// The part of an agent's disk that has what is remembered of gateways.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<(Memory, bool)>>);

impl Disk {
    pub(crate) fn memory(&self) -> Memory {
        lock(&self.0).0.clone()
    }

    pub(crate) fn lose(&self) {
        lock(&self.0).0 = Memory::default();
    }

    pub(crate) fn set_full(&self, full: bool) {
        lock(&self.0).1 = full;
    }
}

impl Keep for Disk {
    fn keep(&self, memory: &Memory) -> io::Result<()> {
        let mut held = lock(&self.0);
        if held.1 {
            return Err(io::Error::other("no space is left"));
        }
        held.0 = memory.clone();
        Ok(())
    }
}
