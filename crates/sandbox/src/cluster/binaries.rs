//! Where `kube-apiserver` and `etcd` are, and what to say when they are not there.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// The two programs that are a cluster's store and its face. No kubelet, no scheduler, no controllers.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `kube-apiserver`.
    pub api_server: PathBuf,
    /// `etcd`.
    pub etcd: PathBuf,
}

/// One of them is not on this machine.
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
            "{} not found in {}. A cluster zone needs kube-apiserver and etcd. From Weir's own tree, with Go installed, \
             `tests/kubernetes/build DIR` builds both into DIR; name that directory in WEIR_KUBERNETES_BIN.",
            self.missing.join(", "),
            self.looked
        )
    }
}

impl std::error::Error for Absent {}

impl Binaries {
    /// In the directory `WEIR_KUBERNETES_BIN`, or in `PATH`.
    ///
    /// # Errors
    /// If one of them is in neither; names each.
    pub fn find() -> Result<Self, Absent> {
        Self::find_in(std::env::var_os("WEIR_KUBERNETES_BIN"), std::env::var_os("PATH"))
    }

    fn find_in(own: Option<OsString>, path: Option<OsString>) -> Result<Self, Absent> {
        let (places, looked) = match own.filter(|dir| !dir.is_empty()) {
            Some(dir) => {
                let looked = format!("WEIR_KUBERNETES_BIN={}", dir.display());
                (vec![PathBuf::from(dir)], looked)
            }
            None => {
                let dirs = path.iter().flat_map(|p| std::env::split_paths(p)).collect();
                (dirs, "PATH (WEIR_KUBERNETES_BIN is not set)".to_owned())
            }
        };
        let mut missing = Vec::new();
        let mut find = |name: &'static str| {
            let found = places
                .iter()
                .map(|dir| dir.join(name))
                .find(|file| crate::real::executable(file));
            if found.is_none() {
                missing.push(name);
            }
            found
        };
        match (find("kube-apiserver"), find("etcd")) {
            (Some(api_server), Some(etcd)) => Ok(Self { api_server, etcd }),
            _ => Err(Absent { missing, looked }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_names_each_program_and_what_to_do() {
        let empty = tempfile::tempdir().expect("a directory");
        let absent = Binaries::find_in(Some(empty.path().into()), None).expect_err("nothing is there");
        assert_eq!(absent.missing, ["kube-apiserver", "etcd"]);
        assert!(absent.to_string().contains("tests/kubernetes/build"), "{absent}");
        // A variable set to nothing is not set.
        let nowhere = Binaries::find_in(Some(OsString::new()), None).expect_err("nothing is there");
        assert_eq!(nowhere.looked, "PATH (WEIR_KUBERNETES_BIN is not set)");
    }
}
