//! Switches with which the simulation breaks Weir on purpose, to show that its checks find it. With the feature `sabotage`
//! only, which nothing but the tests' own program turns on; in every other build [`sabotaged`] is `false` for good, and
//! what it guards is not compiled in.

/// Whether this switch is on.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
pub const fn sabotaged(_name: &str) -> bool {
    false
}

#[cfg(feature = "sabotage")]
thread_local! {
    static ON: std::cell::Cell<&'static str> = const { std::cell::Cell::new("") };
}

/// Whether this switch is on in this thread.
#[cfg(feature = "sabotage")]
pub fn sabotaged(name: &str) -> bool {
    ON.get() == name
}

/// Turns one switch on in this thread, and all others off.
#[cfg(feature = "sabotage")]
pub fn sabotage(name: &'static str) {
    ON.set(name);
}
