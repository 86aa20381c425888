/* core/rng.c */
#include "core/rng.h"

#include <math.h>

#include "core/error.h"

void dc_rng_uniform(float *x, int64_t n, float low, float high, uint64_t seed, uint32_t stream, uint32_t b)
{
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t u[4];
        dc_rng_u32x4(u, seed, stream, (uint64_t)i / 4, b);
        for (int64_t k = 0; k < 4 && i + k < n; k++) {
            const float value = low + (high - low) * dc_rng_f32(u[k]);
            /* The sum can round up to high, which is not in the range. */
            x[i + k] = value >= high && low < high ? nextafterf(high, low) : value;
        }
    }
}

/* Box and Muller 1958: sqrt(-2 ln u) (cos 2 pi v, sin 2 pi v), with u in (0, 1] so that the logarithm is finite. */
static void normal_pair(double z[2], uint32_t u, uint32_t v)
{
    const double radius = sqrt(-2 * log(((double)u + 1) * (1.0 / 4294967296.0)));
    const double angle = 6.283185307179586476925 * (1.0 / 4294967296.0) * (double)v;
    z[0] = radius * cos(angle);
    z[1] = radius * sin(angle);
}

void dc_rng_normal(float *x, int64_t n, float mean, float std, uint64_t seed, uint32_t stream, uint32_t b)
{
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t u[4];
        double z[4];
        dc_rng_u32x4(u, seed, stream, (uint64_t)i / 4, b);
        normal_pair(z, u[0], u[1]);
        normal_pair(z + 2, u[2], u[3]);
        for (int64_t k = 0; k < 4 && i + k < n; k++) x[i + k] = (float)((double)mean + (double)std * z[k]);
    }
}

/* One pass through the network, a permutation of 2 * bits bits: (l, r) -> (r, l xor F(r)), F being Philox. */
static uint64_t feistel(uint64_t i, int bits, uint64_t seed, uint64_t epoch)
{
    enum { ROUNDS = 8 };
    const uint32_t mask = (uint32_t)((1u << bits) - 1);
    uint32_t l = (uint32_t)(i >> bits), r = (uint32_t)i & mask;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t u[4];
        dc_rng_u32x4(u, seed, DC_RNG_ORDER | (round + 1) << 16, epoch, r);
        const uint32_t next = l ^ (u[0] & mask);
        l = r, r = next;
    }
    return (uint64_t)l << bits | r;
}

/* The network's domain is a power of 4 that is not below n; an image outside [0, n) is sent through again, fewer than
 * four times on average. Below 256 the domain stays at 256: with one or two bits a side the 720 orders of six rows were
 * far from equally likely (chi-square 13,900 where 720 is expected; 743 with four bits). */
uint64_t dc_permute(uint64_t i, uint64_t n, uint64_t seed, uint64_t epoch)
{
    DC_ASSERT(i < n && n < (uint64_t)1 << 62);
    int bits = 4;
    while ((uint64_t)1 << (2 * bits) < n) bits++;
    do i = feistel(i, bits, seed, epoch);
    while (i >= n);
    return i;
}
