#include "base/base.h"

/* XXH64, after its specification (github.com/Cyan4973/xxHash, doc/xxhash_spec.md). */
#define P1 0x9e3779b185ebca87u
#define P2 0xc2b2ae3d27d4eb4fu
#define P3 0x165667b19e3779f9u
#define P4 0x85ebca77c2b2ae63u
#define P5 0x27d4eb2f165667c5u

static uint64_t turn(uint64_t x, int by) { return x << by | x >> (64 - by); }
static uint64_t take_lane(uint64_t lane, uint64_t word) { return turn(lane + word * P2, 31) * P1; }
static uint64_t merge(uint64_t hash, uint64_t lane) { return (hash ^ take_lane(0, lane)) * P1 + P4; }

/* Whole stripes of 32 bytes; returns what is behind them. */
static const uint8_t *stripes(const uint8_t *p, const uint8_t *end, uint64_t seed, uint64_t *hash)
{
    uint64_t lane[4] = { seed + P1 + P2, seed + P2, seed, seed - P1 };
    for (; end - p >= 32; p += 32) {
        for (int i = 0; i < 4; i++) lane[i] = take_lane(lane[i], gm_load_u64(p + 8 * i));
    }
    *hash = turn(lane[0], 1) + turn(lane[1], 7) + turn(lane[2], 12) + turn(lane[3], 18);
    for (int i = 0; i < 4; i++) *hash = merge(*hash, lane[i]);
    return p;
}

uint64_t gm_hash64(const void *bytes, uint64_t n, uint64_t seed)
{
    const uint8_t *p = bytes, *end = p + n;
    uint64_t h = seed + P5;
    if (n >= 32) p = stripes(p, end, seed, &h);
    h += n;
    for (; end - p >= 8; p += 8) h = turn(h ^ take_lane(0, gm_load_u64(p)), 27) * P1 + P4;
    for (; end - p >= 4; p += 4) h = turn(h ^ gm_load_u32(p) * P1, 23) * P2 + P3;
    for (; p < end; p++) h = turn(h ^ *p * P5, 11) * P1;
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}
