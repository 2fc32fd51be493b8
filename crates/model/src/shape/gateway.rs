//! The fields of a zone's gateways and of a split's doors. Part of the table in `shape.rs`; read in `read/gateway.rs`.

use super::{Field, Form, Shape, optional, required, shape};
use crate::limits;

/// The channels of a gateway.
pub(crate) const CHANNELS: &[&str] = &["admin-dbless", "admin-db", "kic"];

/// What a route that takes HTTPS alone may answer to plain HTTP.
pub(crate) const HTTPS_REDIRECTS: &[u32] = &[301, 302, 307, 308, 426];

/// One of a zone's `gateways`.
pub(crate) static ZONE_GATEWAY: Shape = shape(
    "a gateway",
    "A Kong of the zone.",
    &[
        required("name", Form::Name, "Its name, unique in the zone."),
        required(
            "channel",
            Form::Word(CHANNELS),
            "How it is configured: `admin-dbless` by its one document, `admin-db` entity by entity into its database, both through its Admin API; `kic` in Kubernetes by HTTPRoutes that Kong Ingress Controller reads.",
        ),
        optional(
            "inMesh",
            Form::Flag,
            "It is a delegated gateway of the mesh, which then carries the weights; `false` if not given.",
        ),
        optional(
            "base",
            Form::Text,
            "The Kong document that you keep yourself, by its path from this file's directory: Weir adds to it.",
        ),
        optional(
            "parentRef",
            Form::Object(&PARENT),
            "With `kic`: the Gateway of Gateway API that routes are attached to.",
        ),
    ],
);

/// `parentRef` of a gateway.
pub(crate) static PARENT: Shape = shape(
    "a `parentRef`",
    "A Gateway of Gateway API in the zone's cluster.",
    &[
        required("namespace", Form::Name, "The Gateway's namespace."),
        required("name", Form::Name, "The Gateway's name."),
        optional(
            "sectionName",
            Form::Name,
            "One of its listeners; all that take the route if not given.",
        ),
    ],
);

const ENTRY: &[Field] = &[
    required("gateway", Form::Name, "The name of a declared gateway."),
    optional(
        "zones",
        Form::NameList(limits::GATEWAY_ZONES),
        "The zones whose gateway of this name it is; all that have one if not given.",
    ),
    optional(
        "service",
        Form::Text,
        "A service of the gateway's base that this split takes over: its `host` becomes Weir's, all else stays.",
    ),
    optional(
        "httpRoute",
        Form::Text,
        "With `kic`: an HTTPRoute of yours with one rule, in the namespace of the backends, that this split takes over: the rule's `backendRefs` become Weir's, all else stays.",
    ),
    optional(
        "hosts",
        Form::Texts(limits::ENTRIES),
        "Host names, of which a request has one; a `*` may be the first or the last label.",
    ),
    optional(
        "paths",
        Form::Texts(limits::ENTRIES),
        "Path prefixes, of which a request has one.",
    ),
    optional(
        "methods",
        Form::Texts(limits::ENTRIES),
        "Methods, of which a request has one.",
    ),
    optional(
        "headers",
        Form::List(&ENTRY_HEADER, limits::MATCHES),
        "Headers, all of which a request has.",
    ),
    optional(
        "snis",
        Form::Texts(limits::ENTRIES),
        "With `httpsOnly`: names that a TLS client asks for (SNI), of which it asks for one.",
    ),
    optional(
        "httpsOnly",
        Form::Flag,
        "Requests come by HTTPS alone, Kong's `protocols: [https]`: plain HTTP is answered by `httpsRedirect`; `false` if not given.",
    ),
    optional(
        "httpsRedirect",
        Form::OneOf(HTTPS_REDIRECTS),
        "With `httpsOnly`: the status that plain HTTP is answered with, Kong's `https_redirect_status_code`; 426, which leads nowhere, if not given.",
    ),
    optional(
        "stripPath",
        Form::Flag,
        "The backend does not see the matched prefix; `true` if not given, as in Kong.",
    ),
    optional(
        "preserveHost",
        Form::Flag,
        "The backend sees the client's Host; `false` if not given, as in Kong.",
    ),
    optional(
        "mesh",
        Form::Text,
        "For a gateway in the mesh: `host:port` where its sidecar listens for the service; with `kic` the Service `name.namespace.svc:port`.",
    ),
    optional(
        "backends",
        Form::Addresses(limits::ADDRESSES),
        "For a gateway outside the mesh: each backend's `host:port`, or a list of them; with `kic` its Service, `name.namespace.svc:port`.",
    ),
];

/// One of a split's `gateways`.
pub(crate) static SPLIT_GATEWAY: Shape = Shape {
    title: "a split's gateway",
    doc: "How requests from outside come to the split at a gateway, and how it reaches the backends.",
    fields: ENTRY,
    one_of: &["mesh", "backends"],
};

/// A header of a door.
pub(crate) static ENTRY_HEADER: Shape = shape(
    "a header of a gateway",
    "A header, and the values of which it has one.",
    &[
        required("name", Form::Text, "The header's name, in any case."),
        required(
            "values",
            Form::Texts(limits::ENTRIES),
            "The values, of which one is enough.",
        ),
    ],
);
