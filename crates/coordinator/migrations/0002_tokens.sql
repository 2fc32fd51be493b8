-- Tokens: what lets an agent join (once, one zone) and a person read. Only hashes: who reads this table joins nothing.
-- Written by `token create|revoke` beside a coordinator that serves: every change is one statement.

CREATE TABLE tokens (
    id         TEXT PRIMARY KEY,        -- 8 hex digits; no secret
    kind       TEXT NOT NULL,           -- agent | viewer
    subject    TEXT NOT NULL,           -- the zone, or the viewer's name
    hash       TEXT NOT NULL,           -- BLAKE3 of the secret
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    spent_at   TEXT,                    -- agent: when it was spent, and by which agent
    spent_by   TEXT,
    used_at    TEXT,                    -- viewer: when last used, to the minute
    revoked_at TEXT
);
