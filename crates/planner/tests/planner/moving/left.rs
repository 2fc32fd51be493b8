//! I4: backends that retire, and zones that may still be sending to them.

use super::*;

/// I4: what a zone that is cut off may still be sending to leaves nobody's configuration, whatever else is committed meanwhile.
#[test]
fn what_a_zone_has_not_proven_to_have_left_stays() {
    let named = |weights: &[(&str, u32)], names: &[&str]| {
        let mut declaration = plain(weights);
        let split = Arc::make_mut(declaration.splits.get_mut(&checkout()).unwrap());
        split.transition.max_step = None;
        split.port_names = names
            .iter()
            .map(|name| weir_model::PortName::new(*name).unwrap())
            .collect();
        declaration
    };
    let mut world = World::new(retiring(&[]));
    world.commit(named(&[("vm", 100)], &[]));
    world.look();
    world.all_follow();
    world.pass(61);
    // The last wave is told, and one of its zones is not there to hear it.
    world.cut.insert(zone("ams"));
    world.look();
    world.all_follow();
    let keeps = |world: &World| -> Vec<&str> {
        let has = |name: &&&str| {
            let item = world.item(&zone(name)).unwrap();
            item.destinations.contains_key(&backend("old"))
        };
        ZONES.iter().filter(has).copied().collect()
    };
    for (at, names) in [&["http"][..], &["http", "web"], &["web"]]
        .into_iter()
        .enumerate()
    {
        world.pass(601);
        world.commit(named(&[("vm", 100)], names));
        assert!(world.look().0, "{at}: what moves no share does not wait");
        world.all_follow();
        assert_eq!(keeps(&world), ZONES, "{at}");
    }
    // It is back, and proves it; for so long that nothing is on its way any more.
    world.cut.clear();
    world.all_follow();
    world.pass(59);
    world.commit(named(&[("vm", 100)], &["http"]));
    world.look();
    assert_eq!(keeps(&world), ZONES);
    world.all_follow();
    world.pass(61);
    world.commit(named(&[("vm", 100)], &["web"]));
    world.look();
    world.all_follow();
    assert_eq!(keeps(&world), [""; 0]);
}

/// Of a split at rest nobody knows since when a zone proves it: that it does is enough, or nothing would ever go.
#[test]
fn what_has_drained_goes_from_a_split_at_rest() {
    let mut world = World::new(retiring(&[]));
    world.commit(plain(&[("vm", 100)]));
    settle(&mut world);
    let keeps = |world: &World| {
        let items = ZONES.map(|name| world.item(&zone(name)).unwrap());
        items.map(|item| item.destinations.contains_key(&backend("old")))
    };
    assert_eq!(keeps(&world), [true; 3], "no change of its own is made for it");
    world.pass(601);
    for (_, since) in world.runs.values_mut() {
        *since = world.now;
    }
    world.commit(plain(&[("vm", 90), ("eks", 10)]));
    settle(&mut world);
    assert_eq!(keeps(&world), [false; 3]);
}
