//! How much a test under load does: as much as fits into a run of all tests, or what somebody asks for who wants figures.

/// How often weights change, `WEIR_LOAD_CHANGES`.
///
/// # Panics
/// If it is no number.
pub fn changes(usual: u32) -> u32 {
    asked("WEIR_LOAD_CHANGES").map_or(usual, |changes| u32::try_from(changes).unwrap_or(u32::MAX))
}

/// How many requests are sent at the least, `WEIR_LOAD_REQUESTS`.
///
/// # Panics
/// If it is no number.
pub fn requests(usual: u64) -> u64 {
    asked("WEIR_LOAD_REQUESTS").unwrap_or(usual)
}

/// Whether somebody asks for figures, on a machine that has nothing else to do.
pub fn is_asked() -> bool {
    std::env::var_os("WEIR_LOAD_CHANGES").is_some()
}

fn asked(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{name} is `{text}`, which is no number"),
    }
}
