//! Counters of callers' sidecars, from the metrics endpoint that a MeshMetric opens in each: the same numbers as Envoy's own
//! statistics, in Prometheus' text. No control plane is asked, so it may be done as often as wanted.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use reqwest::Client;
use reqwest::redirect::Policy;
use tokio::time::Instant;

use super::Metrics;
use crate::kuma::tally::{Reading, of_buckets};
use crate::{DriverError, Fault};

/// How long one sidecar may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// One that took longer is not asked again for so long, and for longer each time: where a network policy swallows what is
/// asked, nothing may wait for it each time; but one page that is late must not blind a fallback for long.
const REST: [Duration; 3] = [
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(30),
];
/// So many are asked at the same time.
const ABREAST: usize = 16;
/// So many are asked in all: a sidecar's page is some hundred KB.
const MOST: usize = 100;
/// The largest page that is read.
const LARGEST: usize = 16 << 20;

/// Asks sidecars.
#[derive(Debug)]
pub(crate) struct Scraper {
    client: Client,
    at: Metrics,
    /// Addresses that gave no answer in time.
    mute: Mutex<BTreeMap<String, Mute>>,
}

/// A sidecar that gave no answer in time.
#[derive(Debug, Clone)]
struct Mute {
    /// When it was last asked.
    since: Instant,
    /// How often one after the other.
    times: usize,
    why: String,
}

impl Mute {
    fn rests(&self, now: Instant) -> bool {
        let rest = REST.get(self.times - 1).unwrap_or(&REST[2]);
        now.duration_since(self.since) < *rest
    }
}

/// Why there is no page.
enum NoPage {
    /// It did not come in time.
    Late(String),
    /// What came is none.
    Other(String),
}

impl Scraper {
    pub(crate) fn new(at: Metrics) -> Result<Self, DriverError> {
        let client = Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .redirect(Policy::none())
            .build()
            .map_err(|error| {
                DriverError::new(
                    "kuma.kubernetes.metrics",
                    crate::kuma::chain(&error),
                    Fault::Setup,
                    "is a TLS provider installed in this program?",
                )
            })?;
        Ok(Self {
            client,
            at,
            mute: Mutex::default(),
        })
    }

    /// What each answers, and a note if some could not be read. Names and addresses, as far as these are known.
    pub(crate) async fn read(&self, callers: &[(String, Option<String>)]) -> (Vec<Reading>, Option<String>) {
        let now = Instant::now();
        let mute = self.resting(callers, now);
        let asks: Vec<_> = callers
            .iter()
            .filter_map(|(name, address)| Some((name.clone(), address.clone()?)))
            .filter(|(_, address)| !mute.contains_key(address))
            .take(MOST)
            .map(|(name, address)| async move {
                let page = match self.page(&address).await {
                    Ok(page) => {
                        self.mute().remove(&address);
                        page
                    }
                    Err(NoPage::Late(why)) => {
                        let mut mute = self.mute();
                        let times = mute.get(&address).map_or(0, |mute| mute.times) + 1;
                        let since = Instant::now();
                        let why_not = why.clone();
                        mute.insert(
                            address,
                            Mute {
                                since,
                                times,
                                why: why_not,
                            },
                        );
                        return Err(why);
                    }
                    Err(NoPage::Other(why)) => return Err(why),
                };
                reading(&name, &page, Timestamp::now()).ok_or_else(|| format!("{name} tells no counters"))
            })
            .collect();
        let answers: Vec<Result<Reading, String>> = futures::stream::iter(asks)
            .buffer_unordered(ABREAST)
            .collect()
            .await;
        let mut readings = Vec::new();
        let mut first = mute.into_values().next();
        for answer in answers {
            match answer {
                Ok(reading) => readings.push(reading),
                Err(why) => {
                    first.get_or_insert(why);
                }
            }
        }
        // In an order of their own, whoever was the quickest.
        readings.sort_by(|one, other| one.envoy.cmp(&other.envoy));
        let missing = callers.len() - readings.len();
        let note = (missing > 0).then(|| {
            format!(
                "{missing} of {} proxies that may be callers are not counted: {}",
                callers.len(),
                first.unwrap_or_else(|| format!("only {MOST} are asked"))
            )
        });
        (readings, note)
    }

