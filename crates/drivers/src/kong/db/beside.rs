//! Who else takes the requests of routes of ours. A database may have very many routes: all of them are read before one of ours is
//! made, for a proof now and then, and never before anything else is written.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use weir_render::kong::database::Entities;

use super::{KongDb, rows};
use crate::DriverError;
use crate::kong::admin::Admin;

/// How long it is believed: while somebody does or nobody could be asked, at first, and each time twice as long; and for a proof.
const BELIEVED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// What was read last.
#[derive(Debug, Clone)]
pub(super) struct Read {
    /// Of which requests, as a text.
    of: String,
    at: Instant,
    lasts: Duration,
    /// Others' routes, by the name of ours; none if it was never read.
    found: Option<BTreeMap<String, String>>,
    /// Why it could not be read the last time.
    failed: Option<String>,
}

impl Read {
    fn is_well(&self) -> bool {
        self.failed.is_none() && self.found.as_ref().is_some_and(BTreeMap::is_empty)
    }
}

impl KongDb {
    fn read(&self, of: &str) -> Option<Read> {
        self.seen().beside.clone().filter(|read| read.of == of)
    }

    /// Who takes the requests of this route of ours, which is about to be made.
    ///
    /// # Errors
    /// Why nobody knows.
    pub(super) async fn in_its_way(
        &self,
        admin: &Admin,
        wanted: &Entities,
        route: &str,
    ) -> Result<Option<String>, String> {
        let of = rows::requests(wanted);
        let known = self.read(&of).and_then(|read| {
            let age = (self.clock)().duration_since(read.at);
            let other = read.found.and_then(|mut found| found.remove(route));
            match (read.failed, other) {
                (Some(why), _) => (age < read.lasts).then_some(Err(why)),
                (None, Some(other)) => (age < read.lasts).then_some(Ok(Some(other))),
                // One that came since would be made beside ours.
                (None, None) => (age < BELIEVED.0).then_some(Ok(None)),
            }
        });
        match known {
            Some(known) => known,
            None => {
                let listed = rows::beside(admin, wanted).await;
                let read = self.remember(of, listed);
                match read.failed {
                    Some(why) => Err(why),
                    None => Ok(read.found.and_then(|mut found| found.remove(route))),
                }
            }
        }
    }

    /// Who takes the requests of ours, for a proof: by way of the first of these nodes that says it.
    ///
    /// # Errors
    /// Why nobody ever knew.
    pub(super) async fn rivals<'a>(
        &self,
        nodes: impl Iterator<Item = &'a Admin>,
        wanted: &Entities,
    ) -> Result<BTreeMap<String, String>, String> {
        let of = rows::requests(wanted);
        if of.is_empty() {
            return Ok(BTreeMap::new());
        }
        let fresh = |read: &Read| (self.clock)().duration_since(read.at) < read.lasts;
        let read = match self.read(&of).filter(fresh) {
            Some(read) => Some(read),
            None => {
                let mut last = None;
                for admin in nodes {
                    let listed = rows::beside(admin, wanted).await;
                    let ends = listed.is_ok();
                    last = Some(listed);
                    if ends {
                        break;
                    }
                }
                last.map(|listed| self.remember(of, listed))
            }
        };
        let Some(read) = read else {
            return Err("no node could be asked".to_owned());
        };
        let why = read.failed.unwrap_or_default();
        read.found.ok_or(why)
    }

    fn remember(&self, of: String, listed: Result<BTreeMap<String, String>, DriverError>) -> Read {
        let before = self.read(&of);
        let (found, failed) = match listed {
            Ok(found) => (Some(found), None),
            Err(error) => {
                let known = before.as_ref().and_then(|read| read.found.clone());
                (known, Some(error.to_string()))
            }
        };
        let mut read = Read {
            of,
            at: (self.clock)(),
            lasts: BELIEVED.1,
            found,
            failed,
        };
        if !read.is_well() {
            let twice = before.filter(|before| !before.is_well());
            let twice = twice.map(|before| before.lasts.saturating_mul(2).min(BELIEVED.1));
            read.lasts = twice.unwrap_or(BELIEVED.0);
        }
        self.seen().beside = Some(read.clone());
        read
    }
}
