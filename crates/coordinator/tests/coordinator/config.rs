//! Configurations, right and wrong, and what is said about the wrong ones.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_coordinator::config::{Auth, Config, ConfigError, HostName, Source, Webhook, WebhookKind, period};
use weir_coordinator::git::Remote;
use weir_model::{FederationName, SourceName};

const LEAST: &str = "federation: shop
listen: 127.0.0.1:0
data: /var/lib/weir
sources:
  - name: main
    url: /srv/traffic
";

fn told(text: &str) -> String {
    let faults = Config::parse(text, Path::new("/etc/weir")).unwrap_err();
    let file = PathBuf::from("c.yaml");
    ConfigError { file, faults }.to_string()
}

#[test]
fn the_least_and_the_most_that_can_be_said() {
    let least = Config::parse(LEAST, Path::new("/etc/weir")).unwrap();
    assert_eq!(
        least,
        Config {
            federation: FederationName::new("shop").unwrap(),
            listen: "127.0.0.1:0".parse().unwrap(),
            names: vec![
                HostName::Dns("localhost".to_owned()),
                HostName::Ip(IpAddr::from([127, 0, 0, 1]))
            ],
            data: PathBuf::from("/var/lib/weir"),
            sources: vec![Source {
                name: SourceName("main".to_owned()),
                remote: Remote::Local(PathBuf::from("/srv/traffic")),
                branch: "main".to_owned(),
                path: String::new(),
                poll: Duration::from_secs(60),
                webhook: None,
                auth: Auth::default(),
            }],
            stale: Duration::from_secs(15),
            certificate_life: Duration::from_secs(86_400),
            history: Duration::from_secs(90 * 86_400),
            anonymous_read: false,
        }
    );
    let most = "federation: shop
listen: '[::]:8443'
names: [Weir.Example.com, 192.0.2.1]
data: data
sources:
  - name: main
    url: https://git.example.com/traffic.git
    branch: live/now
    path: ./traffic/
    poll: 500ms
    webhook: {kind: github, secretFile: secret}
    auth: {username: robot, passwordFile: password, caFile: /etc/ca.pem}
  - name: more
    url: git@git.example.com:more
    auth: {sshKeyFile: key, sshProgram: ./ssh}
stale: 1m
certificateLife: 12h
history: 30d
api: {anonymousRead: true}
";
    let most = Config::parse(most, Path::new("/etc/weir")).unwrap();
    assert_eq!(
        most,
        Config {
            federation: FederationName::new("shop").unwrap(),
            listen: "[::]:8443".parse().unwrap(),
            names: vec![
                HostName::Dns("weir.example.com".to_owned()),
                HostName::Ip(IpAddr::from([192, 0, 2, 1]))
            ],
            data: PathBuf::from("/etc/weir/data"),
            sources: vec![
                Source {
                    name: SourceName("main".to_owned()),
                    remote: Remote::Http("https://git.example.com/traffic.git".parse().unwrap()),
                    branch: "live/now".to_owned(),
                    path: "traffic".to_owned(),
                    poll: Duration::from_millis(500),
                    webhook: Some(Webhook {
                        kind: WebhookKind::Github,
                        secret_file: PathBuf::from("/etc/weir/secret"),
                    }),
                    auth: Auth {
                        username: Some("robot".to_owned()),
                        password_file: Some(PathBuf::from("/etc/weir/password")),
                        ca_file: Some(PathBuf::from("/etc/ca.pem")),
                        ..Auth::default()
                    },
                },
                Source {
                    name: SourceName("more".to_owned()),
                    remote: Remote::Ssh {
                        user: Some("git".to_owned()),
                        host: "git.example.com".to_owned(),
                        port: None,
                        path: "more".to_owned(),
                    },
                    branch: "main".to_owned(),
                    path: String::new(),
                    poll: Duration::from_secs(60),
                    webhook: None,
                    auth: Auth {
                        ssh_key_file: Some(PathBuf::from("/etc/weir/key")),
                        ssh_program: Some(PathBuf::from("/etc/weir/./ssh")),
                        ..Auth::default()
                    },
                },
            ],
            stale: Duration::from_secs(60),
            certificate_life: Duration::from_secs(43_200),
            history: Duration::from_secs(30 * 86_400),
            anonymous_read: true,
        }
    );
}

#[test]
fn every_fault_of_a_readable_file_is_told_at_once() {
    let wrong = "federation: shop
listen: 127.0.0.1:0
data: ''
sources:
  - name: main
    url: https://ada:secret@git.example.com/x
    branch: a..b
    path: ../up
    poll: 1ms
    auth: {sshKeyFile: key, username: ada}
  - name: main
    url: http://git.example.com/x
stale: 10ms
";
    insta::assert_snapshot!(told(wrong));
}

#[test]
fn what_cannot_be_read_is_told_with_its_place() {
    let with = |from: &str, to: &str| told(&LEAST.replace(from, to));
    let all = [
        with("federation: shop", "federation: Shop"),
        with("federation: shop\n", ""),
        with("127.0.0.1:0", "localhost"),
        with("data: /var/lib/weir", "data: [a]"),
        with("    url: /srv/traffic", "    url: /srv/traffic\n    pol: 5s"),
        with(
            "    url: /srv/traffic",
            "    url: /srv/traffic\n    poll: 5 parsecs",
        ),
        with(
            "    url: /srv/traffic",
            "    url: /srv/traffic\n    webhook: {kind: svn, secretFile: x}",
        ),
        with("sources:", "names: [a_b]\nsources:"),
        with("sources:", "api: {anonymousRead: yes}\nsources:"),
        with(
            "sources:\n  - name: main\n    url: /srv/traffic\n",
            "sources: []\n",
        ),
        told("federation: [\n"),
        told(""),
    ];
    insta::assert_snapshot!(all.join("\n\n"));
}

/// A period that no clock can add to a time would end the part that waits for it.
#[test]
fn a_period_without_end_is_refused() {
    let least = "federation: shop\nlisten: 127.0.0.1:0\ndata: /d\nsources:\n  - {name: main, url: /srv/traffic, poll: 4000000000d}\n";
    let told = told(&format!(
        "{least}stale: 9223372036854775807s\ncertificateLife: 3651d\n"
    ));
    for (place, key) in [(":5:43", "poll"), (":6:8", "stale"), (":7:18", "certificateLife")] {
        assert!(
            told.contains(place) && told.contains(&format!("`{key}` is ")),
            "{told}"
        );
    }
}

#[test]
fn periods_are_what_people_write() {
    for (text, seconds) in [
        ("15s", 15),
        ("2m", 120),
        ("24h", 86_400),
        ("90d", 7_776_000),
        ("1h30m", 5_400),
    ] {
        assert_eq!(period(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    assert_eq!(period("500ms"), Ok(Duration::from_millis(500)));
    for text in ["", "15", "-1s", "soon", "1 parsec"] {
        assert!(period(text).is_err(), "{text}");
    }
}
