//! The double with real processes and real requests: what a change costs, and what a control plane that dies costs.

use std::time::Duration;

use serde_json::{Value, json};
use weir_sandbox::cast::{Cast, Stage};
use weir_sandbox::double::cast::Double;
use weir_sandbox::process::Keeper;
use weir_sandbox::traffic::{Application, Callers, Pace, Tally};
use weir_tests::programs;

struct Here {
    double: Double,
    api: String,
    callers: Callers,
    _applications: [Application; 2],
    _dir: tempfile::TempDir,
}

/// Zones fra (backend vm, callers) and ams (backend cloud).
async fn here() -> Here {
    programs().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage {
        dir: dir.path().to_path_buf(),
        mesh: "default".into(),
        service: "checkout".into(),
        port: 8080,
        port_name: None,
        keeper: Keeper::none(),
    };
    let mut double = Double::new(stage).unwrap();
    double.start_global().await.unwrap();
    let fra = double.start_zone("fra").await.unwrap();
    double.start_zone("ams").await.unwrap();
    let applications = [
        Application::start("vm").await.unwrap(),
        Application::start("cloud").await.unwrap(),
    ];
    double
        .start_backend("fra", applications[0].address)
        .await
        .unwrap();
    double
        .start_backend("ams", applications[1].address)
        .await
        .unwrap();
    let outbounds = double.start_caller("fra").await.unwrap();
    double
        .settled(&["fra".to_owned(), "ams".to_owned()])
        .await
        .unwrap();
    Here {
        // Not to ams alone: whoever asks for that gets it where there is no policy.
        callers: Callers::start(&outbounds[..2]),
        double,
        api: fra.api,
        _applications: applications,
        _dir: dir,
    }
}

fn policy(fra: u64, ams: u64, anchored: bool) -> Value {
    let to = |zone: &str, weight: u64| {
        json!({"kind": "MeshService", "labels": {"kuma.io/display-name": "checkout", "kuma.io/zone": zone},
               "port": 8080, "weight": weight})
    };
    let root = json!({"type": "PathPrefix", "value": "/"});
    let mut rules = vec![
        json!({"matches": [{"path": root}], "default": {"backendRefs": [to("fra", fra), to("ams", ams)]}}),
    ];
    if anchored {
        let nobody = json!([{"type": "Exact", "name": "x-weir-anchor", "value": "3f9c"}]);
        rules.push(json!({"matches": [{"path": root, "headers": nobody}],
                          "default": {"backendRefs": [to("fra", 1), to("ams", 1)]}}));
    }
    let target = |kind: &str| json!({"targetRef": {"kind": kind, "labels": {"kuma.io/display-name": "checkout"}}, "rules": rules});
    json!({"type": "MeshHTTPRoute", "mesh": "default", "name": "weir-checkout", "labels": {"kuma.io/origin": "zone"},
           "spec": {"targetRef": {"kind": "Mesh"}, "to": [target("MeshService"), target("MeshMultiZoneService")]}})
}

impl Here {
    async fn put(&self, policy: &Value) {
        let url = format!("{}/meshes/default/meshhttproutes/weir-checkout", self.api);
        let request = weir_sandbox::http_client().put(url).json(policy);
        request.send().await.unwrap().error_for_status().unwrap();
    }

    /// Sends until only this backend answers; what was seen on the way.
    async fn until_only(&self, backend: &str) -> Tally {
        let begin = self.callers.tally();
        self.callers.pace(Pace::Gentle(Duration::from_millis(2)));
        let mut last = self.callers.tally();
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.callers.tally();
            let new = now.since(&last);
            if new.requests > 10 && new.counted.get(backend) == Some(&new.requests) {
                self.callers.pace(Pace::Stopped);
                return now.since(&begin);
            }
            last = now;
        }
        panic!(
            "{backend} is never alone: {:?}",
            self.callers.tally().since(&last)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_shift_to_nothing_loses_requests_and_an_anchored_one_does_not() {
    let mut here = here().await;
    for (anchored, lost) in [(false, true), (true, false)] {
        here.put(&policy(100, 0, anchored)).await;
        here.until_only("vm").await;
        let mut failed = 0;
        for (fra, ams, backend) in [(0, 100, "cloud"), (100, 0, "vm")] {
            here.put(&policy(fra, ams, anchored)).await;
            let seen = here.until_only(backend).await;
            failed += seen.failures();
            assert!(seen.failed.keys().all(|why| why == "503"), "{:?}", seen.failed);
        }
        assert_eq!(failed > 0, lost, "anchored: {anchored}, failed: {failed}");
    }
    here.double.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_dies_leaves_traffic_alone_and_comes_back_empty() {
    let mut here = here().await;
    here.put(&policy(0, 100, true)).await;
    here.until_only("cloud").await;
    here.double.kill_control_plane("fra").await.unwrap();
    let seen = here.until_only("cloud").await;
    assert_eq!(seen.failures(), 0, "{seen:?}");

    here.double.restart_control_plane("fra").await.unwrap();
    let url = format!("{}/meshes/default/meshhttproutes", here.api);
    let list: Value = weir_sandbox::http_client()
        .get(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(list["total"], 0, "an empty store");
    // Without the policy callers get what they addressed: the nearest first.
    here.until_only("vm").await;
    here.put(&policy(0, 100, true)).await;
    here.until_only("cloud").await;
    here.double.stop().await;
}
