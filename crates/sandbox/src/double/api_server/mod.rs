//! The double of a Kubernetes API server: what an agent, a control plane and `kubectl` ask of one about Kuma's objects, as
//! measured and recorded on a real one; with a store in memory, HTTPS, tokens, RBAC and webhooks.
//!
//! `kinds` are the types that there are, `fields` is server-side apply, `store` objects and their changes, `rights` who may
//! what, `refusal` the words for no, `listing` lists and watches, `writing` all that changes anything, `server` the process.
//!
//! What it imitates is held against a real API server by `tests/tests/double/cluster.rs`, exchange by exchange. What it
//! does not imitate, and nothing here asks for:
//! * schemas and CEL: of a policy the first level of `spec` is looked at, of names and labels nothing. A wrong policy is
//!   refused by the webhook, where a real server would often be first;
//! * lists with keys (`ports` of a Service or a MeshService): every list is one field; owner references are nobody's field;
//! * definitions of types (they are all there), other versions of them, subresources but the status of an HTTPRoute, its
//!   defaults (what is stored is what was said), patches by JSON patch, PUT and POST of
//!   what is in no namespace's list, `deletecollection`, field selectors, tables, protobuf, `sendInitialEvents`, lists at an
//!   exact or a future resourceVersion;
//! * what controllers do: a namespace goes at once, with what is in it; nothing is collected, no account gets a token;
//! * priority and fairness (429), the silence of a server that was told to end, a store that is away;
//! * bookmarks come once, two seconds before the end of a watch; what is older than some thousand changes is forgotten (410).

mod fields;
mod kinds;
mod listing;
mod refusal;
mod rights;
pub mod server;
mod store;
mod writing;
