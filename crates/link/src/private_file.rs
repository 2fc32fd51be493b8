//! Files that nobody else may read (keys, tokens): mode 0600 from the first byte, whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Writes a file atomically with mode 0600: synced, renamed, and the directory synced. Blocks; small files only.
///
/// # Errors
/// What the file system says; the path is the caller's to name.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with_mode(path, bytes, 0o600)
}

/// As [`write()`], with another mode (0644 for certificates).
///
/// # Errors
/// What the file system says; the path is the caller's to name.
pub fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a file has a name"))?;
    let parent = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut draft = name.to_os_string();
    // Not by the process's number: in a container that is always the same, and a draft that a kill left would be met again.
    draft.push(format!(".{:016x}.draft", crate::backoff::random()));
    let draft = parent.join(draft);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(parent)?.sync_all()
    })();
    if written.is_err() {
        // The draft may never have come to be: what matters is the first error.
        drop(fs::remove_file(&draft));
    }
    written
}

/// Creates a directory (and those above it) that only its owner may enter; one that exists is left as it is.
///
/// # Errors
/// What the file system says; the path is the caller's to name.
pub fn create_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_private_file_is_whole_private_and_leaves_no_draft() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        // Drafts that a process of our number left when it was killed.
        for n in 0..1000 {
            let left = format!("key.pem.{}-{n}.draft", std::process::id());
            fs::write(dir.path().join(left), "").unwrap();
        }
        write(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(
            write(&dir.path().join("missing/key.pem"), b"x")
                .unwrap_err()
                .kind(),
            io::ErrorKind::NotFound
        );
    }
}
