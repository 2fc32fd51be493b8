//! The tour.
/// Runs.
///
/// # Errors
/// Not yet.
pub async fn run(
    _place: crate::command::Place,
    _tour: crate::command::Tour,
) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("not yet")
}
