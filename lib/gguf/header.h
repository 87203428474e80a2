/* header: one part's header, read piece by piece and checked. Private to gguf.
 *
 * The header region (file offset 0 to the end of the tensor table) is kept as the file has it, in one block; keys are
 * an index into it. */
#ifndef GM_GGUF_HEADER_H
#define GM_GGUF_HEADER_H

#include "gguf/gguf.h"

/* Names to numbers 0 … n-1: open addressing, at most half full. */
typedef struct gm_names {
    uint32_t *slots; /* number + 1; 0 = free */
    uint32_t *hashes;
    uint32_t mask;
} gm_names;
typedef gm_str (*gm_name_of)(const void *table, uint32_t number);

enum { GM_NAMES_NONE = UINT32_MAX };

/* Numbers every name of a table. *twin is the first number whose name was there before, or GM_NAMES_NONE.
 * Errors: NOMEM. */
int gm_names_build(gm_mem *mem, gm_names *names, const void *table, uint32_t n, gm_name_of name_of, uint32_t *twin);
uint32_t gm_names_find(const gm_names *names, const void *table, gm_name_of name_of, gm_str name);
void gm_names_finish(gm_mem *mem, gm_names *names);

typedef struct gm_key {
    uint32_t name_at, name_n; /* offsets and lengths inside gm_header.bytes */
    uint32_t type;            /* GM_GGUF_… */
    uint32_t element;         /* of an array: GM_GGUF_… */
    uint32_t at;              /* the value; a string's first byte, an array's first element */
    uint32_t n_bytes;         /* from there */
    uint64_t n;               /* elements of an array */
} gm_key;

typedef struct gm_header {
    const uint8_t *bytes;
    uint64_t n_bytes;  /* while reading: what has been read so far */
    uint64_t capacity; /* of the block; 0: `bytes` are the caller's */
    gm_key *keys;
    uint32_t n_keys;
    gm_names key_names;
} gm_header;

typedef struct gm_tensors { /* of all parts */
    gm_tensor *items;
    uint32_t n;
} gm_tensors;

/* What the parts of one gm_gguf_open share. */
typedef struct gm_reading {
    gm_mem *mem;
    gemma_progress progress;
    void *progress_user;
    uint64_t done_bytes;  /* headers of the parts before this one */
    uint64_t total_bytes; /* all parts opened so far */
    bool in_place;        /* the source is the caller's bytes: point into them. A mapped file is copied, as another
                             process could change it after the checks. */
    gemma_error *error;
} gm_reading;

/* Fills *head and appends the part's tensors, their offsets from the start of the file. On failure both must still be
 * finished by the caller. Errors: NOMEM, IO, FORMAT, UNSUPPORTED, CANCELLED. */
int gm_header_read(gm_reading *reading, gm_source *source, uint32_t part, gm_header *head, gm_tensors *tensors);
void gm_header_finish(gm_mem *mem, gm_header *head);

const gm_key *gm_header_find(const gm_header *head, const char *name); /* NULL: not there */
bool gm_header_u32(const gm_header *head, const char *name, uint32_t *out);
uint32_t gm_value_bytes(uint32_t type); /* of a number or bool; 0: another type, or unknown */

#endif
