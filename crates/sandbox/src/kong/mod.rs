//! The double of Kong Gateway 3.9.3: its Admin API without a database and with one, and a proxy that really forwards.
//!
//! A test starts as many as it wants, in its own process, on loopback:
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! use weir_sandbox::kong::{Database, Kong, Options};
//! let alone = Kong::without_database(Options::default()).await?;
//! let database = Database::new();
//! let one = Kong::on(&database, Options::default()).await?;
//! let other = Kong::on(&database, Options::default()).await?;
//! // POST a document to http://{alone.admin()}/config, send requests to http://{alone.proxy()}/, then:
//! let shares = alone.sent("shop.split"); // requests by target that really left
//! # Ok(()) }
//! ```
//!
//! It is held against answers of a real Kong 3.9.3 in `tests/recorded/kong-3.9.3`. Its oddities are Kong's:
//! - `configuration_hash` is md5 of the bytes that came as a form field or as YAML; of a JSON body it is never the same
//!   twice, and `check_hash` does nothing then. Of an empty document it is zeros, and the node is not ready.
//! - `If-Match` answers 412 in the place of every 200, and what was asked for is done all the same.
//! - `flattened_errors` is `{}` where it is empty, and it is empty where errors go by names (references, for one).
//! - Round robin is exact: a ring of sum/gcd slots, shuffled, in each worker, which begins anew at each load.
//! - A name with several addresses multiplies its weight; an SRV record overrides it, and its 0 is a 1. A name that does
//!   not resolve drops out silently.
//! - Workers take up a document one after the other, after the answer that it is loaded.
//! - What a worker fails to take up is only logged: the hash is the new document's, and a post with `check_hash` is a 304
//!   ([`Kong::fail_next_build`]). With a database each write of a target is told anew, also one that changes nothing.
//! - A restart goes back to `declarative_config` if there is one, and keeps what was loaded last if there is none.
//! - With a database, a target cannot be made by PUT, and other nodes learn of a change when they next look.
//! - `hash_on_header` with a dash is never found: all requests go to one target. Without `hash_on` nothing is hashed.
//!
//! What it does NOT imitate:
//! - The points of the hash ring: keys stay where they are as with Kong, but other keys go to other targets, shares are
//!   not skewed as Kong's are, and no ring is ever too small. `least-connections` and `latency` go round robin.
//! - Health checks: nobody probes and nobody counts failures; `PUT .../unhealthy` works where checks are configured.
//! - Plugins but `http-log`, consumers, certificates, vaults, keys: they are kept and given back as they came, hardly checked,
//!   and do nothing. `http-log` logs: its lines have what `kong.log.serialize` gives but sizes, latencies of their own, TLS and
//!   consumers, and are queued when an answer begins; `concurrency_limit: -1`, `custom_fields_by_lua` and `keepalive` do nothing.
//!   A plugin of a name that Kong does not have is taken.
//! - TLS, HTTP/2, gRPC, WebSocket, TCP and UDP; routes by SNI, source and destination; `path_handling: v1`; expressions.
//! - Hybrid mode, workspaces, RBAC, the developer portal, `/metrics`, the debug and timer endpoints, `GET /schemas/*`.
//! - How a real database is reached: nodes look at it one after the other in even steps (Kong's timers drift, its events come in
//!   batches, `db_update_propagation` is nothing), a write is seen whole, and no two are in each other's way. The words for
//!   what is taken, leads nowhere or is needed are Kong's where they were recorded (`pg-*`), and after its source elsewhere.
//! - Limits of LMDB, of nginx (but the size of an Admin body) and of time: a load is answered when it is done, and
//!   429, 503, 504 and the 413 of LMDB come only when a test asks for them ([`Kong::refuse_next_load`]).
//! - The words of the YAML parser (libyaml's), YAML 1.1's many booleans, key order (Kong's is random), HTML but nginx's pages.
//! - DNS beyond A, AAAA and SRV: no CNAME, no search domains, no priorities of SRV, one time to live for all
//!   ([`Options::names_again`]).

mod access_log;
mod admin;
mod balancer;
mod counted;
mod database;
mod document;
mod entities;
mod export;
mod hashing;
mod kinds;
mod listening;
mod names;
mod node;
mod proxy;
mod refusal;
mod router;
mod schema;
mod still;
mod store;
mod texts;
mod worker;

pub use database::Database;
pub use listening::Kong;
pub use names::{NameTable, Names, Service};
pub use node::{LoadFailure, Options};
pub use still::{Said, Still, Way};

/// The version of Kong that the double plays.
pub const VERSION: &str = "3.9.3";
