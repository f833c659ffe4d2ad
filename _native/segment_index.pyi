# Only C functions: see segment_index.pxd.
