-- Version 3: events that are not tried again, as newer ones of the same clip say all that they say.

ALTER TABLE outbox ADD COLUMN replaced INTEGER NOT NULL DEFAULT 0 CHECK (replaced IN (0, 1));
CREATE INDEX outbox_lane ON outbox (lane) WHERE next_at IS NOT NULL;
