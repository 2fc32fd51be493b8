//! Our own entities: their names, their tags, and how they are written.
