/* Readers of one stream's events, and a writer that sends numbered messages to it, one by one.
 *
 * The writer is a thread of its own, so that it goes on while the readers are served: what gathers
 * meanwhile may come as one event. A message says its number, so that every delivery is timed from
 * the moment at which the writer began to send it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "loadgen.h"

enum { EVENTS_MAX = 512, BUFFER_SIZE = 256 * 1024, MARK_SIZE = 8, QUIET_NS = 500000000 };
static const uint64_t PATIENCE_NS = 10000000000u;

struct reader {
    int fd;
    bool is_ready;
    uint32_t held; /* bytes of a mark that was cut in two */
    char mark[MARK_SIZE];
};

struct writer {
    const struct arguments *arguments;
    uint64_t *sent_ns; /* written before the message is sent, read after it came */
    int refusal;
    bool stop;
    struct histogram acknowledgements;
};

struct fan_out {
    const struct arguments *arguments;
    struct reader *readers;
    int epoll, ready, lost;
    uint64_t delivered, events, last_ns;
    struct writer writer;
    struct histogram latencies;
};

static int post(int fd, const char *bytes, size_t size) {
    char buffer[16384];
    struct answer answer = {.phase = IN_HEAD};
    send_all(fd, bytes, size);
    while (answer.phase < COMPLETE) {
        ssize_t received = recv(fd, buffer, sizeof buffer, 0);
        if (received <= 0)
            return 0;
        answer_take(&answer, buffer, (size_t)received, false);
    }
    return answer.phase == COMPLETE ? answer.status : 0;
}

