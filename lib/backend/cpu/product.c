/* Matrix rows against columns of activations: the inner loop of MATMUL, HEAD, ROUTER and EXPERTS. */
#include "backend/cpu/exec.h"

static const void *column(const gm_cpu_columns *c, uint32_t i)
{
    return (const uint8_t *)c->data + (c->index ? c->index[i] : i) * c->stride;
}

/* Each row is unpacked once and meets every column while it is in the cache. */
static void product_unpacked(const gm_kernels *k, const gm_cpu_matrix *m, uint32_t first, uint32_t last,
                             const gm_cpu_columns *columns, float *out, uint64_t out_stride, float *line)
{
    for (uint32_t r = first; r < last; r++) {
        m->format->unpack(m->data + r * m->row_bytes, line, m->n_in / m->format->block);
        for (uint32_t c = 0; c < columns->n; c++)
            out[c * out_stride + r - first] = k->dot_f32(line, column(columns, c), m->n_in);
    }
}

/* A few panels stay in the second-level cache while the columns pass by, a few columns in the first while panels do. */
static void product_tiled(const gm_kernels *k, const gm_cpu_matrix *m, uint32_t first, uint32_t last,
                          const gm_cpu_columns *columns, float *out, uint64_t out_stride, uint8_t *panels)
{
    uint64_t panel_bytes = gm_panel_bytes(k, m->n_in);
    uint32_t step = m->n_panels * k->tile_rows;
    for (uint32_t r = first; r < last; r += step, out += step) {
        uint32_t n_rows = gm_min_u32(step, last - r);
        for (uint32_t i = 0; i < n_rows; i += k->tile_rows)
            m->tile->unpack(m->data + (r + i) * m->row_bytes, m->row_bytes, gm_min_u32(k->tile_rows, n_rows - i),
                            m->n_in, panels + i / k->tile_rows * panel_bytes);
        for (uint32_t c = 0; c < columns->n; c += GM_TILE_COLUMNS) {
            const gm_activations *x[GM_TILE_COLUMNS] = { NULL };
            uint32_t n = gm_min_u32(columns->n - c, GM_TILE_COLUMNS);
            for (uint32_t i = 0; i < n; i++) x[i] = column(columns, c + i);
            for (uint32_t i = 0; i < n_rows; i += k->tile_rows)
                m->tile->multiply(panels + i / k->tile_rows * panel_bytes, gm_min_u32(k->tile_rows, n_rows - i), x, n,
                                  m->n_in, out + c * out_stride + i, out_stride);
        }
    }
}

static void product(const gm_kernels *k, const gm_cpu_matrix *m, uint32_t first, uint32_t last,
                    const gm_cpu_columns *columns, float *out, uint64_t out_stride, void *line)
{
    if (!m->q8 && !m->f32) {
        product_unpacked(k, m, first, last, columns, out, out_stride, line);
        return;
    }
    if (m->tile && columns->n >= GM_CPU_TILED) {
        product_tiled(k, m, first, last, columns, out, out_stride, line);
        return;
    }
    /* A few columns stay in the first-level cache while the rows of the item pass by. */
    for (uint32_t c = 0; c < columns->n; c += GM_DOT_COLUMNS) {
        uint32_t n = gm_min_u32(columns->n - c, GM_DOT_COLUMNS);
        const gm_activations *q[GM_DOT_COLUMNS] = { NULL };
        const float *x[GM_DOT_COLUMNS] = { NULL };
        for (uint32_t i = 0; i < n; i++) {
            q[i] = column(columns, c + i);
            x[i] = column(columns, c + i);
        }
        const void *rows = m->data + first * m->row_bytes;
        if (m->q8)
            m->q8(rows, m->row_bytes, last - first, q, n, m->n_in, out + c * out_stride, out_stride);
        else
            m->f32(rows, m->row_bytes, last - first, x, n, m->n_in, out + c * out_stride, out_stride);
    }
}

void gm_cpu_product(const gm_kernels *k, const gm_cpu_matrix *m, uint32_t first, uint32_t last,
                    const gm_cpu_columns *columns, float *out, uint64_t out_stride, void *line)
{
    product(k, m, first, last, columns, out, out_stride, line);
    for (uint32_t c = 0; m->factor && c < columns->n; c++)
        for (uint32_t i = 0; i < last - first; i++) out[c * out_stride + i] *= *m->factor;
}

const float *gm_cpu_input(const gm_cpu_task *t, uint32_t i)
{
    bool pick = t->o->in[0].rows == GM_ROWS_ALL && t->o->op.kind == GM_OP_HEAD;
    return gm_cpu_row(&t->o->in[0], pick ? t->block->wanted[i] : i);
}

void gm_cpu_pack_rows(const gm_cpu_task *t)
{
    uint32_t n_in = t->o->in[0].width, first, last;
    uint8_t *packed = gm_cpu_shared(t);
    while (gm_cpu_take(t, t->n_rows, 1, &first, &last))
        t->k->pack(gm_cpu_input(t, first), (gm_activations *)(void *)(packed + first * gm_activations_bytes(n_in)), 0,
                   n_in / 32, n_in / 32);
}

void gm_cpu_pack_own(const gm_cpu_task *t, void *place)
{
    uint32_t n_in = t->o->in[0].width;
    for (uint32_t i = 0; i < t->n_rows; i++) {
        uint8_t *to = (uint8_t *)place + i * gm_activations_bytes(n_in);
        t->k->pack(gm_cpu_input(t, i), (gm_activations *)(void *)to, 0, n_in / 32, n_in / 32);
    }
}

gm_cpu_columns gm_cpu_columns_of(const gm_cpu_task *t, const gm_cpu_matrix *m, const void *packed)
{
    const gm_cpu_slot *s = &t->o->in[0];
    bool pick = s->rows == GM_ROWS_ALL && t->o->op.kind == GM_OP_HEAD;
    if (m->q8) return (gm_cpu_columns){ .data = packed, .stride = gm_activations_bytes(s->width), .n = t->n_rows };
    return (gm_cpu_columns){
        .data = s->data, .stride = s->width * sizeof(float), .index = pick ? t->block->wanted : NULL, .n = t->n_rows
    };
}
