-- Run once by the image of Postgres, as the superuser, after migrations/bootstrap.sql. The passwords are read here, so
-- that they are in no argument and no environment variable.
\set owner `cat /run/secrets/database_owner_password`
\set application `cat /run/secrets/database_password`
-- CREATEROLE, since Postgres 16, is for roles of its own making: `pointsman audit login`.
ALTER ROLE pointsman_owner LOGIN CREATEROLE PASSWORD :'owner';
CREATE ROLE pointsman LOGIN IN ROLE pointsman_app PASSWORD :'application';
-- From now on the superuser comes in by the socket of this container alone.
ALTER ROLE postgres PASSWORD NULL;
