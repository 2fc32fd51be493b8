//! What is waited for and told by nobody: asked for again and again, in one way.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::Instant;

/// Between two questions: what is asked for is on its way for a second or so.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks until there is an answer, of a fact that nobody tells. What it is told meanwhile is what is missing.
///
/// # Errors
/// The first of `ask`; if it takes longer than `patience`, with what is missing.
pub async fn poll<T, R>(patience: Duration, mut ask: impl FnMut() -> R) -> anyhow::Result<T>
where
    R: Future<Output = anyhow::Result<Result<T, String>>>,
{
    let begin = Instant::now();
    loop {
        match ask().await? {
            Ok(answer) => return Ok(answer),
            Err(missing) if begin.elapsed() > patience => {
                bail!("not within {} s: {missing}", patience.as_secs());
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// How long a part of the sandbox may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until it is so, or says what was last wrong.
pub(crate) async fn until<R>(what: &str, mut ask: impl FnMut() -> R) -> anyhow::Result<()>
where
    R: Future<Output = anyhow::Result<()>>,
{
    let so = || {
        let asked = ask();
        async move { Ok(asked.await.map_err(|error| format!("{error:#}"))) }
    };
    poll(PATIENCE, so).await.with_context(|| what.to_owned())
}
