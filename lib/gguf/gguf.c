#include "gguf/internal.h"

enum { MAX_PARTS = 512 };

/* ---- the parts of a split file: "<stem>-00002-of-00003.gguf", numbered from 1 in names and from 0 in split.no ---- */

enum { SUFFIX_LENGTH = 20, NO_AT = 1, COUNT_AT = 10, N_DIGITS = 5 };

static bool read_digits(const char *text, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < N_DIGITS; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        *out = *out * 10 + (uint32_t)(text[i] - '0');
    }
    return true;
}

static void write_digits(char *text, uint32_t number)
{
    for (int i = N_DIGITS - 1; i >= 0; i--, number /= 10) text[i] = (char)('0' + number % 10);
}

/* The name's last 20 bytes, or NULL when they are not those of a part. */
static const char *part_suffix(const char *path, uint32_t *no, uint32_t *count)
{
    size_t n = strlen(path);
    if (n < SUFFIX_LENGTH) return NULL;
    const char *s = path + n - SUFFIX_LENGTH;
    bool is_part = s[0] == '-' && read_digits(s + NO_AT, no) && memcmp(s + 6, "-of-", 4) == 0 &&
                   read_digits(s + COUNT_AT, count) && memcmp(s + 15, ".gguf", 5) == 0 && *no >= 1 && *no <= *count;
    return is_part ? s : NULL;
}

/* A copy of the path with another part's number. */
static char *part_path(gm_mem *mem, const char *path, uint32_t no)
{
    size_t n = strlen(path);
    char *copy = gm_copy_string(mem, path, n, GEMMA_TAG_FILE);
    if (copy) write_digits(copy + n - SUFFIX_LENGTH + NO_AT, no);
    return copy;
}

static int refuse_later_part(const gm_gguf *g, const char *path, uint32_t no, uint32_t count, gemma_error *error)
{
    char *first = part_path(g->mem, path, 1);
    if (!first) return gm_fail_nomem(error, path, strlen(path));
    int rc = gm_fail(error, GEMMA_E_ARG, "%s is part %u of %u; open the first, %s", path, no, count, first);
    gm_delete(g->mem, first);
    return rc;
}

/* What the first part says about the split against its name; *count is 1 for a file that is whole. */
static int read_split(const gm_gguf *g, const char *path, uint32_t *count, gemma_error *error)
{
    const char *name = gm_gguf_name(g);
    uint32_t no = 0, name_no = 1, name_count = 1;
    *count = 1;
    gm_header_u32(&g->head, "split.no", &no);
    gm_header_u32(&g->head, "split.count", count);
    if (*count == 0) *count = 1;
    const char *suffix = path ? part_suffix(path, &name_no, &name_count) : NULL;
    if (suffix && name_no > 1) return refuse_later_part(g, path, name_no, name_count, error);
    if (*count == 1 && name_count == 1) return GEMMA_OK;
    if (!path)
        return gm_fail(error, GEMMA_E_UNSUPPORTED,
                       "%s: part %llu of %u of a split file; only whole files are opened "
                       "from memory",
                       name, (unsigned long long)no + 1, *count);
    if (!suffix)
        return gm_fail(error, GEMMA_E_FORMAT,
                       "%s: part %llu of %u of a split file, but the name does not end in "
                       "-00001-of-NNNNN.gguf, so the other parts cannot be found",
                       name, (unsigned long long)no + 1, *count);
    if (no != 0 || *count != name_count)
        return gm_fail(error, GEMMA_E_FORMAT, "%s: the file says part %llu of %u", name, (unsigned long long)no + 1,
                       *count);
    if (*count > MAX_PARTS)
        return gm_fail(error, GEMMA_E_FORMAT, "%s: %u parts; at most %u are allowed", name, *count, MAX_PARTS);
    return GEMMA_OK;
}

static int open_part(gm_gguf *g, const char *path, uint32_t part, uint32_t count, bool map, gemma_error *error)
{
    char *name = part_path(g->mem, path, part + 1);
    if (!name) return gm_fail_nomem(error, path, strlen(path));
    gemma_error why = { .size = sizeof why };
    int rc = gm_source_open(g->mem, name, map, &g->parts[part], &why);
    if (rc == GEMMA_E_IO)
        gm_fail(error, rc, "part %u of %u cannot be had: %s", part + 1, count, why.message);
    else if (rc)
        gm_fail(error, rc, "%s", why.message);
    else
        g->n_parts++;
    gm_delete(g->mem, name);
    return rc;
}

static int check_part(const gm_gguf *g, const gm_header *head, uint32_t part, uint32_t count, gemma_error *error)
{
    uint32_t says_no = 0, says_count = 0;
    if (gm_header_u32(head, "split.no", &says_no) && gm_header_u32(head, "split.count", &says_count) &&
        says_no == part && says_count == count)
        return GEMMA_OK;
    return gm_fail(error, GEMMA_E_FORMAT, "%s: the file does not say that it is part %u of %u",
                   gm_source_name(g->parts[part]), part + 1, count);
}

