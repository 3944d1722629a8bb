"""The schema of a data directory's file, and the migrations that lead to it from every earlier release.

`PRAGMA user_version` counts the migrations that have been made; the list only grows at its end.
"""

import sqlite3

_MIGRATIONS = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('epoch', 0);
    CREATE TABLE runs (
        no INTEGER PRIMARY KEY,
        job_id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        state TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        created_at REAL NOT NULL,
        ended_at REAL,
        first_batch INTEGER NOT NULL,
        first_event_id INTEGER NOT NULL,
        last_event_id INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        claim_key TEXT UNIQUE,
        claim_body TEXT,
        record BLOB NOT NULL,
        outline BLOB
    );
    CREATE INDEX runs_of_an_owner ON runs (owner, no);
    CREATE INDEX runs_of_an_owner_by_state ON runs (owner, state, no);
    CREATE INDEX runs_by_end ON runs (ended_at, no, bytes) WHERE ended_at IS NOT NULL;
    CREATE INDEX runs_in_progress ON runs (first_batch) WHERE state = 'running';
    CREATE TABLE batches (id INTEGER PRIMARY KEY, events BLOB NOT NULL);
    CREATE TABLE segments (
        run INTEGER NOT NULL,
        first INTEGER NOT NULL,
        events BLOB NOT NULL,
        PRIMARY KEY (run, first)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE runs ADD COLUMN next_event_id INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE runs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE stream_tokens (run INTEGER NOT NULL, digest BLOB NOT NULL, UNIQUE (run, digest));
    CREATE TRIGGER stream_tokens_go_with_their_run AFTER DELETE ON runs BEGIN
        DELETE FROM stream_tokens WHERE run = old.no;
    END;
    """,
    """
    ALTER TABLE runs ADD COLUMN last_batch INTEGER;
    CREATE INDEX finished_runs_of_an_owner ON runs (owner, ended_at, no) WHERE ended_at IS NOT NULL;
    CREATE TABLE owners (owner TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO owners SELECT owner, sum(bytes) FROM runs WHERE ended_at IS NOT NULL GROUP BY owner;
    CREATE TRIGGER a_finished_run_counts AFTER INSERT ON runs WHEN NEW.ended_at IS NOT NULL BEGIN
        INSERT INTO owners VALUES (NEW.owner, NEW.bytes) ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER a_run_that_ends_counts AFTER UPDATE OF ended_at, bytes ON runs BEGIN
        UPDATE owners SET bytes = bytes - OLD.bytes WHERE owner = OLD.owner AND OLD.ended_at IS NOT NULL;
        INSERT INTO owners SELECT NEW.owner, NEW.bytes WHERE NEW.ended_at IS NOT NULL
            ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER a_deleted_run_counts_no_more AFTER DELETE ON runs WHEN OLD.ended_at IS NOT NULL BEGIN
        UPDATE owners SET bytes = bytes - OLD.bytes WHERE owner = OLD.owner;
        DELETE FROM owners WHERE owner = OLD.owner AND bytes <= 0;
    END;
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables up to this release's schema, each migration in a transaction of its own.

    Raises:
        sqlite3.DatabaseError: the file is of a newer release.
    """
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version > len(_MIGRATIONS):
        raise sqlite3.DatabaseError(f"this data directory is of a newer release (schema {version})")
    for number, migration in enumerate(_MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {migration}; PRAGMA user_version = {number}; COMMIT;")
