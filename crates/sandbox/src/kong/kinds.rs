//! The kinds of entities that Kong knows: what they are called, by which field they are found, whom they refer to.

/// A reference of one kind to another.
#[derive(Debug)]
pub(super) struct Foreign {
    /// The field that holds it.
    pub(super) field: &'static str,
    /// The kind that it leads to.
    pub(super) to: &'static str,
    /// Whether it goes when the other goes. If not, the other cannot go.
    pub(super) cascades: bool,
    /// Whether it must be there.
    pub(super) required: bool,
}

/// A kind of entity.
#[derive(Debug)]
pub(super) struct Kind {
    /// Its name in documents and errors.
    pub(super) name: &'static str,
    /// Its name in paths of the Admin API, and below another entity.
    pub(super) path: (&'static str, &'static str),
    /// The field by which people name it.
    pub(super) key: Option<&'static str>,
    /// Whether that field is unique.
    pub(super) key_is_unique: bool,
    /// What makes it unique besides its id.
    pub(super) cache_key: &'static [&'static str],
    /// References.
    pub(super) foreign: &'static [Foreign],
    /// Whether its timestamps have milliseconds.
    pub(super) millis: bool,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

const fn of(name: &'static str, key: Option<&'static str>) -> Kind {
    Kind {
        name,
        path: (name, name),
        key,
        key_is_unique: true,
        cache_key: &[],
        foreign: &[],
        millis: false,
    }
}

const fn owned_by_consumer(
    name: &'static str,
    path: (&'static str, &'static str),
    key: &'static str,
) -> Kind {
    Kind {
        path,
        foreign: &[Foreign {
            field: "consumer",
            to: "consumers",
            cascades: true,
            required: true,
        }],
        ..of(name, Some(key))
    }
}

const CLIENT_CERTIFICATE: Foreign = Foreign {
    field: "client_certificate",
    to: "certificates",
    cascades: false,
    required: false,
};

/// All kinds. Whoever refers to another comes after it: Kong writes its export in this order.
pub(super) static KINDS: [Kind; 16] = [
    of("consumers", Some("username")),
    of("certificates", None),
    of("ca_certificates", None),
    of("key_sets", Some("name")),
    Kind {
        cache_key: &["prefix"],
        ..of("vaults", Some("prefix"))
    },
    Kind {
        foreign: &[Foreign {
            field: "set",
            to: "key_sets",
            cascades: true,
            required: false,
        }],
        ..of("keys", Some("name"))
    },
    Kind {
        foreign: &[CLIENT_CERTIFICATE],
        ..of("services", Some("name"))
    },
    Kind {
        foreign: &[Foreign {
            field: "service",
            to: "services",
            cascades: false,
            required: false,
        }],
        ..of("routes", Some("name"))
    },
    Kind {
        foreign: &[Foreign {
            field: "certificate",
            to: "certificates",
            cascades: false,
            required: true,
        }],
        ..of("snis", Some("name"))
    },
    Kind {
        foreign: &[CLIENT_CERTIFICATE],
        ..of("upstreams", Some("name"))
    },
    Kind {
        key_is_unique: false,
        cache_key: &["upstream", "target"],
        foreign: &[Foreign {
            field: "upstream",
            to: "upstreams",
            cascades: true,
            required: true,
        }],
        millis: true,
        ..of("targets", Some("target"))
    },
    Kind {
        cache_key: &["name", "route", "service", "consumer"],
        foreign: &[
            Foreign {
                field: "route",
                to: "routes",
                cascades: true,
                required: false,
            },
            Foreign {
                field: "service",
                to: "services",
                cascades: true,
                required: false,
            },
            Foreign {
                field: "consumer",
                to: "consumers",
                cascades: true,
                required: false,
            },
        ],
        ..of("plugins", Some("instance_name"))
    },
    owned_by_consumer("keyauth_credentials", ("key-auths", "key-auth"), "key"),
    owned_by_consumer("basicauth_credentials", ("basic-auths", "basic-auth"), "username"),
    owned_by_consumer("jwt_secrets", ("jwts", "jwt"), "key"),
    Kind {
        key_is_unique: false,
        cache_key: &["consumer", "group"],
        ..owned_by_consumer("acls", ("acls", "acls"), "group")
    },
];

impl Kind {
    /// By name in documents.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// By name in paths.
    pub(super) fn at(path: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.path.0 == path)
    }

    /// Those that may be written inside of an entity of this kind, with the field of theirs that leads here.
    pub(super) fn children(&'static self) -> impl Iterator<Item = (&'static Self, &'static Foreign)> {
        KINDS.iter().flat_map(|kind| {
            let here = kind.foreign.iter().filter(|foreign| foreign.to == self.name);
            here.map(move |foreign| (kind, foreign))
        })
    }

    /// `target` for `targets`.
    pub(super) fn singular(&self) -> &str {
        self.name.strip_suffix('s').unwrap_or(self.name)
    }
}
