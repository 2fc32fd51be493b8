//! Doors that take requests by TLS alone.

use serde_json::{Value, json};
use weir_render::kong::AtDoor;

use crate::documents::{made, read};
use crate::{door, gateway, pair, plain, routing};

#[test]
fn a_door_by_https_alone_says_what_becomes_of_plain_http_and_which_names_it_has() {
    let of = |change: &dyn Fn(&mut weir_model::Routing)| {
        let mut by_https = routing(&["shop.example.com"], &["/checkout"]);
        change(&mut by_https);
        let (item, door) = (
            plain("checkout", &[("vm", 9_000), ("eks", 1_000)]),
            door(by_https, pair()),
        );
        let made = made(
            &gateway(None),
            &[AtDoor {
                item: &item,
                door: &door,
                pin: None,
            }],
        );
        let route = read(&made)["services"][0]["routes"][0].clone();
        ["protocols", "https_redirect_status_code", "snis"].map(|field| route[field].clone())
    };
    let nothing = Value::Null;
    assert_eq!(
        of(&|_| {}),
        [json!(["http", "https"]), nothing.clone(), nothing.clone()]
    );
    assert_eq!(
        of(&|of| of.https_only = true),
        [json!(["https"]), nothing.clone(), nothing]
    );
    let all = |of: &mut weir_model::Routing| {
        of.https_only = true;
        of.https_redirect = weir_model::Redirect::Permanent;
        of.snis = ["shop.example.com", "a.example.com"].map(str::to_owned).into();
    };
    assert_eq!(
        of(&all),
        [
            json!(["https"]),
            json!(308),
            json!(["a.example.com", "shop.example.com"])
        ]
    );
}
