#include "conform/cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

typedef struct op_case {
    gm_op_kind kind;
    gm_type type; /* of the matrix, or of the KV */
    uint32_t rows;
    uint32_t n_in;     /* or width */
    uint32_t n_out[3]; /* or: {n_ff, n_expert, n_used}; {n_vocab, padding}; {slice} */
    uint32_t n_head, n_kv, head, window, positions;
    uint32_t variant; /* see the kind's builder */
    bool factors;     /* its matrices have some */
} op_case;

enum { PLAIN = 0, GEGLU = 1, GELU_MUL = 2 };    /* MATMUL */
enum { V_NORM = 1, V_FROM_K = 2 };              /* HEADS, bits; positions 0: only q */
enum { CAUSAL = 0, SPAN = 1, ONLY_WANTED = 2 }; /* ATTENTION: a span sees ahead */
enum { NO_CAP = 0, CAP = 1, PICKS = 2 };        /* HEAD: PICKS takes the wanted rows itself */
enum { IN_MEMORY = 0, FROM_FILE = 1 };          /* EMBED, PLE_ROWS */
enum { FUSED = 0, APART = 1, MIXED = 2 };       /* EXPERTS: MIXED is APART, up in F16 */
enum { BARE = 0, FACTORS = 1, WITH_NEXT = 2 };  /* NORM, ROPE, NORM_ADD: bits */

#define OP(k, t, r) .kind = GM_OP_##k, .type = t, .rows = r
#define MATRIX(t)                                                                                                      \
    { OP(MATMUL, t, 1), .n_in = 256, .n_out = { 17 } }, { OP(MATMUL, t, 2), .n_in = 512, .n_out = { 3, 17, 1 } },      \
        { OP(MATMUL, t, 3), .n_in = 2304, .n_out = { 33 }, .variant = GEGLU },                                         \
        { OP(MATMUL, t, 5), .n_in = 256, .n_out = { 35 }, .variant = GELU_MUL },                                       \
        { OP(MATMUL, t, 8), .n_in = 768, .n_out = { 16, 1 } },                                                         \
        { OP(MATMUL, t, 65), .n_in = 256, .n_out = { 19 }, .variant = GEGLU },                                         \
    {                                                                                                                  \
        OP(HEAD, t, 3), .n_in = 256, .n_out = { 2051, 5 }                                                              \
    }
#define SMALL_BLOCK(t)                                                                                                 \
    { OP(MATMUL, t, 1), .n_in = 32, .n_out = { 1 } }, { OP(MATMUL, t, 63), .n_in = 64, .n_out = { 17, 3, 40 } },       \
        { OP(MATMUL, t, 64), .n_in = 640, .n_out = { 33 } },                                                           \
    {                                                                                                                  \
        OP(MATMUL, t, 5), .n_in = 2112, .n_out = { 18, 2 }                                                             \
    }

