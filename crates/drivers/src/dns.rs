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
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::time::Instant;
use weir_model::sabotaged;
use weir_render::kong::Resolved;

use crate::{Clock, DriverError, Fault};

/// An answer is good for this long at least: names whose answers last for a second are asked for twelve times a minute.
const LEAST: Duration = Duration::from_secs(5);
/// And for this long at most.
const MOST: Duration = Duration::from_secs(300);
/// After a question that was not answered.
const AGAIN: Duration = Duration::from_secs(2);
/// So often one after the other it must be said of a name that had IPv4 addresses that it has none, before its IPv6 ones are taken.
const SURE: u32 = 3;
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

/// One question: the addresses of a name, and for how long they are good. An error is words, and comes in good time.
pub trait Ask: Send + Sync {
    /// Asks.
    fn ask<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(BTreeSet<IpAddr>, Duration), String>>;
}

/// The name servers of the host.
#[derive(Debug)]
pub struct Host {
    four: TokioResolver,
    six: TokioResolver,
}

impl Host {
    /// Those in the host's own configuration, and its file of hosts.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn new() -> Result<Self, DriverError> {
        Self::built(TokioResolver::builder_tokio).map_err(|error| {
            DriverError::new(
                "the host's name servers",
                error.to_string(),
                Fault::Setup,
                "names of gateways' targets are looked up with what /etc/resolv.conf says: mend it, or declare \
                 addresses",
            )
        })
    }

    fn built<B>(builder: B) -> Result<Self, NetError>
    where
        B: Fn() -> Result<ResolverBuilder<TokioRuntimeProvider>, NetError>,
    {
        let of = |strategy| {
            let mut builder = builder()?;
            // Known answers are kept here, where their age shows.
            builder.options_mut().cache_size = 0;
            builder.options_mut().ip_strategy = strategy;
            builder.build()
        };
        Ok(Self {
            four: of(LookupIpStrategy::Ipv4Only)?,
            six: of(LookupIpStrategy::Ipv6Only)?,
        })
    }
}

impl Ask for Host {
    /// IPv4 addresses where there are any, as Kong itself would. IPv6 only if it was *said* that there are none: a question
    /// for IPv4 that fails must not move a backend to addresses that its gateway may not reach.
    fn ask<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(BTreeSet<IpAddr>, Duration), String>> {
        let asked = async move {
            // Whole as it is: no search domain of the host makes another name of it.
            let name = format!("{name}.");
            let found = match self.four.lookup_ip(name.as_str()).await {
                Err(error) if error.is_no_records_found() => self.six.lookup_ip(name).await,
                found => found,
            };
            let found = found.map_err(|error| error.to_string())?;
            let good_for = found
                .valid_until()
                .saturating_duration_since(std::time::Instant::now());
            let addresses: BTreeSet<IpAddr> = found.iter().collect();
            match addresses.is_empty() {
                true => Err("it has no address".to_owned()),
                false => Ok((addresses, good_for)),
            }
        };
        let asked = tokio::time::timeout(PATIENCE, asked);
        asked
            .map(|answer| answer.unwrap_or_else(|_| Err("no name server answers".to_owned())))
            .boxed()
    }
}

#[derive(Debug, Clone)]
struct Known {
    addresses: BTreeSet<IpAddr>,
    until: Instant,
    trouble: Option<String>,
    /// How often in a row it was said to have no IPv4 address any more.
    without_four: u32,
}

/// Remembers what was found, and asks again in time.
#[derive(Debug)]
pub struct Remembered<A> {
    ask: A,
    clock: Clock,
    known: Mutex<BTreeMap<String, Known>>,
}

impl<A: Ask> Remembered<A> {
    /// Knows nothing yet.
    pub fn new(ask: A) -> Self {
        Self::by(ask, Instant::now)
    }

