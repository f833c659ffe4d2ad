/* Prebuilt requests, taken in turn by whichever connection is free; one under way on each.
 *
 * As fast as answers come (a closed loop), or at fixed moments: then a latency counts from the
 * moment at which the request was due, so that a server that stands still is seen to.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "loadgen.h"

enum { EVENTS_MAX = 256, BUFFER_SIZE = 256 * 1024 };

struct request {
    const char *bytes;
    uint32_t size;
    bool is_head;
};

struct connection {
    int fd;
    bool is_head;
    bool is_busy;
    uint64_t since_ns;
    struct answer answer;
};

struct load {
    const struct arguments *arguments;
    struct request *requests;
    uint64_t count, next, answered, refused, broken, received;
    int first_refusal;
    int epoll;
    uint64_t started_ns, ends_ns;
    struct connection *connections;
    struct connection **idle; /* a stack: those that wait until something is due */
    int idle_count;
    struct histogram latencies;
};

static void read_requests(struct load *load) {
    FILE *file = fopen(load->arguments->requests, "rb");
    if (file == NULL)
        die("%s: %s", load->arguments->requests, strerror(errno));
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file), at = 0, room = 0;
    rewind(file);
    char *content = malloc(size + 1);
    if (content == NULL || fread(content, 1, size, file) != size)
        die("%s: cannot be read", load->arguments->requests);
    fclose(file);
    while (at + 4 <= size) {
        uint32_t length;
        memcpy(&length, content + at, 4);
        if (length > size - at - 4)
            die("%s: request %lu is cut off", load->arguments->requests, load->count);
        if (load->count == room) {
            room = room * 2 + 64;
            load->requests = realloc(load->requests, room * sizeof(struct request));
        }
        load->requests[load->count++] = (struct request){
            content + at + 4, length, length > 5 && memcmp(content + at + 4, "HEAD ", 5) == 0};
        at += 4 + length;
    }
    if (load->count == 0)
        die("%s: no request in it", load->arguments->requests);
}

static uint64_t due_ns(const struct load *load) {
    return load->started_ns + (uint64_t)((double)load->next * load->arguments->interval * 1e9);
}

static bool is_over(const struct load *load, uint64_t now) {
    return load->ends_ns ? now >= load->ends_ns : load->next >= load->count;
}

static void connect_one(struct load *load, struct connection *connection) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    connection->fd = connect_to(load->arguments->port, 0);
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, connection->fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

/* Give it the next request, or set it aside until one is due; or nothing, at the end. */
static void give(struct load *load, struct connection *connection, uint64_t now) {
    connection->is_busy = false;
    if (is_over(load, now))
        return;
    uint64_t since = now;
    if (load->arguments->interval > 0 && (since = due_ns(load)) > now) {
        load->idle[load->idle_count++] = connection;
        return;
    }
    const struct request *request = &load->requests[load->next++ % load->count];
    connection->is_busy = true;
    connection->since_ns = since;
    connection->is_head = request->is_head;
    connection->answer.phase = IN_HEAD;
    connection->answer.held = 0;
    send_all(connection->fd, request->bytes, request->size);
}

static void finish(struct load *load, struct connection *connection, uint64_t now) {
    load->answered++;
    record_ns(&load->latencies, now - connection->since_ns);
    if (connection->answer.status / 100 != 2 && load->refused++ == 0)
        load->first_refusal = connection->answer.status;
    give(load, connection, now);
}

static void receive(struct load *load, struct connection *connection, char *buffer) {
    ssize_t size = recv(connection->fd, buffer, BUFFER_SIZE, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size > 0) {
        load->received += (uint64_t)size;
        answer_take(&connection->answer, buffer, (size_t)size, connection->is_head);
    }
    if (size <= 0 || connection->answer.phase == MALFORMED) {
        load->broken++;
        close(connection->fd);
        connect_one(load, connection);
        give(load, connection, now_ns());
    } else if (connection->answer.phase == COMPLETE) {
        finish(load, connection, now_ns());
    }
}

/* Send what has become due; returns how long to wait for the next, or NULL: for an answer. */
static struct timespec *send_due(struct load *load, struct timespec *wait) {
    uint64_t now = now_ns();
    while (load->idle_count && !is_over(load, now) && due_ns(load) <= now)
        give(load, load->idle[--load->idle_count], now);
    uint64_t until = load->idle_count && !is_over(load, now) ? due_ns(load) : now + 100000000;
    wait->tv_sec = (time_t)((until - now) / 1000000000);
    wait->tv_nsec = (long)((until - now) % 1000000000);
    return wait;
}

static bool is_busy(const struct load *load) {
    for (int index = 0; index < load->arguments->connections; index++)
        if (load->connections[index].is_busy)
            return true;
    return false;
}

static void play(struct load *load) {
    static char buffer[BUFFER_SIZE];
    struct epoll_event events[EVENTS_MAX];
    struct timespec wait = {.tv_nsec = 100000000};
    bool paced = load->arguments->interval > 0;
    for (int index = 0; index < load->arguments->connections; index++)
        give(load, &load->connections[index], now_ns());
    for (;;) {
        int count = epoll_pwait2(load->epoll, events, EVENTS_MAX,
                                 paced ? send_due(load, &wait) : &wait, NULL);
        for (int index = 0; index < count; index++)
            receive(load, events[index].data.ptr, buffer);
        uint64_t now = now_ns();
        if (is_over(load, now) && (load->ends_ns || !is_busy(load)))
            return;
    }
}

int run_requests(const struct arguments *arguments) {
    static struct load load;
    load.arguments = arguments;
    read_requests(&load);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    load.connections = calloc((size_t)arguments->connections, sizeof(struct connection));
    load.idle = calloc((size_t)arguments->connections, sizeof(struct connection *));
    for (int index = 0; index < arguments->connections; index++)
        connect_one(&load, &load.connections[index]);
    double processor = processor_seconds();
    load.started_ns = now_ns();
    if (arguments->seconds > 0)
        load.ends_ns = load.started_ns + (uint64_t)(arguments->seconds * 1e9);
    play(&load);
    double seconds = (double)(now_ns() - load.started_ns) / 1e9;
    printf("{\"requests\": %lu, \"seconds\": %.3f, \"per_second\": %.1f, \"received\": %lu, ",
           load.answered, seconds, (double)load.answered / seconds, load.received);
    printf("\"refused\": %lu, \"first_refusal\": %d, \"broken\": %lu, \"client_cpu\": %.3f, ",
           load.refused, load.first_refusal, load.broken,
           (processor_seconds() - processor) / seconds);
    print_latencies(&load.latencies);
    printf("}\n");
    return 0;
}