static const op_case table[] = {
    MATRIX(GM_F32),
    SMALL_BLOCK(GM_F32),
    MATRIX(GM_F16),
    SMALL_BLOCK(GM_F16),
    MATRIX(GM_BF16),
    SMALL_BLOCK(GM_BF16),
    MATRIX(GM_Q8_0),
    SMALL_BLOCK(GM_Q8_0),
    MATRIX(GM_Q4_0),
    SMALL_BLOCK(GM_Q4_0),
    MATRIX(GM_Q4_1),
    SMALL_BLOCK(GM_Q4_1),
    MATRIX(GM_Q5_0),
    SMALL_BLOCK(GM_Q5_0),
    MATRIX(GM_Q5_1),
    SMALL_BLOCK(GM_Q5_1),
    MATRIX(GM_IQ4_NL),
    SMALL_BLOCK(GM_IQ4_NL),
    MATRIX(GM_Q2_K),
    MATRIX(GM_Q3_K),
    MATRIX(GM_Q4_K),
    MATRIX(GM_Q5_K),
    MATRIX(GM_Q6_K),
    MATRIX(GM_IQ4_XS),
    MATRIX(GM_IQ2_XXS), /* not packed by us: random bits */
    MATRIX(GM_IQ3_XXS),
    MATRIX(GM_IQ3_S),
    MATRIX(GM_MXFP4),
    SMALL_BLOCK(GM_MXFP4),
    { OP(MATMUL, GM_F32, 1), .n_in = 2112, .n_out = { 2051 } },
    { OP(MATMUL, GM_Q8_0, 1), .n_in = 2112, .n_out = { 2051 }, .variant = GEGLU },
    { OP(MATMUL, GM_Q4_0, 2), .n_in = 2112, .n_out = { 2051 } },
    { OP(MATMUL, GM_F32, 3), .n_in = 37, .n_out = { 5 } },
    { OP(MATMUL, GM_F16, 2), .n_in = 1, .n_out = { 2 } },
    { OP(HEAD, GM_Q8_0, 1), .n_in = 640, .n_out = { 5000, 3 }, .variant = CAP },
    { OP(HEAD, GM_Q8_0, 5), .n_in = 64, .n_out = { 33, 1 } },
    { OP(HEAD, GM_Q4_K, 17), .n_in = 256, .n_out = { 3072, 0 }, .variant = PICKS },
    { OP(HEAD, GM_F16, 2), .n_in = 64, .n_out = { 1025, 0 }, .variant = PICKS },
    { OP(HEAD, GM_F32, 33), .n_in = 32, .n_out = { 1024, 0 }, .variant = CAP },
    { OP(EMBED, GM_Q8_0, 5), .n_in = 640 },
    { OP(EMBED, GM_Q6_K, 64), .n_in = 256 },
    { OP(EMBED, GM_F32, 1), .n_in = 33 },
    { OP(PLE_ROWS, GM_Q5_0, 3), .n_in = 1024 },
    { OP(PLE_ROWS, GM_Q6_K, 5), .n_in = 512, .variant = FROM_FILE },
    { OP(EMBED, GM_IQ3_S, 2), .n_in = 1280 },
    { OP(EMBED, GM_MXFP4, 3), .n_in = 192 },
    { OP(ROPE, GM_F32, 65), .n_in = 256 },
    { OP(ROPE, GM_F32, 3), .n_in = 512, .variant = FACTORS },
    { OP(ROPE, GM_F32, 1), .n_in = 2 },
    { OP(NORM, GM_F32, 1), .n_in = 640, .variant = FACTORS },
    { OP(NORM, GM_F32, 8), .n_in = 37, .variant = BARE },
    { OP(NORM, GM_F32, 64), .n_in = 1, .variant = FACTORS },
    { OP(NORM_ADD, GM_F32, 3), .n_in = 640, .variant = WITH_NEXT },
    { OP(NORM_ADD, GM_F32, 65), .n_in = 33, .variant = BARE },
    { OP(NORM_ADD, GM_F32, 1), .n_in = 2112, .variant = FACTORS },
    { OP(NORM_ADD, GM_F32, 2), .n_in = 256, .variant = FACTORS | WITH_NEXT },
    { OP(ROWS, GM_F32, 5), .n_in = 640 },
    { OP(PLE_MIX, GM_F32, 3), .n_in = 768, .n_out = { 256 } },
    { OP(PLE_MIX, GM_F32, 1), .n_in = 35, .n_out = { 5 } },
    { OP(HEADS, GM_F16, 1), .n_head = 4, .n_kv = 1, .head = 256, .positions = 70 },
    { OP(HEADS, GM_F32, 65), .n_head = 8, .n_kv = 2, .head = 64, .positions = 130, .variant = V_NORM },
    { OP(HEADS, GM_F16, 5), .n_head = 2, .n_kv = 2, .head = 512, .positions = 66, .variant = V_FROM_K | V_NORM },
    { OP(HEADS, GM_Q8_0, 3), .n_head = 1, .n_kv = 1, .head = 128, .positions = 65 },
    { OP(HEADS, GM_Q4_0, 2), .n_head = 1, .n_kv = 1, .head = 64, .positions = 65, .variant = V_NORM },
    { OP(HEADS, GM_Q8_0, 65), .n_head = 4, .n_kv = 2, .head = 64, .positions = 130, .variant = V_NORM },
    { OP(HEADS, GM_Q8_0, 2), .n_head = 1, .n_kv = 3, .head = 96, .positions = 3 },
    { OP(HEADS, GM_Q4_0, 5), .n_head = 2, .n_kv = 2, .head = 512, .positions = 66, .variant = V_FROM_K | V_NORM },
    { OP(HEADS, GM_F16, 7), .n_head = 3, .n_kv = 1, .head = 128 },
    { OP(ATTENTION, GM_F32, 1), .n_head = 1, .n_kv = 1, .head = 64, .positions = 1 },
    { OP(ATTENTION, GM_F32, 5), .n_head = 4, .n_kv = 1, .head = 256, .positions = 200 },
    { OP(ATTENTION, GM_F16, 65), .n_head = 4, .n_kv = 2, .head = 64, .positions = 65 },
    { OP(ATTENTION, GM_F16, 3), .n_head = 8, .n_kv = 8, .head = 128, .positions = 1300 },
    { OP(ATTENTION, GM_F16, 2), .n_head = 8, .n_kv = 1, .head = 512, .positions = 513 },
    { OP(ATTENTION, GM_F16, 8), .n_head = 4, .n_kv = 4, .head = 256, .window = 512, .positions = 1100 },
    { OP(ATTENTION, GM_F16, 9), .n_head = 4, .n_kv = 2, .head = 64, .window = 40, .positions = 70, .variant = SPAN },
    { OP(ATTENTION, GM_F32, 1), .n_head = 2, .n_kv = 1, .head = 64, .positions = 9000 },
    { OP(ATTENTION, GM_F16, 3), .n_head = 2, .n_kv = 1, .head = 64, .positions = 90, .window = 1,
      .variant = ONLY_WANTED },
    { OP(ATTENTION, GM_Q8_0, 3), .n_head = 2, .n_kv = 1, .head = 128, .positions = 150 },
    { OP(ATTENTION, GM_Q4_0, 64), .n_head = 2, .n_kv = 1, .head = 64, .positions = 100, .window = 33 },
    { OP(ATTENTION, GM_Q8_0, 65), .n_head = 4, .n_kv = 2, .head = 64, .positions = 131 },
    { OP(ATTENTION, GM_Q8_0, 1), .n_head = 8, .n_kv = 1, .head = 512, .positions = 513 },
    { OP(ATTENTION, GM_Q8_0, 2), .n_head = 2, .n_kv = 1, .head = 96, .positions = 70 },
    { OP(ATTENTION, GM_Q4_0, 5), .n_head = 4, .n_kv = 1, .head = 256, .positions = 200 },
    { OP(ATTENTION, GM_Q4_0, 1), .n_head = 2, .n_kv = 2, .head = 128, .positions = 1300, .window = 1100 },
    { OP(ROUTER, GM_F32, 3), .n_in = 256, .n_out = { 0, 128, 8 } },
    { OP(ROUTER, GM_F32, 65), .n_in = 64, .n_out = { 0, 7, 2 } },
    { OP(ROUTER, GM_Q8_0, 1), .n_in = 64, .n_out = { 0, 17, 17 } },
    { OP(EXPERTS, GM_Q8_0, 1), .n_in = 256, .n_out = { 96, 16, 4 } },
    { OP(EXPERTS, GM_Q4_0, 33), .n_in = 64, .n_out = { 64, 5, 2 }, .variant = APART },
    { OP(EXPERTS, GM_F32, 5), .n_in = 33, .n_out = { 7, 9, 3 } },
    { OP(EXPERTS, GM_Q4_K, 3), .n_in = 256, .n_out = { 256, 4, 2 } },
    { OP(EXPERTS, GM_F16, 64), .n_in = 48, .n_out = { 40, 3, 1 }, .variant = APART },
    { OP(EXPERTS, GM_Q8_0, 3), .n_in = 96, .n_out = { 64, 7, 3 }, .variant = MIXED },
    { OP(EXPERTS, GM_BF16, 2), .n_in = 72, .n_out = { 19, 5, 5 } },
    { OP(EXPERTS, GM_IQ3_S, 2), .n_in = 256, .n_out = { 256, 3, 2 }, .variant = APART },
    { OP(EXPERTS, GM_MXFP4, 9), .n_in = 64, .n_out = { 128, 6, 2 } },
    { OP(MATMUL, GM_NVFP4, 3), .n_in = 192, .n_out = { 17, 33, 5 }, .factors = true },
    { OP(MATMUL, GM_NVFP4, 65), .n_in = 64, .n_out = { 35 }, .variant = GEGLU, .factors = true },
    { OP(MATMUL, GM_F32, 2), .n_in = 33, .n_out = { 19 }, .variant = GELU_MUL, .factors = true },
    { OP(HEAD, GM_NVFP4, 3), .n_in = 128, .n_out = { 1030, 5 }, .variant = CAP, .factors = true },
    { OP(EXPERTS, GM_NVFP4, 9), .n_in = 128, .n_out = { 64, 5, 2 }, .factors = true },
    { OP(EXPERTS, GM_NVFP4, 65), .n_in = 64, .n_out = { 128, 3, 2 }, .variant = APART, .factors = true },
};

