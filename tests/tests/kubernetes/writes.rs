//! The driver's writes at a real API server, where somebody else writes too, takes things away, or takes rights away. After
//! each of them the whole store is looked at: nothing of anybody else was changed.

use std::time::Duration;

use serde_json::{Value, json};
use weir_drivers::{Fault, Outcome, ZoneDriver as _};
use weir_render::{Kind, Step};
use weir_sandbox::cluster::User;
use weir_sandbox::real::cluster_zone;
use weir_tests::kubernetes::driven::{Driven, OURS, apply, done, foreign, item, mesh, put, told, yielded};
use weir_tests::kubernetes::{SHOP, SYSTEM};

/// What another manager would have: all to one backend.
fn theirs(live: &Value) -> Value {
    let mut to = live["spec"]["to"].clone();
    to[0]["rules"][0]["default"]["backendRefs"][0]["weight"] = json!(1);
    json!({
        "apiVersion": "kuma.io/v1alpha1", "kind": "MeshHTTPRoute",
        "metadata": {"name": "weir-checkout", "namespace": SYSTEM},
        "spec": {"to": to},
    })
}

#[tokio::test]
async fn what_is_written_is_written_once_and_observed_as_it_is() {
    let Some(here) = Driven::start("what_is_written_is_written_once").await.unwrap() else {
        return;
    };
    let driver = here.driver(false).unwrap();
    let item = item(7, 90, 10).unwrap();
    done(apply(&driver, &item).await).unwrap();
    let first = here.ours().await.unwrap().expect("an object");
    done(apply(&driver, &item).await).unwrap();
    let second = here.ours().await.unwrap().expect("an object");
    assert_eq!(first, second, "an equal write is no write");
    assert_eq!(first["metadata"]["managedFields"][0]["manager"], "weir");
    assert_eq!(first["metadata"]["managedFields"][0]["operation"], "Apply");
    driver.look_again();
    let items = [item];
    let seen = driver.observe(&mesh(), &items).await.unwrap();
    let Step::Put { object, .. } = put(&items[0]) else {
        panic!("a put")
    };
    assert_eq!(seen.ours.len(), 1, "{:?}", seen.ours);
    assert_eq!(seen.ours[0].0.spec, object.spec);
    assert_eq!(seen.services.len(), 2, "{:?}", seen.services);
    assert!(seen.second_writers.is_empty(), "{:?}", seen.second_writers);
    here.untouched(&[]).await.unwrap();
}

#[tokio::test]
async fn another_field_manager_is_named_and_not_fought_and_taken_back_once_if_so_configured() {
    let Some(here) = Driven::start("another_field_manager_is_named").await.unwrap() else {
        return;
    };
    let driver = here.driver(false).unwrap();
    let items = [item(7, 90, 10).unwrap()];
    done(apply(&driver, &items[0]).await).unwrap();
    let ours = here.ours().await.unwrap().expect("an object");
    let taken = here
        .stand
        .admin
        .apply_at(OURS, "argocd-controller", "&force=true", &theirs(&ours))
        .await
        .unwrap();
    assert!(taken.status.is_success(), "{}", taken.text());
    let taken = here.ours().await.unwrap().expect("an object");
    let why = yielded(apply(&driver, &items[0]).await).unwrap();
    assert!(
        why.contains("argocd-controller") && why.contains("spec.to"),
        "{why}"
    );
    assert_eq!(here.ours().await.unwrap().unwrap(), taken, "it was not fought");
    driver.look_again();
    let seen = driver.observe(&mesh(), &items).await.unwrap();
    let told = format!("{:?}", seen.second_writers);
    assert!(told.contains("argocd-controller"), "{told}");

    // Whoever runs this zone said that fields are taken back.
    let strict = here.driver(true).unwrap();
    done(apply(&strict, &items[0]).await).unwrap();
    let back = here.ours().await.unwrap().expect("an object");
    assert_eq!(back["spec"], ours["spec"]);
    let again = here
        .stand
        .admin
        .apply_at(OURS, "argocd-controller", "&force=true", &theirs(&ours))
        .await
        .unwrap();
    assert!(again.status.is_success(), "{}", again.text());
    let why = yielded(apply(&strict, &items[0]).await).unwrap();
    assert!(
        why.contains("argocd-controller"),
        "two that fight are worse: {why}"
    );

    // A person with kubectl: another operation, the same rule.
    let edited = json!({"metadata": {"annotations": {"note": "mine"}}});
    here.stand.admin.merge(OURS, &edited).await.unwrap();
    let third = here.driver(true).unwrap();
    done(apply(&third, &items[0]).await).unwrap();
    let live = here.ours().await.unwrap().expect("an object");
    assert_eq!(live["spec"], ours["spec"]);
    assert_eq!(
        live["metadata"]["annotations"]["note"], "mine",
        "what is not ours stays"
    );
    here.untouched(&[]).await.unwrap();
}

