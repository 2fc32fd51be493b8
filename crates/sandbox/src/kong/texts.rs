//! What Kong accepts as a host, a path, a name or a tag, and what it says otherwise.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What a text turned out to be: host, and port if there was one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// The host, addresses in their normal form.
    pub(super) host: String,
    /// Whether it is an address.
    pub(super) is_address: bool,
    /// The port.
    pub(super) port: Option<u16>,
}

/// Reads a host with an optional port.
pub(super) fn host(text: &str) -> Result<Host, String> {
    if text.matches(':').count() > 1 {
        return address_v6(text);
    }
    if text.chars().all(|c| c.is_ascii_digit() || c == '.' || c == ':')
        && text.chars().any(|c| c.is_ascii_digit() || c == '.')
    {
        return address_v4(text);
    }
    name(text)
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "invalid port number".to_owned())
}

fn address_v4(text: &str) -> Result<Host, String> {
    let (address, rest) = match text.split_once(':') {
        Some((address, rest)) => (address, Some(rest)),
        None => (text, None),
    };
    let parts: Vec<u8> = address.split('.').map_while(|part| part.parse().ok()).collect();
    let octets: [u8; 4] = parts
        .try_into()
        .ok()
        .filter(|_| address.split('.').count() == 4)
        .ok_or_else(|| format!("invalid ipv4 address: {text}"))?;
    Ok(Host {
        host: Ipv4Addr::from(octets).to_string(),
        is_address: true,
        port: rest.map(port).transpose()?,
    })
}

fn address_v6(text: &str) -> Result<Host, String> {
    let wrong = || format!("invalid ipv6 address: {text}");
    let (address, rest) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or_else(wrong)?;
            (address, rest.strip_prefix(':'))
        }
        None => (text, None),
    };
    let ip: Ipv6Addr = address.parse().map_err(|_| wrong())?;
    let groups: Vec<String> = ip.segments().iter().map(|group| format!("{group:04x}")).collect();
    Ok(Host {
        host: format!("[{}]", groups.join(":")),
        is_address: true,
        port: rest.map(port).transpose()?,
    })
}

fn name(text: &str) -> Result<Host, String> {
    let wrong = || format!("invalid hostname: {text}");
    let after = text
        .rsplit_once(':')
        .filter(|(_, p)| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    let (name, number) = match after {
        Some((name, number)) => (name, Some(port(number)?)),
        None => (text, None),
    };
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if name.is_empty() || !name.bytes().all(known) {
        return Err(wrong());
    }
    let labels: Vec<&str> = name.split('.').collect();
    for (at, label) in labels.iter().enumerate() {
        if label.ends_with('-') || (label.is_empty() && at + 1 != labels.len()) {
            return Err(wrong());
        }
    }
    Ok(Host {
        host: name.to_owned(),
        is_address: false,
        port: number,
    })
}

/// The name of an upstream.
pub(super) fn upstream_name(text: &str) -> Result<(), String> {
    let why = match host(text) {
        Err(_) => "must be a valid hostname",
        Ok(host) if host.is_address => "no ip addresses allowed",
        Ok(host) if host.port.is_some() => "no port allowed",
        Ok(_) => return Ok(()),
    };
    Err(format!("Invalid name ('{text}'); {why}"))
}

/// A target.
pub(super) fn target(text: &str) -> Result<(), String> {
    host(text)
        .map(|_| ())
        .map_err(|_| format!("Invalid target ('{text}'); not a valid hostname or ip address"))
}

/// The host of a service.
pub(super) fn service_host(text: &str) -> Result<(), String> {
    match host(text) {
        Ok(host) if host.port.is_none() => Ok(()),
        Err(why) if why != "invalid port number" => Err(format!("invalid value: {text}")),
        _ => Err("must not have a port".to_owned()),
    }
}

/// A host with an optional port.
pub(super) fn host_and_port(text: &str) -> Result<(), String> {
    host(text).map(|_| ())
}

/// A host of a route.
pub(super) fn route_host(text: &str) -> Result<(), String> {
    if text.matches('*').count() > 1 {
        return Err("invalid wildcard: must have at most one wildcard".to_owned());
    }
    let bare = text.rsplit_once(':').map_or(text, |(bare, _)| bare);
    if text.contains('*') && !text.starts_with("*.") && !bare.ends_with(".*") {
        return Err("invalid wildcard: must be placed at leftmost or rightmost label".to_owned());
    }
    host_and_port(&text.replace('*', "abc"))
}

/// A name that is a host, a wildcard allowed, without a port.
pub(super) fn sni(text: &str) -> Result<(), String> {
    if text.contains('*') && !text.starts_with('*') && !text.ends_with('*') {
        return Err("wildcard must be leftmost or rightmost character".to_owned());
    }
    match host(&text.replace('*', "wildcard")) {
        Ok(host) if host.is_address => Err("must not be an IP".to_owned()),
        Ok(host) if host.port.is_some() => Err("must not have a port".to_owned()),
        Ok(_) => Ok(()),
        Err(_) => Err(format!("invalid value: {text}")),
    }
}

fn is_in_a_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_~/%:@!$&'()*+,;=".contains(&byte)
}

