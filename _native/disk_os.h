/* The operating system's calls behind the disk seam, each returning a value >= 0 or -errno.
 *
 * Linux first; each call that only Linux has gets its portable substitute here and nowhere else.
 */
#ifndef DURASTREAM_DISK_OS_H
#define DURASTREAM_DISK_OS_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/random.h>
#endif

/* Retry on EINTR, then turn -1 into -errno. */
#define DISK_CALL(result, call) \
    do { result = (call); } while (result == -1 && errno == EINTR); \
    if (result == -1) result = -errno

static int64_t disk_os_sync(int fd) {
    int64_t result;
#ifdef __APPLE__
    DISK_CALL(result, fcntl(fd, F_FULLFSYNC));      /* fsync there stops at the drive */
#else
    DISK_CALL(result, fdatasync(fd));
#endif
    return result;
}

static int64_t disk_os_allocate(int fd, uint64_t position, uint64_t size) {
#ifdef __APPLE__
    struct stat status;
    if (fstat(fd, &status) == -1) return -errno;
    if ((uint64_t)status.st_size >= position + size) return 0;
    return ftruncate(fd, (off_t)(position + size)) == -1 ? -errno : 0;
#else
    int code;
    do { code = posix_fallocate(fd, (off_t)position, (off_t)size); } while (code == EINTR);
    return -code;
#endif
}

static int64_t disk_os_open(const char *path, int flags) {
    int64_t result;
    DISK_CALL(result, open(path, flags | O_CLOEXEC, 0644));
    return result;
}

static int64_t disk_os_size(int fd) {
    struct stat status;
    return fstat(fd, &status) == -1 ? -errno : (int64_t)status.st_size;
}

static int64_t disk_os_pread(int fd, void *buffer, uint64_t size, uint64_t position) {
    int64_t result;
    DISK_CALL(result, pread(fd, buffer, size, (off_t)position));
    return result;
}

/* Advice: what is refused is no error. */
static int64_t disk_os_forget(int fd, uint64_t position, uint64_t size) {
#ifdef POSIX_FADV_DONTNEED
    posix_fadvise(fd, (off_t)position, (off_t)size, POSIX_FADV_DONTNEED);
#endif
    return 0;
}

static int64_t disk_os_pwritev(int fd, const struct iovec *parts, int count,
                               uint64_t position) {
    int64_t result;
    DISK_CALL(result, pwritev(fd, parts, count, (off_t)position));
    return result;
}

static int64_t disk_os_truncate(int fd, uint64_t size) {
    int64_t result;
    DISK_CALL(result, ftruncate(fd, (off_t)size));
    return result;
}

static int64_t disk_os_sync_directory(const char *path) {
    int64_t fd = disk_os_open(path, O_RDONLY | O_DIRECTORY), result;
    if (fd < 0) return fd;
    DISK_CALL(result, fsync((int)fd));
    close((int)fd);
    return result;
}

static int64_t disk_os_map(int fd, uint64_t size, const uint8_t **address) {
    void *start = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (start == MAP_FAILED) return -errno;
    *address = (const uint8_t *)start;
    return 0;
}

static int64_t disk_os_unmap(const uint8_t *address, uint64_t size) {
    return munmap((void *)address, size) == -1 ? -errno : 0;
}

/* Whether no byte of a mapped range needs the medium now. A page may go again at any time. */
static int64_t disk_os_resident(const uint8_t *address, uint64_t size) {
    const uintptr_t page = 4096;        /* where pages are larger, some are asked for twice */
    uintptr_t start = (uintptr_t)address & ~(page - 1), end = (uintptr_t)address + size;
    unsigned char pages[256];
    while (start < end) {
        size_t part = end - start < sizeof(pages) * page ? end - start : sizeof(pages) * page, i;
        if (mincore((void *)start, part, (void *)pages) == -1) return 0;
        for (i = 0; i < (part + page - 1) / page; i++)
            if (!(pages[i] & 1)) return 0;
        start += part;
    }
    return 1;
}

static int64_t disk_os_lock(int fd) {
    int64_t result;
    DISK_CALL(result, flock(fd, LOCK_EX | LOCK_NB));
    return result;
}

static int64_t disk_os_clock(clockid_t clock, int64_t per_second) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * per_second + now.tv_nsec / (1000000000 / per_second);
}

static uint64_t disk_os_random(void) {
    uint64_t value;
    if (getentropy(&value, sizeof(value)) == -1) {
        perror("durastream: getentropy");   /* no entropy source: nothing safe is left */
        abort();
    }
    return value;
}

#endif
