//! Tests of the agent's configuration.

use super::*;

const WHOLE: &str = "\
zone: fra
agent: fra-1
coordinator: https://127.0.0.1:43211
data: state
kuma:
  api: http://127.0.0.1:5681
  tokenFile: /etc/token
  envoyAdmin: [\"/tmp/kuma-*/admin.sock\", \"http://127.0.0.1:9901\", near/*.sock]
  sampled: {callsPerHour: 10, perChange: 1}
report: 500ms
";

#[test]
fn a_whole_configuration() {
    let config = Config::parse(WHOLE, Path::new("/etc/weir"), None).unwrap();
    assert_eq!(
        config,
        Config {
            zone: ZoneName::new("fra").unwrap(),
            agent: DnsLabel::new("fra-1").unwrap(),
            coordinator: "https://127.0.0.1:43211".to_owned(),
            data: PathBuf::from("/etc/weir/state"),
            kuma: Kuma {
                plane: Plane::Universal(KumaRest {
                    api: "http://127.0.0.1:5681".to_owned(),
                    token_file: Some(PathBuf::from("/etc/token")),
                }),
                envoy_admin: vec![
                    "/tmp/kuma-*/admin.sock".to_owned(),
                    "http://127.0.0.1:9901".to_owned(),
                    "/etc/weir/near/*.sock".to_owned(),
                ],
                sampled: Sampled {
                    calls_per_hour: 10,
                    per_change: 1
                },
            },
            gateways: BTreeMap::new(),
            report: Duration::from_millis(500),
        }
    );
}

#[test]
fn every_fault_is_named_with_its_place() {
    let text = "zone: fra\nagent: fra-1\ncoordinator: http://c\ndata: d\nkuma:\n  api: 127.0.0.1:5681\nreport: soon\n";
    let error = ConfigError {
        file: PathBuf::from("agent.yaml"),
        faults: Config::parse(text, Path::new(""), None).unwrap_err(),
    };
    insta::assert_snapshot!(error, @r"
    error: `coordinator` is `http://c`, not an https:// address
      --> agent.yaml:3:14
       = help: give the coordinator's address and port, such as https://weir.example.com:8443
    error: `kuma.api` is `127.0.0.1:5681`, neither http:// nor https://
      --> agent.yaml:6:8
       = help: give the REST address of the zone's own control plane, such as http://127.0.0.1:5681
    error: `report` is `soon`, not a period
      --> agent.yaml:7:9
       = help: give a number with its unit, such as 5s or 500ms
    ");
    let unknown = Config::parse(&WHOLE.replace("report:", "reports:"), Path::new(""), None).unwrap_err();
    assert_eq!(unknown[0].at, Some((10, 1)));
    assert!(unknown[0].message.contains("reports"), "{unknown:?}");
}

#[test]
fn a_cluster_inside_and_outside() {
    let head = "zone: use1\nagent: use1-1\ncoordinator: https://c:8443\ndata: /var/lib/weir\nkuma:\n";
    let plane = |kuma: &str| {
        Config::parse(&format!("{head}{kuma}"), Path::new("/etc/weir"), None)
            .unwrap()
            .kuma
            .plane
    };
    assert_eq!(
        plane("  kubernetes: {}\n"),
        Plane::Kubernetes(Kubernetes {
            cluster: Cluster::InCluster,
            system_namespace: DnsLabel::new("kuma-system").unwrap(),
            take_back: false,
            metrics: None,
            rest: None,
        })
    );
    assert_eq!(
        plane(
            "  api: http://cp:5681\n  tokenFile: token\n  kubernetes:\n    kubeconfig: kube.yaml\n    context: use1\n    \
             systemNamespace: mesh\n    takeBack: true\n    metrics: {port: 1234}\n"
        ),
        Plane::Kubernetes(Kubernetes {
            cluster: Cluster::Kubeconfig {
                file: PathBuf::from("/etc/weir/kube.yaml"),
                context: Some("use1".to_owned()),
            },
            system_namespace: DnsLabel::new("mesh").unwrap(),
            take_back: true,
            metrics: Some(Metrics {
                port: 1234,
                path: "/metrics".to_owned(),
            }),
            rest: Some(KumaRest {
                api: "http://cp:5681".to_owned(),
                token_file: Some(PathBuf::from("/etc/weir/token")),
            }),
        })
    );
    let faults = |kuma: &str| ConfigError {
        file: PathBuf::from("agent.yaml"),
        faults: Config::parse(&format!("{head}{kuma}"), Path::new(""), None).unwrap_err(),
    };
    insta::assert_snapshot!(
        faults("  kubernetes:\n    context: use1\n    metrics: {path: metrics}\n"),
        @r"
    error: `kuma.kubernetes.context` without a kubeconfig that has it
      --> agent.yaml:7:14
       = help: name the file with kuma.kubernetes.kubeconfig, or leave both out for an agent inside the cluster
    error: `kuma.kubernetes.metrics` without `kuma.api`
      --> agent.yaml:8:14
       = help: give kuma.api as well: only the zone's control plane tells which pods call a service, and without it nothing is counted; or leave the metrics out
    error: `kuma.kubernetes.metrics.path` is `metrics`, not a path
      --> agent.yaml:8:21
       = help: give what the zone's MeshMetric says, such as /metrics
    "
    );
    insta::assert_snapshot!(faults("  kubernetes: {}\n  tokenFile: token\n"), @r"
    error: `kuma.tokenFile` without `kuma.api`
      --> agent.yaml:7:14
       = help: the token is for the REST address of the zone's control plane: give kuma.api as well, or leave the file out
    ");
    insta::assert_snapshot!(faults("  sampled: {callsPerHour: 0}\n"), @r"
    error: `kuma` names no control plane
      --> agent.yaml
       = help: give kuma.api, the REST address of the zone's own control plane; in a cluster kuma.kubernetes, which may be `{}`
    ");
}

#[test]
fn pods_that_share_a_file_have_names_of_their_own() {
    let shared = WHOLE.replace("agent: fra-1\n", "");
    let name = |name| Config::parse(&shared, Path::new(""), name).map(|config| config.agent.to_string());
    assert_eq!(name(Some("weir-agent-0")).unwrap(), "weir-agent-0");
    for wrong in [None, Some(""), Some("Weir Agent")] {
        let faults = name(wrong).unwrap_err();
        assert!(faults[0].help.contains("WEIR_AGENT"), "{faults:?}");
    }
    // What the file says stands.
    let config = Config::parse(WHOLE, Path::new(""), Some("weir-agent-0")).unwrap();
    assert_eq!(config.agent.as_str(), "fra-1");
}

#[test]
fn gateways_are_reached_as_the_host_knows() {
    let with = |gateways: &str| {
        Config::parse(
            &format!("{WHOLE}gateways:\n{gateways}"),
            Path::new("/etc/weir"),
            None,
        )
    };
    let config = with(
        "  edge:\n    nodes: [{admin: \"http://127.0.0.1:8001\", status: \"http://127.0.0.1:8007\"}, {admin: \
         \"https://kong-2:8444\"}]\n    caFile: ca.pem\n    header: {name: apikey, file: /run/kong-key}\n",
    )
    .unwrap();
    let node = |admin: &str, status: Option<&str>| Node {
        admin: admin.to_owned(),
        status: status.map(str::to_owned),
    };
    let edge = GatewayConfig {
        nodes: vec![
            node("http://127.0.0.1:8001", Some("http://127.0.0.1:8007")),
            node("https://kong-2:8444", None),
        ],
        ca_file: Some(PathBuf::from("/etc/weir/ca.pem")),
        header: Some(Header {
            name: "apikey".to_owned(),
            file: PathBuf::from("/run/kong-key"),
        }),
        count: None,
    };
    assert_eq!(
        config.gateways,
        [(GatewayName::new("edge").unwrap(), edge)].into()
    );
    let error = ConfigError {
        file: PathBuf::from("agent.yaml"),
        faults: with("  edge: {}\n  back:\n    nodes: [{admin: \"127.0.0.1:8001\"}]\n").unwrap_err(),
    };
    insta::assert_snapshot!(error, @r#"
    error: `admin` of the gateway back is `127.0.0.1:8001`, neither http:// nor https://
      --> agent.yaml:14:21
       = help: give an address such as http://127.0.0.1:8001; off this host it has to be https://
    error: the gateway edge has no nodes
      --> agent.yaml:12:9
       = help: name the Admin API of each: nodes: [{admin: "http://127.0.0.1:8001"}]
    "#);
}

#[test]
fn requests_are_counted_where_kong_and_the_agent_are_on_one_host() {
    let with = |gateways: &str| {
        Config::parse(
            &format!("{WHOLE}gateways:\n{gateways}"),
            Path::new("/etc/weir"),
            None,
        )
    };
    let count = |count: &str| {
        let text =
            format!("  edge:\n    nodes: [{{admin: \"http://127.0.0.1:8001\"}}]\n    count: {{{count}}}\n");
        with(&text).map(|config| {
            config.gateways[&GatewayName::new("edge").unwrap()]
                .count
                .clone()
                .unwrap()
        })
    };
    assert_eq!(
        count("listen: 127.0.0.1:8009").unwrap(),
        Count {
            listen: "127.0.0.1:8009".parse().unwrap(),
            url: "http://127.0.0.1:8009/".to_owned(),
        }
    );
    let six = count("listen: \"[::1]:8009\", url: \"http://localhost:9009/lines\"").unwrap();
    assert_eq!(
        (six.listen.port(), six.url.as_str()),
        (8009, "http://localhost:9009/lines")
    );
    // None of these is this host, whatever it looks like.
    for url in [
        "http://10.0.0.1:1/",
        "https://127.0.0.1:1/",
        "http://127.0.0.1@evil.test/",
        "http://127.0.0.1.evil.test/",
        "127.0.0.1:1",
    ] {
        assert!(
            count(&format!("listen: 127.0.0.1:8009, url: \"{url}\"")).is_err(),
            "{url}"
        );
    }
    for listen in [
        "0.0.0.0:8009",
        "10.0.0.1:8009",
        "127.0.0.1:0",
        "127.0.0.1",
        "localhost:8009",
    ] {
        assert!(count(&format!("listen: \"{listen}\"")).is_err(), "{listen}");
    }
    let error = ConfigError {
        file: PathBuf::from("agent.yaml"),
        faults: with(
            "  back:\n    nodes: [{admin: \"http://127.0.0.1:8001\"}, {admin: \"https://kong-2:8444\"}]\n    count: {listen: \
             127.0.0.1:8009}\n  edge:\n    nodes: [{admin: \"http://[::1]:8001\"}]\n    count: {listen: 0.0.0.0:8009, url: \
             \"http://10.0.0.1/\"}\n  one:\n    nodes: [{admin: \"http://localhost:8001\"}]\n    count: {listen: \
             127.0.0.1:8010}\n  two:\n    nodes: [{admin: \"http://localhost:8011\"}]\n    count: {listen: \
             127.0.0.1:8010}\n",
        )
        .unwrap_err(),
    };
    insta::assert_snapshot!(error, @r"
    error: the gateway back is to be counted, and its node `https://kong-2:8444` is on another host
      --> agent.yaml:13:55
       = help: requests are counted where Kong and the agent are on one host: leave `count` out, or drive that Kong by an agent there
    error: `count.listen` of the gateway edge is `0.0.0.0:8009`, not an address and port of loopback
      --> agent.yaml:17:21
       = help: give one that nobody else has, such as 127.0.0.1:8009: what Kong posts there says what people asked for
    error: `count.url` of the gateway edge is `http://10.0.0.1/`, not an http:// address on this host
      --> agent.yaml:17:40
       = help: leave it out if Kong reaches `listen` itself; else give what leads there, such as http://127.0.0.1:9009/
    error: the gateways one and two are both counted at 127.0.0.1:8010
      --> agent.yaml:22:5
       = help: give each of them a port of its own
    ");
}
