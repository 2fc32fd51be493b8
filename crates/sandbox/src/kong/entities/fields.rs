//! The fields of services, routes, upstreams and targets, and of what the plugin `http-log` is told.

use serde_json::{Value, json};

use super::super::schema::{Check, Field, Type, element, field};
use super::super::texts;

const PROTOCOLS: &[&str] = &[
    "grpc",
    "grpcs",
    "http",
    "https",
    "tcp",
    "tls",
    "tls_passthrough",
    "udp",
];
/// What may be hashed.
pub(super) const HASHES: &[&str] = &[
    "none",
    "consumer",
    "ip",
    "header",
    "cookie",
    "path",
    "query_arg",
    "uri_capture",
];

fn text(name: &'static str, check: fn(&str) -> Result<(), String>) -> Field {
    field(name, Type::Text).that(Check::Text(check))
}

fn integer(name: &'static str, from: i64, to: i64) -> Field {
    field(name, Type::Integer).that(Check::Between(from, to))
}

fn set(name: &'static str, one: Field) -> Field {
    field(name, Type::Set(Box::new(one)))
}

fn list(name: &'static str, one: Field) -> Field {
    field(name, Type::Array(Box::new(one)))
}

fn record(name: &'static str, fields: Vec<Field>) -> Field {
    field(name, Type::Record(fields)).required()
}

/// The fields that all kinds have.
pub(super) fn common(kind: &str) -> Vec<Field> {
    let time = || {
        if kind == "targets" {
            Type::Number
        } else {
            Type::Integer
        }
    };
    vec![
        field("id", Type::Text).that(Check::Id),
        field("created_at", time()),
        field("updated_at", time()),
        set("tags", text("", texts::tag)),
    ]
}

fn with_common(kind: &'static str, own: Vec<Field>) -> Vec<Field> {
    let mut all = common(kind);
    all.extend(own);
    all
}

pub(super) fn services() -> Vec<Field> {
    let timeout = |name| integer(name, 1, (1 << 31) - 2).or(60_000);
    with_common(
        "services",
        vec![
            text("name", texts::entity_name),
            integer("retries", 0, 32_767).or(5),
            field("protocol", Type::Text)
                .that(Check::OneOf(PROTOCOLS))
                .or("http")
                .required(),
            text("host", texts::service_host).required(),
            integer("port", 0, 65_535).or(80).required(),
            text("path", texts::path),
            timeout("connect_timeout"),
            timeout("write_timeout"),
            timeout("read_timeout"),
            field("client_certificate", Type::Foreign),
            field("tls_verify", Type::Boolean),
            integer("tls_verify_depth", 0, 64),
            list("ca_certificates", element(Type::Text).that(Check::Id)),
            field("enabled", Type::Boolean).or(true).required(),
        ],
    )
}

pub(super) fn routes() -> Vec<Field> {
    let flag = |name, on: bool| field(name, Type::Boolean).or(on).required();
    let nets = |name| {
        let one = vec![field("ip", Type::Text), integer("port", 0, 65_535)];
        set(name, element(Type::Record(one)))
    };
    let headers = Type::Map(
        Box::new(text("", texts::route_header_name)),
        Box::new(list("", element(Type::Text))),
    );
    with_common(
        "routes",
        vec![
            text("name", texts::entity_name),
            set("protocols", element(Type::Text).that(Check::OneOf(PROTOCOLS)))
                .or(json!(["http", "https"]))
                .required()
                .that(Check::Least(1))
                .that(Check::OneSet(&[
                    &["http", "https"],
                    &["tcp", "tls", "udp"],
                    &["tls_passthrough"],
                    &["grpc", "grpcs"],
                ])),
            field("https_redirect_status_code", Type::Integer)
                .that(Check::OneOfNumbers(&[426, 301, 302, 307, 308]))
                .or(426)
                .required(),
            flag("strip_path", true),
            flag("preserve_host", false),
            flag("request_buffering", true),
            flag("response_buffering", true),
            field("service", Type::Foreign),
            set("snis", text("", texts::sni)),
            nets("sources"),
            nets("destinations"),
            set("methods", text("", texts::method)),
            list("hosts", text("", texts::route_host)),
            list("paths", text("", texts::route_path)),
            field("headers", headers),
            field("regex_priority", Type::Integer).or(0),
            field("path_handling", Type::Text)
                .that(Check::OneOf(&["v0", "v1"]))
                .or("v0"),
        ],
    )
}

pub(super) fn targets() -> Vec<Field> {
    with_common(
        "targets",
        vec![
            field("upstream", Type::Foreign).required(),
            text("target", texts::target).required(),
            integer("weight", 0, 65_535).or(100),
        ],
    )
}

