//! Where sockets and files of the cast lie.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::double::dataplane::ADMIN_SOCKET;

/// A unix socket's path has at most 107 bytes: below a long directory it goes to a short one.
pub(super) fn socket_dir(dir: &Path, sandbox: &Path, zone: &str, name: &str) -> anyhow::Result<PathBuf> {
    let fits = dir.join(ADMIN_SOCKET).as_os_str().len() < 100;
    let dir = if fits {
        dir.to_path_buf()
    } else {
        short_dir(sandbox).join(zone).join(name)
    };
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

pub(super) fn short_dir(sandbox: &Path) -> PathBuf {
    let hash = blake3::hash(sandbox.as_os_str().as_encoded_bytes()).to_hex();
    std::env::temp_dir().join(format!("weir-{}", &hash[..10]))
}

pub(super) fn path(path: &Path) -> anyhow::Result<String> {
    Ok(path.to_str().context("a path that is not UTF-8")?.to_owned())
}