uint32_t cases_count(void) { return GM_COUNT(table); }

/* As large as in models, for benches: E2B's matrices, and the 270M's. */
static const op_case large[] = {
    { OP(MATMUL, GM_Q4_0, 1), .n_in = 1536, .n_out = { 6144 } },
    { OP(MATMUL, GM_Q4_K, 1), .n_in = 1536, .n_out = { 6144 } },
    { OP(MATMUL, GM_Q4_K, 1), .n_in = 1536, .n_out = { 6144 }, .variant = GEGLU },
    { OP(MATMUL, GM_Q4_K, 4), .n_in = 1536, .n_out = { 6144 } },
    { OP(MATMUL, GM_Q4_K, 64), .n_in = 1536, .n_out = { 6144 } },
    { OP(MATMUL, GM_Q6_K, 1), .n_in = 6144, .n_out = { 1536 } },
    { OP(MATMUL, GM_Q6_K, 64), .n_in = 6144, .n_out = { 1536 } },
    { OP(MATMUL, GM_Q5_0, 1), .n_in = 640, .n_out = { 2048 }, .variant = GEGLU },
    { OP(MATMUL, GM_Q5_0, 64), .n_in = 640, .n_out = { 2048 }, .variant = GEGLU },
    { OP(MATMUL, GM_Q8_0, 1), .n_in = 1536, .n_out = { 6144 } },
    { OP(MATMUL, GM_Q8_0, 64), .n_in = 1536, .n_out = { 6144 } },
    { OP(MATMUL, GM_F16, 1), .n_in = 1536, .n_out = { 6144 } },
    { OP(HEAD, GM_Q8_0, 1), .n_in = 640, .n_out = { 32768, 0 } },
    { OP(HEAD, GM_Q6_K, 1), .n_in = 1536, .n_out = { 16384, 0 }, .variant = CAP },
    { OP(EXPERTS, GM_Q4_K, 1), .n_in = 2816, .n_out = { 768, 16, 8 } },
    { OP(NORM_ADD, GM_F32, 1), .n_in = 1536, .variant = WITH_NEXT },
    { OP(HEADS, GM_F16, 1), .n_head = 8, .n_kv = 1, .head = 256, .positions = 4096, .variant = V_NORM },
    { OP(ATTENTION, GM_F16, 1), .n_head = 4, .n_kv = 1, .head = 256, .positions = 4096 },
    { OP(ATTENTION, GM_F16, 1), .n_head = 8, .n_kv = 1, .head = 512, .positions = 8192 },
    { OP(ATTENTION, GM_Q8_0, 1), .n_head = 8, .n_kv = 1, .head = 512, .positions = 8192 },
    { OP(ATTENTION, GM_F16, 1), .n_head = 8, .n_kv = 1, .head = 256, .window = 512, .positions = 4096 },
    { OP(ATTENTION, GM_F16, 64), .n_head = 4, .n_kv = 1, .head = 256, .positions = 4096 },
};

