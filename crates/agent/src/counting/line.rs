//! What Kong's `http-log` says of a request, as far as it tells where that went and what became of it. Pure.
//!
//! The lines have much more in them (headers, whole URLs): it is passed over and kept nowhere.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Whether it has an id of its own: no two lines are the same then.
    pub(super) has_id: bool,
    /// When it came.
    pub(super) started: Timestamp,
    /// The host of its service: the upstream, of a door that has its weights there.
    pub(super) upstream: String,
    /// Where the weights sent it, whoever answered in the end; none if that is no address.
    pub(super) first: Option<SocketAddr>,
    /// Whether that took no connection.
    pub(super) not_taken: bool,
    /// What was answered in the end; none if nothing was.
    pub(super) status: Option<u16>,
}

#[derive(Deserialize)]
struct Raw {
    request: Option<Request>,
    response: Option<Response>,
    upstream_status: Option<Value>,
    /// An empty list of Kong's is an object.
    tries: Option<Value>,
    service: Option<Service>,
    started_at: Option<f64>,
}

#[derive(Deserialize)]
struct Request {
    id: Option<String>,
}

#[derive(Deserialize)]
struct Response {
    status: Option<u16>,
}

#[derive(Deserialize)]
struct Service {
    host: Option<String>,
}

#[derive(Deserialize)]
struct Try {
    ip: Option<String>,
    port: Option<u16>,
    state: Option<String>,
    code: Option<u16>,
}

/// The lines of a post: a list, or one alone. Those of requests that never left Kong are passed over, and so is what a plugin of the
/// site's made of one that is no line any more: the others of its post are counted.
///
/// # Errors
/// If it is no list, nothing, or holds no line at all.
pub(super) fn lines(body: &[u8]) -> Result<Vec<Line>, String> {
    let wrong =
        |error: serde_json::Error| format!("what was posted are no lines of Kong's http-log: {error}");
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let raw: Vec<Raw> = match first {
        Some(b'[') => match serde_json::from_slice(body) {
            Ok(all) => all,
            Err(error) => {
                let each: Vec<Value> = serde_json::from_slice(body).map_err(wrong)?;
                let each = each.into_iter().map(serde_json::from_value);
                let good: Vec<Raw> = each.filter_map(Result::ok).collect();
                if good.is_empty() {
                    return Err(wrong(error));
                }
                good
            }
        },
        _ => vec![serde_json::from_slice(body).map_err(wrong)?],
    };
    Ok(raw.into_iter().filter_map(line).collect())
}

fn line(raw: Raw) -> Option<Line> {
    let tries: Vec<Try> = match raw.tries {
        Some(Value::Array(tries)) => serde_json::from_value(Value::Array(tries)).ok()?,
        // Kong answered it itself.
        _ => return None,
    };
    let first = tries.first()?;
    let started = Timestamp::from_millisecond(raw.started_at? as i64).ok()?;
    let ip = first
        .ip
        .as_deref()
        .map(|ip| ip.trim_start_matches('[').trim_end_matches(']'));
    let ip = ip.and_then(|ip| ip.parse::<IpAddr>().ok());
    let answered = raw.response.and_then(|response| response.status);
    Some(Line {
        has_id: raw
            .request
            .and_then(|request| request.id)
            .is_some_and(|id| !id.is_empty()),
        started,
        upstream: raw.service?.host?,
        first: ip
            .zip(first.port)
            .map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port)),
        // As Kong's own health checks tell a connection that was not taken from an answer that was too late.
        not_taken: first.state.as_deref() == Some("failed") && first.code != Some(504),
        // What the backend said: a plugin may have said something else to the caller.
        status: raw.upstream_status.as_ref().and_then(last_status).or(answered),
    })
}

/// The status of the last of all tries: nginx says `502, 200` of two.
fn last_status(said: &Value) -> Option<u16> {
    match said {
        Value::Number(number) => number.as_u64().and_then(|status| u16::try_from(status).ok()),
        Value::String(text) => text.rsplit([',', ':']).next()?.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(change: impl FnOnce(&mut Value)) -> Vec<Line> {
        let mut line = json!({
            "request": {"id": "d2", "headers": {"cookie": "secret"}, "uri": "/checkout"},
            "response": {"status": 200, "headers": {}},
            "upstream_status": "200",
            "tries": [{"ip": "10.0.0.1", "port": 80, "balancer_start": 1}],
            "service": {"host": "weir.checkout.default", "name": "theirs"},
            "started_at": 1_800_000_000_123_u64,
        });
        change(&mut line);
        lines(json!([line]).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn where_the_weights_sent_it_and_what_became_of_it() {
        let one = &made(|_| {})[0];
        assert_eq!(one.started.as_millisecond(), 1_800_000_000_123);
        assert_eq!(one.first, Some("10.0.0.1:80".parse().unwrap()));
        assert_eq!((one.status, one.not_taken, one.has_id), (Some(200), false, true));
        assert_eq!(one.upstream, "weir.checkout.default");

        let tried = json!([{"ip": "10.0.0.1", "port": 80, "state": "failed", "code": 502}, {"ip": "10.0.0.2", "port": 80}]);
        let again = &made(|line| {
            line["tries"] = tried.clone();
            line["upstream_status"] = "502, 200".into();
        })[0];
        assert_eq!(
            again.first,
            Some("10.0.0.1:80".parse().unwrap()),
            "the pick of the weights"
        );
        assert_eq!((again.status, again.not_taken), (Some(200), true));
        let late = &made(|line| {
            line["tries"] = tried;
            line["tries"][0]["code"] = 504.into();
        })[0];
        assert!(!late.not_taken, "it was taken, and answered too late");
        // What a plugin made of it is no word of the backend's; without any Kong's own is one.
        let status = |upstream: Value, response: u16| {
            made(|line| {
                line["upstream_status"] = upstream;
                line["response"]["status"] = response.into();
            })[0]
                .status
        };
        assert_eq!(status("503".into(), 200), Some(503));
        assert_eq!(status(json!(503), 200), Some(503));
        assert_eq!(status("".into(), 502), Some(502));
        assert_eq!(status("-".into(), 502), Some(502));
        let six = &made(|line| line["tries"][0]["ip"] = "[2001:db8::1]".into())[0];
        assert_eq!(six.first, Some("[2001:db8::1]:80".parse().unwrap()));
        let named = &made(|line| line["tries"][0]["ip"] = "backend.example.com".into())[0];
        assert_eq!(named.first, None, "no address");
    }

    #[test]
    fn what_never_left_is_no_request_of_a_backend() {
        assert_eq!(
            made(|line| line["tries"] = json!({})),
            [],
            "an empty list of Kong's"
        );
        assert_eq!(made(|line| line["tries"] = json!([])), []);
        assert_eq!(made(|line| line["tries"] = Value::Null), []);
        assert_eq!(made(|line| line["service"] = Value::Null), []);
        let good = r#"{"tries": [{}], "service": {"host": "x"}, "started_at": 1}"#;
        let beside = format!(r#"[{{"request": 7}}, {good}]"#);
        assert_eq!(lines(beside.as_bytes()).unwrap().len(), 1, "an odd one beside it");
        let alone = lines(br#" {"tries": [{}], "service": {"host": "x"}, "started_at": 1}"#).unwrap();
        assert_eq!(alone.len(), 1, "without a list round it");
        for wrong in [&b""[..], b"[", b"[1]", b"no", b"\"text\""] {
            assert!(lines(wrong).is_err(), "{wrong:?}");
        }
    }
}
