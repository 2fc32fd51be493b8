//! Doors at which the mesh carries the weights: one Service, by its name.

use weir_render::kic::leads_elsewhere;

use super::*;

#[test]
fn a_door_of_the_mesh_is_one_service() {
    let address = crate::address("checkout-mesh.edge.svc:80");
    let door = door(
        routing(&["shop.example.com"], &[]),
        weir_model::Via::Mesh(address),
    );
    let made = made(&plain("checkout", &[("vm", 9_000), ("eks", 1_000)]), &door).unwrap();
    let [rule] = made.rules.as_slice() else {
        panic!("{made:?}")
    };
    let of: Vec<(Option<&BackendName>, &ClusterService, u32)> = rule
        .backends
        .iter()
        .map(|(backend, service, weight)| (backend.as_ref(), service, weight.get()))
        .collect();
    let mesh = ClusterService {
        namespace: "edge".parse().unwrap(),
        name: "checkout-mesh".parse().unwrap(),
        port: 80,
    };
    assert_eq!(of, [(None, &mesh, 10_000)]);
    // Only by its name do requests go the way of the mesh, which splits them.
    let mesh = |annotations: Value, endpoints: &[(&str, bool, bool)]| {
        let mut services = Services::default();
        services.put(
            &"edge".parse().unwrap(),
            [service("checkout-mesh", 80, &annotations)],
            [slice("checkout-mesh", "http", 8080, endpoints)],
        );
        backends(&made, &services)
    };
    let past = mesh(json!({}), &[("10.1.0.1", true, false)]).unwrap_err();
    assert!(past[0].why.contains("past the mesh"), "{past:?}");
    let found = mesh(json!({"ingress.kubernetes.io/service-upstream": "true"}), &[]).unwrap();
    let expected = expected(&made, &found);
    let upstream = expected.upstreams.values().next().unwrap();
    let names: Vec<_> = upstream
        .names
        .iter()
        .map(|(name, target)| (name.clone(), target.weight))
        .collect();
    assert_eq!(names, [(("checkout-mesh.edge.svc".to_owned(), 80), 60_000)]);
    assert!(!made.has_weights());
}

/// Behind a Service of another name nobody splits, as far as anybody here can tell.
#[test]
fn a_door_of_the_mesh_that_leads_to_another_service_is_told() {
    let item = plain("checkout", &[("vm", 9_000), ("eks", 1_000)]);
    let own = format!("{}.edge.svc:{}", item.service, item.port);
    for (address, told) in [
        (own.clone(), false),
        ("checkout-mesh.edge.svc:80".to_owned(), true),
        (format!("{}.edge.svc:{}", item.service, item.port + 1), true),
    ] {
        let via = weir_model::Via::Mesh(crate::address(&address));
        let door = door(routing(&["shop.example.com"], &[]), via);
        let note = leads_elsewhere(&AtDoor {
            item: &item,
            door: &door,
            pin: None,
        });
        assert_eq!(note.is_some(), told, "{address}: {note:?}");
        assert!(note.is_none_or(|note| note.ends_with(&format!("let `mesh` say {own}"))));
    }
    // Where Kong carries the weights, its Services are the backends'.
    let door = door(
        routing(&["shop.example.com"], &[]),
        addresses(&["vm=a.edge.svc:80"]),
    );
    assert_eq!(
        leads_elsewhere(&AtDoor {
            item: &item,
            door: &door,
            pin: None,
        }),
        None
    );
}
