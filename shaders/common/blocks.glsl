/* Block formats of weights (docs/formats.md), read as 32-bit words. The includer defines one format, e.g. FORMAT_Q4_K,
 * and
 *     uint word(uint matrix, uint i)      word i of a weight buffer; `matrix` is constant, so that the choice folds away
 * and gets a row as units of FOURS × 4 weights, those that the same few words hold:
 *     unit load_unit(matrix, row, u)      its words; `row` counts half-words, since blocks may start at 2 mod 4
 *     uint unit_at(u, i)                  element of the row where its i-th four begin, i < FOURS
 *     vec4 unit_codes(w, i)               their codes; weight = scale × code + offset
 *     float unit_scale(w, g), unit_offset(w, g)
 * A unit has GROUPS scales: fours 0 … FOURS/GROUPS - 1 share the first. Formats without offset leave out HAS_OFFSET.
 * Float formats (HAS_ELEMENTS) also have element(matrix, row, i), for rows that are no whole number of units.
 * IQ formats and MXFP4 (HAS_VALUES) need load_values() and a barrier first. scale × code is exact in float, so a weight is
 * rounded once. */

float low_half(uint v) { return unpackHalf2x16(v).x; }
float high_half(uint v) { return unpackHalf2x16(v).y; }
vec4 bytes(uint v) { return vec4(v & 255u, v >> 8 & 255u, v >> 16 & 255u, v >> 24); }
/* The nibbles of four bytes, the low (i = 0) or the high ones. */
uint nibbles(uint v, uint i) { return v >> 4u * i & 0x0f0f0f0fu; }
/* Bits 0 … 3 of v to the bottom of the four bytes. */
uint spread(uint v) { return (v & 15u) * 0x00204081u & 0x01010101u; }

/* 16 and 32 bits at a half-word; no word is read that holds none of them. */
uint half_at(uint matrix, uint at) { return word(matrix, at >> 1) >> 16u * (at & 1u); }
uint word_at(uint matrix, uint at)
{
    uint low = word(matrix, at >> 1), high = word(matrix, at + 1u >> 1);
    return (at & 1u) == 0u ? low : low >> 16 | high << 16;
}
uvec2 two_words_at(uint matrix, uint at)
{
    uint i = at >> 1, low = word(matrix, i), middle = word(matrix, i + 1u), high = word(matrix, at + 3u >> 1);
    return (at & 1u) == 0u ? uvec2(low, middle) : uvec2(low >> 16 | middle << 16, middle >> 16 | high << 16);
}

