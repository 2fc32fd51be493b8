//! Addresses of names, with their time to live. Kong is never given a name (one with several addresses multiplies its weight,
//! and an SRV record overrides it), so the agent looks names up itself.
//!
//! What was once found stays until something else is found: a name server that is away, or that says for a moment that
//! there is no such name, moves no traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use tokio::time::Instant;
use weir_render::kong::Resolved;

use crate::{DriverError, Fault};

/// An answer is good for this long at least: names whose answers last for a second are asked for twelve times a minute.
const LEAST: Duration = Duration::from_secs(5);
/// And for this long at most.
const MOST: Duration = Duration::from_secs(300);
/// After a question that was not answered.
const AGAIN: Duration = Duration::from_secs(2);
/// For one question.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is known of names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answers {
    /// Addresses of those names that ever had any.
    pub addresses: Resolved,
    /// What is wrong, a sentence for each name: it is not known, or what is shown of it is old.
    pub troubles: Vec<String>,
}

/// Who looks names up.
pub trait Names: Send + Sync {
    /// Addresses of these names, asked for anew where what is known has had its time. `before` is what was known in an
    /// earlier life. Never fails: what cannot be found out is in the troubles, and in the addresses as it was.
    fn resolve<'a>(&'a self, names: &'a BTreeSet<String>, before: &'a Resolved) -> BoxFuture<'a, Answers>;
}

/// One question: the addresses of a name, and for how long they are good. An error is words.
pub trait Ask: Send + Sync {
    /// Asks.
    fn ask<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(BTreeSet<IpAddr>, Duration), String>>;
}

/// The name servers of the host.
#[derive(Debug)]
pub struct Host(TokioResolver);

impl Host {
    /// Those in the host's own configuration.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn new() -> Result<Self, DriverError> {
        let built = TokioResolver::builder_tokio().and_then(|mut builder| {
            // Known answers are kept here, where their age shows.
            builder.options_mut().cache_size = 0;
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
            builder.build()
        });
        built.map(Self).map_err(|error| DriverError {
            what: "the host's name servers".to_owned(),
            why: error.to_string(),
            fault: Fault::Setup,
            help: "names of gateways' targets are looked up with what /etc/resolv.conf says: mend it, or declare addresses"
                .to_owned(),
        })
    }
}

impl Ask for Host {
    /// IPv4 addresses where there are any, as Kong itself would; else IPv6.
    fn ask<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(BTreeSet<IpAddr>, Duration), String>> {
        async move {
            // Whole as it is: no search domain of the host makes another name of it.
            let found = self
                .0
                .lookup_ip(format!("{name}."))
                .await
                .map_err(|error| error.to_string())?;
            let good_for = found
                .valid_until()
                .saturating_duration_since(std::time::Instant::now());
            let addresses: BTreeSet<IpAddr> = found.iter().collect();
            match addresses.is_empty() {
                true => Err("it has no address".to_owned()),
                false => Ok((addresses, good_for)),
            }
        }
        .boxed()
    }
}

#[derive(Debug, Clone)]
struct Known {
    addresses: BTreeSet<IpAddr>,
    until: Instant,
    trouble: Option<String>,
}

/// Remembers what was found, and asks again in time.
#[derive(Debug)]
pub struct Remembered<A> {
    ask: A,
    known: Mutex<BTreeMap<String, Known>>,
}

impl<A: Ask> Remembered<A> {
    /// Knows nothing yet.
    pub fn new(ask: A) -> Self {
        Self {
            ask,
            known: Mutex::default(),
        }
    }

    async fn one(&self, name: &str, before: &Resolved) -> (String, Known) {
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned();
        if let Some(known) = known.as_ref().filter(|known| Instant::now() < known.until) {
            return (name.to_owned(), known.clone());
        }
        let answer = tokio::time::timeout(PATIENCE, self.ask.ask(name)).await;
        let answer = answer.unwrap_or_else(|_| Err("no name server answers".to_owned()));
        let now = Instant::now();
        let is = match answer {
            Ok((addresses, ttl)) => Known {
                addresses,
                until: now + ttl.clamp(LEAST, MOST),
                trouble: None,
            },
            Err(why) => {
                let last = known.map(|known| known.addresses).filter(|last| !last.is_empty());
                let last = last.or_else(|| before.get(name).cloned()).unwrap_or_default();
                let what = match last.is_empty() {
                    true => "and was never found",
                    false => "and keeps the addresses that it had",
                };
                Known {
                    addresses: last,
                    until: now + AGAIN,
                    trouble: Some(format!("{name} cannot be looked up, {what}: {why}")),
                }
            }
        };
        (name.to_owned(), is)
    }
}