fn percent(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        let code = text.as_bytes().get(at + 1..at + 3).unwrap_or_default();
        if code.len() < 2 || !code.iter().all(u8::is_ascii_hexdigit) {
            let end = text.len().min(at + 3);
            let shown = text.get(at..end).unwrap_or("%");
            return Err(format!("invalid url-encoded value: '{shown}'"));
        }
    }
    Ok(())
}

/// A path.
pub(super) fn path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("should start with: /".to_owned());
    }
    if text.contains("//") {
        return Err("must not have empty segments".to_owned());
    }
    if !text.bytes().all(is_in_a_path) {
        return Err(format!(
            "invalid path: '{text}' (characters outside of the reserved list of RFC 3986 found)"
        ));
    }
    percent(text)
}

/// A path of a route: a prefix, or `~` and a regular expression.
pub(super) fn route_path(text: &str) -> Result<(), String> {
    if text.contains("//") {
        return Err("must not have empty segments".to_owned());
    }
    if !text.starts_with('/') && !text.starts_with("~/") {
        return Err("should start with: / (fixed path) or ~/ (regex path)".to_owned());
    }
    percent(text)?;
    if let Some(expression) = text.strip_prefix('~') {
        return match regex::Regex::new(expression) {
            Ok(_) => Ok(()),
            Err(_) => Err(format!(
                "invalid regex: '{expression}' (PCRE returned: not a regular expression)"
            )),
        };
    }
    let normal = normal_path(text);
    if normal == text {
        return Ok(());
    }
    Err(format!("non-normalized path, consider use '{normal}' instead"))
}

/// A path without dot segments, double slashes and needless escapes.
pub(super) fn normal_path(text: &str) -> String {
    let mut decoded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let code = rest
            .get(at + 1..at + 3)
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        match code {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                decoded.push(char::from(byte));
            }
            Some(byte) => decoded.push_str(&format!("%{byte:02X}")),
            None => decoded.push('%'),
        }
        rest = &rest[if code.is_some() { at + 3 } else { at + 1 }..];
    }
    decoded.push_str(rest);
    let segments: Vec<&str> = decoded.split('/').collect();
    let last = segments.len().saturating_sub(1);
    let mut kept: Vec<&str> = Vec::new();
    let mut slash = false;
    for (at, segment) in segments.iter().enumerate() {
        match *segment {
            "" | "." => slash = at == last,
            ".." => {
                kept.pop();
                slash = at == last;
            }
            other => kept.push(other),
        }
    }
    let end = if slash && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

/// The name of a service or route.
pub(super) fn entity_name(text: &str) -> Result<(), String> {
    if text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b) || b >= 0x80)
    {
        return Ok(());
    }
    Err(format!(
        "invalid value '{text}': the only accepted ascii characters are alphanumerics or ., -, _, and ~"
    ))
}

/// A tag.
pub(super) fn tag(text: &str) -> Result<(), String> {
    if text.bytes().all(is_in_a_tag) {
        return Ok(());
    }
    Err(format!(
        "invalid tag '{text}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"
    ))
}

/// Whether a tag may have this byte.
pub(super) fn is_in_a_tag(byte: u8) -> bool {
    (0x20..=0x7e).contains(&byte) && byte != b',' && byte != b'/' || byte >= 0x80
}

/// The name of a header.
pub(super) fn header_name(text: &str) -> Result<(), String> {
    if text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    {
        return Ok(());
    }
    Err(format!(
        "bad header name '{text}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"
    ))
}

/// The name of a header of a route.
pub(super) fn route_header_name(text: &str) -> Result<(), String> {
    if text.eq_ignore_ascii_case("host") {
        return Err(
            "cannot contain 'host' header, which must be specified in the 'hosts' attribute".to_owned(),
        );
    }
    header_name(text)
}

/// The name of a cookie.
pub(super) fn cookie_name(text: &str) -> Result<(), String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if text.bytes().all(token) {
        return Ok(());
    }
    Err(format!(
        "contains one or more invalid characters. ASCII control characters (0-31;127), space, tab and the characters ()<>@,;:\\\"/?={{}}[] are not allowed. Got '{text}'"
    ))
}

/// A method.
pub(super) fn method(text: &str) -> Result<(), String> {
    if text.bytes().all(|b| b.is_ascii_uppercase()) {
        return Ok(());
    }
    Err(format!("invalid value: {text}"))
}

/// Whether it is an id.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// A URL of somewhere.
pub(super) fn url(text: &str) -> Result<(), String> {
    let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
    let host = rest
        .strip_prefix("//")
        .and_then(|rest| rest.split(['/', '?', '#']).next());
    if host.is_none_or(str::is_empty) {
        return Err("missing host in url".to_owned());
    }
    if scheme.is_empty() {
        return Err("missing scheme in url".to_owned());
    }
    Ok(())
}
