//! How a play is set up: what its zones are, who plays Kuma in them, and what its control planes keep their objects in.

use std::path::PathBuf;

use anyhow::bail;

use crate::cast::{Cast, Stage};
use crate::cluster::Binaries;
use crate::double::cast::Double;
use crate::real::{Parts, Real, postgres};
use crate::repository::{CLUSTER, Ground};

/// A zone without a backend.
const THIRD: &str = "par";

/// How to set it up.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Where; none for a new temporary directory.
    pub dir: Option<PathBuf>,
    /// With real Kuma.
    pub real: bool,
    /// With agents that write bare policies.
    pub bare: bool,
    /// The name of the service's port in its MeshServices, if it has one. The first commit does not declare it, and is
    /// therefore not waited for: no zone can prove it.
    pub port_name: Option<String>,
    /// With Kongs outside the mesh, one for each way in which people run them: the double, in either case. One without a
    /// database and one with, in the zone of the VMs, and one under an ingress controller where a zone is a cluster. And with
    /// one in the mesh, in the zone of the VMs: a delegated gateway.
    pub gateways: bool,
    /// With a third zone, of callers alone, also with real Kuma. The double always has it.
    pub third: bool,
    /// What global and VM zones' control planes keep their objects in.
    pub stores: Stores,
}

/// What the global control plane and those of VM zones keep their objects in. A cluster's has its API server.
#[derive(Debug, Clone, Default)]
pub enum Stores {
    /// In memory: whoever is killed comes back empty.
    #[default]
    Memory,
    /// In what outlives them. With real Kuma a PostgreSQL server, with the double a file for each.
    Lasting(Option<postgres::Programs>),
}

impl Stores {
    /// Lasting ones; with real Kuma only if PostgreSQL is on this machine. Otherwise why not.
    ///
    /// # Errors
    /// What is not there.
    pub fn lasting(real: bool) -> Result<Self, postgres::Absent> {
        if real {
            return Ok(Self::Lasting(Some(postgres::Programs::find()?)));
        }
        Ok(Self::Lasting(None))
    }
}

/// What the zones are, and what they take.
#[derive(Debug, Clone)]
pub enum Scene {
    /// VMs alone.
    Vms,
    /// One is a cluster, with a real API server: for the real parts.
    WithCluster(Binaries),
    /// One is a cluster, with the double of an API server: for the double.
    WithDoubleCluster,
}

impl Scene {
    /// With a cluster, unless nobody wants one; with real Kuma also unless what it takes is not on this machine. Says so
    /// then.
    pub fn choose(real: bool, universal: bool, mut say: impl FnMut(&str)) -> Self {
        if universal {
            return Self::Vms;
        }
        if !real {
            return Self::WithDoubleCluster;
        }
        let kumactl = Parts::find().is_ok_and(|parts| parts.kumactl.is_some());
        match Binaries::find() {
            Ok(binaries) if kumactl => Self::WithCluster(binaries),
            Ok(_) => {
                say("no cluster zone: kumactl is not beside kuma-cp. All zones are Universal");
                Self::Vms
            }
            Err(absent) => {
                say(&format!("no cluster zone: {absent} All zones are Universal"));
                Self::Vms
            }
        }
    }

    /// What the zones are, for the repository.
    pub(super) fn ground(&self) -> Ground {
        match self {
            Self::Vms => Ground::Vms,
            Self::WithCluster(_) | Self::WithDoubleCluster => Ground::VmsAndCluster,
        }
    }

    /// Who plays Kuma.
    pub(super) fn cast(self, stage: Stage, setup: &Setup) -> anyhow::Result<Box<dyn Cast>> {
        if !setup.real {
            let mut double = Double::new(stage)?;
            if let Stores::Lasting(_) = setup.stores {
                double = double.with_lasting_stores();
            }
            return Ok(Box::new(match self {
                Self::Vms => double,
                Self::WithDoubleCluster => double.with_cluster(CLUSTER),
                Self::WithCluster(_) => bail!("the double of Kuma needs the double of an API server"),
            }));
        }
        let mut zones = self.ground().backends().map(|(_, zone)| zone.to_owned()).to_vec();
        if setup.third {
            zones.push(THIRD.to_owned());
        }
        let mut real = Real::new(stage, Parts::find()?, zones)?;
        match &setup.stores {
            Stores::Memory => {}
            Stores::Lasting(Some(programs)) => real = real.with_postgres(programs.clone()),
            Stores::Lasting(None) => bail!("real Kuma keeps nothing in files: it needs PostgreSQL"),
        }
        Ok(Box::new(match self {
            Self::Vms => real,
            Self::WithCluster(binaries) => real.with_cluster(CLUSTER, binaries),
            Self::WithDoubleCluster => bail!("real Kuma needs a real API server"),
        }))
    }
}
