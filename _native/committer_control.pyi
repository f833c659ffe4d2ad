# Only C callers: see committer.pxd.
