//! The live picture.
/// Runs.
///
/// # Errors
/// Not yet.
pub async fn run(_place: crate::command::Place) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("not yet")
}
