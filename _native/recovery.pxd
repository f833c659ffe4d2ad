# Constants of recovery; its one function is Python's, since it calls a sink for each record.
cdef enum:
    LSN_JUMP = 16777216     # more than the LSNs that an unclean end may have cut off
