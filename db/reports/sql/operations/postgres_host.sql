-- One host of several: whether it takes writes, how far it is behind where it does not, and what follows it.
SELECT pg_is_in_recovery() AS is_standby,
       CASE WHEN pg_is_in_recovery() AND pg_last_wal_receive_lsn() IS DISTINCT FROM pg_last_wal_replay_lsn()
            THEN (extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()))::double precision
            ELSE 0 END AS behind_s,
       (SELECT count(*) FROM pg_stat_replication) AS followers,
       current_setting('synchronous_standby_names') <> '' AS is_synchronous,
       current_setting('archive_mode') <> 'off' AS is_archived,
       (extract(epoch FROM clock_timestamp()))::double precision AS clock
