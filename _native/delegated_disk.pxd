cimport cython

from .disk cimport Disk


@cython.final
cdef class DelegatedDisk(Disk):
    cdef readonly object target
    cdef public object error        # the first exception that was no OSError
    cdef dict _mappings             # address -> the buffer it belongs to
