-- What each source declares now and declared directly before, as the ids of Git's trees below its path: whoever goes back
-- to the one before takes a change back, and needs no leave for what goes with it. Not a part of the history, which ends.

CREATE TABLE trees (
    source TEXT PRIMARY KEY,
    now    TEXT NOT NULL,
    before TEXT
);
