//! One secure link for both ends: TLS 1.3 both ways, one port for gRPC and HTTP, names that a certificate proves.
//!
//! This room knows bytes and identities, not traffic. What an identity may do is decided by who stands on top:
//! the coordinator (`serve`) and the agent (`Connector`, `join`, `keep_fresh`).

pub mod backoff;
pub mod connect;
pub mod credentials;
pub mod identity;
pub mod join;
pub mod logs;
pub mod private_file;
pub mod server;
pub mod stop;
pub mod tls;
pub mod token;

mod crowd;
mod explained;
mod pem;

pub use backoff::Backoff;
pub use connect::{Connector, DialError, Pings, explain};
pub use credentials::{Credentials, CredentialsError, IdentityDir, KeyAndRequest};
pub use identity::{Identity, IdentityError, Peer, PeerCertificate};
pub use join::{Ask, Issued, JoinError, join, keep_fresh, renew};
pub use logs::LogFormat;
pub use server::{App, Limits, serve};
pub use tls::{Fingerprint, ServerTls, TlsError};
pub use token::{AgentToken, OperatorToken, PersonToken, TokenError, ViewerToken};

/// The largest message that a coordinator takes from an agent: a report on thousands of splits, with room.
pub const MAX_FROM_AGENT: usize = 8 << 20;
/// The largest message that an agent takes from its coordinator: a zone's whole plan, with room.
pub const MAX_FROM_COORDINATOR: usize = 64 << 20;
