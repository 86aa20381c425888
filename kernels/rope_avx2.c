/* kernels/rope_avx2.c -- rotary embedding for AVX2 + FMA, in threads by tokens. Sines are formed once a token, for
 * all heads. */
#include "kernels/table.h"

#include <immintrin.h>
#include <math.h>

#include "core/pool.h"

enum { ANGLES = 64, PAD = 8 }; /* angles at a time; room for whole vectors */

typedef struct rope {
    float *x;
    const int32_t *pos;
    const float *inv_freq;
    int64_t T, H, D, half;
    float mscale;
    int interleaved, sign, tokens;
} rope;

/* Four angles, reduced: a = k pi/2 + r with |r| <= pi/4. pi/2 in two doubles: good for every angle that an int32
 * position and a frequency up to 1 give. */
static __m128 reduce4(__m256d a, __m128i *k)
{
    const __m256d n = _mm256_round_pd(_mm256_mul_pd(a, _mm256_set1_pd(0x1.45f306dc9c883p-1)),
                                      _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256d r = _mm256_fnmadd_pd(n, _mm256_set1_pd(0x1.921fb54442d18p+0), a);
    r = _mm256_fnmadd_pd(n, _mm256_set1_pd(0x1.1a62633145c07p-54), r);
    *k = _mm256_cvtpd_epi32(n);
    return _mm256_cvtpd_ps(r);
}

/* sin and cos of eight reduced angles: polynomials fitted on [-pi/4, pi/4] (errors 2e-9 and 1e-10, below a
 * rounding), exchanged in odd quadrants, with the quadrant's signs. */
static void sincos8(__m256 r, __m256i k, __m256 *sine, __m256 *cosine)
{
    const __m256 z = _mm256_mul_ps(r, r);
    __m256 s = _mm256_fmadd_ps(_mm256_set1_ps(-0x1.98d6b8p-13f), z, _mm256_set1_ps(0x1.1105a8p-7f));
    s = _mm256_fmadd_ps(s, z, _mm256_set1_ps(-0x1.555540p-3f));
    s = _mm256_fmadd_ps(_mm256_mul_ps(s, z), r, r);
    __m256 c = _mm256_fmadd_ps(_mm256_set1_ps(0x1.99ff40p-16f), z, _mm256_set1_ps(-0x1.6c0c82p-10f));
    c = _mm256_fmadd_ps(c, z, _mm256_set1_ps(0x1.55554ap-5f));
    c = _mm256_fmadd_ps(c, z, _mm256_set1_ps(-0.5f));
    c = _mm256_fmadd_ps(c, z, _mm256_set1_ps(1.0f));
    const __m256 odd = _mm256_castsi256_ps(_mm256_slli_epi32(k, 31));
    const __m256i two = _mm256_set1_epi32(2), one = _mm256_set1_epi32(1);
    const __m256i sine_sign = _mm256_slli_epi32(_mm256_and_si256(k, two), 30);
    const __m256i cosine_sign = _mm256_slli_epi32(_mm256_and_si256(_mm256_add_epi32(k, one), two), 30);
    *sine = _mm256_xor_ps(_mm256_blendv_ps(s, c, odd), _mm256_castsi256_ps(sine_sign));
    *cosine = _mm256_xor_ps(_mm256_blendv_ps(c, s, odd), _mm256_castsi256_ps(cosine_sign));
}

/* sin and cos, times mscale, of the angles first .. first + n of token t. */
static void angles(const rope *j, float *sine, float *cosine, int64_t t, int64_t first, int64_t n)
{
    float frequency[ANGLES + PAD] = {0};
    for (int64_t i = 0; i < n; i++) frequency[i] = j->inv_freq[first + i];
    const __m256d pos = _mm256_set1_pd((double)j->pos[t] * j->sign);
    const __m256 scale = _mm256_set1_ps(j->mscale);
    for (int64_t i = 0; i < n; i += 8) {
        __m128i k0, k1;
        const __m128 r0 = reduce4(_mm256_mul_pd(pos, _mm256_cvtps_pd(_mm_loadu_ps(frequency + i))), &k0);
        const __m128 r1 = reduce4(_mm256_mul_pd(pos, _mm256_cvtps_pd(_mm_loadu_ps(frequency + i + 4))), &k1);
        __m256 s, c;
        sincos8(_mm256_set_m128(r1, r0), _mm256_set_m128i(k1, k0), &s, &c);
        _mm256_storeu_ps(sine + i, _mm256_mul_ps(s, scale));
        _mm256_storeu_ps(cosine + i, _mm256_mul_ps(c, scale));
    }
}

/* Pairs (u[i], v[i]), i < n. */
static void turn_halves(float *u, float *v, const float *sine, const float *cosine, int64_t n)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 s = _mm256_loadu_ps(sine + i), c = _mm256_loadu_ps(cosine + i);
        const __m256 a = _mm256_loadu_ps(u + i), b = _mm256_loadu_ps(v + i);
        _mm256_storeu_ps(u + i, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
        _mm256_storeu_ps(v + i, _mm256_fmadd_ps(a, s, _mm256_mul_ps(b, c)));
    }
    for (; i < n; i++) {
        const float a = u[i], b = v[i];
        u[i] = a * cosine[i] - b * sine[i];
        v[i] = a * sine[i] + b * cosine[i];
    }
}