#[tokio::test]
async fn what_lost_our_mark_or_is_newer_is_left_alone() {
    let Some(here) = Driven::start("what_lost_our_mark_is_left_alone").await.unwrap() else {
        return;
    };
    let driver = here.driver(true).unwrap();
    let items = [item(7, 90, 10).unwrap()];
    done(apply(&driver, &items[0]).await).unwrap();
    let seen = driver.observe(&mesh(), &items).await.unwrap();
    assert_eq!(seen.ours.len(), 1);

    let delete = Step::Delete {
        kind: Kind::MeshHttpRoute,
        mesh: mesh(),
        name: "weir-checkout".to_owned(),
        reason: "a test".to_owned(),
    };
    // An agent with a newer plan.
    done(apply(&driver, &item(9, 50, 50).unwrap()).await).unwrap();
    let newer = here.ours().await.unwrap().expect("an object");
    let why = yielded(apply(&driver, &items[0]).await).unwrap();
    assert!(why.contains('9'), "{why}");
    let why = yielded(driver.apply(&delete).await).unwrap();
    assert!(why.contains('9'), "{why}");
    assert_eq!(here.ours().await.unwrap().unwrap(), newer);

    // A hand takes our label off: from then on it is somebody else's, and the watch says so.
    let change = driver.changed();
    let off = json!({"metadata": {"labels": {"weir.dev/federation": null}}});
    here.stand.admin.merge(OURS, &off).await.unwrap();
    let seen = told(&driver, change, &items, |seen| seen.ours.is_empty()).await;
    assert!(
        format!("{:?}", seen.second_writers).contains("weir-checkout"),
        "it holds the split and is not ours: {:?}",
        seen.second_writers
    );
    let unmarked = here.ours().await.unwrap().expect("an object");
    yielded(apply(&driver, &item(11, 20, 80).unwrap()).await).unwrap();
    yielded(driver.apply(&delete).await).unwrap();
    assert_eq!(
        here.ours().await.unwrap().unwrap(),
        unmarked,
        "not a byte was changed"
    );
    here.untouched(&[]).await.unwrap();
}

#[tokio::test]
async fn an_object_deleted_and_made_again_by_somebody_else_is_theirs() {
    let Some(here) = Driven::start("an_object_deleted_and_made_again").await.unwrap() else {
        return;
    };
    let driver = here.driver(true).unwrap();
    let items = [item(7, 90, 10).unwrap()];
    done(apply(&driver, &items[0]).await).unwrap();
    driver.observe(&mesh(), &items).await.unwrap();

    // Deleted: the watch tells, and the next activation writes it again.
    let change = driver.changed();
    here.stand.admin.delete(OURS).await.unwrap();
    told(&driver, change, &items, |seen| seen.ours.is_empty()).await;
    done(apply(&driver, &items[0]).await).unwrap();

    // Deleted and made again under our name by somebody else, without our mark.
    here.stand.admin.delete(OURS).await.unwrap();
    here.stand.apply(&foreign("weir-checkout", SYSTEM)).await.unwrap();
    let made = here.ours().await.unwrap().expect("an object");
    yielded(apply(&driver, &items[0]).await).unwrap();
    assert_eq!(here.ours().await.unwrap().unwrap(), made);
    here.untouched(&[]).await.unwrap();
}

