//! What an agent keeps on disk: the last good plan, its memory, and the pins that people on the host write. Each file is whole or it is not taken. Blocks: small
//! files, written only when something changed.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use weir_model::{FederationName, ZoneName};
use weir_planner::ZonePlan;

use crate::gateways;
use crate::pin::{self, Pins};
use crate::sealed::{self, Damage};
use crate::take::Memory;

/// The files in the data directory.
#[derive(Debug, Clone)]
pub struct Store {
    plan: PathBuf,
    memory: PathBuf,
    pins: PathBuf,
    gateways: PathBuf,
}

/// What was on disk.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kept {
    /// The last good plan.
    pub plan: Option<ZonePlan>,
    /// What is remembered besides.
    pub memory: Memory,
}

impl Store {
    /// Files in this directory, which must exist.
    pub fn new(data: &Path) -> Self {
        Self {
            plan: data.join("plan.json"),
            memory: data.join("memory.json"),
            pins: data.join("pins.json"),
            gateways: data.join("gateways.json"),
        }
    }

    /// Reads both. A damaged file is set aside and said so in the log: the agent then goes on without it, traffic stays
    /// as it is, and the coordinator sends the plan again.
    ///
    /// # Errors
    /// If a file is there and cannot be read at all: starting without it could forget what was taken.
    pub fn load(&self, federation: &FederationName, zone: &ZoneName) -> io::Result<Kept> {
        let mut plan: Option<ZonePlan> = read(&self.plan, "plan")?;
        let mut memory: Memory = read(&self.memory, "memory")?.unwrap_or_default();
        if let Some(other) = plan
            .as_ref()
            .filter(|p| p.federation != *federation || p.zone != *zone)
        {
            tracing::error!(
                file = %self.plan.display(),
                "the last good plan is for zone {} of federation {}, this agent is of zone {zone} of {federation}: \
                 it is not used, traffic stays as it is",
                other.zone,
                other.federation
            );
            plan = None;
            memory = Memory::default();
        }
        let memory = memory.at_start(plan.as_ref(), federation, zone);
        Ok(Kept { plan, memory })
    }

    /// Reads the plan beside an agent that may run: a damaged file is left where it is, for the agent to find.
    ///
    /// # Errors
    /// If it is there and cannot be used.
    pub fn peek_plan(&self) -> io::Result<Option<ZonePlan>> {
        peek(&self.plan, "plan")
    }

    /// Reads the memory in the same way.
    ///
    /// # Errors
    /// If it is there and cannot be used.
    pub fn peek_memory(&self) -> io::Result<Memory> {
        Ok(peek(&self.memory, "memory")?.unwrap_or_default())
    }

    /// The bytes of the file of pins; none if there is none. Who pins writes it beside an agent that runs.
    ///
    /// # Errors
    /// What the file system says.
    pub fn pins(&self) -> io::Result<Option<Vec<u8>>> {
        bytes(&self.pins)
    }

    /// Keeps the pins; once it returns, they outlive any crash. A file that is damaged is set aside first.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep_pins(&self, pins: &Pins) -> io::Result<()> {
        if let Err(damage @ Damage::Corrupt { .. }) = sealed::read::<Pins>(&self.pins, pin::KIND) {
            tracing::warn!(file = %self.pins.display(), "the file of pins was damaged: {damage}");
        }
        sealed::write(&self.pins, pin::KIND, pins)?;
        self.give_away(&self.pins)
    }

    /// A file that the superuser wrote is the agent's to read.
    fn give_away(&self, path: &Path) -> io::Result<()> {
        let dir = fs::metadata(path.parent().unwrap_or(Path::new(".")))?;
        let file = fs::metadata(path)?;
        if dir.uid() == file.uid() {
            return Ok(());
        }
        chown(path, Some(dir.uid()), Some(dir.gid()))
    }

    /// Keeps a plan; once it returns, the plan outlives any crash.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep_plan(&self, plan: &ZonePlan) -> io::Result<()> {
        sealed::write(&self.plan, "plan", plan)
    }

    /// What is remembered of gateways; nothing, if there is no file or it is damaged.
    ///
    /// # Errors
    /// If it is there and cannot be read at all.
    pub fn gateways(&self) -> io::Result<gateways::Memory> {
        Ok(read(&self.gateways, "gateways")?.unwrap_or_default())
    }

    /// Keeps that.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep_gateways(&self, memory: &gateways::Memory) -> io::Result<()> {
        sealed::write(&self.gateways, "gateways", memory)
    }

    /// Keeps the memory.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep_memory(&self, memory: &Memory) -> io::Result<()> {
        sealed::write(&self.memory, "memory", memory)
    }
}

fn bytes(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn peek<T: DeserializeOwned>(path: &Path, kind: &str) -> io::Result<Option<T>> {
    let wrong = |why: String| io::Error::other(format!("the {kind} file {}: {why}", path.display()));
    match bytes(path) {
        Ok(Some(bytes)) => sealed::open(kind, &bytes).map(Some).map_err(wrong),
        Ok(None) => Ok(None),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn read<T: DeserializeOwned>(path: &Path, kind: &str) -> io::Result<Option<T>> {
    match sealed::read(path, kind) {
        Ok(value) => Ok(value),
        Err(damage @ Damage::Corrupt { .. }) => {
            tracing::error!(
                file = %path.display(),
                "the {kind} file is damaged: {damage}. The agent goes on without it and changes nothing until the \
                 coordinator sends the plan"
            );
            Ok(None)
        }
        Err(Damage::Unreadable(error)) => Err(io::Error::new(
            error.kind(),
            format!("cannot read {}: {error}", path.display()),
        )),
    }
}
