#ifndef BOTTEGA_CEPOLL_H
#define BOTTEGA_CEPOLL_H

// What Swift's module of the C library does not have. No header of the system is included here: the same types read in two ways,
// as GNU extensions make them, are two types to Swift.

#include <stdint.h>

/// What happened to a descriptor: the tag it was given, and `bottega_readable` and the like.
struct bottega_event {
    uint64_t tag;
    uint32_t happened;
};

extern const uint32_t bottega_readable;
extern const uint32_t bottega_writable;
/// An error, or both sides have ended.
extern const uint32_t bottega_broken;

/// All answer as the system's call does: -1 and `errno` for a failure.
int bottega_epoll_make(void);
int bottega_epoll_add(int poll, int descriptor, uint32_t wanted, uint64_t tag);
int bottega_epoll_change(int poll, int descriptor, uint32_t wanted, uint64_t tag);
int bottega_epoll_remove(int poll, int descriptor);
/// Waits for so many milliseconds, -1 for ever; `count` is 16,384 at most.
int bottega_epoll_wait(int poll, struct bottega_event *events, int count, int milliseconds);

int bottega_eventfd(void);
/// A stream socket that does not block; nor do those that are accepted.
int bottega_socket(int family);
int bottega_accept(int listener);
/// Sends without a signal where the other side has gone.
long bottega_send(int descriptor, const void *bytes, unsigned long count);
/// Whether bytes have come that were not read.
int bottega_has_bytes(int descriptor);

/// Raises the number of files that may be open towards `wanted`, as far as the system lets it; gives what it is then.
long bottega_open_file_limit(long wanted);
void bottega_name_thread(const char *name);

#endif
