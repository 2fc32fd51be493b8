//! The words that declarations, the API and the ledger use for closed sets of things.

use weir_model::{Platform, Protocol};

/// As it stands in a declaration.
pub(crate) fn platform(platform: Platform) -> &'static str {
    match platform {
        Platform::Eks => "eks",
        Platform::EksD => "eks-d",
        Platform::Kubernetes => "kubernetes",
        Platform::Vm => "vm",
    }
}

/// As it stands in a declaration.
pub(crate) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Http2 => "http2",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
    }
}
