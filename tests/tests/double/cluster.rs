//! The double of an API server held against a real one, exchange by exchange: against what a real one was recorded to
//! answer, on every machine; and the recording against the kube-apiserver of this machine, where there is one.

use serde_json::Value;
use weir_sandbox::cluster::{Binaries, Definitions, User};
use weir_sandbox::double::cluster_zone::Cluster;
use weir_sandbox::process::Keeper;
use weir_sandbox::real::cluster_zone;
use weir_tests::kubernetes::exchanges::{About, Exchange, exchange, users};
use weir_tests::kubernetes::{binaries, route_definition};
use weir_tests::programs;
use weir_tests::recorded::differences::{Allowed, Held};

/// A difference that the double is allowed: what the exchange shows (`*` for all), a path in the answer (`*` is any one
/// step, and what is below the path is not looked at), why.
const ALLOWED: &[Allowed] = &[
    (
        "a page of nowhere",
        "/body/message",
        "each decoder has its own words for what is no token",
    ),
    (
        "*",
        "/body/items/*/metadata/managedFields/0/fieldsV1/f:spec",
        "maps without a schema, as in our own small definitions, are fields themselves; Kuma's definitions have schemas",
    ),
    (
        "a service",
        "/body/metadata/managedFields/0/fieldsV1/f:spec",
        "the same",
    ),
];

/// The same of HTTPRoutes.
const ALLOWED_OF_ROUTES: &[Allowed] = &[];

/// Holds answers of the same script against the recorded ones.
fn compare(recorded: &[Exchange], answers: &[Exchange], allowed: &'static [Allowed]) -> Held {
    let script = |all: &[Exchange]| -> Vec<_> {
        all.iter()
            .map(|e| (e.what.clone(), e.who.clone(), e.request.clone(), e.body.clone()))
            .collect()
    };
    assert_eq!(
        script(recorded),
        script(answers),
        "the recording is not of this script: run record-kubernetes"
    );
    let mut held = Held::by(allowed, |of, what| of == "*" || of == what);
    for (was, is) in recorded.iter().zip(answers) {
        let (mut was, mut now) = (was.response.clone(), is.response.clone());
        in_order(&mut was);
        in_order(&mut now);
        held.compare(&is.what, &was, &now);
    }
    held
}

/// Field managers come in the order of whole seconds, and only then in that of names: whether a second ended between two writes is
/// no difference.
fn in_order(answer: &mut Value) {
    match answer {
        Value::Object(fields) => {
            for (key, value) in fields {
                in_order(value);
                if let ("managedFields", Value::Array(managers)) = (key.as_str(), value) {
                    let by =
                        |of: &Value| ["operation", "manager", "subresource"].map(|key| of[key].to_string());
                    managers.sort_by_key(by);
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(in_order),
        _ => {}
    }
}

/// Asks the double.
async fn of_the_double(about: About) -> Vec<Exchange> {
    programs().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let keeper = Keeper::start().unwrap();
    let mut cluster = Cluster::start("held", dir.path(), dir.path(), &keeper, &users(), None)
        .await
        .unwrap();
    let api = |user: &User| cluster.api(user).unwrap();
    let (admin, agent, nobody) = (
        api(&User::admin()),
        api(&cluster_zone::agent()),
        api(&User::named("nobody")),
    );
    let answers = exchange(about, &admin, &agent, &nobody).await.unwrap();
    cluster.process().kill().await.unwrap();
    answers
}

/// Asks the kube-apiserver of this machine, which is told of these types before.
async fn of_a_real_one(about: About, binaries: Binaries, definitions: &[Value]) -> Vec<Exchange> {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Keeper::start().unwrap();
    let (home, logs) = (dir.path().join("cluster"), dir.path().join("logs"));
    let mut cluster = weir_sandbox::cluster::Cluster::start("held", &home, &logs, keeper, binaries, &users())
        .await
        .unwrap();
    let api = |user: &User| cluster.api(user).unwrap();
    let (admin, agent, nobody) = (
        api(&User::admin()),
        api(&cluster_zone::agent()),
        api(&User::named("nobody")),
    );
    admin
        .define(&Definitions::own().unwrap().documents)
        .await
        .unwrap();
    if !definitions.is_empty() {
        admin.define(definitions).await.unwrap();
    }
    let answers = exchange(about, &admin, &agent, &nobody).await.unwrap();
    cluster.stop().await;
    answers
}

/// The double answers what was recorded, but for what is allowed.
async fn the_double_holds(about: About, allowed: &'static [Allowed], least: usize) {
    let recorded = about.recorded().unwrap();
    compare(&recorded, &of_the_double(about).await, allowed).differs_as_allowed();
    assert!(recorded.len() > least, "only {} exchanges", recorded.len());
}

/// The recording is what this machine's server answers.
async fn the_recording_holds(
    about: About,
    allowed: &'static [Allowed],
    binaries: Binaries,
    definitions: &[Value],
) {
    let answers = of_a_real_one(about, binaries, definitions).await;
    compare(&about.recorded().unwrap(), &answers, allowed).nothing_else_differs();
}

#[tokio::test]
async fn the_double_answers_as_a_real_api_server_was_recorded_to() {
    the_double_holds(About::Policies, ALLOWED, 60).await;
}

#[tokio::test]
async fn a_real_api_server_answers_as_it_was_recorded_to() {
    let name = "cluster::a_real_api_server_answers_as_it_was_recorded_to";
    if let Some(binaries) = binaries(name).unwrap() {
        the_recording_holds(About::Policies, ALLOWED, binaries, &[]).await;
    }
}

#[tokio::test]
async fn the_double_answers_about_routes_as_a_real_api_server_was_recorded_to() {
    the_double_holds(About::HttpRoutes, ALLOWED_OF_ROUTES, 15).await;
}

#[tokio::test]
async fn a_real_api_server_answers_about_routes_as_it_was_recorded_to() {
    let name = "cluster::a_real_api_server_answers_about_routes_as_it_was_recorded_to";
    let (definition, binaries) = (route_definition(name).unwrap(), binaries(name).unwrap());
    if let (Some(definition), Some(binaries)) = (definition, binaries) {
        the_recording_holds(About::HttpRoutes, ALLOWED_OF_ROUTES, binaries, &definition).await;
    }
}
