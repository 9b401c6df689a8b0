-- The server that answers at the address of the database.
SELECT current_setting('server_version') AS version, current_database() AS database,
       (extract(epoch FROM now() - pg_postmaster_start_time()))::double precision AS up_s,
       pg_database_size(current_database()) AS bytes