    fn mute(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Mute>> {
        self.mute.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is not asked now, and why not.
    fn resting(&self, callers: &[(String, Option<String>)], now: Instant) -> BTreeMap<String, String> {
        let mut mute = self.mute();
        mute.retain(|address, _| callers.iter().any(|(_, of)| of.as_ref() == Some(address)));
        let resting = mute.iter().filter(|(_, mute)| mute.rests(now));
        resting
            .map(|(address, mute)| (address.clone(), mute.why.clone()))
            .collect()
    }

    async fn page(&self, address: &str) -> Result<String, NoPage> {
        let host = if address.contains(':') {
            format!("[{address}]")
        } else {
            address.to_owned()
        };
        let url = format!("http://{host}:{}{}", self.at.port, self.at.path);
        let told = |error: &reqwest::Error| {
            let why = format!("{url}: {}", crate::kuma::chain(error));
            if error.is_timeout() {
                NoPage::Late(why)
            } else {
                NoPage::Other(why)
            }
        };
        let mut answer = self.client.get(&url).send().await.map_err(|e| told(&e))?;
        if !answer.status().is_success() {
            return Err(NoPage::Other(format!("{url} answered {}", answer.status())));
        }
        let mut page = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|e| told(&e))? {
            page.extend_from_slice(&part);
            if page.len() > LARGEST {
                return Err(NoPage::Other(format!(
                    "{url}: a page of more than {LARGEST} bytes"
                )));
            }
        }
        String::from_utf8(page).map_err(|_| NoPage::Other(format!("{url}: no text")))
    }
}

/// Reads a page into Envoy's own names; none if no counter is on it.
fn reading(name: &str, page: &str, at: Timestamp) -> Option<Reading> {
    let mut counters = BTreeMap::new();
    let mut times: BTreeMap<String, Vec<(f64, u64)>> = BTreeMap::new();
    for line in page.lines() {
        let Some((metric, labels, value)) = sample(line) else {
            continue;
        };
        let label = |key: &str| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str());
        if metric == "envoy_server_uptime" {
            counters.insert("server.uptime".to_owned(), value);
            continue;
        }
        let (Some(cluster), Some(what)) = (
            label("envoy_cluster_name"),
            metric.strip_prefix("envoy_cluster_upstream_"),
        ) else {
            continue;
        };
        let what = match what {
            "rq_completed" | "rq_total" | "rq_active" | "cx_total" | "cx_active" | "cx_connect_fail" => what,
            "rq_xx" if label("envoy_response_code_class") == Some("5") => "rq_5xx",
            "rq" if label("envoy_response_code") == Some("503") => "rq_503",
            "rq_time_bucket" => {
                // The last has no bound: nothing takes longer than an hour.
                if let Some(Ok(bound)) = label("le").map(str::parse::<f64>)
                    && bound.is_finite()
                {
                    times.entry(cluster.to_owned()).or_default().push((bound, value));
                }
                continue;
            }
            _ => continue,
        };
        counters.insert(format!("cluster.{cluster}.upstream_{what}"), value);
    }
    let times = times
        .into_iter()
        .filter_map(|(cluster, buckets)| Some((cluster, of_buckets(&apart(buckets))?)));
    let times = times.collect();
    (!counters.is_empty())
        .then(|| Reading::from_counters(format!("{name} (metrics)"), counters, Some(times), at))
}

/// Prometheus' buckets hold all that is no longer than their bound; these, what is longer than the one before as well.
fn apart(mut buckets: Vec<(f64, u64)>) -> Vec<(f64, u64)> {
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut before = 0;
    for (_, n) in &mut buckets {
        let all = *n;
        *n = all.saturating_sub(before);
        before = all;
    }
    buckets
}