/* Pairs (x[2i], x[2i+1]): with the cosines doubled and the partners exchanged, x c -+ swapped s. */
static void turn_pairs(float *x, const float *sine, const float *cosine, int64_t n)
{
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const __m128 s = _mm_loadu_ps(sine + i), c = _mm_loadu_ps(cosine + i);
        const __m256 ss = _mm256_set_m128(_mm_unpackhi_ps(s, s), _mm_unpacklo_ps(s, s));
        const __m256 cc = _mm256_set_m128(_mm_unpackhi_ps(c, c), _mm_unpacklo_ps(c, c));
        const __m256 a = _mm256_loadu_ps(x + 2 * i), swapped = _mm256_permute_ps(a, 0xb1);
        _mm256_storeu_ps(x + 2 * i, _mm256_addsub_ps(_mm256_mul_ps(a, cc), _mm256_mul_ps(swapped, ss)));
    }
    for (; i < n; i++) {
        const float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cosine[i] - b * sine[i];
        x[2 * i + 1] = a * sine[i] + b * cosine[i];
    }
}

static void block(void *context, int64_t i)
{
    const rope *j = context;
    const dc_span s = dc_block(i, j->T, j->tokens);
    float sine[ANGLES + PAD], cosine[ANGLES + PAD];
    for (int64_t t = s.low; t < s.high; t++) {
        for (int64_t first = 0; first < j->half; first += ANGLES) {
            const int64_t n = j->half - first < ANGLES ? j->half - first : ANGLES;
            angles(j, sine, cosine, t, first, n);
            for (int64_t h = 0; h < j->H; h++) {
                float *x = j->x + (t * j->H + h) * j->D;
                if (j->interleaved) turn_pairs(x + 2 * first, sine, cosine, n);
                else turn_halves(x + first, x + j->half + first, sine, cosine, n);
            }
        }
    }
}

static void rope_avx2(dc_dev *dev, dc_view x, const int32_t *pos, const float *inv_freq, int64_t T, int64_t H,
                      int64_t D, int64_t n_rot, int interleaved, float mscale, int sign)
{
    (void)dev;
    rope j = {.x = x.data,
              .pos = pos,
              .inv_freq = inv_freq,
              .T = T,
              .H = H,
              .D = D,
              .half = n_rot / 2,
              .mscale = mscale,
              .interleaved = interleaved,
              .sign = sign,
              .tokens = (int)dc_rows_a_block(H * D)};
    dc_pool_for(dc_blocks(T, j.tokens), block, &j);
}

void dc_rope_overlay_avx2(dc_ops *ops) { ops->rope = rope_avx2; }
