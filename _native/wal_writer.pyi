# Only C callers: see wal_writer.pxd.
