/* Markers lie in a tree of bytes: leftmost-longest is one walk down. */
#include "tokenizer/vocab.h"

static uint32_t add_node(gm_tokenizer *t, uint8_t byte)
{
    gm_markers *m = &t->markers;
    if (m->n == m->n_room) {
        uint32_t n_room = m->n_room ? m->n_room + m->n_room / 2 : 256;
        gm_marker_node *nodes = gm_grow(t->mem, m->nodes, (uint64_t)n_room * sizeof *nodes, GEMMA_TAG_VOCAB);
        if (!nodes) return 0;
        m->nodes = nodes;
        m->n_room = n_room;
        if (!m->n) m->n = 1;
    }
    m->nodes[m->n].byte = byte;
    return m->n++;
}

/* Among the siblings from `node` on. */
static uint32_t find_node(const gm_markers *m, uint32_t node, uint8_t byte)
{
    while (node && m->nodes[node].byte != byte) node = m->nodes[node].sibling;
    return node;
}

int gm_markers_add(gm_tokenizer *t, const char *text, size_t n, int32_t id, uint32_t kind, gemma_error *error)
{
    gm_markers *m = &t->markers;
    if (!n) return GEMMA_OK; /* an empty text is nowhere */
    if (n > GM_MARKER_BYTES_MAX)
        return gm_fail(error, GEMMA_E_FORMAT, "token %d: a control or user-defined token of %zu bytes, at most %d", id,
                       n, GM_MARKER_BYTES_MAX);
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)text[i];
        uint32_t siblings = i ? m->nodes[node].child : m->first[byte];
        uint32_t next = find_node(m, siblings, byte);
        if (!next) {
            next = add_node(t, byte);
            if (!next) return gm_fail_nomem(error, "the markers of the vocabulary", m->n * sizeof *m->nodes);
            m->nodes[next].sibling = siblings;
            if (i)
                m->nodes[node].child = next;
            else
                m->first[byte] = next;
        }
        node = next;
    }
    if (!m->nodes[node].kind) { /* of equal texts the lowest id counts */
        m->nodes[node].kind = (uint8_t)kind;
        m->nodes[node].id = id;
    }
    return GEMMA_OK;
}

size_t gm_markers_match(const gm_markers *m, const char *text, size_t n, uint32_t kinds, int32_t *id)
{
    size_t longest = 0;
    uint32_t node = m->first[(uint8_t)text[0]];
    for (size_t i = 1; node; i++) {
        if (m->nodes[node].kind & kinds) {
            longest = i;
            *id = m->nodes[node].id;
        }
        node = i < n ? find_node(m, m->nodes[node].child, (uint8_t)text[i]) : 0;
    }
    return longest;
}
