//! The budget of admin calls through the control plane. Each leaks a connection there that nothing gives back (`kuma.md`
//! R2), so what was spent is on disk before it is spent, and a file that cannot be read counts as all spent.

use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// What was spent in the last hour.
#[derive(Debug)]
pub(crate) struct Budget {
    file: PathBuf,
    per_hour: usize,
    /// When each call was made, oldest first; none until the file was read.
    calls: Option<Vec<Timestamp>>,
}

impl Budget {
    pub(crate) fn new(file: PathBuf, per_hour: u32) -> Self {
        Self {
            file,
            per_hour: usize::try_from(per_hour).unwrap_or(usize::MAX),
            calls: None,
        }
    }

    /// Takes one call; or says why there is none. Blocks for a small file, a few times an hour.
    pub(crate) fn take(&mut self, now: Timestamp) -> Result<(), String> {
        let mut calls = match self.calls.take() {
            Some(calls) => calls,
            None => read(&self.file).unwrap_or_else(|why| {
                tracing::warn!(file = %self.file.display(), why, "taken as all spent");
                vec![now; self.per_hour]
            }),
        };
        // A clock that was set back leaves calls in the future: they count as of now.
        for call in &mut calls {
            *call = (*call).min(now);
        }
        calls.retain(|call| now.duration_since(*call) < HOUR);
        if calls.len() >= self.per_hour {
            self.calls = Some(calls);
            return Err(format!("the budget of {} calls an hour is spent", self.per_hour));
        }
        calls.push(now);
        let kept = write(&self.file, &calls);
        self.calls = Some(calls);
        kept.map_err(|error| format!("what is spent cannot be kept in {}: {error}", self.file.display()))
    }
}

fn read(file: &Path) -> Result<Vec<Timestamp>, String> {
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| e.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.to_string()),
    }
}

fn write(file: &Path, calls: &[Timestamp]) -> io::Result<()> {
    let draft = file.with_extension("draft");
    std::fs::write(&draft, serde_json::to_vec(calls)?)?;
    std::fs::rename(draft, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn an_hour_holds_so_many_across_restarts_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sampled.json");
        let mut budget = Budget::new(file.clone(), 2);
        assert_eq!(budget.take(at(0)), Ok(()));
        assert_eq!(Budget::new(file.clone(), 2).take(at(10)), Ok(()));
        let mut budget = Budget::new(file.clone(), 2);
        assert!(budget.take(at(20)).is_err());
        assert!(budget.take(at(3599)).is_err());
        assert_eq!(budget.take(at(3600)), Ok(()));
        assert!(budget.take(at(3601)).is_err());
        // A clock that goes back gives nothing back.
        assert!(Budget::new(file.clone(), 2).take(at(-9000)).is_err());
        std::fs::write(&file, "[").unwrap();
        assert!(Budget::new(file.clone(), 2).take(at(9000)).is_err());
        assert!(Budget::new(dir.path().join("none/x"), 2).take(at(0)).is_err());
        assert!(Budget::new(dir.path().join("zero"), 0).take(at(0)).is_err());
    }
}
