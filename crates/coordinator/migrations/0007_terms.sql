-- The highest term of a coordinator that is known here: each process that begins has a higher one. One row.

CREATE TABLE terms (
    id   BIGINT PRIMARY KEY,             -- 1
    term BIGINT NOT NULL
);
