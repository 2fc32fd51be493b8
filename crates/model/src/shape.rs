//! The declaration language as one table: which fields there are, what they hold, what they are for.
//!
//! Reading (unknown and missing fields) and the JSON Schema both come from here, so that they cannot disagree.
//! Whoever adds a field adds it here first, then reads it in `read.rs`.

pub(crate) mod gateway;
mod transition;

pub(crate) use transition::{FREEZE, TRANSITION, VERIFY, WINDOW};

/// A mapping with named fields.
#[derive(Debug)]
pub(crate) struct Shape {
    /// How messages call it: "a Split", "a route".
    pub(crate) title: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) fields: &'static [Field],
    /// Exactly one of these fields must be there.
    pub(crate) one_of: &'static [&'static str],
}

/// A field of a [`Shape`].
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) form: Form,
    pub(crate) doc: &'static str,
}

/// What a field holds.
#[derive(Debug)]
pub(crate) enum Form {
    /// An RFC 1035 label.
    Name,
    /// Text that is not empty.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number between two others.
    Whole(u32, u32),
    /// One of these whole numbers.
    OneOf(&'static [u32]),
    /// A list of names of ports (RFC 1123 labels), each once, at most so many.
    PortNames(usize),
    /// A mapping with fields of its own.
    Object(&'static Shape),
    /// A list of such mappings, at most so many.
    List(&'static Shape, usize),
    /// Names to such mappings, at least one, at most so many.
    Names(&'static Shape, usize),
    /// Names of backends to weights.
    Weights,
    /// `true` or `false`.
    Flag,
    /// Per cent of the whole, at most two decimals; 0 only where it says so.
    PerCent { zero: bool },
    /// A duration with its unit, between two others.
    Duration(&'static str, &'static str),
    /// `true`, `false` or a mapping with the windows.
    Freeze(&'static Shape),
    /// Days of the week, each once.
    Days,
    /// A time of day.
    TimeOfDay,
    /// Names of backends to a name, a list of names or such a mapping.
    Fallbacks(&'static Shape),
    /// Names of backends, at least one, each once.
    Backends,
    /// A list of names of zones, at least one, at most so many.
    NameList(usize),
    /// A list of texts, at least one, each once, at most so many.
    Texts(usize),
    /// Names of backends to an address or a list of at most so many.
    Addresses(usize),
    /// Expected by people who know Gateway API, and refused with its own explanation where it is read.
    Refused,
}

impl Shape {
    /// The fields that a declaration may use.
    pub(crate) fn usable(&self) -> impl Iterator<Item = &'static Field> {
        self.fields
            .iter()
            .filter(|field| !matches!(field.form, Form::Refused))
    }
}

const fn required(name: &'static str, form: Form, doc: &'static str) -> Field {
    Field {
        name,
        required: true,
        form,
        doc,
    }
}

const fn optional(name: &'static str, form: Form, doc: &'static str) -> Field {
    Field {
        name,
        required: false,
        form,
        doc,
    }
}

const fn shape(title: &'static str, doc: &'static str, fields: &'static [Field]) -> Shape {
    Shape {
        title,
        doc,
        fields,
        one_of: &[],
    }
}

/// The only `apiVersion` so far.
pub(crate) const API_VERSION: &str = "weir.dev/v1alpha1";
/// The kinds.
pub(crate) const KINDS: &[&str] = &["Federation", "Zone", "Split"];
/// The platforms of a zone.
pub(crate) const PLATFORMS: &[&str] = &["eks", "eks-d", "kubernetes", "vm"];
/// Whether a commit may take away all or most splits.
pub(crate) const PRUNE: &[&str] = &["refuse", "allow"];
/// Whether a zone takes part.
pub(crate) const STATES: &[&str] = &["attached", "detached"];
/// What is slow: the words of [`crate::LATENCIES`].
pub(crate) const LATENCIES: &[&str] = &{
    let mut words = [""; crate::LATENCIES.len()];
    let mut at = 0;
    while at < words.len() {
        words[at] = crate::LATENCIES[at].0;
        at += 1;
    }
    words
};
/// What follows from too few requests.
pub(crate) const INSUFFICIENT: &[&str] = &["proceed", "hold"];
/// The protocols that the mesh can split.
pub(crate) const PROTOCOLS: &[&str] = &["http", "http2", "grpc", "tcp"];
/// The methods that a match may name: those that Kuma and Gateway API know.
pub(crate) const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

const API_VERSION_FIELD: Field = required(
    "apiVersion",
    Form::Word(&[API_VERSION]),
    "The version of the declaration language.",
);

macro_rules! kind {
    ($title:literal, $doc:literal, $kind:literal, $spec_field:ident, $spec:expr) => {
        shape($title, $doc, {
            const FIELDS: &[Field] = &[
                API_VERSION_FIELD,
                required("kind", Form::Word(&[$kind]), "What is declared."),
                required("metadata", Form::Object(&METADATA), "Who it is."),
                $spec_field("spec", Form::Object($spec), "What it is."),
            ];
            FIELDS
        })
    };
}

/// `metadata`.
pub(crate) static METADATA: Shape = shape(
    "`metadata`",
    "Who it is.",
    &[required(
        "name",
        Form::Name,
        "Its name, unique among its kind: an RFC 1035 label.",
    )],
);

/// A Federation document.
pub(crate) static FEDERATION: Shape = kind!(
    "a Federation",
    "The federation's own settings: exactly one.",
    "Federation",
    optional,
    &FEDERATION_SPEC
);

/// The `spec` of a Federation.
pub(crate) static FEDERATION_SPEC: Shape = shape(
    "the `spec` of a Federation",
    "The federation's settings.",
    &[
        optional(
            "mesh",
            Form::Name,
            "The Kuma mesh whose services are split; `default` if not given.",
        ),
        optional(
            "prune",
            Form::Word(PRUNE),
            "Whether one commit may take away all splits, or most of several: `refuse` if not given.",
        ),
        optional(
            "transition",
            Form::Object(&TRANSITION),
            "How weights move, for every split that does not say otherwise, field by field.",
        ),
        optional(
            "freeze",
            Form::Freeze(&FREEZE),
            "When no weight shifts anywhere, but for reverts and aborts: `true`, or weekly windows.",
        ),
    ],
);

/// A Zone document.
pub(crate) static ZONE: Shape = kind!(
    "a Zone",
    "A Kuma zone with its agents.",
    "Zone",
    required,
    &ZONE_SPEC
);

/// The `spec` of a Zone.
pub(crate) static ZONE_SPEC: Shape = shape(
    "the `spec` of a Zone",
    "What the zone runs on and how it is called.",
    &[
        required("platform", Form::Word(PLATFORMS), "What the zone runs on."),
        optional(
            "kumaZone",
            Form::Name,
            "The zone's name in Kuma; its own name if not given.",
        ),
        optional(
            "wave",
            Form::Whole(1, 1000),
            "Zones of a lower wave shift first, those of one wave together; 1 if not given.",
        ),
        optional(
            "state",
            Form::Word(STATES),
            "`detached` takes the zone out: nobody waits for it, and its backends have no weight; `attached` if not given.",
        ),
        optional(
            "freeze",
            Form::Freeze(&FREEZE),
            "When no weight shifts in this zone, but for reverts and aborts: `true`, or weekly windows.",
        ),
        optional(
            "gateways",
            Form::List(&gateway::ZONE_GATEWAY, crate::limits::GATEWAYS),
            "The zone's Kong gateways.",
        ),
    ],
);

/// A Split document.
pub(crate) static SPLIT: Shape = kind!(
    "a Split",
    "The declared shares of one service's port.",
    "Split",
    required,
    &SPLIT_SPEC
);

/// The `spec` of a Split.
pub(crate) static SPLIT_SPEC: Shape = shape(
    "the `spec` of a Split",
    "The service, where it runs, and who gets what share.",
    &[
        required(
            "service",
            Form::Name,
            "The name that callers use: a Kuma MeshService in each backend's zone.",
        ),
        required(
            "port",
            Form::Whole(1, 65535),
            "The service's port, the same in each zone.",
        ),
        optional(
            "portNames",
            Form::PortNames(crate::limits::PORT_NAMES),
            "The names that this port has where it has one: a named port of a Kubernetes Service, an inbound with `name`.",
        ),
        required(
            "protocol",
            Form::Word(PROTOCOLS),
            "The port's protocol: weights are per request, for tcp per connection.",
        ),
        required(
            "backends",
            Form::Names(&BACKEND, crate::limits::BACKENDS),
            "The versions of the service, by the names that `weights` uses.",
        ),
        required(
            "routes",
            Form::List(&ROUTE, crate::limits::ROUTES),
            "Matches and their weights. The most specific match wins, of equals the first written; the last route has no match.",
        ),
        optional(
            "transition",
            Form::Object(&TRANSITION),
            "How its weights move; each field that is not given is the Federation's.",
        ),
        optional(
            "streaming",
            Form::Flag,
            "Its requests are long-lived, so that each step closes some of them; `false` if not given.",
        ),
        optional(
            "freeze",
            Form::Freeze(&FREEZE),
            "When its weights do not shift, but for reverts and aborts: `true`, or weekly windows.",
        ),
        optional(
            "fallback",
            Form::Fallbacks(&FALLBACK),
            "Where a backend's share goes while the backend is down: `{eks: vm}`. Agents act on it alone.",
        ),
        optional(
            "gateways",
            Form::List(&gateway::SPLIT_GATEWAY, crate::limits::GATEWAYS),
            "The split's doors at Kong gateways: the same shares for requests from outside.",
        ),
    ],
);

/// A backend.
pub(crate) static BACKEND: Shape = shape(
    "a backend",
    "One version of the service in one zone.",
    &[
        required("zone", Form::Name, "The name of a declared Zone."),
        optional(
            "namespace",
            Form::Name,
            "The Kubernetes namespace: required in a cluster, refused on VMs.",
        ),
        optional(
            "capacity",
            Form::PerCent { zero: true },
            "Per cent of the service's requests that it is built for: no default route may give it more.",
        ),
    ],
);

/// A fallback.
pub(crate) static FALLBACK: Shape = shape(
    "a fallback",
    "Where a backend's share goes while the backend is down.",
    &[
        required(
            "to",
            Form::Backends,
            "Backends in the order in which they are tried.",
        ),
        optional(
            "after",
            Form::Duration("1s", "1h"),
            "For how long it must have been down; `1s` if not given.",
        ),
        optional(
            "recover",
            Form::Duration("10s", "24h"),
            "For how long it must have been well again; `60s` if not given.",
        ),
    ],
);

/// A route.
pub(crate) static ROUTE: Shape = shape(
    "a route",
    "A match and its weights.",
    &[
        required("name", Form::Name, "Its name, unique in the split."),
        optional(
            "match",
            Form::Object(&MATCH),
            "What a request must have, all of it; the last route has none.",
        ),
        required(
            "weights",
            Form::Weights,
            "Per cent for each backend, at most two decimals; together exactly 100.",
        ),
    ],
);

/// A match.
pub(crate) static MATCH: Shape = shape(
    "a match",
    "What a request must have: all of it.",
    &[
        optional("path", Form::Object(&PATH), "What its path must be."),
        optional("method", Form::Word(METHODS), "Its method."),
        optional(
            "headers",
            Form::List(&HEADER, crate::limits::MATCHES),
            "Headers that it must carry.",
        ),
        optional(
            "query",
            Form::List(&QUERY, crate::limits::MATCHES),
            "Query parameters that it must carry.",
        ),
    ],
);

/// A path match.
pub(crate) static PATH: Shape = Shape {
    title: "a path match",
    doc: "Exactly one of the fields.",
    fields: &[
        optional("exact", Form::Text, "The whole path."),
        optional(
            "prefix",
            Form::Text,
            "The path itself and all that continues it after a `/`.",
        ),
        optional(
            "regex",
            Form::Refused,
            "The mesh tries such a route after every other.",
        ),
    ],
    one_of: &["exact", "prefix"],
};

const VALUE_EXACT: Field = optional("exact", Form::Text, "The whole value.");
const VALUE_REGEX: Field = optional(
    "regex",
    Form::Text,
    "A regular expression (RE2) over the whole value.",
);
const VALUE: &[&str] = &["exact", "regex"];

/// A header match.
pub(crate) static HEADER: Shape = Shape {
    title: "a header match",
    doc: "A header with the value that it must have: `exact` or `regex`.",
    fields: &[
        required("name", Form::Text, "The header's name, in any case."),
        VALUE_EXACT,
        VALUE_REGEX,
    ],
    one_of: VALUE,
};

/// A query parameter match.
pub(crate) static QUERY: Shape = Shape {
    title: "a query match",
    doc: "A query parameter with the value that it must have: `exact` or `regex`.",
    fields: &[
        required("name", Form::Text, "The parameter's name."),
        VALUE_EXACT,
        VALUE_REGEX,
    ],
    one_of: VALUE,
};