static void sleep_until(uint64_t moment_ns) {
    struct timespec until = {(time_t)(moment_ns / 1000000000), (long)(moment_ns % 1000000000)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static void *write_messages(void *argument) {
    struct writer *writer = argument;
    const struct arguments *arguments = writer->arguments;
    int fd = connect_to(arguments->port, 0);
    char *request = malloc((size_t)arguments->size + 512);
    int head = sprintf(request,
                       "POST %.300s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n"
                       "Content-Length: %d\r\n\r\n",
                       arguments->path, arguments->size);
    memset(request + head, 'z', (size_t)arguments->size);
    uint64_t started = now_ns();
    for (int number = 0; number < arguments->messages; number++) {
        if (__atomic_load_n(&writer->stop, __ATOMIC_ACQUIRE))
            break;
        if (arguments->interval > 0)
            sleep_until(started + (uint64_t)(number * arguments->interval * 1e9));
        char mark[MARK_SIZE + 1];
        snprintf(mark, sizeof mark, "<<%06u", (unsigned)number % 1000000);
        memcpy(request + head, mark, MARK_SIZE);
        uint64_t before = now_ns();
        __atomic_store_n(&writer->sent_ns[number], before, __ATOMIC_RELEASE);
        int status = post(fd, request, (size_t)(head + arguments->size));
        if (status / 100 != 2) {
            __atomic_store_n(&writer->refusal, status ? status : 1, __ATOMIC_RELEASE);
            break;
        }
        record_ns(&writer->acknowledgements, now_ns() - before);
    }
    free(request);
    close(fd);
    return NULL;
}

static void deliver(struct fan_out *load, const char *mark, uint64_t now) {
    int number = atoi((char[]){mark[2], mark[3], mark[4], mark[5], mark[6], mark[7], 0});
    if (number < 0 || number >= load->arguments->messages)
        return;
    uint64_t sent = __atomic_load_n(&load->writer.sent_ns[number], __ATOMIC_ACQUIRE);
    record_ns(&load->latencies, now - sent);
    load->delivered++;
}

static void find_marks(struct fan_out *load, struct reader *reader, char *bytes, size_t size) {
    /* ``bytes`` has room for a cut mark in front of it. */
    memcpy(bytes - reader->held, reader->mark, reader->held);
    char *at = bytes - reader->held, *end = bytes + size;
    uint64_t now = load->last_ns = now_ns();
    reader->held = 0;
    while ((at = memchr(at, '<', (size_t)(end - at))) != NULL) {
        if (end - at >= MARK_SIZE && at[1] == '<') {
            deliver(load, at, now);
            at += MARK_SIZE;
        } else if (end - at < MARK_SIZE && (end - at == 1 || at[1] == '<')) {
            reader->held = (uint32_t)(end - at);
            memcpy(reader->mark, at, reader->held);
            return;
        } else {
            at++;
        }
    }
}

static void receive(struct fan_out *load, struct reader *reader) {
    static char space[MARK_SIZE + BUFFER_SIZE];
    char *buffer = space + MARK_SIZE;
    ssize_t size = recv(reader->fd, buffer, BUFFER_SIZE, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0) {
        epoll_ctl(load->epoll, EPOLL_CTL_DEL, reader->fd, NULL);
        load->lost++;
        return;
    }
    load->events++;
    if (!reader->is_ready) {
        if (size < 12 || memcmp(buffer, "HTTP/1.1 200", 12) != 0)
            die("a reader was refused: %.*s", (int)(size < 300 ? size : 300), buffer);
        reader->is_ready = true;
        load->ready++;
    }
    find_marks(load, reader, buffer, (size_t)size);
}

static void open_readers(struct fan_out *load) {
    char request[1024];
    int size = snprintf(request, sizeof request,
                        "GET %.500s?live=sse&offset=now HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                        "Accept: text/event-stream\r\n\r\n",
                        load->arguments->path);
    for (int index = 0; index < load->arguments->connections; index++) {
        struct reader *reader = &load->readers[index];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = reader};
        reader->fd = connect_to(load->arguments->port, 0);
        epoll_ctl(load->epoll, EPOLL_CTL_ADD, reader->fd, &event);
        send_all(reader->fd, request, (size_t)size);
    }
}

/* Until ``enough`` were delivered (0: all are ready and it is quiet), or it takes too long. */
static void listen_until(struct fan_out *load, uint64_t enough) {
    struct epoll_event events[EVENTS_MAX];
    uint64_t last = now_ns(), now = last, end = UINT64_MAX;
    if (enough && load->arguments->seconds > 0)
        end = now + (uint64_t)(load->arguments->seconds * 1e9);
    while (load->lost < load->arguments->connections) {
        int count = epoll_wait(load->epoll, events, EVENTS_MAX, 50);
        for (int index = 0; index < count; index++)
            receive(load, events[index].data.ptr);
        now = now_ns();
        if (count > 0)
            last = now;
        if (enough ? load->delivered >= enough
                   : load->ready == load->arguments->connections && now - last > QUIET_NS)
            return;
        if (now > end || now - last > PATIENCE_NS)
            return;
        if (__atomic_load_n(&load->writer.refusal, __ATOMIC_ACQUIRE))
            return;
    }
}

static void print_outcome(struct fan_out *load, uint64_t started, double processor) {
    double seconds = (double)(load->last_ns - started) / 1e9;
    uint64_t expected = (uint64_t)load->arguments->connections;
    expected *= (uint64_t)load->arguments->messages;
    printf("{\"delivered\": %lu, \"expected\": %lu, \"seconds\": %.3f, \"per_second\": %.1f, ",
           load->delivered, expected, seconds, (double)load->delivered / seconds);
    printf("\"reads\": %lu, \"lost\": %d, \"refusal\": %d, \"client_cpu\": %.3f, ", load->events,
           load->lost, load->writer.refusal, (processor_seconds() - processor) / seconds);
    printf("\"acknowledged_p50_ms\": %.4f, \"acknowledged_p99_ms\": %.4f, ",
           (double)quantile_ns(&load->writer.acknowledgements, .5) / 1e6,
           (double)quantile_ns(&load->writer.acknowledgements, .99) / 1e6);
    print_latencies(&load->latencies);
    printf("}\n");
}

int run_readers(const struct arguments *arguments) {
    static struct fan_out load;
    pthread_t thread;
    if (arguments->size < MARK_SIZE || arguments->messages > 1000000)
        die("a message needs %d bytes for its number, which has six digits", MARK_SIZE);
    load.arguments = load.writer.arguments = arguments;
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    load.readers = calloc((size_t)arguments->connections, sizeof(struct reader));
    load.writer.sent_ns = calloc((size_t)arguments->messages, sizeof(uint64_t));
    open_readers(&load);
    listen_until(&load, 0);
    if (load.ready < arguments->connections)
        die("only %d of %d readers got an answer", load.ready, arguments->connections);
    load.events = 0;
    double processor = processor_seconds();
    uint64_t started = now_ns();
    printf("{\"ready\": %d}\n", load.ready);
    fflush(stdout);
    if (pthread_create(&thread, NULL, write_messages, &load.writer) != 0)
        die("no thread for the writer");
    listen_until(&load, (uint64_t)arguments->connections * (uint64_t)arguments->messages);
    __atomic_store_n(&load.writer.stop, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    print_outcome(&load, started, processor);
    return 0;
}