uint32_t cases_count_large(void) { return GM_COUNT(large); }

/* ---- builders ---- */

static void make_matmul(const op_case *c, scene *s)
{
    s->op.epilogue = (uint16_t)c->variant;
    s->op.n_weights = c->variant == GEGLU ? 2 : 1;
    scene_input(s, 0, c->n_in);
    if (c->variant == PLAIN)
        while (s->op.n_weights < 3 && c->n_out[s->op.n_weights]) s->op.n_weights++;
    for (uint32_t i = 0; i < s->op.n_weights; i++) {
        uint32_t n_out = c->n_out[c->variant == PLAIN ? i : 0];
        scene_weight(s, i, c->type, c->n_in, n_out, 1);
        if (i == 0 || c->variant == PLAIN) scene_output(s, i, n_out);
    }
    s->op.offset = c->variant == GELU_MUL ? 3 : 0;
    if (c->variant == GELU_MUL) scene_input(s, 1, c->n_out[0] + 5);
}

static void make_head(const op_case *c, scene *s)
{
    static const uint32_t wants[] = { 15, GEMMA_WANT_CANDIDATES, GEMMA_WANT_SCORE, GEMMA_WANT_LOGITS, 15 };
    scene_input(s, 0, c->n_in);
    scene_weight(s, 0, c->type, c->n_in, c->n_out[0] + c->n_out[1], 1);
    s->op.n_vocab = c->n_out[0];
    s->op.rows = GM_ROWS_WANTED;
    s->wanted_slot = c->variant == PICKS;
    s->op.softcap = c->variant == CAP ? 3 : 0;
    for (uint32_t r = 0; r < s->n_rows; r++) {
        s->want[r] = wants[r % GM_COUNT(wants)];
        s->target[r] = (int32_t)(scene_random(s) % s->op.n_vocab);
    }
    s->suppressed[0] = 0;
    s->suppressed[1] = (int32_t)c->n_out[0] / 2;
    s->suppressed[2] = (int32_t)c->n_out[0] - 1;
    s->suppressed[3] = (int32_t)c->n_out[0];
    s->n_suppressed = 4;
}

