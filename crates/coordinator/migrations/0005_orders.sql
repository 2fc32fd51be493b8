-- What people ordered beside Git: `abort`, `resume`, `freeze`. An order waits until planning has answered it; a freeze is
-- in force from its answer to `ended_at`. Orders stay as history.

CREATE TABLE orders (
    id       TEXT PRIMARY KEY,
    kind     TEXT NOT NULL,              -- abort | resume | freeze
    split    TEXT,                       -- none: all splits
    reason   TEXT NOT NULL,
    who      TEXT NOT NULL,
    asked_at TEXT NOT NULL,
    answer   TEXT,                       -- what became of it, in a sentence; none yet
    done     INTEGER NOT NULL DEFAULT 0, -- whether it was carried out
    ended_at TEXT                        -- of a freeze: when it was resumed
);
CREATE INDEX orders_waiting ON orders (asked_at) WHERE answer IS NULL;