#if defined(FORMAT_IQ4_NL) || defined(FORMAT_IQ4_XS) || defined(FORMAT_MXFP4)
#define HAS_VALUES
shared float nibble_values[16];
void load_values(uint thread)
{
#if defined(FORMAT_MXFP4)
    const uint packed[4] = uint[](0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);
#else
    const uint packed[4] = uint[](0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
#endif
    if (thread < 16u) nibble_values[thread] = float(bitfieldExtract(int(packed[thread >> 2]), int(thread & 3u) * 8, 8));
}
vec4 values_of(uint v)
{
    return vec4(nibble_values[v & 15u], nibble_values[v >> 8 & 15u], nibble_values[v >> 16 & 15u], nibble_values[v >> 24]);
}
#elif defined(FORMAT_IQ3_XXS) || defined(FORMAT_IQ3_S)
#define HAS_VALUES
#include "grids.glsl"
shared uint grid[grid_words.length()];
void load_values(uint thread)
{
    for (uint i = thread; i < grid_words.length(); i += GROUP) grid[i] = grid_words[i];
}
/* The four codes of 3 bits of a grid's entry. */
vec4 grid_codes(uint entry)
{
    uint v = grid[entry >> 1] >> 16u * (entry & 1u);
    return vec4(v & 7u, v >> 3 & 7u, v >> 6 & 7u, v >> 9 & 7u);
}
/* 1, or -1 where the bit is set. */
vec4 signs_of(uint bits) { return 1.0 - 2.0 * vec4(bits & 1u, bits >> 1 & 1u, bits >> 2 & 1u, bits >> 3 & 1u); }
#endif

#if defined(FORMAT_Q4_0) || defined(FORMAT_Q4_1) || defined(FORMAT_Q5_0) || defined(FORMAT_Q5_1) || \
    defined(FORMAT_IQ4_NL)
/* Blocks of 32: scale, minimum (_1), high bits (Q5), nibbles. A unit is a word of nibbles: four low, four high. */
#define FOURS  2
#define GROUPS 1
#if defined(FORMAT_Q4_1) || defined(FORMAT_Q5_1)
#define MIN 1u
#else
#define MIN 0u
#endif
#if defined(FORMAT_Q5_0) || defined(FORMAT_Q5_1)
#define HIGH 1u
#else
#define HIGH 0u
#endif
struct unit {
    float scale, offset;
    uint q, high; /* high: bits 0 … 3 for the low nibbles, 16 … 19 for the high ones */
};
unit load_unit(uint matrix, uint row, uint u)
{
    unit w;
    uint at = row + (u >> 2) * (9u + MIN + 2u * HIGH), j = u & 3u;
    w.scale = low_half(half_at(matrix, at));
#if defined(FORMAT_Q4_0)
    w.offset = -8.0 * w.scale;
#elif defined(FORMAT_Q5_0)
    w.offset = -16.0 * w.scale;
#elif defined(FORMAT_IQ4_NL)
    w.offset = 0.0;
#else
    w.offset = low_half(half_at(matrix, at + 1u));
#endif
    w.high = HIGH == 0u ? 0u : word_at(matrix, at + 1u + MIN) >> 4u * j;
    w.q = word_at(matrix, at + 1u + MIN + 2u * HIGH + 2u * j);
    return w;
}
uint unit_at(uint u, uint i) { return 32u * (u >> 2) + 4u * (u & 3u) + 16u * i; }
float unit_scale(unit w, uint g) { return w.scale; }
#if defined(FORMAT_IQ4_NL)
vec4 unit_codes(unit w, uint i) { return values_of(nibbles(w.q, i)); }
#else
#define HAS_OFFSET
float unit_offset(unit w, uint g) { return w.offset; }
vec4 unit_codes(unit w, uint i) { return bytes(nibbles(w.q, i) | HIGH * (spread(w.high >> 16u * i) << 4)); }
#endif

#elif defined(FORMAT_Q8_0)
#define FOURS  2
#define GROUPS 1
struct unit {
    float scale;
    uvec2 q;
};
unit load_unit(uint matrix, uint row, uint u)
{
    unit w;
    uint at = row + 17u * (u >> 2);
    w.scale = low_half(half_at(matrix, at));
    w.q = two_words_at(matrix, at + 1u + 4u * (u & 3u));
    return w;
}
uint unit_at(uint u, uint i) { return 8u * u + 4u * i; }
float unit_scale(unit w, uint g) { return w.scale; }
vec4 unit_codes(unit w, uint i)
{
    int q = int(w.q[i]);
    return vec4(bitfieldExtract(q, 0, 8), bitfieldExtract(q, 8, 8), bitfieldExtract(q, 16, 8), q >> 24);
}

#elif defined(FORMAT_Q4_K) || defined(FORMAT_Q5_K)
/* Blocks of 256. A unit is a word of nibbles: four low, and 32 elements on four high. */
#define HAS_OFFSET
#define FOURS  2
#define GROUPS 2
#if defined(FORMAT_Q5_K)
#define HIGH 1u
#else
#define HIGH 0u
#endif
struct unit {
    uint dm, scales, mins; /* scales, mins: of the low and of the high nibbles, a byte each */
    uint q, high;          /* high: bits 0 and 1 of the bytes */
};
unit load_unit(uint matrix, uint row, uint u)
{
    unit w;
    uint at = (row >> 1) + (u >> 5) * (36u + 8u * HIGH), v = u & 31u, pair = v >> 3, shift = 16u * (pair & 1u);
    uint a = word(matrix, at + 1u) >> shift, b = word(matrix, at + 2u) >> shift, c = word(matrix, at + 3u) >> shift;
    w.dm = word(matrix, at);
    w.scales = pair < 2u ? a & 0x3f3fu : (c & 0x0f0fu) | (a >> 2 & 0x3030u);
    w.mins = pair < 2u ? b & 0x3f3fu : (c >> 4 & 0x0f0fu) | (b >> 2 & 0x3030u);
    w.q = word(matrix, at + 4u + 8u * HIGH + v);
    w.high = HIGH == 0u ? 0u : word(matrix, at + 4u + (v & 7u)) >> 2u * pair;
    return w;
}
uint unit_at(uint u, uint i) { return 64u * (u >> 3) + 4u * (u & 7u) + 32u * i; }
float unit_scale(unit w, uint g) { return low_half(w.dm) * float(w.scales >> 8u * g & 255u); }
float unit_offset(unit w, uint g) { return -high_half(w.dm) * float(w.mins >> 8u * g & 255u); }
vec4 unit_codes(unit w, uint i) { return bytes(nibbles(w.q, i) | HIGH * ((w.high >> i & 0x01010101u) << 4)); }

#elif defined(FORMAT_Q2_K) || defined(FORMAT_Q3_K) || defined(FORMAT_Q6_K)
/* Blocks of 256, in two halves of 128. A unit is four columns of a half's four runs of 32; each run has its scale.
 * The scales of a unit are 2g + column / 16 of the half's eight. */
#define HAS_OFFSET
#define FOURS  4
#define GROUPS 4
uint unit_at(uint u, uint i) { return 128u * (u >> 3) + 4u * (u & 7u) + 32u * i; }

#if defined(FORMAT_Q2_K)
struct unit {
    uint dm, q;
    uvec2 scales;
};
unit load_unit(uint matrix, uint row, uint u)
{
    unit w;
    uint at = (row >> 1) + 21u * (u >> 4), upper = u >> 3 & 1u, shift = 8u * (u >> 2 & 1u);
    w.dm = word(matrix, at + 20u);
    w.q = word(matrix, at + 4u + (u & 15u));
    w.scales = uvec2(word(matrix, at + 2u * upper), word(matrix, at + 2u * upper + 1u)) >> shift;
    return w;
}
uint scale_of(unit w, uint g) { return w.scales[g >> 1] >> 16u * (g & 1u); }
float unit_scale(unit w, uint g) { return low_half(w.dm) * float(scale_of(w, g) & 15u); }
float unit_offset(unit w, uint g) { return -high_half(w.dm) * float(scale_of(w, g) >> 4 & 15u); }
vec4 unit_codes(unit w, uint i) { return bytes(w.q >> 2u * i & 0x03030303u); }

#elif defined(FORMAT_Q3_K)
struct unit {
    float d;
    uint q, high; /* high: bits 0 … 3 of the bytes */
    uvec2 scales;
    uint scales_high;
};
unit load_unit(uint matrix, uint row, uint u)
{
    unit w;
    uint at = row + 55u * (u >> 4), upper = u >> 3 & 1u, shift = 8u * (u >> 2 & 1u) + 4u * upper;
    w.d = low_half(half_at(matrix, at + 54u));
    w.q = word_at(matrix, at + 16u + 2u * (u & 15u));
    w.high = word_at(matrix, at + 2u * (u & 7u)) >> 4u * upper;
    w.scales = two_words_at(matrix, at + 48u) >> shift;
    w.scales_high = word_at(matrix, at + 52u) >> shift;
    return w;
}
float unit_scale(unit w, uint g)
{
    uint low = w.scales[g >> 1] >> 16u * (g & 1u) & 15u, high = w.scales_high >> 16u * (g & 1u) + 2u * (g >> 1) & 3u;
    return w.d * (float(low | high << 4) - 32.0);
}
float unit_offset(unit w, uint g) { return -4.0 * unit_scale(w, g); }
vec4 unit_codes(unit w, uint i) { return bytes((w.q >> 2u * i & 0x03030303u) | (w.high >> i & 0x01010101u) << 2); }

#else
struct unit {
    float d;
    uvec2 low; /* run i: nibble i / 2 of low[i & 1] */
    uint high;
    uvec2 scales;
};
unit load_unit(uint matrix, uint row, uint u)
{
    unit w;
    uint at = row + 105u * (u >> 4), upper = u >> 3 & 1u, column = 2u * (u & 7u), shift = 8u * (u >> 2 & 1u);
    uint low = at + 32u * upper + column, scales = at + 96u + 4u * upper;
    w.d = low_half(half_at(matrix, at + 104u));
    w.low = uvec2(word_at(matrix, low), word_at(matrix, low + 16u));
    w.high = word_at(matrix, at + 64u + 16u * upper + column);
    w.scales = two_words_at(matrix, scales) >> shift;
    return w;
}
float unit_scale(unit w, uint g)
{
    return w.d * float(bitfieldExtract(int(w.scales[g >> 1]), 16 * int(g & 1u), 8));
}
float unit_offset(unit w, uint g) { return -32.0 * unit_scale(w, g); }
vec4 unit_codes(unit w, uint i) { return bytes(nibbles(w.low[i & 1u], i >> 1) | (w.high >> 2u * i & 0x03030303u) << 4); }
#endif

#elif defined(FORMAT_IQ4_XS)
/* Blocks of 256, 16 bytes to each run of 32. A unit is a word of nibbles: four low, four high. */
#define FOURS  2
#define GROUPS 1
struct unit {
    float scale;
    uint q;
};
unit load_unit(uint matrix, uint row, uint u)
{
    unit w;
    uint at = (row >> 1) + 34u * (u >> 5), run = u >> 2 & 7u, head = word(matrix, at);
    uint scale = (word(matrix, at + 1u) >> 4u * run & 15u) | (head >> 16u + 2u * run & 3u) << 4;
    w.scale = low_half(head) * (float(scale) - 32.0);
    w.q = word(matrix, at + 2u + (u & 31u));
    return w;
}
uint unit_at(uint u, uint i) { return 32u * (u >> 2) + 4u * (u & 3u) + 16u * i; }
float unit_scale(unit w, uint g) { return w.scale; }
vec4 unit_codes(unit w, uint i) { return values_of(nibbles(w.q, i)); }

#elif defined(FORMAT_MXFP4)
/* Blocks of 32 in 17 bytes: the scale's exponent, nibbles. A unit is four bytes of nibbles: four low, four high. */
#define FOURS  2
#define GROUPS 1
struct unit {
    float scale;
    uint q;
};
unit load_unit(uint matrix, uint row, uint u)
{
    unit w;
    uint at = 2u * row + 17u * (u >> 2), e = word(matrix, at >> 2) >> 8u * (at & 3u) & 255u;
    w.scale = uintBitsToFloat(e < 2u ? 0x200000u << e : e - 1u << 23);
    at += 1u + 4u * (u & 3u);
    uint shift = 8u * (at & 3u), low = word(matrix, at >> 2), high = word(matrix, at + 3u >> 2);
    w.q = shift == 0u ? low : low >> shift | high << 32u - shift;
    return w;
}
uint unit_at(uint u, uint i) { return 32u * (u >> 2) + 4u * (u & 3u) + 16u * i; }
float unit_scale(unit w, uint g) { return w.scale; }
vec4 unit_codes(unit w, uint i) { return values_of(nibbles(w.q, i)); }

#elif defined(FORMAT_IQ3_XXS) || defined(FORMAT_IQ3_S)
/* Blocks of 256. A unit is a word of four grid entries, four elements each. */
#define FOURS  4
#define GROUPS 1
struct unit {
    float scale;
    uint q, high, signs; /* high: bits 0 … 3, the ninth of the entries; signs: bits 0 … 15 */
};
uint unit_at(uint u, uint i) { return 16u * u + 4u * i; }
float unit_scale(unit w, uint g) { return w.scale; }
#if defined(FORMAT_IQ3_S)
unit load_unit(uint matrix, uint row, uint u)
{
    unit w;
    uint at = row + 55u * (u >> 4), v = u & 15u;
    uint scale = half_at(matrix, at + 53u + (v >> 3)) >> 4u * (v >> 1 & 3u) & 15u;
    w.scale = low_half(half_at(matrix, at)) * float(1u + 2u * scale);
    w.q = word_at(matrix, at + 1u + 2u * v);
    w.high = half_at(matrix, at + 33u + (v >> 2)) >> 4u * (v & 3u) & 15u;
    w.signs = half_at(matrix, at + 37u + v);
    return w;
}
vec4 unit_codes(unit w, uint i)
{
    uint entry = (w.q >> 8u * i & 255u) | (w.high >> i & 1u) << 8;
    return (1.0 + 2.0 * grid_codes(entry)) * signs_of(w.signs >> 4u * i);
}
#else
/* Seven signs as stored, and an eighth that makes their number even. */
uint even_signs(uint v) { return v | (uint(bitCount(v)) & 1u) << 7; }
unit load_unit(uint matrix, uint row, uint u)
{
    unit w;
    uint at = row + 49u * (u >> 4), v = u & 15u, rest = word_at(matrix, at + 33u + 2u * (v >> 1)), l = 14u * (v & 1u);
    w.scale = low_half(half_at(matrix, at)) * (0.5 + float(rest >> 28)) * 0.5;
    w.q = word_at(matrix, at + 1u + 2u * v);
    w.high = 0u;
    w.signs = even_signs(rest >> l & 127u) | even_signs(rest >> l + 7u & 127u) << 8;
    return w;
}
vec4 unit_codes(unit w, uint i)
{
    vec4 codes = grid_codes(w.q >> 8u * i & 255u);
    return (4.0 + 8.0 * codes + 2.0 * step(6.5, codes)) * signs_of(w.signs >> 4u * i);
}
#endif

#else
/* F16, BF16, F32: eight elements. */
#define HAS_ELEMENTS
#define FOURS  2
#define GROUPS 1
struct unit {
    vec4 values[2];
};
#if defined(FORMAT_F16)
float element(uint matrix, uint row, uint i) { return low_half(half_at(matrix, row + i)); }
vec4 four(uint matrix, uint at) { return vec4(unpackHalf2x16(word(matrix, at)), unpackHalf2x16(word(matrix, at + 1u))); }
#elif defined(FORMAT_BF16)
float element(uint matrix, uint row, uint i) { return uintBitsToFloat(half_at(matrix, row + i) << 16); }
vec4 four(uint matrix, uint at)
{
    uint a = word(matrix, at), b = word(matrix, at + 1u);
    return uintBitsToFloat(uvec4(a << 16, a & 0xffff0000u, b << 16, b & 0xffff0000u));
}
#else
float element(uint matrix, uint row, uint i) { return uintBitsToFloat(word(matrix, (row >> 1) + i)); }
vec4 four(uint matrix, uint at)
{
    return uintBitsToFloat(uvec4(word(matrix, at), word(matrix, at + 1u), word(matrix, at + 2u), word(matrix, at + 3u)));
}
#endif
unit load_unit(uint matrix, uint row, uint u)
{
#if defined(FORMAT_F32)
    uint at = (row >> 1) + 8u * u, step = 4u;
#else
    uint at = (row >> 1) + 4u * u, step = 2u;
#endif
    unit w;
    w.values = vec4[](four(matrix, at), four(matrix, at + step));
    return w;
}
uint unit_at(uint u, uint i) { return 8u * u + 4u * i; }
float unit_scale(unit w, uint g) { return 1.0; }
vec4 unit_codes(unit w, uint i) { return w.values[i]; }
#endif

#define UNIT (FOURS * 4u)
#ifndef HAS_ELEMENTS
float element(uint matrix, uint row, uint i) { return 0.0; }
#endif
/* The i-th four weights. */
vec4 unit_weights(unit w, uint i)
{
    uint g = i / (FOURS / GROUPS);
#ifdef HAS_OFFSET
    return unit_scale(w, g) * unit_codes(w, i) + unit_offset(w, g);
#else
    return unit_scale(w, g) * unit_codes(w, i);
#endif
}
