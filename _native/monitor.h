/* A mutex with two conditions, for the committer and those who wait for it, and wake-up writes.
 *
 * Rule: whoever holds the monitor takes neither the GIL nor a call of the disk seam (which may
 * take the GIL), so that a thread may enter it while it holds the GIL.
 */
#ifndef DURASTREAM_MONITOR_H
#define DURASTREAM_MONITOR_H

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t work;        /* for the committer: there is something to do */
    pthread_cond_t durable;     /* for waiters: the watermark moved, or the log failed */
} Monitor;

static inline int monitor_init(Monitor *monitor) {
    pthread_condattr_t attributes;
    if (pthread_mutex_init(&monitor->mutex, NULL) != 0) return -1;
    pthread_condattr_init(&attributes);
#ifndef __APPLE__
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    int code = pthread_cond_init(&monitor->work, &attributes);
    code |= pthread_cond_init(&monitor->durable, &attributes);
    pthread_condattr_destroy(&attributes);
    return code == 0 ? 0 : -1;
}

static inline void monitor_destroy(Monitor *monitor) {
    pthread_cond_destroy(&monitor->work);
    pthread_cond_destroy(&monitor->durable);
    pthread_mutex_destroy(&monitor->mutex);
}

static inline void monitor_enter(Monitor *monitor) { pthread_mutex_lock(&monitor->mutex); }
static inline void monitor_leave(Monitor *monitor) { pthread_mutex_unlock(&monitor->mutex); }

static inline int monitor_wait(Monitor *monitor, pthread_cond_t *condition, int64_t nanoseconds) {
    /* Wait, at most so long if not negative. Returns 1 after a timeout, else 0. */
    if (nanoseconds < 0) return pthread_cond_wait(condition, &monitor->mutex) == ETIMEDOUT;
    struct timespec limit;
#ifdef __APPLE__
    limit.tv_sec = nanoseconds / 1000000000;
    limit.tv_nsec = nanoseconds % 1000000000;
    return pthread_cond_timedwait_relative_np(condition, &monitor->mutex, &limit) == ETIMEDOUT;
#else
    clock_gettime(CLOCK_MONOTONIC, &limit);
    limit.tv_sec += nanoseconds / 1000000000;
    limit.tv_nsec += nanoseconds % 1000000000;
    if (limit.tv_nsec >= 1000000000) { limit.tv_nsec -= 1000000000; limit.tv_sec += 1; }
    return pthread_cond_timedwait(condition, &monitor->mutex, &limit) == ETIMEDOUT;
#endif
}

static inline int monitor_wait_work(Monitor *monitor, int64_t nanoseconds) {
    return monitor_wait(monitor, &monitor->work, nanoseconds);
}

static inline int monitor_wait_durable(Monitor *monitor, int64_t nanoseconds) {
    return monitor_wait(monitor, &monitor->durable, nanoseconds);
}

static inline void monitor_signal_work(Monitor *monitor) { pthread_cond_signal(&monitor->work); }
static inline void monitor_signal_durable(Monitor *monitor) {
    pthread_cond_broadcast(&monitor->durable);
}

static inline uint64_t load_shared(const uint64_t *value) {
    return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

static inline void store_shared(uint64_t *value, uint64_t stored) {
    __atomic_store_n(value, stored, __ATOMIC_RELEASE);
}

static inline void wake_descriptor(int fd) {
    /* An eventfd or a pipe, non-blocking. A full one is awake already. */
    const uint64_t one = 1;
    ssize_t written;
    do { written = write(fd, &one, sizeof(one)); } while (written == -1 && errno == EINTR);
}

#endif
