/* Latencies in buckets that grow with them: 64 to each power of two, so within 1.6 % of the truth.
 *
 * Fixed size, no allocation: recording costs nanoseconds, however long a run takes.
 */
#ifndef DURASTREAM_LOADGEN_HISTOGRAM_H
#define DURASTREAM_LOADGEN_HISTOGRAM_H

#include <stdint.h>

enum { SUB_BITS = 6, SUB_COUNT = 1 << SUB_BITS, BUCKET_COUNT = (64 - SUB_BITS + 1) * SUB_COUNT };

struct histogram {
    uint64_t counts[BUCKET_COUNT];
    uint64_t total;
    uint64_t largest_ns;
};

static inline uint32_t bucket_of(uint64_t value) {
    if (value < SUB_COUNT)
        return (uint32_t)value;
    uint32_t shift = 63 - (uint32_t)__builtin_clzll(value) - SUB_BITS;
    return (shift + 1) * SUB_COUNT + (uint32_t)((value >> shift) - SUB_COUNT);
}

/* The largest value that the bucket counts. */
static inline uint64_t bucket_end(uint32_t bucket) {
    if (bucket < SUB_COUNT)
        return bucket;
    uint32_t shift = bucket / SUB_COUNT - 1;
    return (((uint64_t)(bucket % SUB_COUNT) + SUB_COUNT + 1) << shift) - 1;
}

static inline void record_ns(struct histogram *histogram, uint64_t value) {
    histogram->counts[bucket_of(value)]++;
    histogram->total++;
    if (value > histogram->largest_ns)
        histogram->largest_ns = value;
}

/* The value that ``quantile`` (0 to 1) of all recorded ones do not pass; 0 without any. */
static inline uint64_t quantile_ns(const struct histogram *histogram, double quantile) {
    uint64_t wanted = (uint64_t)((double)histogram->total * quantile), seen = 0;
    for (uint32_t bucket = 0; bucket < BUCKET_COUNT; bucket++) {
        seen += histogram->counts[bucket];
        if (seen > wanted || (seen == histogram->total && seen)) {
            uint64_t end = bucket_end(bucket);
            return end < histogram->largest_ns ? end : histogram->largest_ns;
        }
    }
    return 0;
}

#endif
