-- What each role may do, and nothing else. After every `radera db upgrade`, as the owner:
--
--     psql --set ON_ERROR_STOP=1 --username radera_owner --file grants.sql radera
--
-- One transaction: a process that is running notices nothing.

BEGIN;

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM radera_orchestrator, radera_worker, radera_mailbox, radera_serve;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM radera_orchestrator, radera_worker, radera_mailbox, radera_serve;

-- Which schema this is, and nothing more, is what every role asks when it starts.
GRANT SELECT ON schema_version TO radera_orchestrator, radera_worker, radera_mailbox, radera_serve;

-- So is whether the master keys are this database's. What it knows of them the orchestrator writes.
GRANT SELECT ON key_generations TO radera_orchestrator, radera_worker, radera_mailbox, radera_serve;
GRANT INSERT, UPDATE ON key_generations TO radera_orchestrator;

-- And whose database this is, which the orchestrator's first start says.
GRANT SELECT ON installation TO radera_orchestrator, radera_worker, radera_mailbox, radera_serve;
GRANT INSERT ON installation TO radera_orchestrator;

-- The orchestrator writes the truth. A timeline is added to and, after its retention, thrown away; it is never
-- changed. A key's row is never deleted: its tombstone keeps a replayed request from bringing the key back.
GRANT SELECT, INSERT, UPDATE, DELETE ON sagas, correlations TO radera_orchestrator;
GRANT SELECT, INSERT, UPDATE ON positions, subject_keys, clock_seen TO radera_orchestrator;
GRANT SELECT, INSERT, DELETE ON inbox, outbox, timeline TO radera_orchestrator;
GRANT UPDATE ON inbox TO radera_orchestrator; -- times of a clock that was behind
GRANT USAGE ON SEQUENCE outbox_seq_seq TO radera_orchestrator;

-- A worker opens what a command brings, and remembers the mails that it has sent to agencies.
GRANT SELECT ON subject_keys TO radera_worker;
GRANT SELECT, INSERT ON inbox TO radera_worker;

-- The mailbox opens a notice, remembers what it has sent, and says what it has in hand.
GRANT SELECT ON subject_keys TO radera_mailbox;
GRANT SELECT, INSERT ON inbox TO radera_mailbox;
GRANT SELECT, INSERT, DELETE ON mails_in_hand TO radera_mailbox;

-- HTTP files the key of a request that comes in, remembers the links that were used, and shows what there is.
GRANT SELECT, INSERT ON subject_keys TO radera_serve;
GRANT SELECT, INSERT ON inbox TO radera_serve;
GRANT SELECT ON sagas, timeline TO radera_serve;

-- What it takes in it puts into the outbox: it can't read, change or take back what is there, nor choose a place in it.
GRANT INSERT (event_id, topic, key, headers, value, created_at, shard) ON outbox TO radera_serve;
GRANT USAGE ON SEQUENCE outbox_seq_seq TO radera_serve;

-- It numbers what parties say; numbers that are of no use any more the orchestrator throws away.
GRANT SELECT, INSERT, UPDATE ON words_taken TO radera_serve;
GRANT SELECT, DELETE ON words_taken TO radera_orchestrator;

-- It keeps what controllers ask over OpenDSR and tells them; what is past its retention the orchestrator throws away.
GRANT SELECT, INSERT, UPDATE ON opendsr_requests, opendsr_callbacks TO radera_serve;
GRANT SELECT, UPDATE, DELETE ON opendsr_requests, opendsr_callbacks TO radera_orchestrator;

-- In the inbox each has rows of its own. Who could write another's could have events dropped unread.
ALTER TABLE inbox ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS orchestrator ON inbox;
DROP POLICY IF EXISTS worker ON inbox;
DROP POLICY IF EXISTS mailbox ON inbox;
DROP POLICY IF EXISTS serve ON inbox;
CREATE POLICY orchestrator ON inbox TO radera_orchestrator USING (true);
CREATE POLICY worker ON inbox TO radera_worker USING (consumer IN ('agency-mails', 'topics-of-worker'));
CREATE POLICY mailbox ON inbox TO radera_mailbox USING (consumer IN ('mailbox', 'topics-of-mailbox'));
CREATE POLICY serve ON inbox TO radera_serve USING (consumer IN ('links', 'dead-letters'));

-- Nor can it command, confirm or report. Ids of its own, since a record whose id is there already is not written; and none
-- so large that the bus would not take it, or with headers that can't be read: all that waits behind it would wait for ever.
-- Nor may it forge dead letters, whose topics end in .dlq.
ALTER TABLE outbox ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS orchestrator ON outbox;
DROP POLICY IF EXISTS serve ON outbox;
CREATE POLICY orchestrator ON outbox TO radera_orchestrator USING (true);
CREATE POLICY serve ON outbox FOR INSERT TO radera_serve WITH CHECK (
    event_id LIKE 'taken:%'
    AND (topic IN ('erasure.requests.v1', 'erasure.decisions.v1') OR topic ~ '^erasure\.callbacks\.[a-z0-9][a-z0-9_.-]{0,79}\.v1$')
    AND octet_length(value) < 800000 AND octet_length(headers) < 20000 AND octet_length(key) < 1000
    -- Names and values in turn, as the orchestrator reads them: each character is a byte.
    AND headers ~ '^\[("([ !#-\[\]-~]|\\["\\/bfnrt]|\\u00[0-9a-f]{2})*", "([ !#-\[\]-~]|\\["\\/bfnrt]|\\u00[0-9a-f]{2})*"(, "([ !#-\[\]-~]|\\["\\/bfnrt]|\\u00[0-9a-f]{2})*", "([ !#-\[\]-~]|\\["\\/bfnrt]|\\u00[0-9a-f]{2})*")*)?\]$'
);

COMMIT;
