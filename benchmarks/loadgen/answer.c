/* Find the end of an HTTP/1.1 answer, and what it says; no more of HTTP than that takes.
 *
 * An answer is expected to end where the next byte would belong to another: requests are not
 * pipelined. What the body says is counted, not kept.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "loadgen.h"

static bool starts(const char *line, const char *end, const char *name) {
    size_t size = strlen(name);
    return (size_t)(end - line) >= size && strncasecmp(line, name, size) == 0;
}

static void read_head(struct answer *answer, const char *head, const char *end, bool to_head) {
    bool chunked = false;
    uint64_t length = 0;
    answer->status = end - head > 12 ? atoi(head + 9) : 0;
    const char *line = memchr(head, '\n', (size_t)(end - head));
    while (line != NULL && ++line < end) {
        char first = *line | 0x20;
        if (first == 'c' && starts(line, end, "content-length:"))
            length = strtoull(line + 15, NULL, 10);
        else if (first == 't' && starts(line, end, "transfer-encoding: chunked"))
            chunked = true;
        line = memchr(line, '\n', (size_t)(end - line));
    }
    answer->remaining = length;
    if (to_head || answer->status == 204 || answer->status == 304 || (!chunked && length == 0))
        answer->phase = COMPLETE;
    else
        answer->phase = chunked ? IN_CHUNK_SIZE : IN_BODY;
}

/* Returns how many of the bytes belong to the head. */
static size_t take_head(struct answer *answer, const char *bytes, size_t size, bool to_head) {
    const char *end;
    if (answer->held == 0 && (end = memmem(bytes, size, "\r\n\r\n", 4)) != NULL) {
        read_head(answer, bytes, end + 2, to_head);
        return (size_t)(end + 4 - bytes);
    }
    size_t before = answer->held, room = sizeof answer->head - before;
    memcpy(answer->head + before, bytes, size < room ? size : room);
    answer->held += (uint32_t)(size < room ? size : room);
    end = memmem(answer->head, answer->held, "\r\n\r\n", 4);
    if (end == NULL) {
        if (size >= room)
            answer->phase = MALFORMED;
        return size;
    }
    answer->held = 0;
    read_head(answer, answer->head, end + 2, to_head);
    return (size_t)(end + 4 - answer->head) - before;
}

/* The line with the size of a chunk, or the empty one after the last; returns bytes taken. */
static size_t take_line(struct answer *answer, const char *bytes, size_t size) {
    for (size_t taken = 0; taken < size; taken++) {
        if (bytes[taken] != '\n') {
            if (answer->held < 20)
                answer->head[answer->held++] = bytes[taken];
            continue;
        }
        answer->head[answer->held] = 0;
        answer->held = 0;
        if (answer->phase == IN_TRAILER) {
            answer->phase = COMPLETE;
        } else {
            uint64_t chunk = strtoull(answer->head, NULL, 16);
            answer->phase = chunk ? IN_CHUNK : IN_TRAILER;
            answer->remaining = chunk + 2;
        }
        return taken + 1;
    }
    return size;
}

void answer_take(struct answer *answer, const char *bytes, size_t size, bool to_head) {
    size_t taken;
    while (size && answer->phase < COMPLETE) {
        if (answer->phase == IN_HEAD) {
            taken = take_head(answer, bytes, size, to_head);
        } else if (answer->phase == IN_BODY || answer->phase == IN_CHUNK) {
            taken = size < answer->remaining ? size : answer->remaining;
            answer->remaining -= taken;
            if (answer->remaining == 0)
                answer->phase = answer->phase == IN_BODY ? COMPLETE : IN_CHUNK_SIZE;
        } else {
            taken = take_line(answer, bytes, size);
        }
        bytes += taken;
        size -= taken;
    }
    if (size)
        answer->phase = MALFORMED; /* more than was asked for */
}