/* Opens all other parts before reading one, so that a missing one is reported at once and the total is known. */
static int open_rest(gm_gguf *g, const gm_gguf_input *input, gm_reading *reading)
{
    uint32_t count = 1, total = 0;
    int rc = read_split(g, input->path, &count, reading->error);
    if (rc || count == 1) return rc;
    gm_source **parts = gm_grow(g->mem, g->parts, count * sizeof *parts, GEMMA_TAG_FILE);
    if (!parts) return gm_fail_nomem(reading->error, input->path, count * sizeof *parts);
    g->parts = parts;
    for (uint32_t i = 1; i < count && !rc; i++) {
        rc = open_part(g, input->path, i, count, input->map, reading->error);
        if (!rc) reading->total_bytes += gm_source_bytes(g->parts[i]);
    }
    for (uint32_t i = 1; i < count && !rc; i++) {
        gm_header head = { 0 };
        rc = gm_header_read(reading, g->parts[i], i, &head, &g->tensors);
        if (!rc) rc = check_part(g, &head, i, count, reading->error);
        gm_header_finish(g->mem, &head);
    }
    if (rc) return rc;
    if (gm_header_u32(&g->head, "split.tensors.count", &total) && total == g->tensors.n) return GEMMA_OK;
    return gm_fail(reading->error, GEMMA_E_FORMAT, "%s: the parts hold %u tensors, split.tensors.count says %u",
                   gm_gguf_name(g), g->tensors.n, total);
}

/* ---- opening and closing ---- */

static int open_first(gm_gguf *g, const gm_gguf_input *input, gm_reading *reading)
{
    g->parts = gm_new_array(g->mem, 1, sizeof *g->parts, GEMMA_TAG_FILE);
    if (!g->parts) return gm_fail_nomem(reading->error, "opening a GGUF file", sizeof *g->parts);
    int rc = input->path ? gm_source_open(g->mem, input->path, input->map, g->parts, reading->error)
                         : gm_source_from_bytes(g->mem, input->bytes, input->n_bytes, g->parts, reading->error);
    if (rc) return rc;
    g->n_parts = 1;
    reading->total_bytes = gm_source_bytes(g->parts[0]);
    return gm_header_read(reading, g->parts[0], 0, &g->head, &g->tensors);
}

static gm_str name_of_tensor(const void *table, uint32_t number)
{
    const gm_tensor *t = (const gm_tensor *)table + number;
    return (gm_str){ t->name, strlen(t->name) };
}

static int index_tensors(gm_gguf *g, gemma_error *error)
{
    uint32_t twin;
    if (gm_names_build(g->mem, &g->tensor_names, g->tensors.items, g->tensors.n, name_of_tensor, &twin))
        return gm_fail_nomem(error, gm_gguf_name(g), (uint64_t)g->tensors.n * 16);
    if (twin == GM_NAMES_NONE) return GEMMA_OK;
    return gm_fail(error, GEMMA_E_FORMAT, "%s: tensor '%s' is there twice", gm_gguf_name(g),
                   g->tensors.items[twin].name);
}

int gm_gguf_open(gm_mem *mem, const gm_gguf_input *input, gm_gguf **out, gemma_error *error)
{
    *out = NULL;
    if (!input->path && !input->bytes) return gm_fail(error, GEMMA_E_ARG, "neither a path nor bytes are given");
    gm_gguf *g = gm_new(mem, sizeof *g, GEMMA_TAG_FILE);
    if (!g) return gm_fail_nomem(error, "opening a GGUF file", sizeof *g);
    g->mem = mem;
    gm_reading reading = { .mem = mem,
                           .progress = input->progress,
                           .progress_user = input->progress_user,
                           .in_place = !input->path,
                           .error = error };
    int rc = open_first(g, input, &reading);
    if (!rc) rc = open_rest(g, input, &reading);
    if (!rc) rc = index_tensors(g, error);
    if (rc) {
        gm_gguf_close(g);
        return rc;
    }
    g->file_bytes = reading.total_bytes;
    *out = g;
    return GEMMA_OK;
}

void gm_gguf_close(gm_gguf *g)
{
    if (!g) return;
    for (uint32_t i = 0; i < g->n_parts; i++) gm_source_close(g->parts[i]);
    gm_delete(g->mem, g->parts);
    gm_header_finish(g->mem, &g->head);
    gm_delete(g->mem, g->tensors.items);
    gm_names_finish(g->mem, &g->tensor_names);
    gm_delete(g->mem, g);
}

/* ---- tensors ---- */

uint32_t gm_gguf_n_tensors(const gm_gguf *g) { return g->tensors.n; }

const gm_tensor *gm_gguf_tensor(const gm_gguf *g, uint32_t index)
{
    return index < g->tensors.n ? &g->tensors.items[index] : NULL;
}

const gm_tensor *gm_gguf_find(const gm_gguf *g, const char *name)
{
    uint32_t number = gm_names_find(&g->tensor_names, g->tensors.items, name_of_tensor, (gm_str){ name, strlen(name) });
    return number == GM_NAMES_NONE ? NULL : &g->tensors.items[number];
}

uint32_t gm_gguf_n_parts(const gm_gguf *g) { return g->n_parts; }

uint64_t gm_gguf_file_bytes(const gm_gguf *g) { return g->file_bytes; }

const char *gm_gguf_name(const gm_gguf *g) { return gm_source_name(g->parts[0]); }

int gm_gguf_read(const gm_gguf *g, const gm_tensor *t, uint64_t offset, void *dst, uint64_t n, gemma_error *error)
{
    return gm_source_read(g->parts[t->part], t->offset + offset, dst, n, error);
}

const void *gm_gguf_mapped(const gm_gguf *g, const gm_tensor *t)
{
    const char *bytes = gm_source_mapped(g->parts[t->part]);
    return bytes && (uintptr_t)bytes % 8 == 0 ? bytes + t->offset : NULL;
}
