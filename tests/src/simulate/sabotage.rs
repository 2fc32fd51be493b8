//! The ways to break Weir on purpose, each with the invariant that then does not hold. The switches are in the code that
//! they break; this is the list of them.

use super::Invariant;

/// One switch.
#[derive(Debug, Clone, Copy)]
pub struct Sabotage {
    /// Its name, as the code asks for it.
    pub name: &'static str,
    /// What it does, for people.
    pub does: &'static str,
    /// What then does not hold.
    pub breaks: Invariant,
    /// Within so many seeds, from 0, it is found.
    pub within: u64,
}

/// All of them.
pub const ALL: &[Sabotage] = &[];

/// Turns one on in this thread, or all off. False if this program was built without them.
pub fn turn_on(name: Option<&str>) -> bool {
    #[cfg(feature = "sabotage")]
    {
        let found = ALL.iter().find(|sabotage| Some(sabotage.name) == name);
        weir_model::sabotage(found.map_or("", |sabotage| sabotage.name));
        true
    }
    #[cfg(not(feature = "sabotage"))]
    {
        name.is_none()
    }
}
