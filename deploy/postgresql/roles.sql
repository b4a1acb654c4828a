-- The roles of Radera on PostgreSQL. Once for each server and database, as an administrator, in Radera's database:
--
--     psql --set ON_ERROR_STOP=1 --file roles.sql radera
--
-- Doing it again changes nothing. The roles have no password yet, so nobody gets in with them:
-- give each its own (\password radera_worker), or a certificate.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'radera_owner',         -- the tables; for `radera db upgrade` and grants.sql, never for a process that stays
        'radera_orchestrator',  -- radera orchestrator, radera keys rotate, rewrap, lost
        'radera_worker',        -- radera worker
        'radera_mailbox',       -- radera mailbox
        'radera_serve'          -- radera serve, radera submit, status, timeline, decide, dlq
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOINHERIT', name);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), name);
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', name);
    END LOOP;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT CREATE ON SCHEMA public TO radera_owner;
