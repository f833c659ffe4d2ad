/* Readers of events that wait: says when all are there, and holds them until its input ends.
 *
 * They read what comes and drop it. With ``--deaf`` they never read, and have little room for
 * what they do not read, as a reader that fell asleep behind a slow line.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loadgen.h"

enum { EVENTS_MAX = 512, BUFFER_SIZE = 64 * 1024, AT_ONCE = 64, DEAF_BUFFER = 4096 };

struct crowd {
    const struct arguments *arguments;
    int epoll, ready, lost;
    int *descriptors;
    bool *is_ready;
};

static void receive(struct crowd *crowd, uint32_t index) {
    static char buffer[BUFFER_SIZE];
    int fd = crowd->descriptors[index];
    ssize_t size = recv(fd, buffer, crowd->arguments->deaf ? 512 : BUFFER_SIZE, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0)
        crowd->lost++;
    else if (!crowd->is_ready[index] && memcmp(buffer, "HTTP/1.1 200", 12) != 0)
        die("a reader was refused: %.*s", (int)(size < 300 ? size : 300), buffer);
    if (!crowd->is_ready[index]) {
        crowd->is_ready[index] = true;
        crowd->ready++;
    }
    if (size <= 0 || crowd->arguments->deaf)
        epoll_ctl(crowd->epoll, EPOLL_CTL_DEL, fd, NULL);
}

static void listen_once(struct crowd *crowd, int timeout_ms) {
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(crowd->epoll, events, EVENTS_MAX, timeout_ms);
    for (int index = 0; index < count; index++)
        receive(crowd, events[index].data.u32);
}

static void open_reader(struct crowd *crowd, uint32_t index) {
    char request[1024];
    int size = snprintf(request, sizeof request,
                        "GET %.500s?live=sse&offset=now HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                        "Accept: text/event-stream\r\n\r\n",
                        crowd->arguments->path);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
    int fd = connect_to(crowd->arguments->port, crowd->arguments->deaf ? DEAF_BUFFER : 0);
    crowd->descriptors[index] = fd;
    epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, fd, &event);
    send_all(fd, request, (size_t)size);
}

int run_idle(const struct arguments *arguments) {
    static struct crowd crowd;
    crowd.arguments = arguments;
    crowd.epoll = epoll_create1(EPOLL_CLOEXEC);
    crowd.descriptors = calloc((size_t)arguments->connections, sizeof(int));
    crowd.is_ready = calloc((size_t)arguments->connections, sizeof(bool));
    for (int index = 0; index < arguments->connections; index++) {
        open_reader(&crowd, (uint32_t)index);
        while (index + 1 - crowd.ready > AT_ONCE) /* a backlog that overflows costs a second */
            listen_once(&crowd, 1000);
    }
    while (crowd.ready < arguments->connections)
        listen_once(&crowd, 1000);
    printf("{\"ready\": %d}\n", crowd.ready);
    fflush(stdout);
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    struct pollfd both[2] = {input, {.fd = crowd.epoll, .events = POLLIN}};
    while (poll(both, 2, -1) >= 0 && !both[0].revents)
        listen_once(&crowd, 0);
    printf("{\"ready\": %d, \"lost\": %d}\n", crowd.ready, crowd.lost);
    return 0;
}
