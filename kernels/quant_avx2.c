/* kernels/quant_avx2.c -- row readers for AVX2 and F16C: the bits of quant_legacy.c and quant_k.c. No fused
 * multiply-add here. */
#include "kernels/quant_rows.h"

#include <immintrin.h>
#include <string.h>

#include "core/half.h"

static __m256i bytes32(const void *p) { return _mm256_loadu_si256(p); }

static __m256 scale_of(uint16_t d) { return _mm256_set1_ps(_cvtsh_ss(d)); }

/* Eight of sixteen signed bytes as floats. */
static __m256 floats8(__m128i q) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)); }

/* Sixteen signed bytes: q * d, and q * d + m. Two functions, because adding a zero would make -0 a +0. */
static void put16(float *out, __m128i q, __m256 d)
{
    _mm256_storeu_ps(out, _mm256_mul_ps(floats8(q), d));
    _mm256_storeu_ps(out + 8, _mm256_mul_ps(floats8(_mm_unpackhi_epi64(q, q)), d));
}

static void put16_plus(float *out, __m128i q, __m256 d, __m256 m)
{
    _mm256_storeu_ps(out, _mm256_add_ps(_mm256_mul_ps(floats8(q), d), m));
    _mm256_storeu_ps(out + 8, _mm256_add_ps(_mm256_mul_ps(floats8(_mm_unpackhi_epi64(q, q)), d), m));
}

static __m128i low16(__m256i q) { return _mm256_castsi256_si128(q); }
static __m128i high16(__m256i q) { return _mm256_extracti128_si256(q, 1); }

static void put32(float *out, __m256i q, __m256 d)
{
    put16(out, low16(q), d);
    put16(out + 16, high16(q), d);
}

static void put32_plus(float *out, __m256i q, __m256 d, __m256 m)
{
    put16_plus(out, low16(q), d, m);
    put16_plus(out + 16, high16(q), d, m);
}

/* Bytes shifted right, all but `mask` cut off. Shifts of bytes do not exist; a shift of words brings bits of the
 * neighbour above, which the mask takes away. `shift` is a constant after inlining. */
static inline __m256i bits(__m256i q, int shift, int mask)
{
    return _mm256_and_si256(_mm256_srl_epi16(q, _mm_cvtsi32_si128(shift)), _mm256_set1_epi8((char)mask));
}

/* The 32 nibbles of 16 bytes: low ones first. */
static __m256i nibbles(const uint8_t *qs)
{
    const __m128i q = _mm_loadu_si128((const __m128i *)qs);
    return _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(q, 4), q), _mm256_set1_epi8(15));
}

/* 16 in byte j where bit j of the 32 in qh is set, else 0. */
static __m256i fifths(const uint8_t *qh)
{
    int32_t word;
    memcpy(&word, qh, sizeof word);
    const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3,
                                            3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201u);
    const __m256i q = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(word), spread), bit);
    return _mm256_and_si256(_mm256_cmpeq_epi8(q, bit), _mm256_set1_epi8(16));
}

static void read_f16(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const uint16_t *x = row;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
    for (; i < n; i++) out[i] = _cvtsh_ss(x[i]);
}

static void read_bf16(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const uint16_t *x = row;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i u = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(x + i)));
        _mm256_storeu_ps(out + i, _mm256_castsi256_ps(_mm256_slli_epi32(u, 16)));
    }
    for (; i < n; i++) out[i] = dc_bf16_to_f32(x[i]);
}

static void read_q4_0(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q4_0 *b = row;
    for (int64_t i = 0; i < n; i += 32, b++)
        put32(out + i, _mm256_sub_epi8(nibbles(b->qs), _mm256_set1_epi8(8)), scale_of(b->d));
}

static void read_q4_1(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q4_1 *b = row;
    for (int64_t i = 0; i < n; i += 32, b++) put32_plus(out + i, nibbles(b->qs), scale_of(b->d), scale_of(b->m));
}

static void read_q5_0(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q5_0 *b = row;
    for (int64_t i = 0; i < n; i += 32, b++) {
        const __m256i q = _mm256_or_si256(nibbles(b->qs), fifths(b->qh));
        put32(out + i, _mm256_sub_epi8(q, _mm256_set1_epi8(16)), scale_of(b->d));
    }
}

static void read_q5_1(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q5_1 *b = row;
    for (int64_t i = 0; i < n; i += 32, b++)
        put32_plus(out + i, _mm256_or_si256(nibbles(b->qs), fifths(b->qh)), scale_of(b->d), scale_of(b->m));
}

static void read_q8_0(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q8_0 *b = row;
    for (int64_t i = 0; i < n; i += 32, b++) put32(out + i, bytes32(b->qs), scale_of(b->d));
}

