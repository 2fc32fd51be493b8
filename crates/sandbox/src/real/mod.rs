//! The real parts of Kuma as the cast: `kuma-cp`, `kuma-dp` and `envoy` found on this machine.