type Sample<'a> = (&'a str, Vec<(&'a str, String)>, u64);

/// One line of Prometheus' text: `name{label="value",...} number [time]`.
fn sample(line: &str) -> Option<Sample<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (key, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut characters = after.char_indices();
            let close = loop {
                match characters.next()? {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match characters.next()?.1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (_, other) => value.push(other),
                }
            };
            labels.push((key, value));
            rest = after.get(close + 1..)?;
        }
    }
    let number: f64 = rest.split_whitespace().next()?.parse().ok()?;
    // Counters are whole; beyond 2^53 they are not exact, and Envoy's never get there.
    (0.0..=9_007_199_254_740_992.0)
        .contains(&number)
        .then(|| (name, labels, format!("{number:.0}").parse().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use weir_planner::Latency;
    use weir_planner::latency::BOUNDS;

    use super::*;

    /// A sidecar that swallows what it is asked is waited for once, and then left alone for a while; the others are read.
    #[tokio::test]
    async fn who_is_mute_is_not_waited_for_twice() {
        let _first = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
        let page = "envoy_cluster_upstream_rq_completed{envoy_cluster_name=\"a\"} 12\n";
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // The same port on another address of this host, where nobody accepts.
        let mute = tokio::net::TcpListener::bind(("127.0.0.2", port)).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n";
                let answer = format!("{head}content-length: {}\r\n\r\n{page}", page.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let scraper = Scraper::new(Metrics {
            port,
            path: "/metrics".to_owned(),
        })
        .unwrap();
        let callers = [("mute", "127.0.0.2"), ("web", "127.0.0.1")]
            .map(|(name, address)| (name.to_owned(), Some(address.to_owned())));
        let read = async || {
            let began = Instant::now();
            let (readings, note) = scraper.read(&callers).await;
            let names: Vec<_> = readings.into_iter().map(|reading| reading.envoy).collect();
            (names, note.unwrap_or_default(), began.elapsed())
        };
        let late = TIMEOUT..TIMEOUT * 3;
        let at_once = Duration::ZERO..TIMEOUT / 2;
        for waited in [late.clone(), at_once.clone(), late, at_once] {
            let (names, note, took) = read().await;
            assert_eq!(names, ["web (metrics)"]);
            assert!(
                note.starts_with("1 of 2 proxies that may be callers are not counted: http://127.0.0.2:"),
                "{note}"
            );
            assert!(waited.contains(&took), "{took:?}");
            // Its first rest is over by then; the second is longer.
            if waited.start.is_zero() {
                tokio::time::sleep(REST[0]).await;
            }
        }
        drop(mute);
    }

    #[test]
    fn a_page_becomes_what_envoy_says_itself() {
        let page = "# TYPE envoy_cluster_upstream_rq_completed counter\n\
            envoy_cluster_upstream_rq_completed{envoy_cluster_name=\"default_checkout_shop_use1_msvc_8080\",kuma_io_zone=\"a\\\"b\"} 12\n\
            envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"5\",envoy_cluster_name=\"default_checkout_shop_use1_msvc_8080\"} 3 1700000000000\n\
            envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"2\",envoy_cluster_name=\"default_checkout_shop_use1_msvc_8080\"} 9\n\
            envoy_cluster_external_upstream_rq_completed{envoy_cluster_name=\"default_checkout_shop_use1_msvc_8080\"} 12\n\
            envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"other\",le=\"7\"} 9\n\
            envoy_server_uptime{} 1.2e2\n\
            broken{a=\"\nalso_broken{a=\"b\" 1\nnan NaN\n\n";
        let at: Timestamp = "2026-11-23T15:00:00Z".parse().unwrap();
        // As a real 1.38.3 writes them: 4 took up to half a millisecond, 1 more than 50 ms and up to 100.
        let bounds = BOUNDS.iter().map(|bound| (*bound as f64 / 1_000.0).to_string());
        let bounds = bounds.chain(["+Inf".to_owned()]);
        let times = bounds.enumerate().map(|(at, bound)| {
            let labels =
                format!("envoy_cluster_name=\"default_checkout_shop_use1_msvc_8080\",le=\"{bound}\"");
            format!(
                "envoy_cluster_upstream_rq_time_bucket{{{labels}}} {}\n",
                if at < 6 { 4 } else { 5 }
            )
        });
        let page = times.collect::<String>() + page;
        let found = reading("web.shop", &page, at).unwrap();
        let mut times = Latency::default();
        (times.0[0], times.0[6]) = (4, 1);
        let wanted = Reading::from_counters(
            "web.shop (metrics)".to_owned(),
            BTreeMap::from(
                [
                    ("cluster.default_checkout_shop_use1_msvc_8080.upstream_rq_5xx", 3),
                    (
                        "cluster.default_checkout_shop_use1_msvc_8080.upstream_rq_completed",
                        12,
                    ),
                    ("server.uptime", 120),
                ]
                .map(|(name, value)| (name.to_owned(), value)),
            ),
            // Not of the one whose bounds are not Envoy's own.
            Some(BTreeMap::from([(
                "default_checkout_shop_use1_msvc_8080".to_owned(),
                times,
            )])),
            at,
        );
        assert_eq!(found, wanted);
        assert_eq!(found.started, "2026-11-23T14:58:00Z".parse().ok());
        assert_eq!(reading("web.shop", "<html>", at), None);
    }
}
