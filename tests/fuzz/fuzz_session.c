/* Byte 0: bit 0: the checksums are put right, as someone who means harm would; bit 1: zeros follow what there is. The rest
 * is a saved session for an engine over the dummy device. What is refused leaves the session empty and no page held;
 * what is taken goes on, and can be saved and loaded again. */
#include "../unit/engine_fixture.h"
#include "../unit/session_save.h"

#include <stdio.h>

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { HEADER = 80, MODEL = 0x1234, CTX = 256, IDS = 1024, LONGEST = 1 << 18 };

static void put_right(uint8_t *data, size_t n)
{
    if (n < HEADER) return;
    gm_store_u64(data + HEADER - 8, gm_hash64(data, HEADER - 8, 0));
    uint64_t n_ids = gm_load_u32(data + 32), page = 2 * 64 * FIX_HEAD * 4; /* K and V in F32 */
    uint32_t record = 0;
    for (size_t at = HEADER; at < n; record++) {
        uint64_t bytes = n_ids ? 4 * gm_min_u64(n_ids, IDS) : page;
        n_ids -= gm_min_u64(n_ids, IDS);
        if (bytes + 8 > n - at) break;
        gm_store_u64(data + at + bytes, gm_hash64(data + at, bytes, record));
        at += bytes + 8;
    }
}

static int load(gm_session *s, blob *b)
{
    gemma_restore_options o = blob_load(b);
    return gm_session_load(s, MODEL, &o);
}

static void check_taken(fixture *f, gm_session *s)
{
    blob b;
    blob_init(&b);
    gemma_save_options o = blob_save(&b);
    gm_session *again;
    int32_t ids[CTX], others[CTX], next = 1;
    uint32_t n = gm_session_position(s);
    REQUIRE(n <= CTX && gm_session_save(s, MODEL, &o) == GEMMA_OK);
    REQUIRE(gm_session_create(f->engine, 0, &again, NULL) == GEMMA_OK);
    REQUIRE(load(again, &b) == GEMMA_OK && gm_session_position(again) == n);
    REQUIRE(gm_session_ids(s, 0, ids, CTX) == n && gm_session_ids(again, 0, others, CTX) == n);
    REQUIRE(!memcmp(ids, others, n * sizeof *ids));
    for (uint32_t i = 0; i < n; i++) REQUIRE(ids[i] >= 0 && ids[i] < FIX_VOCAB);
    REQUIRE(gm_session_feed(s, &next, 1, NULL) == (n < CTX ? GEMMA_OK : GEMMA_E_FULL));
    gm_session_destroy(again);
    free(b.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static fixture f;
    if (!f.engine) fixture_create(&f, CTX, 2);
    if (n == 0 || n - 1 > LONGEST) return 0;
    blob b;
    blob_init(&b);
    b.n = data[0] & 2 ? LONGEST : n - 1;
    b.data = calloc(1, b.n + 1);
    REQUIRE(b.data);
    memcpy(b.data, data + 1, n - 1);
    if (data[0] & 1) put_right(b.data, b.n);
    gm_session *s;
    REQUIRE(gm_session_create(f.engine, 0, &s, NULL) == GEMMA_OK);
    if (load(s, &b)) {
        REQUIRE(gm_session_error(s)->message[0]);
        REQUIRE(gm_session_position(s) == 0 && pages_in_use(&f) == 0);
    } else {
        check_taken(&f, s);
    }
    gm_session_destroy(s);
    REQUIRE(pages_in_use(&f) == 0);
    free(b.data);
    return 0;
}