static void make_rows(const op_case *c, scene *s)
{
    if (c->kind == GM_OP_EMBED || c->kind == GM_OP_PLE_ROWS) {
        scene_weight(s, 0, c->type, c->n_in, 100, 1);
        for (uint32_t r = 0; r < s->n_rows; r++) s->token[r] = (int32_t)(99 - r);
        s->from_file = c->variant == FROM_FILE;
        s->op.scale = 25.25f;
    } else if (c->kind == GM_OP_ROPE) {
        s->op.base = 1e6;
        s->op.scale = 0.125f;
        if (c->variant == FACTORS) scene_vector(s, 0, c->n_in / 2);
        for (uint32_t j = c->n_in / 4; c->variant == FACTORS && j < c->n_in / 2; j++) {
            ((float *)(void *)s->weights[0])[j] = 1e30f;
            s->w[0][j] = (double)1e30f;
        }
        for (uint32_t r = 0; r < s->n_rows; r++) s->angle[r] = r * r * 40 + (r % 3) * 90001;
    } else {
        scene_input(s, 0, c->n_in);
        s->op.rows = GM_ROWS_WANTED;
    }
    scene_output(s, 0, c->n_in);
}

static void make_norms(const op_case *c, scene *s)
{
    scene_input(s, 0, c->n_in);
    scene_output(s, 0, c->n_in);
    if (c->kind == GM_OP_NORM) {
        if (c->variant & FACTORS) scene_vector(s, 0, c->n_in);
        return;
    }
    scene_input(s, 1, c->n_in);
    if (c->kind == GM_OP_PLE_MIX) {
        s->op.slice = c->n_out[0];
        s->op.scale = 0.0255155f;
        s->op.scale2 = 0.70710678f;
        scene_vector(s, 0, c->n_out[0]);
        return;
    }
    scene_vector(s, 0, c->n_in);
    if (c->variant & FACTORS) scene_vector(s, 1, 1);
    if (c->variant & WITH_NEXT) {
        scene_vector(s, 2, c->n_in);
        scene_output(s, 1, c->n_in);
        s->in_place = true;
    }
}

