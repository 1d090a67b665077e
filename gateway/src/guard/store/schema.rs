//! The tables of the store, and how an older file is brought forward.

/// What makes each schema out of the one before it; the first out of an empty file.
pub(super) const MIGRATIONS: [&str; 3] = [FIRST, SECOND, THIRD];

pub(super) const FIRST: &str = "
    CREATE TABLE ban (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        source TEXT NOT NULL,
        reason TEXT NOT NULL,
        actor TEXT NOT NULL,
        rule TEXT,
        evidence TEXT NOT NULL,
        shadow INTEGER NOT NULL,
        started INTEGER NOT NULL,
        expires INTEGER,
        boot TEXT NOT NULL,
        expires_monotonic INTEGER,
        reaction_micros INTEGER,
        connections_closed INTEGER,
        ended INTEGER,
        how TEXT,
        packets INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE UNIQUE INDEX ban_in_force ON ban (source) WHERE ended IS NULL;
    CREATE INDEX ban_of_source ON ban (source, id);
    CREATE INDEX ban_ended ON ban (ended, id) WHERE ended IS NOT NULL;
    CREATE TABLE allow (source TEXT PRIMARY KEY, reason TEXT NOT NULL, actor TEXT NOT NULL, added INTEGER NOT NULL) STRICT;
    CREATE TABLE audit (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL, first TEXT NOT NULL) STRICT;
";

const SECOND: &str = "
    ALTER TABLE ban ADD COLUMN confirm_by INTEGER;
    ALTER TABLE ban ADD COLUMN confirm_monotonic INTEGER;
    CREATE TABLE pardon (source TEXT PRIMARY KEY, actor TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
    CREATE TABLE promotion (what TEXT PRIMARY KEY, actor TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
";

const THIRD: &str = "ALTER TABLE ban ADD COLUMN relay TEXT;";
