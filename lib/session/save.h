/* save: the form of a saved session, shared by save.c and load.c; docs/formats.md has it in words. */
#ifndef GM_SESSION_SAVE_H
#define GM_SESSION_SAVE_H

#include "session/internal.h"

#define SAVE_MAGIC        "GEMMASES"
#define SAVE_VERSION      1
#define SAVE_HEADER_BYTES 80
#define SAVE_IDS          1024 /* of a record */
#define SAVE_HASH_BYTES   8    /* behind the header and each record */
#define KINDS             2    /* of gm_kv_kind */

typedef struct save_header {
    uint64_t identity; /* of the model */
    uint64_t n_bytes;  /* of the whole */
    uint32_t n_ids, first_position, n_kv;
    uint32_t type[KINDS];    /* GGUF's numbers; 0 where no layer is of the kind */
    uint32_t first[KINDS];   /* number of the first page; of global ones 0 */
    uint32_t n_pages[KINDS]; /* of each layer */
} save_header;

/* One pass over the records of a session. */
typedef struct save_pass {
    gm_session *session;
    const char *call; /* "save", for sentences */
    const gemma_cancel *cancel;
    save_header header;
    uint8_t *buffer; /* the longest record and its hash */
    uint64_t buffer_bytes;
    uint64_t at;     /* bytes before the record */
    uint32_t record; /* the seed of its hash */
} save_pass;

/* K or V of one page of one layer: a piece of a device's memory. */
typedef struct save_piece {
    const gm_span *span;
    uint64_t offset, n_bytes;
} save_piece;

/* The layers' types; the session's ids, pages and length are the caller's. */
void gm_save_header_init(const gm_session *s, uint64_t identity, save_header *h);
/* The whole's length, from the counts. */
uint64_t gm_save_bytes(const gm_session *s, const save_header *h);
int gm_save_pass_init(gm_session *s, const char *call, const gemma_cancel *cancel, save_pass *p);
void gm_save_pass_finish(save_pass *p);
int gm_save_cancelled(const save_pass *p); /* CANCELLED or OK */
static inline const gm_program *gm_save_program(const gm_session *s) { return s->engine->plan->programs[0]; }
/* Record of page number `index` (of its kind) of layer `kv`: K in piece[0], V in piece[1]. */
void gm_save_pieces(const gm_session *s, uint32_t kv, uint32_t index, save_piece piece[2]);

#endif