impl<A: Ask> Names for Remembered<A> {
    fn resolve<'a>(&'a self, names: &'a BTreeSet<String>, before: &'a Resolved) -> BoxFuture<'a, Answers> {
        async move {
            let found = join_all(names.iter().map(|name| self.one(name, before))).await;
            let mut answers = Answers::default();
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|name, _| names.contains(name));
            for (name, is) in found {
                answers.troubles.extend(is.trouble.clone());
                if !is.addresses.is_empty() {
                    answers.addresses.insert(name.clone(), is.addresses.clone());
                }
                known.insert(name, is);
            }
            answers
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

    use std::collections::VecDeque;

    use super::*;

    type Said = Result<(Vec<&'static str>, u64), &'static str>;

    struct Script(Mutex<VecDeque<Said>>);

    impl Ask for Script {
        fn ask<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(BTreeSet<IpAddr>, Duration), String>> {
            let said = self.0.lock().unwrap().pop_front().expect("asked once too often");
            let said = said.map_err(str::to_owned).map(|(addresses, ttl)| {
                let addresses = addresses.into_iter().map(|text| text.parse().unwrap());
                (addresses.collect(), Duration::from_secs(ttl))
            });
            async move { said }.boxed()
        }
    }

    fn script(said: impl IntoIterator<Item = Said>) -> Remembered<Script> {
        Remembered::new(Script(Mutex::new(said.into_iter().collect())))
    }

    async fn look(names: &Remembered<Script>, before: &[&str]) -> (Vec<String>, usize) {
        let name = BTreeSet::from(["edge.example.com".to_owned()]);
        let before = before.iter().map(|text| text.parse().unwrap()).collect();
        let before = Resolved::from([("edge.example.com".to_owned(), before)]);
        let answers = names.resolve(&name, &before).await;
        let found = answers.addresses.get("edge.example.com").into_iter().flatten();
        (found.map(ToString::to_string).collect(), answers.troubles.len())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_its_time_and_while_nobody_answers() {
        let names = script([
            Ok((vec!["10.0.0.1", "10.0.0.2"], 30)),
            Err("no such name"),
            Err("nobody answers"),
            Ok((vec!["10.0.0.3"], 0)),
            Ok((vec!["10.0.0.4"], 0)),
        ]);
        let both = || vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()];
        let pass = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        assert_eq!(look(&names, &[]).await, (both(), 0));
        pass(29).await;
        assert_eq!(
            look(&names, &[]).await,
            (both(), 0),
            "not asked again before its time"
        );
        for _ in 0..2 {
            pass(2).await;
            assert_eq!(look(&names, &[]).await, (both(), 1), "told, and kept");
        }
        pass(2).await;
        assert_eq!(look(&names, &[]).await, (vec!["10.0.0.3".to_owned()], 0));
        pass(4).await;
        assert_eq!(
            look(&names, &[]).await.0,
            ["10.0.0.3"],
            "however short its time is said to be"
        );
        pass(2).await;
        assert_eq!(look(&names, &[]).await.0, ["10.0.0.4"]);
    }

    /// After a restart with the name servers away, the addresses of before stay.
    #[tokio::test(start_paused = true)]
    async fn what_was_known_in_an_earlier_life_counts_until_there_is_an_answer() {
        let names = script([Err("nobody answers"), Ok((vec!["10.0.0.9"], 60))]);
        assert_eq!(
            look(&names, &["10.0.0.7"]).await,
            (vec!["10.0.0.7".to_owned()], 1)
        );
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(
            look(&names, &["10.0.0.7"]).await,
            (vec!["10.0.0.9".to_owned()], 0)
        );
        let never = script([Err("nobody answers")]);
        assert_eq!(look(&never, &[]).await, (vec![], 1));
    }
}
