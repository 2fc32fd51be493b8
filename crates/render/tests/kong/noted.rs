//! What a person is told of a base, and that holds nothing.

#![allow(clippy::unwrap_used, reason = "a test says so by failing")]

use serde_json::{Value, json};
use weir_render::kong::{AtDoor, Resolved, document};

use crate::{federation, gateway, pair, plain, takes};

/// What stands before a door and may lead past the balancer is told, wherever it is written; what is on other services is not.
#[test]
fn a_plugin_that_may_choose_by_itself_is_noted() {
    let item = plain("checkout", &[("vm", 9_000), ("eks", 1_000)]);
    let function =
        || json!({"name": "pre-function", "config": {"access": ["kong.service.set_upstream('a')"]}});
    let with = |more: Value| {
        let mut plugin = function();
        plugin
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        plugin
    };
    let cart = |more: Value| {
        let mut service = json!({"name": "cart", "host": "cart.internal", "port": 81, "retries": 1});
        service
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!([service, {"name": "other", "host": "a.test", "plugins": [function()]}])
    };
    let none = || cart(json!({}));
    let routes =
        |inside: Value| cart(json!({"routes": [{"name": "till", "paths": ["/cart"], "plugins": inside}]}));
    for (services, plugins, who) in [
        (none(), json!([]), None),
        (none(), json!([function()]), Some("every split at this gateway")),
        (none(), json!([with(json!({"enabled": false}))]), None),
        (
            none(),
            json!([with(json!({"service": "cart"}))]),
            Some("split checkout"),
        ),
        (none(), json!([with(json!({"service": {"name": "other"}}))]), None),
        (
            routes(json!([])),
            json!([with(json!({"route": "till"}))]),
            Some("split checkout"),
        ),
        (routes(json!([function()])), json!([]), Some("split checkout")),
        (
            cart(json!({"plugins": [function()]})),
            json!([]),
            Some("split checkout"),
        ),
        (cart(json!({"plugins": [{"name": "key-auth"}]})), json!([]), None),
    ] {
        let base = json!({"_format_version": "3.0", "services": services, "plugins": plugins});
        let door = takes("cart", pair());
        let at = [AtDoor {
            item: &item,
            door: &door,
            pin: None,
        }];
        let made = document(&federation(), &gateway(Some(base.clone())), &at, &Resolved::new());
        let made = made.expect("no conflict").expect("a document");
        let told: Vec<&String> = made
            .notes
            .iter()
            .filter(|note| note.contains("pre-function"))
            .collect();
        assert_eq!(told.len(), usize::from(who.is_some()), "{base}: {told:?}");
        assert_eq!(made.notes.len(), told.len(), "{:?}", made.notes);
        assert!(
            told.iter().all(|note| note.starts_with(who.unwrap_or_default())),
            "{told:?}"
        );
    }
}
