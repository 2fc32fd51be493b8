//! Nodes that do not give what their database has: nothing is made that leads there, and what was written is told them again.

use std::collections::BTreeSet;

use futures::future::join_all;
use tokio::time::Instant;
use weir_model::SplitName;
use weir_render::kong::Upstream;
use weir_render::kong::changes::{Held, Write};
use weir_render::kong::database::{Entities, WithTargets};

use super::rows::{as_it_is, write};
use super::{End, KongDb};
use crate::kong::admin::Admin;
use crate::kong::behind::Behind;
use crate::kong::proof;
use crate::{DriverError, Fault};

impl KongDb {
    /// Whether something may lead to an upstream: every node gives what it is to give.
    ///
    /// # Errors
    /// It is held where somebody takes its targets for dead, for that may last until somebody does something about it. What is only not
    /// there yet is there at some later activation.
    pub(super) async fn may_be_led_to(&self, able: &[&Admin], upstream: &Upstream) -> Result<(), End> {
        let asked = able.iter().map(|node| async move {
            let times = proof::times(self.workers(node.url()), 1);
            proof::ask(node, upstream, times, Instant::now()).await.0
        });
        let wrong: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        if wrong.is_empty() {
            return Ok(());
        }
        match wrong.iter().find_map(|wrong| wrong.of_health()) {
            Some(why) => Err(End::Held(format!(
                "{why}; nothing is made that leads there before it is well"
            ))),
            None => Err(End::Waits),
        }
    }

    /// Where a node does not give what is in the database, and there is nothing to write, a target of that upstream is written as it is
    /// (or the upstream, every second time):
    /// Kong tells every node of each write, and builds what it is about anew. Whether any was.
    pub(super) async fn told_again(
        &self,
        admin: &Admin,
        (split, wanted, writes): (&SplitName, &Entities, &[Write]),
        held: &Held,
    ) -> Result<bool, DriverError> {
        let doors = wanted.doors.get(split).into_iter().flat_map(|of| &of.chains);
        let upstreams = doors.filter_map(|chain| chain.upstream.as_ref());
        let mut any = false;
        for upstream in upstreams {
            let name = &upstream.entity.name;
            let now = (self.clock)();
            let times = {
                let mut seen = self.seen();
                // What is written now is on its way for a while.
                if !writes.is_empty() {
                    seen.behind.remove(name);
                }
                match seen.behind.get_mut(name).filter(|behind| behind.is_due(now)) {
                    None => continue,
                    Some(behind) => behind.again(now),
                }
            };
            any |= self
                .as_it_is_again(admin, (split, wanted, upstream), held, times)
                .await?;
        }
        Ok(any)
    }

    /// A node does not have an upstream that was made, and nothing is made that leads there before it has: also where it never heard of
    /// it. After a while it is told again. Whether it was.
    ///
    /// # Errors
    /// Of the write.
    pub(super) async fn waited_for(
        &self,
        admin: &Admin,
        (split, wanted, expected): (&SplitName, &Entities, &Upstream),
        held: &Held,
    ) -> Result<bool, DriverError> {
        let mut chains = wanted.doors.get(split).into_iter().flat_map(|of| &of.chains);
        let upstream = chains.find_map(|chain| {
            let upstream = chain.upstream.as_ref()?;
            (upstream.expected.name == expected.name).then_some(upstream)
        });
        let Some(upstream) = upstream else {
            return Ok(false);
        };
        let now = (self.clock)();
        let times = {
            let mut seen = self.seen();
            let behind = seen.behind.entry(expected.name.clone());
            let behind = behind.or_insert_with(|| Behind::new(now));
            behind.is_still(now);
            match behind.is_due(now) {
                true => behind.again(now),
                false => return Ok(false),
            }
        };
        self.as_it_is_again(admin, (split, wanted, upstream), held, times)
            .await
    }

    /// Writes a target of an upstream as it is, or the upstream. Whether it was.
    async fn as_it_is_again(
        &self,
        admin: &Admin,
        (split, wanted, upstream): (&SplitName, &Entities, &WithTargets),
        held: &Held,
        times: u32,
    ) -> Result<bool, DriverError> {
        // A node that never heard of the upstream has nothing to build anew for a target of it, and the upstream waits for the
        // node's next round: by turns.
        let Some(one) = as_it_is(held, wanted, &upstream.entity.id, times.is_multiple_of(2)) else {
            return Ok(false);
        };
        match write(admin, &one).await {
            Some(Ok(())) => Ok(true),
            // Gone meanwhile, or not to be written so: the next look finds what is to be written.
            Some(Err(error)) if matches!(error.fault, Fault::Refused | Fault::NotYet) => {
                tracing::debug!(%split, node = admin.url(), %error, "not told again");
                Ok(false)
            }
            Some(Err(error)) => Err(error),
            None => Ok(false),
        }
    }

    /// What nodes give that they should not, though their database has what is wanted: since when, which their verdicts say.
    pub(super) fn behind(&self, wanted: &Entities, nodes: &mut [proof::AtNode]) {
        let now = (self.clock)();
        let odd: BTreeSet<(SplitName, String)> = nodes.iter().flat_map(|node| node.odd().clone()).collect();
        let mut seen = self.seen();
        for (split, of) in &wanted.doors {
            if nodes.iter().all(|node| node.has(split)) {
                for upstream in of.chains.iter().filter_map(|chain| chain.upstream.as_ref()) {
                    seen.behind.remove(&upstream.entity.name);
                }
            }
        }
        seen.behind.retain(|_, behind| {
            behind.is_unclear();
            !behind.is_over(now)
        });
        for (split, upstream) in &odd {
            let behind = seen.behind.entry(upstream.clone());
            let behind = behind.or_insert_with(|| Behind::new(now));
            behind.is_still(now);
            let words = behind.words(now, "a target of it, or it itself, is written as it is");
            for node in nodes
                .iter_mut()
                .filter(|node| node.odd().iter().any(|(of, _)| of == split))
            {
                node.says(split, &words);
            }
        }
    }
}
