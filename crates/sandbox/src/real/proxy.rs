//! A proxy: `kuma-dp`, which starts an Envoy, for a dataplane or a zone's ingress.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;

use super::control_plane::ControlPlane;
use super::parts::Parts;
use crate::cast::Stage;
use crate::process::Start;
use crate::restartable::Restartable;

/// What kind of proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyType {
    /// Of an application.
    Dataplane,
    /// Takes a zone's traffic from other zones.
    Ingress,
}

/// What to start.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) zone: &'a str,
    pub(crate) name: &'a str,
    pub(crate) kind: ProxyType,
    pub(crate) what: What<'a>,
    pub(crate) token: &'a str,
    /// Whether it listens on the virtual addresses of all services, instead of where its document says.
    pub(crate) binds_virtual_addresses: bool,
    /// Its own directory; the admin socket will be there.
    pub(crate) work: PathBuf,
    /// A port on 127.0.0.1 for `/ready`, its own.
    pub(crate) readiness: u16,
}

/// How the control plane comes to know what the proxy is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What<'a> {
    /// The proxy brings its document.
    Brought(&'a Value),
    /// An object in the control plane's store, `<name>.<namespace>`, of a mesh or, for an ingress, of none.
    Stored { name: &'a str, mesh: Option<&'a str> },
}

/// A started proxy.
#[derive(Debug)]
pub(crate) struct Proxy(Restartable);

impl Proxy {
    /// Starts it; nothing is waited for.
    pub(crate) fn start(
        stage: &Stage,
        parts: &Parts,
        plane: &ControlPlane,
        wanted: &Wanted<'_>,
    ) -> anyhow::Result<Self> {
        let work = &wanted.work;
        std::fs::create_dir_all(work).with_context(|| format!("cannot make {}", work.display()))?;
        let token = work.join("token");
        write_private(&token, wanted.token)?;
        let kind = match wanted.kind {
            ProxyType::Dataplane => "dataplane",
            ProxyType::Ingress => "ingress",
        };
        let mut named: Vec<(&str, OsString)> = vec![
            ("--cp-address", plane.proxy_address().into()),
            ("--ca-cert-file", plane.certificate().into()),
            ("--proxy-type", kind.into()),
            ("--dataplane-token-file", token.into()),
            ("--binary-path", parts.envoy.clone().into()),
            ("--work-dir", work.into()),
            ("--concurrency", "1".into()),
            // Callers here have addresses, no names and no transparent proxy.
            ("--dns-enabled", "false".into()),
        ];
        match wanted.what {
            What::Brought(document) => {
                let file = work.join("proxy.json");
                std::fs::write(&file, format!("{document:#}\n"))?;
                named.push(("--dataplane-file", file.into()));
            }
            What::Stored { name, mesh } => {
                named.push(("--name", name.into()));
                named.extend(mesh.map(|mesh| ("--mesh", mesh.into())));
            }
        }
        let mut args = vec![OsString::from("run")];
        args.extend(named.into_iter().map(|(flag, value)| {
            let mut arg = OsString::from(flag);
            arg.push("=");
            arg.push(value);
            arg
        }));
        if wanted.binds_virtual_addresses {
            args.push("--bind-outbounds".into());
        }
        let env = [
            ("KUMA_READINESS_PORT", wanted.readiness.to_string()),
            ("KUMA_APPLICATION_PROBE_PROXY_PORT", "0".to_owned()),
            // Two Envoys on one address would otherwise share its traffic without a word.
            ("KUMA_DATAPLANE_RUNTIME_REUSE_PORT_ENABLED", "false".to_owned()),
        ];
        let name = format!("kuma-dp-{}-{}", wanted.zone, wanted.name);
        let start = Start {
            program: parts.kuma_dp.clone(),
            args,
            env: env.map(|(k, v)| (k.to_owned(), v.into())).to_vec(),
            log: stage.dir.join("logs").join(format!("{name}.log")),
            name,
        };
        Restartable::start(&stage.keeper, start, None).map(Self)
    }

    /// `kill -9`; its Envoy ends with it.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill().await
    }

    /// Starts it again, with its old document and token.
    pub(crate) fn again(&mut self) -> anyhow::Result<()> {
        self.0.again()
    }

    /// In words, if it ended though nobody killed it.
    pub(crate) fn casualty(&mut self) -> Option<String> {
        self.0.casualty()
    }
}

/// A file that only its owner reads: it lets whoever has it be this proxy.
pub(crate) fn write_private(file: &std::path::Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut opened = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("cannot write {}", file.display()))?;
    opened.write_all(text.as_bytes())?;
    Ok(())
}
