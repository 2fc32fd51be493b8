-- Agents that somebody wants forgotten (`agent forget` beside a coordinator that serves): a row for each question, which
-- the coordinator answers, because it alone knows who is connected. Who asked takes the row away again.

CREATE TABLE forgets (
    id       TEXT PRIMARY KEY,
    zone     TEXT NOT NULL,
    agent    TEXT NOT NULL,
    asked_at TEXT NOT NULL,
    answer   TEXT                       -- forgotten | connected | unknown; none yet
);
