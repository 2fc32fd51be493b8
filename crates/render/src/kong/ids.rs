//! The ids that Kong makes of names where a document declares none: version 5 UUIDs, the same on every node and at every
//! load, so that health and metrics keep their keys. Hence ours declare none in a document; a database draws ids by chance,
//! so that there they are given these.

use sha1::{Digest as _, Sha1};

/// Kong's namespace of entities.
const ENTITIES: [u8; 16] = [
    0xfd, 0x02, 0x80, 0x1f, 0x09, 0x57, 0x4a, 0x15, 0xa5, 0x5a, 0xc8, 0xd9, 0x60, 0x6f, 0x30, 0xb5,
];

fn version_5(space: &[u8; 16], name: &str) -> [u8; 16] {
    let hash = Sha1::new().chain_update(space).chain_update(name).finalize();
    let mut id = [0; 16];
    for (byte, from) in id.iter_mut().zip(hash) {
        *byte = from;
    }
    id[6] = id[6] & 0x0f | 0x50;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

/// The id of a target of the upstream of this id: `target` as it is written, with its port.
pub fn of_target(upstream: &str, target: &str) -> String {
    derived("targets", &format!("targets:*:{upstream}:{target}"))
}

/// The id of a service, route or upstream (`kind` in the plural) of this name.
pub fn derived(kind: &str, name: &str) -> String {
    let id = version_5(&version_5(&ENTITIES, kind), name);
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::{derived, of_target};

    #[test]
    fn as_a_real_kong_made_them() {
        for (kind, name, id) in [
            ("upstreams", "shop.split", "fa86dac7-6df5-567a-8698-7bee24e0c418"),
            ("services", "shop", "abfbe39c-075b-5e5e-aec6-a90f2f0adfee"),
            ("routes", "shop", "138956a1-08a3-5c2c-bc58-79f477d12f27"),
        ] {
            assert_eq!(derived(kind, name), id);
        }
        assert_eq!(
            of_target("fa86dac7-6df5-567a-8698-7bee24e0c418", "127.0.0.1:19001"),
            "57fe4328-42a8-5f57-b045-c71c0ca12265"
        );
    }
}
