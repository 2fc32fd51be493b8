//! deploy/kubernetes as it is applied: the configuration is one that the agent takes, the pods are confined, what refers to
//! something refers to what is there. That the rights are those that are used is held by `weir-drivers`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weir_agent::config::{Config, Kubernetes, Plane};
use weir_drivers::Cluster;

fn documents(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy/kubernetes")
        .join(file);
    serde_saphyr::from_multiple(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn one(file: &str, kind: &str) -> Value {
    let all: Vec<_> = documents(file)
        .into_iter()
        .filter(|d| d["kind"] == kind)
        .collect();
    let [only] = all.as_slice() else {
        panic!("{file} has {} of {kind}", all.len())
    };
    only.clone()
}

const NAMESPACE: &str = "weir-system";
const FILES: [&str; 5] = [
    "namespace.yaml",
    "rbac.yaml",
    "config.yaml",
    "agent.yaml",
    "agent-emptydir.yaml",
];

#[test]
fn everything_is_whole_and_in_its_place() {
    for file in FILES {
        for document in documents(file) {
            let metadata = &document["metadata"];
            assert!(
                document["apiVersion"].is_string() && metadata["name"].is_string(),
                "{file}"
            );
            assert_eq!(
                metadata["labels"]["app.kubernetes.io/part-of"], "weir",
                "{file}: {document}"
            );
            let namespace = match document["kind"].as_str().unwrap() {
                "Namespace" | "ClusterRole" | "ClusterRoleBinding" => Value::Null,
                "Role" | "RoleBinding" => json!("kuma-system"),
                _ => json!(NAMESPACE),
            };
            assert_eq!(metadata["namespace"], namespace, "{file}: {document}");
        }
    }
    let namespace = one("namespace.yaml", "Namespace");
    assert_eq!(namespace["metadata"]["name"], NAMESPACE);
    assert_eq!(
        namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
        "restricted"
    );
    for (binding, role) in [("RoleBinding", "Role"), ("ClusterRoleBinding", "ClusterRole")] {
        let binding = one("rbac.yaml", binding);
        assert_eq!(binding["roleRef"]["kind"], role);
        assert_eq!(
            binding["roleRef"]["name"],
            one("rbac.yaml", role)["metadata"]["name"]
        );
        let account = one("rbac.yaml", "ServiceAccount");
        assert_eq!(
            binding["subjects"],
            json!([{"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": NAMESPACE}])
        );
    }
}

#[test]
fn the_configuration_is_one_that_the_agent_takes() {
    let map = one("config.yaml", "ConfigMap");
    let text = map["data"]["agent.yaml"].as_str().unwrap();
    let config = Config::parse(text, Path::new("/etc/weir"), Some("weir-agent-0")).unwrap();
    assert_eq!(config.agent.as_str(), "weir-agent-0");
    let Plane::Kubernetes(Kubernetes {
        cluster,
        system_namespace,
        take_back,
        rest,
        ..
    }) = config.kuma.plane
    else {
        panic!("it is for a cluster")
    };
    assert_eq!(cluster, Cluster::InCluster);
    assert_eq!(
        one("rbac.yaml", "Role")["metadata"]["namespace"],
        system_namespace.as_str()
    );
    assert!(!take_back, "a person decides that");
    assert!(rest.is_some(), "without it nothing would be proven");
    for file in ["agent.yaml", "agent-emptydir.yaml"] {
        let pod = one(file, "StatefulSet")["spec"]["template"]["spec"].clone();
        for container in [&pod["initContainers"][0], &pod["containers"][0]] {
            let mounts = container["volumeMounts"].as_array().unwrap();
            let writable: Vec<_> = mounts.iter().filter(|m| m["readOnly"] != true).collect();
            assert_eq!(writable.len(), 1);
            assert_eq!(
                config.data,
                PathBuf::from(writable[0]["mountPath"].as_str().unwrap())
            );
            let arguments: Vec<String> = serde_json::from_value(container["args"].clone()).unwrap();
            assert!(
                arguments
                    .windows(2)
                    .any(|two| two == ["--config", "/etc/weir/agent.yaml"])
            );
        }
    }
}

#[test]
fn the_pods_are_confined_and_two() {
    for file in ["agent.yaml", "agent-emptydir.yaml"] {
        let set = one(file, "StatefulSet");
        assert_eq!(set["spec"]["replicas"], 2);
        let labels = &set["spec"]["template"]["metadata"]["labels"];
        let budget = one(file, "PodDisruptionBudget");
        assert_eq!(budget["spec"]["minAvailable"], 1);
        for selector in [&budget["spec"]["selector"], &set["spec"]["selector"]] {
            for (key, value) in selector["matchLabels"].as_object().unwrap() {
                assert_eq!(labels[key], *value);
            }
        }
        let pod = &set["spec"]["template"]["spec"];
        assert_eq!(
            pod["serviceAccountName"],
            one("rbac.yaml", "ServiceAccount")["metadata"]["name"]
        );
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod.get(host).is_none());
        }
        assert!(
            pod["volumes"]
                .as_array()
                .unwrap()
                .iter()
                .all(|volume| volume.get("hostPath").is_none())
        );
        let containers = [&pod["initContainers"], &pod["containers"]];
        for container in containers.into_iter().flat_map(|all| all.as_array().unwrap()) {
            assert_eq!(
                container["securityContext"],
                json!({
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                })
            );
            assert!(container["resources"]["requests"]["memory"].is_string());
            assert!(container["resources"]["limits"]["memory"].is_string());
            assert!(
                container["resources"]["limits"].get("cpu").is_none(),
                "it would be slow when it matters"
            );
            // Every name that a mount or an argument uses is there.
            let known: Vec<_> = pod["volumes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|volume| &volume["name"])
                .chain(
                    set["spec"]["volumeClaimTemplates"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(|c| &c["metadata"]["name"]),
                )
                .collect();
            for mount in container["volumeMounts"].as_array().unwrap() {
                assert!(known.contains(&&mount["name"]), "{file}: {mount}");
            }
            assert_eq!(
                container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"],
                "metadata.name"
            );
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert_eq!(
                pod["containers"][0][probe]["exec"]["command"],
                json!(["weir-agent", "status", "--config", "/etc/weir/agent.yaml"])
            );
        }
    }
    // The two differ in where the data is, and in nothing else.
    let [mut kept, mut lost] = ["agent.yaml", "agent-emptydir.yaml"].map(|file| one(file, "StatefulSet"));
    kept["spec"]
        .as_object_mut()
        .unwrap()
        .remove("volumeClaimTemplates")
        .unwrap();
    let volumes = lost["spec"]["template"]["spec"]["volumes"]
        .as_array_mut()
        .unwrap();
    assert!(volumes.pop().unwrap().get("emptyDir").is_some());
    assert_eq!(kept, lost);
}