#[tokio::test]
async fn a_namespace_that_goes_is_told_as_such() {
    let Some(here) = Driven::start("a_namespace_that_goes").await.unwrap() else {
        return;
    };
    let driver = here.driver(false).unwrap();
    let items = [item(7, 90, 10).unwrap()];
    done(apply(&driver, &items[0]).await).unwrap();
    let seen = driver.observe(&mesh(), &items).await.unwrap();
    assert_eq!(seen.services.len(), 2);

    // The application's namespace, with its service: in a cluster a controller removes what is in it.
    let change = driver.changed();
    let shop = format!("/api/v1/namespaces/{SHOP}");
    here.stand
        .admin
        .delete(&format!(
            "/apis/kuma.io/v1alpha1/namespaces/{SHOP}/meshservices/checkout"
        ))
        .await
        .unwrap();
    gone(&here, SHOP).await;
    tokio::time::timeout(Duration::from_secs(10), change)
        .await
        .expect("the watch tells");
    driver.look_again();
    let seen = driver.observe(&mesh(), &items).await.unwrap();
    assert_eq!(seen.services.len(), 1, "{:?}", seen.services);
    assert!(
        driver.notes().iter().any(|note| note.contains("namespace shop")),
        "{:?}",
        driver.notes()
    );

    // Kuma's own: while it goes nothing new may be made in it, and then it is not there.
    let system = format!("/api/v1/namespaces/{SYSTEM}");
    here.stand.admin.delete(OURS).await.unwrap();
    here.stand.admin.delete(&system).await.unwrap();
    let going = apply(&driver, &items[0]).await.unwrap_err();
    assert!(going.why.contains("being terminated"), "{going:?}");
    assert!(!matches!(going.fault, Fault::Unknown), "{going:?}");
    gone(&here, SYSTEM).await;
    let absent = apply(&driver, &items[0]).await.unwrap_err();
    assert_eq!(absent.fault, Fault::Setup, "{absent:?}");
    assert!(absent.why.contains(SYSTEM), "{absent:?}");
    driver.look_again();
    driver.observe(&mesh(), &items).await.unwrap();
    assert!(
        driver
            .notes()
            .iter()
            .any(|note| note.contains("no namespace kuma-system")),
        "{:?}",
        driver.notes()
    );
    let hands = [
        shop.as_str(),
        system.as_str(),
        "/apis/kuma.io/v1alpha1/namespaces/shop/meshservices/checkout",
    ];
    here.untouched(&hands).await.unwrap();
}

/// Removes a namespace as its controller would, once it is empty.
async fn gone(here: &Driven, name: &str) {
    let path = format!("/api/v1/namespaces/{name}");
    let live = here.stand.admin.get(&path).await.unwrap();
    if live["status"]["phase"] != "Terminating" {
        here.stand.admin.delete(&path).await.unwrap();
    }
    let mut empty = here.stand.admin.get(&path).await.unwrap();
    empty["spec"]["finalizers"] = json!([]);
    let answer = here
        .stand
        .admin
        .exchange(
            http::Method::PUT,
            &format!("{path}/finalize"),
            "application/json",
            Some(&empty),
        )
        .await
        .unwrap();
    assert!(answer.status.is_success(), "{}", answer.text());
}

/// One right less.
struct Without {
    role: &'static str,
    rule: usize,
    verb: &'static str,
}

