//! How much a declaration may hold. Generous for people, tight enough that no input costs more than a moment.
//!
//! Each limit has a diagnostic of its own; the pages in `docs/errors` name these figures.

/// Bytes in one file.
pub const FILE_BYTES: usize = 1024 * 1024;
/// Files in one declaration.
pub const FILES: usize = 10_000;
/// Documents in one file.
pub const DOCUMENTS: usize = 1_000;
/// Lists and mappings inside each other.
pub const DEPTH: usize = 32;
/// Values that the aliases of one document may add.
pub const ALIASED_VALUES: usize = 10_000;
/// Routes in one split.
pub const ROUTES: usize = 64;
/// Names of one split's port.
pub const PORT_NAMES: usize = 8;
/// Backends in one split.
pub const BACKENDS: usize = 64;
/// Gateways of one zone, and doors of one split.
pub const GATEWAYS: usize = 16;
/// Zones that one door names.
pub const GATEWAY_ZONES: usize = 256;
/// Hosts, paths, methods or header values of one door.
pub const ENTRIES: usize = 64;
/// Addresses of one backend at one gateway.
pub const ADDRESSES: usize = 64;
/// Windows in one freeze.
pub const WINDOWS: usize = 16;
/// Header matches, or query parameter matches, in one route.
pub const MATCHES: usize = 16;
/// Characters in a path, a header value or a regular expression.
pub const TEXT: usize = 1_024;
/// Bytes that a compiled regular expression may take.
pub const REGEX_BYTES: usize = 256 * 1024;
/// Problems told about one file.
pub const PROBLEMS: usize = 500;
/// Problems told about a declaration.
pub const PROBLEMS_IN_ALL: usize = 5_000;
