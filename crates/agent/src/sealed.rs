//! Files that are whole or nothing: a first line with the BLAKE3 of all that follows, written to a draft, synced and
//! renamed. What was cut short, or has one bit turned, is not read; it is set aside for a person to look at.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a sealed file could not be taken.
#[derive(Debug)]
pub enum Damage {
    /// It is not what was written: why, and where it lies now.
    Corrupt {
        /// What is wrong with it.
        why: String,
        /// Where it was put; the old place if it could not be moved.
        aside: PathBuf,
    },
    /// It is there and cannot be read.
    Unreadable(io::Error),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt { why, aside } => write!(f, "{why}; it was set aside as {}", aside.display()),
            Self::Unreadable(error) => write!(f, "{error}"),
        }
    }
}

fn header(kind: &str, body: &[u8]) -> String {
    format!("weir {kind} 1 {} {}\n", body.len(), blake3::hash(body).to_hex())
}

/// The bytes of a sealed file.
pub fn seal<T: Serialize>(kind: &str, value: &T) -> io::Result<Vec<u8>> {
    let mut body = serde_json::to_vec_pretty(value)?;
    body.push(b'\n');
    let mut bytes = header(kind, &body).into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// What is in the bytes of a sealed file.
///
/// # Errors
/// What is wrong with them.
pub fn open<T: DeserializeOwned>(kind: &str, bytes: &[u8]) -> Result<T, String> {
    let end = bytes
        .iter()
        .position(|b| *b == b'\n')
        .ok_or_else(|| "it has no first line".to_owned())?;
    let (first, body) = bytes.split_at(end + 1);
    // Written anew and compared whole: there is one way only to write a header, and no turned bit passes.
    if first != header(kind, body).as_bytes() {
        return Err("its content is not what its first line says: it was cut short or changed".to_owned());
    }
    serde_json::from_slice(body).map_err(|e| format!("it is whole but cannot be read: {e}"))
}

/// Writes a value so that a crash at any instant leaves the old file or the new one. Blocks.
///
/// # Errors
/// What the file system says.
pub fn write<T: Serialize>(path: &Path, kind: &str, value: &T) -> io::Result<()> {
    weir_link::private_file::write(path, &seal(kind, value)?)
}

/// Reads a value; none if there is no file. Blocks.
///
/// # Errors
/// What is wrong with the file, which is set aside if it is damaged.
pub fn read<T: DeserializeOwned>(path: &Path, kind: &str) -> Result<Option<T>, Damage> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Damage::Unreadable(error)),
    };
    open(kind, &bytes).map(Some).map_err(|why| Damage::Corrupt {
        why,
        aside: set_aside(path),
    })
}

fn set_aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".damaged-{}", Timestamp::now().as_second()));
    let aside = path.with_file_name(name);
    match fs::rename(path, &aside) {
        Ok(()) => aside,
        Err(_) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cut_and_no_turned_bit_passes() {
        let value = vec![("checkout".to_owned(), 9000_u32), ("cart".to_owned(), 1)];
        let bytes = seal("plan", &value).unwrap();
        assert_eq!(open::<Vec<(String, u32)>>("plan", &bytes).unwrap(), value);
        assert!(open::<Vec<(String, u32)>>("memory", &bytes).is_err());
        for at in 0..bytes.len() {
            assert!(
                open::<Vec<(String, u32)>>("plan", &bytes[..at]).is_err(),
                "cut at {at}"
            );
            for bit in 0..8 {
                let mut turned = bytes.clone();
                turned[at] ^= 1 << bit;
                assert!(
                    open::<Vec<(String, u32)>>("plan", &turned).is_err(),
                    "bit {bit} of byte {at}"
                );
            }
        }
        let mut longer = bytes;
        longer.push(b' ');
        assert!(open::<Vec<(String, u32)>>("plan", &longer).is_err());
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.json");
        assert!(read::<u32>(&path, "plan").unwrap().is_none());
        write(&path, "plan", &7_u32).unwrap();
        assert_eq!(read::<u32>(&path, "plan").unwrap(), Some(7));
        fs::write(&path, "weir plan 1").unwrap();
        let damage = read::<u32>(&path, "plan").unwrap_err();
        assert!(damage.to_string().contains("set aside as"), "{damage}");
        assert!(!path.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
