//! Where the real executables are, which versions they have, and what to say when they are not there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::process::Command;

/// The executables of Kuma and Envoy.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Control plane.
    pub kuma_cp: PathBuf,
    /// Dataplane proxy, which starts Envoy.
    pub kuma_dp: PathBuf,
    /// Envoy.
    pub envoy: PathBuf,
    /// Prints what Kuma needs in a cluster: only a cluster zone needs it.
    pub kumactl: Option<PathBuf>,
}

/// Some of them are not on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// Names.
    pub missing: Vec<&'static str>,
    /// Where was looked.
    pub looked: String,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} not found in {}. The real cast needs kuma-cp and kuma-dp of Kuma 2.14 and the Envoy that belongs to it; \
             `curl -L https://kuma.io/installer.sh | VERSION=2.14.3 sh -` unpacks all three into kuma-2.14.3/bin. \
             Name that directory in WEIR_KUMA_BIN, or leave out --real to play with the double.",
            self.missing.join(", "),
            self.looked
        )
    }
}

impl std::error::Error for Absent {}

impl Parts {
    /// In the directory `WEIR_KUMA_BIN`, or in `PATH`.
    ///
    /// # Errors
    /// If one of them is in neither; names each.
    pub fn find() -> Result<Self, Absent> {
        Self::find_in(std::env::var_os("WEIR_KUMA_BIN"), std::env::var_os("PATH"))
    }

    fn find_in(own: Option<OsString>, path: Option<OsString>) -> Result<Self, Absent> {
        let (places, looked) = match own {
            Some(dir) => {
                let looked = format!("WEIR_KUMA_BIN={}", dir.display());
                (vec![PathBuf::from(dir)], looked)
            }
            None => {
                let dirs = path.iter().flat_map(|p| std::env::split_paths(p)).collect();
                (dirs, "PATH (WEIR_KUMA_BIN is not set)".to_owned())
            }
        };
        let look = |name: &'static str| {
            places
                .iter()
                .map(|dir| dir.join(name))
                .find(|file| executable(file))
        };
        let mut missing = Vec::new();
        let mut find = |name: &'static str| {
            let found = look(name);
            if found.is_none() {
                missing.push(name);
            }
            found
        };
        match (find("kuma-cp"), find("kuma-dp"), find("envoy")) {
            (Some(kuma_cp), Some(kuma_dp), Some(envoy)) => Ok(Self {
                kuma_cp,
                kuma_dp,
                envoy,
                kumactl: look("kumactl"),
            }),
            _ => Err(Absent { missing, looked }),
        }
    }

    /// `kuma-cp` -> `2.14.3`, and so on, as the executables say themselves.
    ///
    /// # Errors
    /// If one of them cannot be run or says nothing of the kind.
    pub async fn versions(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut versions = BTreeMap::new();
        for (name, program, argument) in [
            ("kuma-cp", &self.kuma_cp, "version"),
            ("kuma-dp", &self.kuma_dp, "version"),
            ("envoy", &self.envoy, "--version"),
        ] {
            let output = Command::new(program)
                .arg(argument)
                .output()
                .await
                .with_context(|| format!("cannot run {} {argument}", program.display()))?;
            let text = String::from_utf8_lossy(&output.stdout);
            let version = version_in(&text)
                .with_context(|| format!("`{} {argument}` names no version: {text}", program.display()))?;
            versions.insert(name.to_owned(), version.to_owned());
        }
        Ok(versions)
    }
}

/// The first `major.minor.patch` in a text such as `Kuma: 2.14.3` or `envoy  version: <commit>/1.38.3/Clean/...`.
fn version_in(text: &str) -> Option<&str> {
    text.split(|c: char| c.is_whitespace() || c == '/').find(|word| {
        let numbers: Vec<&str> = word.split('.').collect();
        numbers.len() == 3 && numbers[..2].iter().all(|n| n.parse::<u32>().is_ok())
    })
}

pub(crate) fn executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Whether `WEIR_REQUIRE`, a list, says that the absence of this is a failure and not a reason to skip.
pub fn required(what: &str) -> bool {
    std::env::var("WEIR_REQUIRE").is_ok_and(|list| list.split(',').any(|word| word.trim() == what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_executables_print() {
        assert_eq!(version_in("Kuma: 2.14.3\n"), Some("2.14.3"));
        let envoy = "\n/usr/bin/envoy  version: 0ebfcfe5b0484b89/1.38.3/Modified/RELEASE/BoringSSL\n";
        assert_eq!(version_in(envoy), Some("1.38.3"));
        assert_eq!(version_in("Kuma: unknown"), None);
    }

    #[test]
    fn absence_names_each_missing_part_and_what_to_do() {
        let empty = tempfile::tempdir().expect("a directory");
        let absent = Parts::find_in(Some(empty.path().into()), None).expect_err("nothing is there");
        assert_eq!(absent.missing, ["kuma-cp", "kuma-dp", "envoy"]);
        let text = absent.to_string();
        assert!(
            text.contains("WEIR_KUMA_BIN") && text.contains("kuma.io/installer.sh"),
            "{text}"
        );
        let nowhere = Parts::find_in(None, None).expect_err("nothing is there");
        assert_eq!(nowhere.looked, "PATH (WEIR_KUMA_BIN is not set)");
    }
}
