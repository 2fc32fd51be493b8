//! `weir-sandbox`: the federation on one machine.
fn main() -> std::io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("keeper") => weir_sandbox::process::keeper(),
        _ => Ok(()),
    }
}
