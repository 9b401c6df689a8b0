-- What only a superuser can do, once per database, before the migrations: they then need none. May run again.
--
-- `pointsman_owner` owns the schema and its functions and is not a superuser: whoever gets its rights gets no shell.

DO $$
DECLARE
    name pg_catalog.text;
BEGIN
    FOREACH name IN ARRAY ARRAY['pointsman_owner', 'pointsman_app', 'pointsman_auditor'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = name) THEN
                EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;  -- another database of this server was faster
        END;
    END LOOP;
    PERFORM pg_catalog.pg_advisory_xact_lock(727100);
    FOREACH name IN ARRAY ARRAY['pointsman_app', 'pointsman_auditor'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members
                       WHERE roleid = name::pg_catalog.regrole
                         AND member = 'pointsman_owner'::pg_catalog.regrole AND admin_option) THEN
            BEGIN
                EXECUTE pg_catalog.format('GRANT %I TO pointsman_owner WITH ADMIN OPTION', name);
            EXCEPTION WHEN unique_violation THEN NULL;
            END;
        END IF;
    END LOOP;
    -- A temporary schema is where a login could put a type or a function that another role's statement then takes.
    EXECUTE pg_catalog.format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', pg_catalog.current_database());
    EXECUTE pg_catalog.format('GRANT CONNECT, CREATE ON DATABASE %I TO pointsman_owner', pg_catalog.current_database());
END $$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO pointsman_owner;

-- Large objects and messages in the log of changes are space that everybody may fill; nothing here uses them.
DO $$
DECLARE
    filler pg_catalog.regprocedure;
BEGIN
    FOR filler IN SELECT oid FROM pg_catalog.pg_proc
                  WHERE pronamespace = 'pg_catalog'::pg_catalog.regnamespace
                    AND proname ~ '^(lo_|lowrite$|pg_logical_emit_message$)'
                    AND pg_catalog.has_function_privilege('pointsman_auditor', oid, 'EXECUTE')
    LOOP
        EXECUTE pg_catalog.format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', filler);
    END LOOP;
END $$;

-- What a login puts on the disk by sorting, and into the log by failing on a long value, only these settings limit.
GRANT SET ON PARAMETER temp_file_limit, log_min_messages TO pointsman_owner;

-- By advisory locks the feeders choose the active one and migrations wait for each other: no login of an auditor may
-- hold one.
DO $$
DECLARE
    lock pg_catalog.regprocedure;
BEGIN
    FOR lock IN SELECT oid FROM pg_catalog.pg_proc
                WHERE pronamespace = 'pg_catalog'::pg_catalog.regnamespace
                  AND proname ~ '^pg_(try_)?advisory_|^pg_advisory_unlock'
                  AND (proacl IS NULL OR pg_catalog.has_function_privilege('pointsman_auditor', oid, 'EXECUTE'))
    LOOP
        EXECUTE pg_catalog.format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', lock);
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO pointsman_app, pointsman_owner', lock);
    END LOOP;
END $$;
