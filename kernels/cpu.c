/* kernels/cpu.c */
#include "kernels/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

/* What the operating system saves at a context switch (XCR0). A processor that has AVX-512 under a system that does
 * not save its registers would corrupt them. */
enum {
    SAVES_YMM = 1 << 1 | 1 << 2,
    SAVES_ZMM = SAVES_YMM | 1 << 5 | 1 << 6 | 1 << 7, /* masks, upper halves of 0-15, 16-31 */
    SAVES_TILES = 1 << 17 | 1 << 18
};

static unsigned saved_state(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int saves(unsigned state, unsigned what) { return (state & what) == what; }

unsigned dc_cpu_found(void)
{
    const unsigned state = saved_state();
    unsigned a, b, c, d, b7 = 0, c7 = 0, d7 = 0, a71 = 0, found = 0;
    if (!saves(state, SAVES_YMM) || !__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if (c & bit_FMA) found |= DC_CPU_FMA;
    if (c & bit_F16C) found |= DC_CPU_F16C;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return found;
    if (a >= 1) __get_cpuid_count(7, 1, &a71, &b, &c, &d);
    if (b7 & 1u << 5) found |= DC_CPU_AVX2;
    if (a71 & 1u << 4) found |= DC_CPU_AVX_VNNI;
    if (saves(state, SAVES_ZMM) && (b7 & 1u << 16)) {
        found |= DC_CPU_AVX512F;
        if (b7 & 1u << 30) found |= DC_CPU_AVX512BW;
        if (b7 & 1u << 31) found |= DC_CPU_AVX512VL;
        if (b7 & 1u << 17) found |= DC_CPU_AVX512DQ;
        if (c7 & 1u << 11) found |= DC_CPU_AVX512_VNNI;
        if (a71 & 1u << 5) found |= DC_CPU_AVX512_BF16;
    }
    if (saves(state, SAVES_TILES) && (d7 & 1u << 24)) {
        found |= DC_CPU_AMX_TILE;
        if (d7 & 1u << 22) found |= DC_CPU_AMX_BF16;
        if (d7 & 1u << 25) found |= DC_CPU_AMX_INT8;
    }
    return found;
}

void dc_cpu_brand(char out[64])
{
    unsigned words[12], a, b, c, d;
    out[0] = 0;
    if (!__get_cpuid(0x80000000u, &a, &b, &c, &d) || a < 0x80000004u) return;
    for (unsigned i = 0; i < 3; i++)
        __get_cpuid(0x80000002u + i, words + 4 * i, words + 4 * i + 1, words + 4 * i + 2, words + 4 * i + 3);
    char text[sizeof words + 1];
    memcpy(text, words, sizeof words);
    text[sizeof words] = 0;
    size_t n = 0; /* runs of spaces become one, none at either end */
    for (const char *p = text; *p; p++)
        if (*p != ' ' || (n && out[n - 1] != ' ')) out[n++] = *p;
    while (n && out[n - 1] == ' ') n--;
    out[n] = 0;
}

#else

unsigned dc_cpu_found(void) { return 0; }
void dc_cpu_brand(char out[64]) { out[0] = 0; }

#endif

static const char *const names[DC_CPU_BITS] = {
#define NAME(name, text) text,
    DC_CPU_FEATURES(NAME)
#undef NAME
};

static const char *const shown[DC_CPU_BITS] = {"AVX2",      "FMA",       "F16C",         "AVX-512F",     "AVX-512BW",
                                               "AVX-512VL", "AVX-512DQ", "AVX-512 BF16", "AVX-512 VNNI", "AVX-VNNI",
                                               "AMX tile",  "AMX BF16",  "AMX INT8"};

static int find_name(const char *text, size_t n)
{
    for (int i = 0; i < DC_CPU_BITS; i++)
        if (strlen(names[i]) == n && memcmp(names[i], text, n) == 0) return i;
    return -1;
}

int dc_cpu_allowed(unsigned *out, dc_error *err)
{
    const unsigned found = dc_cpu_found();
    const char *text = getenv("DC_CPU");
    if (!text || !*text) {
        *out = found;
        return DC_OK;
    }
    unsigned allowed = 0;
    for (const char *p = text; *p;) {
        const size_t n = strcspn(p, ",");
        const int bit = find_name(p, n);
        if (bit >= 0) {
            allowed |= 1u << bit;
        } else if (n != 4 || memcmp(p, "none", 4) != 0) {
            char known[256] = "none";
            for (int i = 0; i < DC_CPU_BITS; i++) {
                strcat(known, ", ");
                strcat(known, names[i]);
            }
            return dc_fail(err, DC_EUNKNOWN, "DC_CPU: unknown feature '%.*s'; known are %s", (int)n, p, known);
        }
        p += n + (p[n] == ',');
    }
    *out = found & allowed;
    return DC_OK;
}

void dc_cpu_describe(char *out, size_t room, unsigned features)
{
    size_t n = 0;
    if (room) out[0] = 0;
    for (int i = 0; i < DC_CPU_BITS; i++) {
        if (!(features & 1u << i) || n >= room) continue;
        const int more = snprintf(out + n, room - n, "%s%s", n ? ", " : "", shown[i]);
        n += more > 0 ? (size_t)more : 0;
    }
    if (!n && room) snprintf(out, room, "plain C");
}
