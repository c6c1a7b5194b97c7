// Sends POST requests at a fixed rate, whatever the answers do, and says how long each took from its scheduled moment:
// a server that pauses is charged for the requests that had to wait, not only for the one that met the pause.
//
// cc -O2 -o open_loop open_loop.c
// ./open_loop PORT PATH BODIES.ndjson RATE SECONDS [CONNECTIONS]
//
// PATH may be @FILE with a path on each line: requests go round them. Connections are used in turn, all of them.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 18 };

struct connection {
    int fd, busy;
    uint64_t scheduled;
    char *in;
    size_t held, wanted;
};

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static char **requests;
static size_t *lengths, request_count;

static char **read_lines(const char *file, size_t *count) {
    FILE *f = fopen(file, "r");
    if (!f) { perror(file); exit(2); }
    char **lines = NULL, *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    *count = 0;
    while ((length = getline(&line, &capacity, f)) > 0) {
        if (line[length - 1] == '\n') line[--length] = 0;
        if (length == 0) continue;
        lines = realloc(lines, (*count + 1) * sizeof *lines);
        lines[(*count)++] = strdup(line);
    }
    fclose(f);
    if (!*count) { fprintf(stderr, "%s is empty\n", file); exit(2); }
    return lines;
}

static void make_requests(const char *file, char *path, int port) {
    size_t body_count, path_count = 1;
    char **bodies = read_lines(file, &body_count), **paths = &path;
    if (path[0] == '@') paths = read_lines(path + 1, &path_count);
    request_count = (body_count + path_count - 1) / path_count * path_count;  // rounds of all paths
    requests = malloc(request_count * sizeof *requests);
    lengths = malloc(request_count * sizeof *lengths);
    for (size_t i = 0; i < request_count; i++) {
        const char *body = bodies[i % body_count];
        lengths[i] = (size_t)asprintf(&requests[i],
            "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
            paths[i % path_count], port, strlen(body), body);
    }
}

static void send_one(struct connection *c, size_t index, uint64_t scheduled) {
    const char *bytes = requests[index % request_count];
    size_t left = lengths[index % request_count];
    while (left > 0) {
        ssize_t sent = send(c->fd, bytes, left, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (sent < 0) { perror("send"); exit(1); }
        bytes += sent;
        left -= (size_t)sent;
    }
    c->busy = 1;
    c->scheduled = scheduled;
    c->held = c->wanted = 0;
}

// Whether the whole answer is here.
static int receive(struct connection *c, uint64_t *failed) {
    ssize_t got = recv(c->fd, c->in + c->held, BUFFER - 1 - c->held, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got <= 0) { fprintf(stderr, "the server closed a connection\n"); exit(1); }
    c->held += (size_t)got;
    c->in[c->held] = 0;
    if (!c->wanted) {
        char *end = strstr(c->in, "\r\n\r\n");
        if (!end) return 0;
        char *field = strcasestr(c->in, "content-length:");
        if (!field || field > end) { fprintf(stderr, "an answer without length\n"); exit(1); }
        c->wanted = (size_t)(end + 4 - c->in) + strtoul(field + 15, NULL, 10);
        if (strncmp(c->in + 9, "200", 3) != 0 && (*failed)++ == 0) fprintf(stderr, "%.500s\n", c->in);
    }
    return c->held >= c->wanted;
}

int main(int argc, char **argv) {
    if (argc < 6) { fprintf(stderr, "open_loop PORT PATH BODIES.ndjson RATE SECONDS [CONNECTIONS]\n"); return 2; }
    int port = atoi(argv[1]), count = argc > 6 ? atoi(argv[6]) : 32;
    double rate = atof(argv[4]), seconds = atof(argv[5]);
    make_requests(argv[3], argv[2], port);
    int poll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct connection *all = calloc((size_t)count, sizeof *all);
    for (int i = 0; i < count; i++) {
        struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        inet_pton(AF_INET, "127.0.0.1", &place.sin_addr);
        all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(all[i].fd, (struct sockaddr *)&place, sizeof place) != 0) { perror("connect"); return 1; }
        int one = 1;
        setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(all[i].fd, F_SETFL, O_NONBLOCK);
        all[i].in = malloc(BUFFER);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poll, EPOLL_CTL_ADD, timer, &event);
    uint64_t total = (uint64_t)(rate * seconds), sent = 0, answered = 0, failed = 0;
    uint64_t *times = malloc(total * sizeof *times), *bare = malloc(total * sizeof *bare);
    uint64_t *started = calloc((size_t)count, sizeof *started);
    double step = 1e9 / rate;
    uint64_t start = now_ns() + 50000000u;
    int *idle = malloc((size_t)count * sizeof *idle), idle_count = count, next = 0;  // a ring
    for (int i = 0; i < count; i++) idle[i] = i;
    while (answered < total) {
        uint64_t now = now_ns();
        while (sent < total && idle_count > 0 && start + (uint64_t)((double)sent * step) <= now) {
            int i = idle[next];
            next = (next + 1) % count;
            idle_count--;
            started[i] = now_ns();
            send_one(&all[i], sent, start + (uint64_t)((double)sent * step));
            sent++;
        }
        if (sent < total && idle_count > 0) {
            uint64_t due = start + (uint64_t)((double)sent * step);
            struct itimerspec when = {.it_value = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
        }
        struct epoll_event events[64];
        int ready = epoll_wait(poll, events, 64, 1000);
        for (int k = 0; k < ready; k++) {
            struct connection *c = events[k].data.ptr;
            if (!c) {
                uint64_t ticks;
                if (read(timer, &ticks, sizeof ticks) < 0) continue;
                continue;
            }
            if (!c->busy || !receive(c, &failed)) continue;
            uint64_t end = now_ns();
            times[answered] = end - c->scheduled;
            bare[answered++] = end - started[c - all];
            c->busy = 0;
            idle[(next + idle_count++) % count] = (int)(c - all);
        }
    }
    double took = (double)(now_ns() - start) / 1e9;
    qsort(times, total, sizeof *times, by_size);
    qsort(bare, total, sizeof *bare, by_size);
    printf("%.0f req/s asked, %.0f given, %llu failed; from the scheduled moment p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms, "
           "most %.3f ms; from sending p50 %.3f ms, p99 %.3f ms\n",
        rate, (double)total / took, (unsigned long long)failed, times[total / 2] / 1e6, times[total * 99 / 100] / 1e6,
        times[total * 999 / 1000] / 1e6, times[total - 1] / 1e6, bare[total / 2] / 1e6, bare[total * 99 / 100] / 1e6);
    return failed ? 1 : 0;
}
