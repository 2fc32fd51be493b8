-- The ledger: what was seen in Git and decided, the plans made of it, what zones proved, and the story of it all.
-- Read by SQLite and by PostgreSQL alike: TEXT, BIGINT and ON CONFLICT only; times are RFC 3339 UTC text of fixed width,
-- so that they sort; booleans are 0 and 1. Never edited once released: a change is a new migration.

CREATE TABLE commits (
    id          BIGINT PRIMARY KEY,
    source      TEXT NOT NULL,
    commit_id   TEXT NOT NULL,
    author      TEXT NOT NULL,
    authored_at TEXT NOT NULL,
    subject     TEXT NOT NULL,
    seen_at     TEXT NOT NULL,
    verdict     TEXT NOT NULL,          -- taken | refused
    generation  BIGINT,                 -- of the plan that it made
    diagnostics TEXT NOT NULL           -- JSON array
);
CREATE INDEX commits_by_source ON commits (source, id);

CREATE TABLE plans (
    generation BIGINT PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    parent     TEXT,
    created    TEXT NOT NULL,
    plan       TEXT NOT NULL            -- canonical JSON
);

-- The commit of each source that the declaration in force was made from.
CREATE TABLE in_force (
    source    TEXT PRIMARY KEY,
    commit_id TEXT NOT NULL
);

-- The zones of the declaration in force: what a plan does not say about them.
CREATE TABLE zones (
    name      TEXT PRIMARY KEY,
    platform  TEXT NOT NULL,
    kuma_zone TEXT NOT NULL
);

-- What agents said about items, a row for each change.
CREATE TABLE proofs (
    id         BIGINT PRIMARY KEY,
    zone       TEXT NOT NULL,
    agent      TEXT NOT NULL,
    split      TEXT NOT NULL,
    generation BIGINT NOT NULL,
    recorded   TEXT NOT NULL,
    fact       TEXT NOT NULL            -- JSON
);
CREATE INDEX proofs_by_item ON proofs (zone, agent, split, id);

-- When a zone had first proven all of a generation.
CREATE TABLE zone_proofs (
    generation BIGINT NOT NULL,
    zone       TEXT NOT NULL,
    at         TEXT NOT NULL,
    PRIMARY KEY (generation, zone)
);

-- Agents, so that one which is silent after a restart of the coordinator is still missed.
CREATE TABLE agents (
    zone                TEXT NOT NULL,
    name                TEXT NOT NULL,
    version             TEXT NOT NULL,
    generation          BIGINT NOT NULL,
    highest             BIGINT NOT NULL,
    kuma                TEXT,
    heard_at            TEXT,
    certificate_expires TEXT,
    PRIMARY KEY (zone, name)
);

CREATE TABLE events (
    id         BIGINT PRIMARY KEY,
    at         TEXT NOT NULL,
    kind       TEXT NOT NULL,
    message    TEXT NOT NULL,
    zone       TEXT,
    split      TEXT,
    generation BIGINT
);
