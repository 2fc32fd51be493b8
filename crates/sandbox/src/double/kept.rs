//! The store of a control plane as its threads share it, and the file in which it outlives the control plane, if it has
//! one: what was written is in the file before anybody is told of it.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;

use super::store::{Mode, Object, Store};

/// A store and where it is kept.
pub(super) struct Kept {
    store: Mutex<Store>,
    file: Option<PathBuf>,
}

impl Kept {
    /// What the file holds, if there is one already; otherwise an empty store.
    pub(super) fn open(mode: Mode, file: Option<PathBuf>) -> anyhow::Result<Self> {
        let mut store = Store::new(mode);
        store.process = std::process::id();
        store.lasting = file.is_some();
        if let Some(file) = file.as_deref().filter(|file| file.exists()) {
            let told = || format!("the store {}", file.display());
            let bytes = std::fs::read(file).with_context(told)?;
            let objects: Vec<Object> = serde_json::from_slice(&bytes).with_context(told)?;
            for object in objects {
                store.insert(object);
            }
        }
        Ok(Self {
            store: Mutex::new(store),
            file,
        })
    }

    /// The store. What is changed is written when this goes.
    pub(super) fn lock(&self) -> Held<'_> {
        Held {
            store: self.store.lock().unwrap_or_else(PoisonError::into_inner),
            file: self.file.as_deref(),
            before: None,
        }
    }
}

/// A store that nobody else has now.
pub(super) struct Held<'a> {
    store: MutexGuard<'a, Store>,
    file: Option<&'a Path>,
    /// As it was, since somebody may have changed it.
    before: Option<Store>,
}

impl Deref for Held<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Store {
        if self.file.is_some() && self.before.is_none() {
            self.before = Some(self.store.clone());
        }
        &mut self.store
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let changed = self.before.as_ref().is_some_and(|before| *before != *self.store);
        let Some(file) = self.file.filter(|_| changed) else {
            return;
        };
        if let Err(error) = write(&self.store, file) {
            // The next change tries it again.
            tracing::error!(file = %file.display(), "the store is not kept: {error:#}");
        }
    }
}

/// All or nothing, whenever the process is killed.
fn write(store: &Store, file: &Path) -> anyhow::Result<()> {
    let objects: Vec<&Object> = store.objects().collect();
    let new = file.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(&objects)?)?;
    std::fs::rename(&new, file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::double::store::Kind;

    #[test]
    fn what_was_changed_is_there_again_and_what_was_looked_at_is_not_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("store.json");
        let open = || Kept::open(Mode::Global, Some(file.clone())).expect("a store");
        let kept = open();
        assert!(!kept.lock().has_mesh("default"));
        assert!(!file.exists());
        let mesh = Object::new(Kind::Mesh, "", "default", Timestamp::UNIX_EPOCH);
        kept.lock().insert(mesh.clone());
        assert_eq!(open().lock().get(Kind::Mesh, "", "default"), Some(&mesh));
        kept.lock().remove(Kind::Mesh, "", "default");
        assert!(!open().lock().has_mesh("default"));
    }
}
