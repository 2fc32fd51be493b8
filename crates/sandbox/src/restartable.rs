//! A process that is ended on purpose and started again as it was.

use std::time::Duration;

use anyhow::ensure;

use crate::process::{Keeper, Process, Start, User};

/// The lines of a log's end that are told of one that ended by itself.
const TOLD: usize = 5;

/// A process, and how it was started.
#[derive(Debug)]
pub(crate) struct Restartable {
    keeper: Keeper,
    start: Start,
    user: Option<User>,
    /// None while it is ended on purpose.
    process: Option<Process>,
}

impl Restartable {
    /// Starts it, as this user, if not as ours.
    pub(crate) fn start(keeper: &Keeper, start: Start, user: Option<User>) -> anyhow::Result<Self> {
        let process = keeper.spawn_as(start.clone(), user)?;
        Ok(Self {
            keeper: keeper.clone(),
            start,
            user,
            process: Some(process),
        })
    }

    /// `kill -9`, with all that it started.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// SIGINT, and `kill -9` after `patience`.
    pub(crate) async fn interrupt(&mut self, patience: Duration) -> anyhow::Result<()> {
        match self.process.take() {
            Some(mut process) => process.interrupt(patience).await,
            None => Ok(()),
        }
    }

    /// Starts it again; nothing is waited for.
    pub(crate) fn again(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "{} runs", self.start.name);
        let process = self.keeper.spawn_as(self.start.clone(), self.user)?;
        self.process = Some(process);
        Ok(())
    }

    /// In words, if it ended though nobody ended it.
    pub(crate) fn casualty(&mut self) -> Option<String> {
        let process = self.process.as_mut()?;
        let status = process.ended()?;
        Some(format!(
            "{} ended ({status}); its log {} ends with:\n{}",
            process.name(),
            process.log().display(),
            process.tail(TOLD)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_killed_is_no_casualty_and_comes_back_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let start = Start {
            name: "sleeper".to_owned(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), "echo here; exec sleep 600".into()],
            env: Vec::new(),
            log: dir.path().join("sleeper.log"),
        };
        let mut sleeper = Restartable::start(&Keeper::none(), start, None).expect("a shell");
        assert!(sleeper.again().is_err(), "it runs already");
        // Killed before it said so, it would say it once only.
        said(&sleeper, "here").await;
        sleeper.kill().await.expect("it ends");
        assert_eq!(sleeper.casualty(), None);
        sleeper.again().expect("it starts");
        said(&sleeper, "here\nhere").await;
        let id = sleeper.process.as_ref().expect("a process").id();
        std::process::Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("kill -s KILL {id}"))
            .status()
            .expect("a shell");
        let told = within_a_minute(|| sleeper.casualty()).await;
        assert!(told.contains("sleeper ended") && told.contains("here"), "{told}");
    }

    async fn said(of: &Restartable, text: &str) {
        let process = of.process.as_ref().expect("a process");
        within_a_minute(|| (process.tail(2) == text).then_some(())).await;
    }

    async fn within_a_minute<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let looks = async {
            loop {
                if let Some(found) = look() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(Duration::from_mins(1), looks).await;
        found.expect("it comes within a minute")
    }
}
