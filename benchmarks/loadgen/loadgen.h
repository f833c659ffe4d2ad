/* What the parts of the load client share: arguments, clocks, sockets, the answer's end, output. */
#ifndef DURASTREAM_LOADGEN_H
#define DURASTREAM_LOADGEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"

struct arguments {
    int port;             /* on the loopback */
    int connections;
    double seconds;       /* how long; 0 = until every request was played once */
    double interval;      /* seconds from one request to the next; 0 = as fast as answers come */
    const char *requests; /* file: each request behind its length, u32 */
    const char *path;     /* of the stream whose readers are played */
    int messages;
    int size;             /* bytes of a message */
    bool deaf;            /* readers that never read what comes after the head of the answer */
};

/* Where the reading of one answer has got to. */
struct answer {
    enum { IN_HEAD, IN_BODY, IN_CHUNK_SIZE, IN_CHUNK, IN_TRAILER, COMPLETE, MALFORMED } phase;
    int status;
    uint64_t remaining; /* bytes of the body, or of the chunk and its end of line */
    uint32_t held;      /* bytes of an unfinished head, or of an unfinished chunk size */
    bool last_chunk;
    char head[4096];
};

/* Take ``size`` bytes that arrived. An answer to HEAD ends with its head. */
void answer_take(struct answer *answer, const char *bytes, size_t size, bool to_head);

uint64_t now_ns(void);
double processor_seconds(void);
int connect_to(int port, int receive_buffer); /* blocking, without Nagle; 0 = the default buffer */
void send_all(int fd, const char *bytes, size_t size);
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void print_latencies(const struct histogram *histogram); /* members of a JSON object */

int run_requests(const struct arguments *arguments); /* requests.c */
int run_readers(const struct arguments *arguments);  /* readers.c */
int run_idle(const struct arguments *arguments);     /* idle.c */

#endif
