-- Who committed a commit, and whether it is signed (none | present; nobody verifies it); neither is known of older rows.

ALTER TABLE commits ADD COLUMN committer TEXT;
ALTER TABLE commits ADD COLUMN signature TEXT;

-- What agents said of one split in one generation, for its history.
CREATE INDEX proofs_by_split ON proofs (split, generation, id);
