/* Random blocks, made as bytes: codes are uniform, and scale fields are then set so that weights have mean 0 and the
 * standard deviation asked for. In formats whose codes are not symmetric, the sign of the scale is drawn. */
#include "models/synth.h"

#include <math.h>

static uint64_t mixed(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint64_t rotated(uint64_t v, int by) { return v << by | v >> (64 - by); }

static uint64_t draw(uint64_t s[4]) /* xoshiro256++ */
{
    uint64_t result = rotated(s[0] + s[3], 23) + s[0], shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotated(s[3], 45);
    return result;
}

void synth_begin(synth_stream *s, const synth_tensor *t, uint64_t seed)
{
    for (const char *c = t->name; *c; c++) seed = (seed ^ (uint8_t)*c) * 0x100000001b3;
    *s = (synth_stream){ .tensor = t };
    for (int i = 0; i < 4; i++) s->random[i] = mixed(&seed);
}

/* One block's worth of random bytes, at least. */
static void draw_bytes(uint64_t random[4], uint8_t *at, size_t n)
{
    for (; n >= 8; n -= 8, at += 8) {
        uint64_t r = draw(random);
        memcpy(at, &r, 8);
    }
    uint64_t r = draw(random);
    memcpy(at, &r, n);
}

/* Root mean square of uniform codes low … high less `middle`. */
static float rms_of(int low, int high, float middle)
{
    double sum = 0;
    for (int i = low; i <= high; i++) sum += (double)((float)i - middle) * (double)((float)i - middle);
    return (float)sqrt(sum / (high - low + 1));
}

static void store_u16(uint8_t at[2], uint32_t v)
{
    at[0] = (uint8_t)v;
    at[1] = (uint8_t)(v >> 8);
}

/* Keeps the sign bit that is there. */
static void store_signed(uint8_t at[2], uint16_t d) { store_u16(at, d | (at[1] & 0x80u) << 8); }

/* d alone at the start of the block: Q4_0, Q5_0, Q8_0. */
static void scale_legacy(uint8_t *b, size_t n_blocks, size_t block_bytes, float d)
{
    uint16_t half = gm_f16_from_f32(d);
    for (size_t i = 0; i < n_blocks; i++, b += block_bytes) store_signed(b, half);
}

/* Six-bit scales of 32 … 63; each minimum has the code of its scale, with dmin = 7.5 d, the middle of 0 … 15. */
static void scale_q4_k(uint8_t *blocks, size_t n_blocks, float size)
{
    float d = size / (rms_of(0, 15, 7.5f) * rms_of(32, 63, 0));
    uint16_t half = gm_f16_from_f32(d), half_min = gm_f16_from_f32(7.5f * gm_f32_from_f16(half));
    gm_block_q4_k *b = (gm_block_q4_k *)(void *)blocks;
    for (size_t i = 0; i < n_blocks; i++, b++) {
        store_u16(b->d, half);
        store_u16(b->dmin, half_min);
        for (int j = 0; j < 4; j++) {
            b->scales[j] = b->scales[j + 4] = b->scales[j] | 0xa0;
            b->scales[j + 8] = (uint8_t)((b->scales[j + 8] & 15) * 17);
        }
    }
}

/* Scales of 64 … 127 and the same, less one, negated. */
static void scale_q6_k(uint8_t *blocks, size_t n_blocks, float size)
{
    uint16_t half = gm_f16_from_f32(size / (rms_of(-32, 31, 0) * rms_of(64, 127, 0)));
    gm_block_q6_k *b = (gm_block_q6_k *)(void *)blocks;
    for (size_t i = 0; i < n_blocks; i++, b++) {
        store_u16(b->d, half);
        for (int j = 0; j < 16; j++) {
            uint8_t code = (uint8_t)b->scales[j];
            b->scales[j] = (int8_t)((code & 0xbf) | (~code >> 1 & 0x40)); /* bit 6 against the sign */
        }
    }
}

/* Uniform floats from 16 random bits each. */
static void random_floats(synth_stream *s, uint8_t *at, size_t n)
{
    const synth_tensor *t = s->tensor;
    const gm_format *f = gm_format_of(t->type);
    bool norm = t->fill == SYNTH_NORM;
    float middle = norm ? t->size : 0, spread = (norm ? 0.1f * t->size : t->size * sqrtf(3)) / 0x1p15f;
    float values[4];
    for (size_t i = 0; i < n; i += 4) {
        uint64_t r = draw(s->random);
        size_t n_now = n - i < 4 ? n - i : 4;
        for (int j = 0; j < 4; j++) values[j] = middle + spread * (float)(int16_t)(r >> 16 * j);
        f->pack(values, at + i * f->block_bytes, n_now);
    }
}

static void rope_freqs(const synth_stream *s, uint8_t *at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = s->n_done + i < s->tensor->ne[0] / 4 ? 1.0f : 1e30f;
        gm_format_of(GM_F32)->pack(&v, at + 4 * i, 1);
    }
}

size_t synth_next(synth_stream *s, uint8_t *buffer, size_t n)
{
    const synth_tensor *t = s->tensor;
    const gm_format *f = gm_format_of(t->type);
    uint64_t n_left = t->n_bytes / f->block_bytes - s->n_done / f->block;
    size_t n_blocks = (size_t)gm_min_u64(n / f->block_bytes, n_left);
    if (f->block == 1) {
        n_blocks -= n_blocks < n_left ? n_blocks % 4 : 0; /* whole draws */
        t->fill == SYNTH_FREQS ? rope_freqs(s, buffer, n_blocks) : random_floats(s, buffer, n_blocks);
        s->n_done += n_blocks;
        return n_blocks * f->block_bytes;
    }
    for (size_t i = 0; i < n_blocks; i++) draw_bytes(s->random, buffer + i * f->block_bytes, f->block_bytes);
    switch (t->type) {
    case GM_Q4_0: scale_legacy(buffer, n_blocks, f->block_bytes, t->size / rms_of(-8, 7, 0)); break;
    case GM_Q5_0: scale_legacy(buffer, n_blocks, f->block_bytes, t->size / rms_of(-16, 15, 0)); break;
    case GM_Q8_0: scale_legacy(buffer, n_blocks, f->block_bytes, t->size / rms_of(-128, 127, 0)); break;
    case GM_Q4_K: scale_q4_k(buffer, n_blocks, t->size); break;
    default: scale_q6_k(buffer, n_blocks, t->size); break;
    }
    s->n_done += n_blocks * f->block;
    return n_blocks * f->block_bytes;
}
