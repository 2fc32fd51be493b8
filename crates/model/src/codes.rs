//! Every code that a diagnostic can carry, with its page from `docs/errors` compiled in.
//!
//! Whoever adds a check adds a line here and a page there; a test holds that each page's wrong example triggers
//! exactly its code and the corrected one none (of those about files; the coordinator's tests hold the others). A published code keeps its meaning for ever: never reuse a number.

use crate::diagnostic::Code;

/// A code and what there is to read about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The code.
    pub code: Code,
    /// Its page, Markdown.
    pub page: &'static str,
}

impl Entry {
    /// The page's heading without the code: what the code means, in one line.
    pub fn title(&self) -> &'static str {
        let heading = self.page.lines().next().unwrap_or_default();
        heading.split_once(": ").map_or(heading, |(_, title)| title)
    }
}

const fn number(digits: &str) -> u16 {
    let bytes = digits.as_bytes();
    let mut value = 0;
    let mut at = 0;
    while at < bytes.len() {
        value = value * 10 + (bytes[at] - b'0') as u16;
        at += 1;
    }
    value
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $digits:literal;)*) => {
        $($(#[$doc])* pub const $name: Code = Code(number($digits));)*

        /// All codes, ascending.
        pub const ALL: &[Entry] = &[$(Entry {
            code: $name,
            page: include_str!(concat!("../../../docs/errors/WEIR", $digits, ".md")),
        }),*];
    };
}

codes! {
    /// The file is not UTF-8.
    NOT_UTF8 = "0001";
    /// The document is not YAML.
    SYNTAX = "0002";
    /// The file is too large.
    FILE_TOO_LARGE = "0003";
    /// The file holds too many documents.
    TOO_MANY_DOCUMENTS = "0004";
    /// There are too many files.
    TOO_MANY_FILES = "0005";
    /// Lists and mappings are nested too deep.
    TOO_DEEP = "0006";
    /// Aliases expand to too much.
    ALIASES_TOO_LARGE = "0007";
    /// A feature of YAML that declarations do without.
    YAML_FEATURE = "0008";
    /// More problems in one file than are told.
    TOO_MANY_PROBLEMS = "0009";

    /// A weight is not a decimal number.
    WEIGHT_NOT_A_NUMBER = "0101";
    /// The weights of a route do not add up to 100.
    WEIGHTS_SUM = "0102";
    /// A weight is below 0 or above 100.
    WEIGHT_RANGE = "0103";
    /// A weight has more than two decimals.
    WEIGHT_PRECISION = "0104";

    /// A field that does not exist.
    UNKNOWN_FIELD = "0201";
    /// A value of the wrong type.
    WRONG_TYPE = "0202";
    /// A required field is not there.
    MISSING_FIELD = "0203";
    /// A key stands twice in one mapping.
    DUPLICATE_KEY = "0204";
    /// An `apiVersion` that this Weir does not know.
    UNKNOWN_API_VERSION = "0205";
    /// A `kind` that does not exist.
    UNKNOWN_KIND = "0206";
    /// A field that is designed but not supported yet.
    NOT_YET = "0207";
    /// A platform that does not exist.
    UNKNOWN_PLATFORM = "0208";
    /// A number outside its range.
    NUMBER_RANGE = "0209";
    /// A list or mapping with too many entries.
    TOO_MANY_ENTRIES = "0210";
    /// Not exactly one of several fields that exclude each other.
    NOT_EXACTLY_ONE = "0211";
    /// A list or mapping that must not be empty is.
    EMPTY = "0212";
    // 0213 was a field that nothing went by yet.

    /// A name that is not an RFC 1035 label.
    BAD_NAME = "0301";
    /// A name that is taken.
    DUPLICATE_NAME = "0302";
    /// There is no Federation.
    NO_FEDERATION = "0303";
    /// There is more than one Federation.
    TWO_FEDERATIONS = "0304";
    /// Two splits for one service and port.
    TWO_SPLITS = "0305";
    /// Two zones for one Kuma zone.
    TWO_ZONES = "0306";

    /// A zone that is not declared.
    UNKNOWN_ZONE = "0401";
    /// A backend that the split does not have.
    UNKNOWN_BACKEND = "0402";
    /// A backend that no route names.
    UNUSED_BACKEND = "0403";
    /// Two backends that are one destination.
    SAME_DESTINATION = "0404";
    /// A namespace where the zone has none.
    NAMESPACE_ON_VM = "0405";
    /// No namespace where the zone needs one.
    NAMESPACE_MISSING = "0406";
    /// A protocol that the mesh cannot split.
    PROTOCOL = "0407";

    /// No route without a match.
    NO_DEFAULT = "0501";
    /// More than one route without a match.
    TWO_DEFAULTS = "0502";
    /// The route without a match is not the last.
    DEFAULT_NOT_LAST = "0503";
    /// A match on tcp.
    MATCH_ON_TCP = "0504";
    /// A route that no request can match.
    NEVER_MATCHES = "0505";
    /// A route whose requests an earlier one takes.
    SHADOWED = "0506";
    /// A regular expression that the mesh cannot run.
    BAD_REGEX = "0507";
    /// A path that is not one.
    BAD_PATH = "0508";
    /// A header or query parameter that cannot exist.
    BAD_HEADER = "0509";
    /// A header that Weir keeps for itself.
    RESERVED_HEADER = "0510";
    /// A regular expression over the path.
    PATH_REGEX = "0511";
    /// Routes are tried in another order than they are written in.
    ORDER = "0512";
    /// A method that does not exist.
    UNKNOWN_METHOD = "0513";

    /// A duration that is not written as one.
    BAD_DURATION = "0601";
    /// A duration outside its bounds.
    DURATION_RANGE = "0602";
    /// A share that is not per cent of the whole.
    BAD_SHARE = "0603";
    /// A window that is none.
    BAD_WINDOW = "0604";
    /// A time zone that does not exist.
    UNKNOWN_TIME_ZONE = "0605";
    /// Weight on a backend of a detached zone.
    DETACHED_WEIGHT = "0606";
    /// More weight than the backend has capacity for.
    OVER_CAPACITY = "0607";
    /// A fallback to the backend that is down, or to one twice.
    BAD_FALLBACK = "0608";
    /// A fallback to a backend that has no capacity for it.
    FALLBACK_CAPACITY = "0609";
    /// A fallback to a backend of a detached zone.
    FALLBACK_DETACHED = "0610";
    /// Steps that each close connections.
    STEPS_CLOSE = "0611";

    /// An address that is none.
    BAD_ADDRESS = "0701";
    /// What Kong cannot match a request by.
    BAD_ENTRY = "0702";
    /// A gateway that is not declared.
    UNKNOWN_GATEWAY = "0703";
    /// Kong and the mesh would both split.
    SPLIT_TWICE = "0704";
    /// A backend that the gateway cannot reach.
    NO_ADDRESS = "0705";
    /// Two doors at one gateway for the same requests.
    CLAIMED_TWICE = "0706";
    /// A protocol that a gateway does not carry.
    GATEWAY_PROTOCOL = "0707";
    /// A route that a gateway cannot tell apart.
    NOT_AT_GATEWAY = "0708";
    /// A base that is not there.
    NO_BASE = "0709";
    /// A base that is no document of Kong.
    BAD_BASE = "0710";
    /// A service that the base does not have as it would have to be.
    BASE_SERVICE = "0711";
    /// A base at a Kong that has a database, or that Kong Ingress Controller runs.
    DATABASE_BASE = "0712";
    /// What a gateway is to run that cannot be together.
    AT_ODDS = "0713";
    /// A gateway under Kong Ingress Controller without the Gateway that it is, or another one with it.
    PARENT = "0714";
    /// A door at a gateway under Kong Ingress Controller that no HTTPRoute could say.
    NO_ROUTE = "0715";
    /// A base hashes by a header that Kong does not find.
    DASHED_HEADER = "0716";
    /// What a door says of TLS does not go together, or is nothing that Kong knows.
    TLS = "0717";

    /// The commit has no directory at the source's path.
    NO_SUCH_PATH = "0901";
    /// The declaration is of another federation than the coordinator.
    OTHER_FEDERATION = "0902";
    /// The planner refuses what the declaration's own checks let pass.
    NOT_PLANNABLE = "0903";
    /// More splits go than one commit may take away.
    PRUNES = "0904";
}

/// Codes above this one are about a commit and what is in force: [`crate::parse`], which sees files alone, never gives them.
pub const OF_FILES: Code = Code(899);

/// What there is about a code.
pub fn entry(code: Code) -> Option<&'static Entry> {
    ALL.binary_search_by_key(&code, |entry| entry.code)
        .ok()
        .and_then(|at| ALL.get(at))
}

/// The page about a code (`docs/errors/WEIRnnnn.md`), Markdown.
pub fn page(code: Code) -> Option<&'static str> {
    entry(code).map(|entry| entry.page)
}
