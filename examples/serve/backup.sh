#!/bin/sh
# backup.sh DATA FOLDER: copies the data of a Kinora server, which may run meanwhile, into a new folder. Needs SQLite's `sqlite3`.
# To restore it, stop the server and let its data directory be a copy of that folder.
set -eu
umask 077 # the store has the server's secret
mkdir "$2"
# The store first: a file that it does not know is removed when the server starts, but one that it misses is lost. A connection that
# cannot write leaves the server's log alone.
sqlite3 -readonly "$1/kinora.db" "VACUUM INTO '$2/kinora.db'"
for folder in clips files; do
    mkdir "$2/$folder"
    # A clip may be deleted while it is copied.
    cp -R "$1/$folder/." "$2/$folder/" || echo "some of $1/$folder was not copied" >&2
done