    /// The same by this clock.
    pub fn by(ask: A, clock: Clock) -> Self {
        Self {
            ask,
            clock,
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
        if let Some(known) = known.as_ref().filter(|known| (self.clock)() < known.until) {
            return (name.to_owned(), known.clone());
        }
        let answer = self.ask.ask(name).await;
        let now = (self.clock)();
        let four = |all: &BTreeSet<IpAddr>| all.iter().any(IpAddr::is_ipv4);
        let last = known
            .as_ref()
            .map(|known| &known.addresses)
            .or_else(|| before.get(name));
        let without_four = known.as_ref().map_or(0, |known| known.without_four) + 1;
        let is = match answer {
            // One wrong answer must not send a share to addresses that the gateway may not reach.
            Ok((addresses, _)) if without_four < SURE && !four(&addresses) && last.is_some_and(four) => {
                Known {
                    addresses: last.cloned().unwrap_or_default(),
                    until: now + AGAIN,
                    trouble: Some(format!(
                        "{name} is said to have no IPv4 address any more, and keeps those that it had until that was said {SURE} times \
                         in a row"
                    )),
                    without_four,
                }
            }
            Ok((addresses, ttl)) => Known {
                addresses: match known {
                    Some(known) if sabotaged("drop-dns-answers") => known.addresses,
                    _ => addresses,
                },
                until: now + ttl.clamp(LEAST, MOST),
                trouble: None,
                without_four: 0,
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
                    without_four: 0,
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
    use std::net::SocketAddr;

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::{RData, Record, RecordType};

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

    /// A gateway may not reach IPv6: one wrong answer moves nothing there, and a name that really has none any more is followed.
    #[tokio::test(start_paused = true)]
    async fn that_there_is_no_ipv4_any_more_has_to_be_said_three_times() {
        let six = || Ok((vec!["2001:db8::5"], 60));
        let names = script([
            Ok((vec!["10.0.0.1"], 5)),
            six(),
            six(),
            Ok((vec!["10.0.0.2"], 5)),
            six(),
            Err("nobody answers"),
            six(),
            six(),
            six(),
            Ok((vec!["2001:db8::6"], 60)),
        ]);
        let mut found = Vec::new();
        for _ in 0..10 {
            found.push(look(&names, &[]).await);
            tokio::time::advance(Duration::from_secs(61)).await;
        }
        let found: Vec<(&str, usize)> = found.iter().map(|(all, told)| (all[0].as_str(), *told)).collect();
        let (one, two) = ("10.0.0.1", "10.0.0.2");
        let (five, last) = ("2001:db8::5", "2001:db8::6");
        let expected = [
            (one, 0),
            (one, 1),
            (one, 1),
            (two, 0),
            (two, 1),
            (two, 1),
            (two, 1),
            (two, 1),
            (five, 0),
            (last, 0),
        ];
        assert_eq!(found, expected);
        let restarted = script([six()]);
        assert_eq!(look(&restarted, &["10.0.0.1"]).await, (vec![one.to_owned()], 1));
    }

    /// A name server on loopback: the code of its answer to a question for IPv4, and one IPv6 address for the other.
    async fn server(four: ResponseCode) -> SocketAddr {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut bytes = [0; 512];
            while let Ok((length, whose)) = socket.recv_from(&mut bytes).await {
                let question = Message::from_vec(&bytes[..length]).unwrap();
                let asked = question.queries[0].clone();
                let mut answer = question.into_response();
                if asked.query_type() == RecordType::A {
                    answer.metadata.response_code = four;
                } else {
                    let six = RData::AAAA("2001:db8::5".parse::<std::net::Ipv6Addr>().unwrap().into());
                    answer.add_answer(Record::from_rdata(asked.name().clone(), 60, six));
                }
                socket.send_to(&answer.to_vec().unwrap(), whose).await.unwrap();
            }
        });
        address
    }

    async fn asked_of(server: SocketAddr) -> Result<Vec<String>, String> {
        let builder = || {
            let mut way = ConnectionConfig::udp();
            way.port = server.port();
            let server = NameServerConfig::new(server.ip(), true, vec![way]);
            let config = ResolverConfig::from_parts(None, vec![], vec![server]);
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.options_mut().attempts = 1;
            Ok(builder)
        };
        let found = Host::built(builder).unwrap().ask("edge.example.com").await?;
        Ok(found.0.iter().map(ToString::to_string).collect())
    }

    /// Kong's gateway may not reach IPv6 at all: a question that failed is no reason to send a backend's share there.
    #[tokio::test]
    async fn ipv6_is_for_names_that_have_no_ipv4_and_not_for_questions_that_fail() {
        let none = asked_of(server(ResponseCode::NoError).await).await;
        assert_eq!(none, Ok(vec!["2001:db8::5".to_owned()]));
        for failed in [ResponseCode::ServFail, ResponseCode::Refused] {
            let error = asked_of(server(failed).await).await;
            assert!(error.is_err(), "{failed}: {error:?}");
        }
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
