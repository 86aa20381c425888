/* tests/emu/emu_guard.h -- guard zones: bytes round an array that nobody may change. ASan holds them poisoned; these two may touch them. */
#ifndef DC_EMU_GUARD_H
#define DC_EMU_GUARD_H

#include "emu_internal.h"

static const uint64_t dc_emu_guard_word = 0xa5a5a5a5a5a5a5a5u;

static inline DC_EMU_UNCHECKED void dc_emu_guard_fill(unsigned char *p, size_t n)
{
    volatile unsigned char *q = p; /* or the compiler calls memset, which ASan checks */
    for (; n && (uintptr_t)q % 8; n--) *q++ = (unsigned char)dc_emu_guard_word;
    for (; n >= 8; n -= 8, q += 8) *(volatile uint64_t *)q = dc_emu_guard_word;
    for (; n; n--) *q++ = (unsigned char)dc_emu_guard_word;
}

/* Where the first changed byte is, or -1. */
static inline DC_EMU_UNCHECKED ptrdiff_t dc_emu_guard_damage(const unsigned char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        if ((uintptr_t)(p + i) % 8 == 0 && n - i >= 8 && *(const uint64_t *)(p + i) == dc_emu_guard_word) i += 8;
        else if (p[i] == (unsigned char)dc_emu_guard_word) i++;
        else return (ptrdiff_t)i;
    }
    return -1;
}

#endif
