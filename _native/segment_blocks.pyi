# Only C functions: see segment_blocks.pxd.