/// What the driver meets without a right, and that it is told as such: whose fault, which verb, which type.
#[tokio::test]
async fn without_one_right_after_the_other_it_is_said_which() {
    let Some(here) = Driven::start("without_one_right_after_the_other").await.unwrap() else {
        return;
    };
    let writing = "/apis/rbac.authorization.k8s.io/v1/namespaces/kuma-system/roles/weir-agent";
    let reading = "/apis/rbac.authorization.k8s.io/v1/clusterroles/weir-agent";
    let whole = |path: &'static str| {
        let admin = here.stand.admin.clone();
        async move { admin.get(path).await.unwrap()["rules"].clone() }
    };
    let (writes, reads) = (whole(writing).await, whole(reading).await);
    let items = [item(7, 90, 10).unwrap()];
    let delete = Step::Delete {
        kind: Kind::MeshHttpRoute,
        mesh: mesh(),
        name: "weir-checkout".to_owned(),
        reason: "a test".to_owned(),
    };
    let cases = [
        Without {
            role: reading,
            rule: 0,
            verb: "list",
        },
        Without {
            role: reading,
            rule: 0,
            verb: "watch",
        },
        Without {
            role: writing,
            rule: 0,
            verb: "get",
        },
        Without {
            role: writing,
            rule: 0,
            verb: "create",
        },
        Without {
            role: writing,
            rule: 0,
            verb: "patch",
        },
        Without {
            role: writing,
            rule: 0,
            verb: "delete",
        },
    ];
    let agent = here.stand.cluster.api(&cluster_zone::agent()).unwrap();
    for case in cases {
        // Begins without an object, so that `create` is asked for too.
        if here.ours().await.unwrap().is_some() {
            here.stand.admin.delete(OURS).await.unwrap();
        }
        // Reading a policy is allowed by both roles.
        for (path, rules) in [(writing, &writes), (reading, &reads)] {
            let mut less = rules.clone();
            if path == case.role || case.verb == "get" || case.verb == "list" || case.verb == "watch" {
                let verbs = less[case.rule]["verbs"].as_array_mut().unwrap();
                verbs.retain(|verb| verb != case.verb);
            }
            here.stand
                .admin
                .merge(path, &json!({"rules": less}))
                .await
                .unwrap();
        }
        allowed(&agent, case.verb, false).await;
        let driver = here.driver(false).unwrap();
        let error = match case.verb {
            "list" | "watch" => {
                // Without `watch` a list still shows what is there: it is the watch that is told.
                let mut error = None;
                for _ in 0..100 {
                    match driver.observe(&mesh(), &items).await {
                        Err(why) => {
                            error = Some(why);
                            break;
                        }
                        Ok(seen) => assert_eq!(seen.services.len(), 2, "an empty list is no answer to 403"),
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                error.expect("a 403 that is never told")
            }
            "delete" => {
                done(apply(&driver, &items[0]).await).unwrap();
                driver.observe(&mesh(), &items).await.unwrap();
                driver.apply(&delete).await.unwrap_err()
            }
            _ => apply(&driver, &items[0]).await.unwrap_err(),
        };
        assert_eq!(error.fault, Fault::Setup, "{}: {error:?}", case.verb);
        assert!(
            error.why.contains(&format!("cannot {}", case.verb)) && error.why.contains("kuma.io"),
            "{}: {error:?}",
            case.verb
        );
        assert!(error.help.contains("rbac"), "{error:?}");
        for (path, rules) in [(writing, &writes), (reading, &reads)] {
            here.stand
                .admin
                .merge(path, &json!({"rules": rules}))
                .await
                .unwrap();
        }
        allowed(&agent, case.verb, true).await;
        // The same driver goes on once it may.
        let outcome = apply(&driver, &items[0]).await;
        assert!(
            matches!(outcome, Ok(Outcome::Done { .. })),
            "{}: {outcome:?}",
            case.verb
        );
        let end = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            driver.look_again();
            match driver.observe(&mesh(), &items).await {
                Ok(seen) => {
                    assert_eq!(seen.ours.len(), 1);
                    break;
                }
                Err(error) => assert!(tokio::time::Instant::now() < end, "{}: {error:?}", case.verb),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let hands = [writing, reading];
    here.untouched(&hands).await.unwrap();
}

/// Waits until the agent's user may, or may not, do this with policies.
async fn allowed(agent: &weir_sandbox::cluster::ApiServer, verb: &str, wanted: bool) {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "group": "kuma.io", "resource": "meshhttproutes", "verb": verb, "namespace": SYSTEM,
        }},
    });
    for _ in 0..200 {
        let answer = agent
            .create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review)
            .await
            .unwrap();
        if answer["status"]["allowed"] == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the right to {verb} did not become {wanted}");
}

#[tokio::test]
async fn whoever_is_nobody_is_told_that_and_sees_nothing_as_empty() {
    let Some(here) = Driven::start("whoever_is_nobody").await.unwrap() else {
        return;
    };
    let mut config = here.config(false);
    config.cluster = weir_drivers::Cluster::Kubeconfig {
        file: here.stand.cluster.kubeconfig(&User::named("nobody")),
        context: None,
    };
    let driver = weir_drivers::KumaKubernetes::new(config).unwrap();
    let items = [item(7, 90, 10).unwrap()];
    let error = driver.observe(&mesh(), &items).await.unwrap_err();
    assert_eq!(error.fault, Fault::Setup, "{error:?}");
    let error = apply(&driver, &items[0]).await.unwrap_err();
    assert_eq!(error.fault, Fault::Setup, "{error:?}");
    assert!(here.ours().await.unwrap().is_none());
    here.untouched(&[]).await.unwrap();
}
