#define _GNU_SOURCE
#include "include/epoll.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

const uint32_t bottega_readable = EPOLLIN;
const uint32_t bottega_writable = EPOLLOUT;
const uint32_t bottega_broken = EPOLLERR | EPOLLHUP;

int bottega_epoll_make(void) { return epoll_create1(EPOLL_CLOEXEC); }

static int set(int poll, int operation, int descriptor, uint32_t wanted, uint64_t tag) {
    struct epoll_event event = {.events = wanted, .data = {.u64 = tag}};
    return epoll_ctl(poll, operation, descriptor, &event);
}

int bottega_epoll_add(int poll, int descriptor, uint32_t wanted, uint64_t tag) {
    return set(poll, EPOLL_CTL_ADD, descriptor, wanted, tag);
}

int bottega_epoll_change(int poll, int descriptor, uint32_t wanted, uint64_t tag) {
    return set(poll, EPOLL_CTL_MOD, descriptor, wanted, tag);
}

int bottega_epoll_remove(int poll, int descriptor) { return set(poll, EPOLL_CTL_DEL, descriptor, 0, 0); }

int bottega_epoll_wait(int poll, struct bottega_event *events, int count, int milliseconds) {
    if (count > 16384) count = 16384;
    struct epoll_event found[count];
    int number = epoll_wait(poll, found, count, milliseconds);
    for (int index = 0; index < number; index++) {
        events[index].tag = found[index].data.u64;
        events[index].happened = found[index].events;
    }
    return number;
}

int bottega_eventfd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

int bottega_socket(int family) { return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

int bottega_accept(int listener) { return accept4(listener, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC); }

long bottega_send(int descriptor, const void *bytes, unsigned long count) {
    return send(descriptor, bytes, count, MSG_NOSIGNAL);
}

int bottega_has_bytes(int descriptor) {
    char byte;
    return recv(descriptor, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

long bottega_open_file_limit(long wanted) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -1;
    if (limit.rlim_cur < (rlim_t)wanted && limit.rlim_cur < limit.rlim_max) {
        struct rlimit more = limit;
        more.rlim_cur = limit.rlim_max < (rlim_t)wanted ? limit.rlim_max : (rlim_t)wanted;
        if (setrlimit(RLIMIT_NOFILE, &more) == 0) limit = more;
    }
    return limit.rlim_cur > (rlim_t)1 << 30 ? 1 << 30 : (long)limit.rlim_cur;
}

void bottega_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }
