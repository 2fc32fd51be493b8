//! What the definitions of Gateway API refuse, by their schema and their CEL rules, beside what a declaration may say: the largest
//! door that is declared is taken, and a step beyond it nothing is.

use weir_model::ZoneName;
use weir_render::kic::http_route;
use weir_render::kong::AtDoor;

use super::*;

/// The route of a door that takes these requests.
fn route_of(routing: &str) -> Value {
    let split = own_door("checkout", 90, SERVICES).replace("paths: [/checkout]", routing);
    let plan = of(&[split], None);
    let part = plan.zone_plan(&ZoneName::new("fra").unwrap()).unwrap();
    let item = &part.items[&name("checkout")];
    let at = AtDoor {
        item,
        door: &item.doors[&edge()],
        pin: None,
    };
    let federation = "shop".parse().unwrap();
    http_route(&federation, &edge(), &part.gateways[&edge()], &at)
        .unwrap()
        .document
}

fn list(count: usize, one: impl Fn(usize) -> String) -> String {
    (0..count).map(one).collect::<Vec<_>>().join(", ")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_door_that_may_be_declared_is_taken_and_a_step_beyond_is_not() {
    let Some(scene) = scene_of("refused::the_largest_door_that_may_be_declared").await else {
        return;
    };
    let routing = format!(
        "hosts: [{}], paths: [{}], headers: [{{name: x-ring, values: [{}]}}]",
        list(16, |n| format!("h{n}.example.com")),
        list(8, |n| format!("/p{n}")),
        list(8, |n| format!("v{n}")),
    );
    let largest = route_of(&routing);
    let (status, text) = scene.tried(ROUTES, &largest).await;
    assert_eq!(status, 201, "{text}");

    let more = |at: &str, document: &mut Value| {
        let list = document.pointer_mut(at).unwrap().as_array_mut().unwrap();
        list.push(list[0].clone());
    };
    type Change<'a> = &'a dyn Fn(&mut Value);
    let beyond: [(Change<'_>, &str); 9] = [
        (
            &|route| more("/spec/hostnames", route),
            "spec.hostnames: Too many",
        ),
        (&|route| more("/spec/rules/0/matches", route), "matches: Too many"),
        (
            &|route| {
                more("/spec/rules", route);
                more("/spec/rules", route);
            },
            "less than 128",
        ),
        (
            &|route| {
                for _ in 0..15 {
                    more("/spec/rules/0/backendRefs", route);
                }
            },
            "backendRefs: Too many",
        ),
        (
            &|route| route["spec"]["rules"][0]["matches"][0]["path"]["value"] = json!("/a%2Fb"),
            "%2F",
        ),
        (
            &|route| route["spec"]["rules"][0]["matches"][0]["path"]["value"] = json!("a"),
            "must be an absolute path",
        ),
        (
            &|route| route["spec"]["rules"][0]["backendRefs"][0]["weight"] = json!(1_000_001),
            "less than or equal to 1000000",
        ),
        (
            &|route| route["spec"]["hostnames"][0] = json!("shop.*"),
            "spec.hostnames[0]",
        ),
        (
            &|route| route["spec"]["rules"][0]["backendRefs"][0]["port"] = Value::Null,
            "Must have port for Service reference",
        ),
    ];
    for (change, words) in beyond {
        let mut document = largest.clone();
        change(&mut document);
        let (status, text) = scene.tried(ROUTES, &document).await;
        assert!(status == 422 && text.contains(words), "{words}: {status} {text}");
    }
}
