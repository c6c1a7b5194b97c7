/* The CRC-32C instruction of the processor, which Swift has no name for. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
/* Whether the processor has the instruction. */
static inline int crc32c_is_there(void) { return __builtin_cpu_supports("sse4.2"); }

/* Goes on with a check that is not inverted yet; to be called only where the instruction is there. */
__attribute__((target("sse4.2"))) static inline uint32_t crc32c_go_on(uint32_t crc, const void *bytes, size_t count) {
    const unsigned char *at = (const unsigned char *)bytes;
    uint64_t rest = crc;
    for (; count >= 8; count -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        rest = __builtin_ia32_crc32di(rest, word);
    }
    uint32_t last = (uint32_t)rest;
    for (; count > 0; count -= 1, at += 1) last = __builtin_ia32_crc32qi(last, *at);
    return last;
}
#else
static inline int crc32c_is_there(void) { return 0; }
static inline uint32_t crc32c_go_on(uint32_t crc, const void *bytes, size_t count) {
    (void)bytes;
    (void)count;
    return crc;
}
#endif
