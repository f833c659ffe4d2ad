# Only C functions: see segment_input.pxd.