static void read_q2_k(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q2_k *b = row;
    for (int64_t i = 0; i < n; i += 256, b++) {
        const float d = _cvtsh_ss(b->d), dmin = _cvtsh_ss(b->dmin);
        for (int g = 0; g < 8; g++) { /* 32 elements with two scales */
            const __m256i q = bits(bytes32(b->qs + g / 4 * 32), g % 4 * 2, 3);
            const uint8_t s0 = b->scales[2 * g], s1 = b->scales[2 * g + 1];
            put16_plus(out + i + 32 * g, low16(q), _mm256_set1_ps(d * (float)(s0 & 15)),
                       _mm256_set1_ps(-(dmin * (float)(s0 >> 4))));
            put16_plus(out + i + 32 * g + 16, high16(q), _mm256_set1_ps(d * (float)(s1 & 15)),
                       _mm256_set1_ps(-(dmin * (float)(s1 >> 4))));
        }
    }
}

static void read_q3_k(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q3_k *b = row;
    for (int64_t i = 0; i < n; i += 256, b++) {
        const float d = _cvtsh_ss(b->d);
        int8_t scales[16];
        dc_scales_q3_k(scales, b->scales);
        const __m256i third = bytes32(b->hmask);
        for (int g = 0; g < 8; g++) {
            const __m256i clear = _mm256_cmpeq_epi8(bits(third, g, 1), _mm256_setzero_si256());
            const __m256i low = bits(bytes32(b->qs + g / 4 * 32), g % 4 * 2, 3);
            const __m256i q = _mm256_sub_epi8(low, _mm256_and_si256(clear, _mm256_set1_epi8(4)));
            put16(out + i + 32 * g, low16(q), _mm256_set1_ps(d * (float)scales[2 * g]));
            put16(out + i + 32 * g + 16, high16(q), _mm256_set1_ps(d * (float)scales[2 * g + 1]));
        }
    }
}

static void read_q4_k(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q4_k *b = row;
    for (int64_t i = 0; i < n; i += 256, b++) {
        const float d = _cvtsh_ss(b->d), dmin = _cvtsh_ss(b->dmin);
        for (int g = 0; g < 8; g++) {
            uint8_t scale, min;
            dc_scale_min_k4(g, b->scales, &scale, &min);
            put32_plus(out + i + 32 * g, bits(bytes32(b->qs + g / 2 * 32), g % 2 * 4, 15),
                       _mm256_set1_ps(d * (float)scale), _mm256_set1_ps(-(dmin * (float)min)));
        }
    }
}

static void read_q5_k(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q5_k *b = row;
    for (int64_t i = 0; i < n; i += 256, b++) {
        const float d = _cvtsh_ss(b->d), dmin = _cvtsh_ss(b->dmin);
        const __m256i qh = bytes32(b->qh);
        for (int g = 0; g < 8; g++) {
            uint8_t scale, min;
            dc_scale_min_k4(g, b->scales, &scale, &min);
            const __m256i low = bits(bytes32(b->qs + g / 2 * 32), g % 2 * 4, 15);
            const __m256i q = _mm256_or_si256(low, _mm256_slli_epi16(bits(qh, g, 1), 4));
            put32_plus(out + i + 32 * g, q, _mm256_set1_ps(d * (float)scale), _mm256_set1_ps(-(dmin * (float)min)));
        }
    }
}

static void read_q6_k(float *DC_RESTRICT out, const void *DC_RESTRICT row, int64_t n)
{
    const dc_q6_k *b = row;
    for (int64_t i = 0; i < n; i += 256, b++) {
        const float d = _cvtsh_ss(b->d);
        for (int g = 0; g < 8; g++) {
            const int half = g / 4, quarter = g % 4;
            const __m256i low = bits(bytes32(b->ql + 64 * half + quarter % 2 * 32), quarter / 2 * 4, 15);
            const __m256i high = _mm256_slli_epi16(bits(bytes32(b->qh + 32 * half), 2 * quarter, 3), 4);
            const __m256i q = _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(32));
            put16(out + i + 32 * g, low16(q), _mm256_set1_ps(d * (float)b->scales[2 * g]));
            put16(out + i + 32 * g + 16, high16(q), _mm256_set1_ps(d * (float)b->scales[2 * g + 1]));
        }
    }
}

dc_row_read_fn *dc_row_reader_avx2(dc_dtype type)
{
    switch ((int)type) {
    case DC_F16: return read_f16;
    case DC_BF16: return read_bf16;
    case DC_Q4_0: return read_q4_0;
    case DC_Q4_1: return read_q4_1;
    case DC_Q5_0: return read_q5_0;
    case DC_Q5_1: return read_q5_1;
    case DC_Q8_0: return read_q8_0;
    case DC_Q2_K: return read_q2_k;
    case DC_Q3_K: return read_q3_k;
    case DC_Q4_K: return read_q4_k;
    case DC_Q5_K: return read_q5_k;
    case DC_Q6_K: return read_q6_k;
    default: return NULL;
    }
}
