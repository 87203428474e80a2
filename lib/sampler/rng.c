/* xoshiro256** and splitmix64 by Blackman and Vigna, from the published description ("Scrambled linear pseudorandom
 * number generators", ACM TOMS 2021). */
#include "sampler/sampler.h"

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t rotate_left(uint64_t x, unsigned n) { return x << n | x >> (64 - n); }

void gm_rng_seed(gm_rng *r, uint64_t seed)
{
    for (size_t i = 0; i < GM_COUNT(r->state); i++) r->state[i] = splitmix64(&seed);
}

uint64_t gm_rng_next(gm_rng *r)
{
    uint64_t *s = r->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9, shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

double gm_rng_unit(gm_rng *r) { return (double)(gm_rng_next(r) >> 11) * 0x1p-53; }
