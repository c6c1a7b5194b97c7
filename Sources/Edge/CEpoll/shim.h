#ifndef BOTTEGA_CEPOLL_H
#define BOTTEGA_CEPOLL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

// Swift sees the names of neither these functions' flags nor of a packed union's members alike everywhere.

static inline int bottega_epoll_make(void) { return epoll_create1(EPOLL_CLOEXEC); }

static inline int bottega_epoll_set(int poll, int operation, int descriptor, uint32_t events, uint64_t tag) {
    struct epoll_event event = {.events = events, .data = {.u64 = tag}};
    return epoll_ctl(poll, operation, descriptor, &event);
}

static inline uint64_t bottega_epoll_tag(const struct epoll_event *event) { return event->data.u64; }
static inline uint32_t bottega_epoll_events(const struct epoll_event *event) { return event->events; }

static inline int bottega_eventfd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

static inline int bottega_socket(int family) { return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

static inline int bottega_accept(int listener) {
    return accept4(listener, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static inline long bottega_send(int descriptor, const void *bytes, unsigned long count) {
    return send(descriptor, bytes, count, MSG_NOSIGNAL);
}

static inline int bottega_peek(void) { return MSG_PEEK | MSG_DONTWAIT; }

static inline int bottega_open_file_limit(struct rlimit *limit) { return getrlimit(RLIMIT_NOFILE, limit); }

static inline int bottega_set_open_file_limit(const struct rlimit *limit) { return setrlimit(RLIMIT_NOFILE, limit); }

static inline void bottega_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

#endif