fn healthchecks() -> Field {
    let statuses = |all: Value| {
        list(
            "http_statuses",
            element(Type::Integer).that(Check::Between(100, 999)),
        )
        .or(all)
    };
    let byte = |name| integer(name, 0, 255).or(0);
    let seconds = |name| field(name, Type::Number).that(Check::Between(0, 65_535));
    let kind = || {
        field("type", Type::Text)
            .that(Check::OneOf(&["tcp", "http", "https", "grpc", "grpcs"]))
            .or("http")
    };
    let failures = || vec![byte("tcp_failures"), byte("timeouts"), byte("http_failures")];
    let headers = Type::Map(
        Box::new(text("", texts::header_name)),
        Box::new(list("", element(Type::Text))),
    );
    let mut active_unhealthy = failures();
    active_unhealthy.push(seconds("interval").or(0));
    active_unhealthy.push(statuses(json!([429, 404, 500, 501, 502, 503, 504, 505])));
    let mut passive_unhealthy = failures();
    passive_unhealthy.push(statuses(json!([429, 500, 503])));
    let active_healthy = vec![
        seconds("interval").or(0),
        byte("successes"),
        statuses(json!([200, 302])),
    ];
    let passive_healthy = vec![
        byte("successes"),
        statuses(json!([
            200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308
        ])),
    ];
    let active = vec![
        kind(),
        seconds("timeout").or(1),
        integer("concurrency", 1, 1 << 31).or(10),
        text("http_path", texts::path).or("/"),
        text("https_sni", texts::sni),
        field("https_verify_certificate", Type::Boolean)
            .or(true)
            .required(),
        field("headers", headers),
        record("healthy", active_healthy),
        record("unhealthy", active_unhealthy),
    ];
    let passive = vec![
        kind(),
        record("healthy", passive_healthy),
        record("unhealthy", passive_unhealthy),
    ];
    let threshold = field("threshold", Type::Number)
        .that(Check::Between(0, 100))
        .or(0);
    record(
        "healthchecks",
        vec![record("active", active), record("passive", passive), threshold],
    )
}

pub(super) fn upstreams() -> Vec<Field> {
    let hash = |name| field(name, Type::Text).that(Check::OneOf(HASHES)).or("none");
    with_common(
        "upstreams",
        vec![
            text("name", texts::upstream_name).required(),
            field("algorithm", Type::Text)
                .that(Check::OneOf(&[
                    "consistent-hashing",
                    "least-connections",
                    "round-robin",
                    "latency",
                ]))
                .or("round-robin"),
            hash("hash_on"),
            hash("hash_fallback"),
            text("hash_on_header", texts::header_name),
            text("hash_fallback_header", texts::header_name),
            text("hash_on_cookie", texts::cookie_name),
            text("hash_on_cookie_path", texts::path).or("/"),
            field("hash_on_query_arg", Type::Text),
            field("hash_fallback_query_arg", Type::Text),
            field("hash_on_uri_capture", Type::Text),
            field("hash_fallback_uri_capture", Type::Text),
            integer("slots", 10, 65_536).or(10_000),
            healthchecks(),
            text("host_header", texts::host_and_port),
            field("client_certificate", Type::Foreign),
            field("use_srv_name", Type::Boolean).or(false),
        ],
    )
}

/// What the plugin `http-log` is told.
pub(super) fn http_log() -> Vec<Field> {
    let number = |name| field(name, Type::Number);
    let most = |name| integer(name, 1, 1_000_000);
    let headers = Type::Map(
        Box::new(text("", texts::header_name)),
        Box::new(element(Type::Text)),
    );
    let queue = vec![
        most("max_batch_size").or(1),
        number("max_coalescing_delay")
            .that(Check::Within(0.0, 3_600.0))
            .or(1),
        most("max_entries").or(10_000),
        field("max_bytes", Type::Integer),
        number("max_retry_time").or(60),
        number("initial_retry_delay")
            .that(Check::Within(0.001, 1_000_000.0))
            .or(0.01),
        number("max_retry_delay")
            .that(Check::Within(0.001, 1_000_000.0))
            .or(60),
        field("concurrency_limit", Type::Integer)
            .that(Check::OneOfNumbers(&[-1, 1]))
            .or(1),
    ];
    vec![
        text("http_endpoint", texts::url).required(),
        field("method", Type::Text)
            .that(Check::OneOf(&["POST", "PUT", "PATCH"]))
            .or("POST"),
        field("content_type", Type::Text)
            .that(Check::OneOf(&[
                "application/json",
                "application/json; charset=utf-8",
            ]))
            .or("application/json"),
        number("timeout").or(10_000),
        number("keepalive").or(60_000),
        field("retry_count", Type::Integer),
        field("queue_size", Type::Integer),
        number("flush_timeout"),
        field("headers", headers),
        record("queue", queue),
        field(
            "custom_fields_by_lua",
            Type::Map(Box::new(element(Type::Text)), Box::new(element(Type::Text))),
        ),
    ]
}
