//! Fallbacks: what is down, who takes its share, how it comes back, and that agents of one zone are of one mind. Time,
//! counters and states are values here: `world` has an agent and its zone, `alone` is one agent, `clocks` are one's that is
//! set, `held` is what is decided and not in force, `together` are two of one zone.

mod alone;
mod clocks;
mod held;
mod together;
mod world;
