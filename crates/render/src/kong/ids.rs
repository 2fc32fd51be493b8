//! The ids that Kong makes of names.
