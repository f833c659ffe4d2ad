/* The load client of the benchmarks: prebuilt requests over kept connections, from one thread.
 *
 *   loadgen requests --port P --requests FILE --connections N --seconds S | (once through)
 *   loadgen readers  --port P --path /v1/stream/s --connections N --messages M --size B
 *   loadgen idle     --port P --path /v1/stream/s --connections N [--deaf]
 *
 * Each prints one line of JSON. It must cost so little that what it measures is the server; it is
 * no part of what is installed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "loadgen.h"

void die(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    exit(1);
}

uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

double processor_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int connect_to(int port, int receive_buffer) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0)
        die("no socket: %s; raise the limit of open files (ulimit -n)", strerror(errno));
    if (receive_buffer)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("cannot connect to 127.0.0.1:%d: %s", port, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

void send_all(int fd, const char *bytes, size_t size) {
    while (size) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            return; /* the reader finds that the connection is gone */
        bytes += sent > 0 ? sent : 0;
        size -= sent > 0 ? (size_t)sent : 0;
    }
}

void print_latencies(const struct histogram *histogram) {
    static const double quantiles[] = {.0,  .1,  .2,   .3,  .4,    .5,   .6,    .7,    .8,
                                       .9,  .95, .98,  .99, .995,  .998, .999,  .9995, .9998,
                                       .9999, 1.0};
    const size_t count = sizeof quantiles / sizeof *quantiles;
    printf("\"p50_ms\": %.4f, \"p99_ms\": %.4f, \"p999_ms\": %.4f, \"max_ms\": %.4f",
           (double)quantile_ns(histogram, .5) / 1e6, (double)quantile_ns(histogram, .99) / 1e6,
           (double)quantile_ns(histogram, .999) / 1e6, (double)histogram->largest_ns / 1e6);
    printf(", \"quantiles_ms\": {");
    for (size_t index = 0; index < count; index++)
        printf("%s\"%g\": %.4f", index ? ", " : "", quantiles[index],
               (double)quantile_ns(histogram, quantiles[index]) / 1e6);
    printf("}");
}

static const struct option OPTIONS[] = {
    {"port", required_argument, NULL, 'p'},     {"connections", required_argument, NULL, 'c'},
    {"seconds", required_argument, NULL, 's'},  {"interval", required_argument, NULL, 'i'},
    {"requests", required_argument, NULL, 'r'}, {"path", required_argument, NULL, 'u'},
    {"messages", required_argument, NULL, 'm'}, {"size", required_argument, NULL, 'b'},
    {"deaf", no_argument, NULL, 'd'},           {NULL, 0, NULL, 0},
};

static struct arguments read_arguments(int count, char **values) {
    struct arguments arguments = {.connections = 1, .messages = 1, .size = 100};
    int option;
    while ((option = getopt_long(count, values, "", OPTIONS, NULL)) != -1) {
        switch (option) {
        case 'p': arguments.port = atoi(optarg); break;
        case 'c': arguments.connections = atoi(optarg); break;
        case 's': arguments.seconds = atof(optarg); break;
        case 'i': arguments.interval = atof(optarg); break;
        case 'r': arguments.requests = optarg; break;
        case 'u': arguments.path = optarg; break;
        case 'm': arguments.messages = atoi(optarg); break;
        case 'b': arguments.size = atoi(optarg); break;
        case 'd': arguments.deaf = true; break;
        default: exit(2);
        }
    }
    return arguments;
}

int main(int count, char **values) {
    const char *command = count > 1 ? values[1] : "";
    struct arguments arguments = read_arguments(count - 1, values + 1);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_TIMERSLACK, 1000);
    if (strcmp(command, "requests") == 0 && arguments.requests != NULL)
        return run_requests(&arguments);
    if (strcmp(command, "readers") == 0 && arguments.path != NULL)
        return run_readers(&arguments);
    if (strcmp(command, "idle") == 0 && arguments.path != NULL)
        return run_idle(&arguments);
    die("what to do: requests --requests FILE, readers --path PATH or idle --path PATH");
}