static void make_heads(const op_case *c, scene *s)
{
    s->op.n_head = c->n_head;
    s->op.n_kv = c->n_kv;
    s->op.head = c->head;
    s->op.scale = 0.0625f;
    s->op.v_norm = c->variant & V_NORM ? 1 : 0;
    s->op.v_from_k = c->variant & V_FROM_K ? 1 : 0;
    scene_input(s, 0, c->n_head * c->head);
    if (c->positions) scene_input(s, 1, c->n_kv * c->head);
    if (c->positions && !s->op.v_from_k) scene_input(s, 2, c->n_kv * c->head);
    scene_input(s, 3, c->head);
    scene_output(s, 0, c->n_head * c->head);
    scene_vector(s, 0, c->head);
    if (c->positions) scene_vector(s, 1, c->head);
    s->in_place = c->rows % 2;
    if (c->positions) scene_kv(s, c->rows % 3 ? GM_KV_GLOBAL : GM_KV_SLIDING, c->type, c->n_kv, c->head, c->positions);
}

static void make_attention(const op_case *c, scene *s)
{
    s->op.n_head = c->n_head;
    s->op.window = c->window;
    scene_input(s, 0, c->n_head * c->head);
    scene_output(s, 0, c->n_head * c->head);
    scene_kv(s, c->window ? GM_KV_SLIDING : GM_KV_GLOBAL, c->type, c->n_kv, c->head, c->positions);
    for (uint32_t r = 0; r < s->n_rows; r++)
        if (c->variant == SPAN) s->last_seen[r] = gm_min_u32(c->positions - 1, s->position[r] / 5 * 5 + 4);
    if (c->variant == ONLY_WANTED) s->op.rows = GM_ROWS_WANTED;
}

static void make_moe(const op_case *c, scene *s)
{
    uint32_t n_ff = s->op.n_ff = c->n_out[0], n_expert = s->op.n_expert = c->n_out[1],
             n_used = s->op.n_used = c->n_out[2];
    scene_input(s, 0, c->n_in);
    if (c->kind == GM_OP_ROUTER) {
        scene_weight(s, 0, c->type, c->n_in, n_expert, 1);
        scene_vector(s, 1, c->n_in);
        scene_vector(s, 2, n_expert);
        scene_output(s, 0, 2 * n_used);
        return;
    }
    scene_input(s, 1, 2 * n_used);
    for (uint32_t r = 0; r < s->n_rows; r++)
        for (uint32_t u = 0; u < n_used; u++) {
            float *to = s->in[1] + (uint64_t)r * 2 * n_used;
            to[u] = (float)((r * 3 + n_used - u) % n_expert);
            to[n_used + u] = 0.1f + (float)u;
        }
    scene_weight(s, 0, c->type, c->n_in, c->variant == FUSED ? 2 * n_ff : n_ff, n_expert);
    /* A quantised row is whole blocks: down comes in a type that fits n_ff. */
    scene_weight(s, 1, n_ff % gm_format_of(c->type)->block ? GM_F32 : c->type, n_ff, c->n_in, n_expert);
    if (c->variant != FUSED) scene_weight(s, 2, c->variant == MIXED ? GM_F16 : c->type, c->n_in, n_ff, n_expert);
    scene_output(s, 0, c->n_in);
}

const char *cases_make(uint32_t i, scene *s)
{
    static char name[96];
    const op_case *c = i < GM_COUNT(table) ? &table[i] : &large[i - GM_COUNT(table)];
    scene_init(s, c->kind, c->rows, i + 1);
    s->op.width = c->n_in;
    switch (c->kind) {
    case GM_OP_MATMUL: make_matmul(c, s); break;
    case GM_OP_HEAD: make_head(c, s); break;
    case GM_OP_HEADS: make_heads(c, s); break;
    case GM_OP_ATTENTION: make_attention(c, s); break;
    case GM_OP_ROUTER:
    case GM_OP_EXPERTS: make_moe(c, s); break;
    case GM_OP_NORM:
    case GM_OP_NORM_ADD:
    case GM_OP_PLE_MIX: make_norms(c, s); break;
    default: make_rows(c, s); break;
    }
    for (unsigned w = 0; w < 3 && c->factors; w++)
        if (s->weights[w]) scene_factors(s, w);
    gm_text_format(name, sizeof name, "case %u: %s %s%s, %u rows, %u wide, variant %u", i, gm_op_name(c->kind),
                   gm_format_of(c->type)->name, c->factors ? " with factors" : "", c->rows, c->n_in, c->variant);
    return name;
}
