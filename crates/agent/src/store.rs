//! What an agent keeps on disk: the last good plan and the one before it, its memory, and the pins that people on the host
//! write. Each file is whole or it is not taken. Blocks: small files, written only when something changed.
//!
//! Where the plan's file is damaged, the copy of the one before and the memory together still say what is in force: that is
//! kept in place, and nothing else. What is in the older plan alone may be out of date, so of its items none is driven (I7); and
//! what of ours stands there beside may be of the plan that was lost, so nothing is removed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use weir_model::{FederationName, ZoneName};
use weir_planner::{Generation, ZonePlan};

use crate::gateways;
use crate::pin::{self, Pins};
use crate::sealed::{self, Damage};
use crate::take::Memory;

/// The generation of what is kept in force without a plan.
pub const RECOVERED: Generation = Generation(0);

/// The files in the data directory.
#[derive(Debug, Clone)]
pub struct Store {
    plan: PathBuf,
    before: PathBuf,
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
            before: data.join("plan.json.before"),
            memory: data.join("memory.json"),
            pins: data.join("pins.json"),
            gateways: data.join("gateways.json"),
        }
    }

    /// Reads both. A damaged file is set aside and said so in the log: the agent then goes on with what its memory says is in
    /// force, or without it; traffic stays as it is, and the coordinator sends the plan again.
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
        if plan.is_none() {
            plan = self.in_force(&memory, federation, zone)?;
        }
        Ok(Kept { plan, memory })
    }

    /// What is in force, where there is no plan but a copy of the one before: the items that this zone last took, in that
    /// plan's frame. Of a generation that every plan is newer than: it takes nothing away, and any plan takes its place.
    fn in_force(
        &self,
        memory: &Memory,
        federation: &FederationName,
        zone: &ZoneName,
    ) -> io::Result<Option<ZonePlan>> {
        let before: Option<ZonePlan> = read(&self.before, "plan")?;
        let Some(before) = before.filter(|p| p.federation == *federation && p.zone == *zone) else {
            return Ok(None);
        };
        let own = memory.applied.iter();
        let own = own.filter(|(split, item)| !memory.pinned.contains_key(*split) && item.mesh == before.mesh);
        let items: BTreeMap<_, _> = own
            .map(|(split, item)| (split.clone(), Arc::clone(item)))
            .collect();
        if items.is_empty() {
            return Ok(None);
        }
        tracing::error!(
            file = %self.before.display(),
            "there is no usable plan: by the copy of the one before and the memory, {} splits that were in force are kept in \
             force until the coordinator sends the plan",
            items.len()
        );
        Ok(Some(ZonePlan {
            generation: RECOVERED,
            gateways: BTreeMap::new(),
            items,
            ..before
        }))
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
        // Without the copy there is one safety net less, which is no reason to refuse a plan.
        if let Err(error) = self.keep_before() {
            tracing::warn!(%error, file = %self.before.display(), "no copy of the plan before was kept");
        }
        sealed::write(&self.plan, "plan", plan)
    }

    /// The plan's file gets a second name, which it keeps when a new one takes its place. A damaged one takes no place of a
    /// good one.
    fn keep_before(&self) -> io::Result<()> {
        let Some(bytes) = bytes(&self.plan)? else {
            return Ok(());
        };
        if sealed::open::<ZonePlan>("plan", &bytes).is_err() {
            return Ok(());
        }
        let link = self.before.with_extension("new");
        remove(&link)?;
        fs::hard_link(&self.plan, &link)?;
        fs::rename(&link, &self.before)?;
        // Where both were one file already, the rename did nothing.
        remove(&link)
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

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
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
