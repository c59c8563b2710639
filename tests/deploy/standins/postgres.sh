#!/bin/sh
# Makes the database on the first start, as the public image does, and runs the server.
set -eu
data=/var/lib/postgresql/data
if [ ! -s $data/PG_VERSION ]; then
    (umask 077 && printf %s "$POSTGRES_PASSWORD" > /tmp/password)
    initdb -D $data -U "$POSTGRES_USER" --pwfile=/tmp/password -A scram-sha-256 -E UTF8 --locale=C.UTF-8
    echo 'host all all all scram-sha-256' >> $data/pg_hba.conf
    pg_ctl -D $data -w -o "-c listen_addresses=''" start
    PGPASSWORD=$POSTGRES_PASSWORD createdb -U "$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl -D $data -w -m fast stop
    rm /tmp/password
fi
exec postgres -D $data -c "listen_addresses=*"
