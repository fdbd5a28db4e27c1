-- Version 2: events have a lane and a signer, and clips whose state changes are noted. Nothing wrote to the first outbox.

DROP TABLE outbox;

CREATE TABLE outbox (
    id         TEXT    NOT NULL PRIMARY KEY,
    job        TEXT    NOT NULL REFERENCES jobs (id),
    event      TEXT    NOT NULL,
    url        TEXT    NOT NULL,
    -- A few events of a lane are delivered at a time: an owner with slow receivers keeps nobody else waiting.
    lane       TEXT    NOT NULL,
    -- Whose secret signs it; NULL is the server's own.
    signer     TEXT,
    body       TEXT    NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    in_flight  INTEGER NOT NULL DEFAULT 0 CHECK (in_flight IN (0, 1)),
    -- NULL when it is done or given up. In flight, the time after which the attempt is thought to be lost.
    next_at    INTEGER,
    done_at    INTEGER,
    last_error TEXT,
    CHECK (in_flight = 0 OR next_at IS NOT NULL)
) STRICT;
CREATE INDEX outbox_due ON outbox (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX outbox_open ON outbox (url, lane) WHERE next_at IS NOT NULL;
CREATE INDEX outbox_flying ON outbox (in_flight) WHERE in_flight = 1;
CREATE INDEX outbox_of ON outbox (job);

-- Receivers that have answered that they are gone for ever.
CREATE TABLE gone (
    lane TEXT    NOT NULL,
    url  TEXT    NOT NULL,
    at   INTEGER NOT NULL,
    PRIMARY KEY (lane, url)
) STRICT, WITHOUT ROWID;

-- Clips whose state a transaction has changed, whichever statement did it. The transaction's end takes them out again.
CREATE TABLE changes (
    number INTEGER PRIMARY KEY,
    job    TEXT    NOT NULL REFERENCES jobs (id)
) STRICT;

-- A mark for a worker and a file that is not kept any more are nobody's news.
CREATE TRIGGER jobs_changed AFTER UPDATE OF status ON jobs
WHEN NEW.status <> OLD.status AND NEW.status NOT IN ('cancelling', 'expired')
BEGIN
    INSERT INTO changes (job) VALUES (NEW.id);
END;
