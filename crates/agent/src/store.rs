//! What an agent keeps on disk: the last good plan and its memory. Each file is whole or it is not taken. Blocks: small
//! files, written only when something changed.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use weir_model::{FederationName, ZoneName};
use weir_planner::ZonePlan;

use crate::sealed::{self, Damage};
use crate::take::Memory;

/// The files in the data directory.
#[derive(Debug, Clone)]
pub struct Store {
    plan: PathBuf,
    memory: PathBuf,
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
        memory.applied.retain(|_, item| item.zone == *zone);
        if let Some(plan) = &plan {
            memory.highest = memory.highest.max(plan.generation);
        }
        Ok(Kept { plan, memory })
    }

    /// Keeps a plan; once it returns, the plan outlives any crash.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep_plan(&self, plan: &ZonePlan) -> io::Result<()> {
        sealed::write(&self.plan, "plan", plan)
    }

    /// Keeps the memory.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep_memory(&self, memory: &Memory) -> io::Result<()> {
        sealed::write(&self.memory, "memory", memory)
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
