-- Version 1. Times are milliseconds since 1970, days are days since 1970-01-01 in the server's zone.

CREATE TABLE jobs (
    id            TEXT    NOT NULL PRIMARY KEY,
    owner         TEXT    NOT NULL,
    status        TEXT    NOT NULL CHECK (status IN
                      ('queued', 'running', 'succeeded', 'failed', 'cancelling', 'cancelled', 'expired')),
    -- Counts claims: a report of an earlier attempt changes nothing.
    attempt       INTEGER NOT NULL DEFAULT 0,
    -- Counts attempts that ended with their worker.
    deaths        INTEGER NOT NULL DEFAULT 0,
    rank          REAL    NOT NULL,
    paused        INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    created_at    INTEGER NOT NULL,
    started_at    INTEGER,
    finished_at   INTEGER,
    expires_at    INTEGER,
    api           TEXT    NOT NULL CHECK (api IN ('own', 'openai', 'kling')),
    kind          TEXT    NOT NULL CHECK (kind IN ('clip', 'remix', 'extend', 'edit')),
    parent        TEXT    REFERENCES jobs (id),
    external_id   TEXT,
    prompt        TEXT    NOT NULL,
    request       TEXT    NOT NULL,
    plan          TEXT    NOT NULL,
    progress      INTEGER NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),
    stage         TEXT,
    -- A number of 64 bits without sign.
    seed          TEXT,
    result        TEXT,
    bytes         INTEGER NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    error_code    TEXT,
    error_message TEXT,
    cost          INTEGER NOT NULL CHECK (cost >= 0),
    -- What was charged in the end; NULL until then.
    charged       INTEGER,
    starred       INTEGER NOT NULL DEFAULT 0 CHECK (starred IN (0, 1)),
    deleted_at    INTEGER,
    worker        TEXT,
    lease_until   INTEGER,
    callback_url  TEXT,
    CHECK ((status IN ('queued', 'running', 'cancelling')) = (finished_at IS NULL)),
    CHECK ((status IN ('queued', 'running', 'cancelling')) = (charged IS NULL)),
    CHECK ((status IN ('running', 'cancelling')) = (lease_until IS NOT NULL)),
    CHECK (paused = 0 OR status = 'queued'),
    CHECK (deleted_at IS NULL OR finished_at IS NOT NULL)
) STRICT;

CREATE INDEX jobs_listed ON jobs (owner, id) WHERE deleted_at IS NULL;
CREATE INDEX jobs_starred ON jobs (owner, id) WHERE deleted_at IS NULL AND starred = 1;
CREATE INDEX jobs_children ON jobs (owner, parent, id) WHERE deleted_at IS NULL AND parent IS NOT NULL;
CREATE INDEX jobs_waiting ON jobs (owner, rank, id, paused) WHERE status = 'queued';
CREATE INDEX jobs_active ON jobs (owner, rank, id) WHERE status IN ('queued', 'running', 'cancelling');
CREATE INDEX jobs_held ON jobs (owner, lease_until) WHERE status IN ('running', 'cancelling');
CREATE INDEX jobs_expiring ON jobs (expires_at) WHERE status = 'succeeded' AND expires_at IS NOT NULL;
CREATE INDEX jobs_stored ON jobs (owner, bytes) WHERE bytes > 0;
CREATE UNIQUE INDEX jobs_external ON jobs (owner, external_id) WHERE external_id IS NOT NULL;

-- What an unfinished clip needs: names of uploads and of clips.
CREATE TABLE inputs (
    job   TEXT NOT NULL REFERENCES jobs (id),
    input TEXT NOT NULL,
    PRIMARY KEY (input, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX inputs_of ON inputs (job);

-- Whose turn it is: the owner with the smallest number.
CREATE TABLE turns (
    number INTEGER PRIMARY KEY,
    owner  TEXT    NOT NULL UNIQUE,
    last   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX turns_order ON turns (last, number);

CREATE TABLE assets (
    id         TEXT    NOT NULL PRIMARY KEY,
    owner      TEXT    NOT NULL,
    media      TEXT    NOT NULL CHECK (media IN ('image', 'video')),
    mime       TEXT    NOT NULL,
    bytes      INTEGER NOT NULL CHECK (bytes >= 0),
    width      INTEGER NOT NULL,
    height     INTEGER NOT NULL,
    frames     INTEGER NOT NULL,
    fps        REAL,
    -- What the client called it: shown, never used as a path.
    name       TEXT    NOT NULL,
    sha256     BLOB    NOT NULL CHECK (length(sha256) = 32),
    created_at INTEGER NOT NULL,
    used_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX assets_listed ON assets (owner, id);
CREATE INDEX assets_stored ON assets (owner, bytes);
CREATE INDEX assets_used ON assets (used_at);

CREATE TABLE keys (
    id           TEXT    NOT NULL PRIMARY KEY,
    owner        TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    tier         TEXT    NOT NULL,
    prefix       TEXT    NOT NULL,
    hash         BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    access_key   TEXT    NOT NULL UNIQUE,
    version      INTEGER NOT NULL DEFAULT 1,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    expires_at   INTEGER,
    revoked_at   INTEGER
) STRICT;
CREATE INDEX keys_listed ON keys (owner, id);

CREATE TABLE ledger (
    number  INTEGER PRIMARY KEY,
    owner   TEXT    NOT NULL,
    day     INTEGER NOT NULL,
    job     TEXT    REFERENCES jobs (id),
    kind    TEXT    NOT NULL,
    credits INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    CHECK (CASE kind WHEN 'grant' THEN credits >= 0 AND job IS NULL
                     WHEN 'expire' THEN credits < 0
                     WHEN 'reserve' THEN credits <= 0 AND job IS NOT NULL
                     WHEN 'charge' THEN credits = 0 AND job IS NOT NULL
                     WHEN 'refund' THEN credits >= 0 AND job IS NOT NULL
                     ELSE 0 END)
) STRICT;
CREATE INDEX ledger_days ON ledger (owner, day, kind, credits);
CREATE INDEX ledger_jobs ON ledger (job, number) WHERE job IS NOT NULL;

CREATE TABLE idempotency (
    owner      TEXT    NOT NULL,
    route      TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    status     TEXT    NOT NULL CHECK (status IN ('running', 'done')),
    code       INTEGER,
    body       BLOB,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (owner, route, key),
    CHECK ((status = 'done') = (code IS NOT NULL AND body IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_recent ON idempotency (owner, route, hash, created_at);
CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE TABLE outbox (
    id         TEXT    NOT NULL PRIMARY KEY,
    job        TEXT    NOT NULL REFERENCES jobs (id),
    event      TEXT    NOT NULL,
    url        TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    -- NULL when it is done or given up.
    next_at    INTEGER,
    done_at    INTEGER,
    last_error TEXT
) STRICT;
CREATE INDEX outbox_due ON outbox (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX outbox_of ON outbox (job);

CREATE TABLE settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
