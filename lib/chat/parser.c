/* What the model writes, cut into thoughts, answers and tool calls. Input is bytes and markers; markers come as ids or,
 * when the caller has only text, are found in it. Thoughts and answers are searched for spelled markers once more as
 * they come out, so that none can be put together from what stands left and right of a hidden one. */
#include "chat/call.h"
#include "chat/chat.h"
#include "chat/write.h"

enum { TEXT_ROOM = 4096, TEXT_MARGIN = 128, NAME_MAX_BYTES = 64, CALL_BYTES = 65536, CALL_BYTES_MAX = 16 << 20 };
enum { GM_END = GM_MARKER_COUNT, GM_NOTHING }; /* markers that are no token: the output ends; none */

typedef enum parser_state {
    IN_ANSWER,
    IN_NAME, /* of a channel, up to its newline */
    IN_THOUGHT,
    IN_ROLE, /* behind a turn's opening, up to its newline */
    IN_CALL,
    ENDED
} parser_state;

/* Bytes that may become a marker. */
typedef struct gm_spelling {
    char held[GM_MARKER_BYTES_MAX];
    uint32_t n;
} gm_spelling;

struct gm_parser {
    gm_mem *mem;
    const gm_tokenizer *tokenizer;
    gm_marker_set markers;
    parser_state state;
    /* input: bytes to come, and the marker behind them */
    const char *in;
    size_t n_in;
    bool spelled;    /* markers stand in the text */
    uint32_t marker; /* GM_NOTHING: none */
    char *piece;     /* [piece_cap] an id's bytes */
    size_t piece_cap;
    gm_spelling found; /* of spelled text */
    char bytes[4];     /* an unfinished character */
    uint32_t n_bytes;
    /* output */
    char text[TEXT_ROOM];
    uint32_t n_text, kind;
    gm_spelling out[2]; /* answer, thought */
    bool newline_held;  /* in a thought: the last one belongs to the closing marker */
    char name[NAME_MAX_BYTES];
    uint32_t n_name;
    bool call_ready, call_too_long;
    gm_strbuf call, json; /* of fixed size */
    char function[GM_CALL_NAME_MAX];
};

int gm_parser_create(gm_mem *mem, const gm_tokenizer *tokenizer, uint32_t limit, gm_parser **out, gemma_error *error)
{
    *out = NULL;
    if (!limit) limit = CALL_BYTES;
    if (limit > CALL_BYTES_MAX)
        return gm_fail(error, GEMMA_E_ARG, "parser: call_bytes %u; at most %d", limit, CALL_BYTES_MAX);
    gm_parser *p = gm_new(mem, sizeof *p, GEMMA_TAG_OBJECT);
    if (!p) return gm_fail_nomem(error, "a parser", sizeof *p);
    p->mem = mem;
    p->tokenizer = tokenizer;
    p->piece_cap = gm_tokenizer_longest(tokenizer) + 1;
    p->call.cap = limit;
    p->json.cap = 2 * (size_t)limit + 16;
    p->piece = gm_new(mem, p->piece_cap, GEMMA_TAG_OBJECT);
    p->call.data = gm_new(mem, p->call.cap, GEMMA_TAG_OBJECT);
    p->json.data = gm_new(mem, p->json.cap, GEMMA_TAG_OBJECT);
    if (!p->piece || !p->call.data || !p->json.data) {
        gm_parser_destroy(p);
        return gm_fail_nomem(error, "a parser's buffers", (uint64_t)limit * 3);
    }
    gm_markers_find(&p->markers, tokenizer);
    gm_parser_reset(p, false);
    *out = p;
    return GEMMA_OK;
}

void gm_parser_destroy(gm_parser *p)
{
    if (!p) return;
    gm_delete(p->mem, p->piece);
    gm_delete(p->mem, p->call.data);
    gm_delete(p->mem, p->json.data);
    gm_delete(p->mem, p);
}

static void begin_call(gm_parser *p)
{
    p->call.n = 0;
    p->call.rc = GEMMA_OK;
    p->call_too_long = false;
}

void gm_parser_reset(gm_parser *p, bool in_thought)
{
    p->state = in_thought ? IN_THOUGHT : IN_ANSWER;
    p->n_in = 0;
    p->marker = GM_NOTHING;
    p->found.n = p->out[0].n = p->out[1].n = p->n_bytes = p->n_text = p->n_name = 0;
    p->newline_held = p->call_ready = false;
    begin_call(p);
}

bool gm_parser_ended(const gm_parser *p) { return p->state == ENDED; }

/* ---- spelled markers ---- */

/* The marker that is spelled here; GM_NOTHING: none. *begins: more bytes could make one. */
static uint32_t match_spelled(const gm_parser *p, const gm_spelling *s, bool *begins)
{
    *begins = false;
    for (uint32_t i = 0; i < GM_MARKER_COUNT; i++) {
        const char *marker = p->markers.text[i];
        size_t length = marker ? strlen(marker) : 0;
        if (length < s->n || memcmp(marker, s->held, s->n)) continue;
        if (length == s->n) return i;
        *begins = true;
    }
    return GM_NOTHING;
}

/* Adds a byte and gives the bytes that are no marker to `put`; returns the marker that it completes. */
static uint32_t spell(gm_parser *p, gm_spelling *s, char byte, void (*put)(gm_parser *, char))
{
    if (!s->n && byte != '<') { /* no marker begins so */
        put(p, byte);
        return GM_NOTHING;
    }
    s->held[s->n++] = byte;
    while (s->n) {
        bool begins;
        uint32_t marker = match_spelled(p, s, &begins);
        if (marker != GM_NOTHING) s->n = 0;
        if (begins || marker != GM_NOTHING) return marker;
        put(p, s->held[0]);
        s->n--;
        memmove(s->held, s->held + 1, s->n);
    }
    return GM_NOTHING;
}

/* No more text comes: an unfinished marker is control text and dropped, unless it is hardly one. */
static void spell_end(gm_parser *p, gm_spelling *s, void (*put)(gm_parser *, char))
{
    bool text = s->n == 1 || (s->n == 2 && s->held[1] != '|');
    for (uint32_t i = 0; text && i < s->n; i++) put(p, s->held[i]);
    s->n = 0;
}

/* ---- characters ---- */

static void emit_answer(gm_parser *p, char byte)
{
    p->kind = GEMMA_PART_ANSWER;
    p->text[p->n_text++] = byte;
}

static void emit_thought(gm_parser *p, char byte)
{
    p->kind = GEMMA_PART_THOUGHT;
    if (p->newline_held) p->text[p->n_text++] = '\n';
    p->newline_held = byte == '\n';
    if (!p->newline_held) p->text[p->n_text++] = byte;
}

static void put_text(gm_parser *p, const char *text, uint32_t n)
{
    bool thought = p->state == IN_THOUGHT;
    for (uint32_t i = 0; i < n; i++) spell(p, p->out + thought, text[i], thought ? emit_thought : emit_answer);
}

/* A channel is a thought, whatever its name; a turn that is not the model's ends the output. */
static void name_ends(gm_parser *p)
{
    bool model = p->n_name == 5 && !memcmp(p->name, "model", 5);
    if (p->state == IN_NAME)
        p->state = IN_THOUGHT;
    else if (model)
        p->state = IN_ANSWER;
    else
        p->marker = GM_END;
    p->n_name = 0;
}

/* Too long for a name: it was text. */
static void name_was_text(gm_parser *p)
{
    if (p->state == IN_ROLE) {
        p->marker = GM_END;
        return;
    }
    p->state = IN_THOUGHT;
    put_text(p, p->name, p->n_name);
    p->n_name = 0;
}

static void put_call_text(gm_parser *p, const char *text, size_t n)
{
    if (p->call_too_long) return;
    gm_strbuf_put(&p->call, text, n);
    p->call_too_long = p->call.rc != GEMMA_OK;
}

/* A whole character; there is room for a name and for it. */
static void put_char(gm_parser *p, const char *text, uint32_t n)
{
    switch (p->state) {
    case IN_ANSWER:
    case IN_THOUGHT: put_text(p, text, n); break;
    case IN_CALL: put_call_text(p, text, n); break;
    case IN_NAME:
    case IN_ROLE:
        if (text[0] == '\n') {
            name_ends(p);
        } else if (p->n_name + n <= NAME_MAX_BYTES) {
            memcpy(p->name + p->n_name, text, n);
            p->n_name += n;
        } else {
            name_was_text(p);
            if (p->state == IN_THOUGHT) put_text(p, text, n);
        }
        break;
    case ENDED: break;
    }
}

static const char replacement[3] = "\xef\xbf\xbd"; /* U+FFFD */

static void put_byte(gm_parser *p, char byte)
{
    p->bytes[p->n_bytes++] = byte;
    while (p->n_bytes) {
        uint32_t n = (uint32_t)gm_utf8_next(p->bytes, p->n_bytes, NULL);
        if (!n && p->n_bytes < sizeof p->bytes && !gm_utf8_whole(p->bytes, p->n_bytes)) return; /* unfinished */
        if (n)
            put_char(p, p->bytes, n);
        else
            put_char(p, replacement, sizeof replacement);
        uint32_t n_taken = n ? n : 1;
        p->n_bytes -= n_taken;
        memmove(p->bytes, p->bytes + n_taken, p->n_bytes);
    }
}

/* ---- markers ---- */

static void end_call(gm_parser *p)
{
    p->call_ready = true;
    p->state = IN_ANSWER;
}

/* The output's end: what is unfinished comes out. A thought's last newline goes with the marker that did not come. */
static void end_output(gm_parser *p)
{
    if (p->state == IN_CALL) end_call(p);
    p->newline_held = false;
    p->state = ENDED;
}

static bool is_end(uint32_t marker)
{
    return marker == GM_END || marker == GM_EOS || marker == GM_TURN_END || marker == GM_RESPONSE;
}

static void take_marker(gm_parser *p, uint32_t marker)
{
    if (p->state == ENDED) return;
    bool in_call = p->state == IN_CALL;
    switch (marker) {
    case GM_END:
    case GM_EOS:
    case GM_TURN_END:
    case GM_RESPONSE: end_output(p); break; /* is_end */
    case GM_QUOTE:
        if (in_call) put_call_text(p, &(char){ GM_CALL_QUOTE }, 1);
        break;
    case GM_CALL_END:
        if (in_call) end_call(p);
        break;
    case GM_CALL:
        if (in_call) end_call(p); /* the one before was left open */
        p->newline_held = false;
        p->n_name = 0;
        p->state = IN_CALL;
        if (!p->call_ready) begin_call(p);
        break;
    case GM_CHANNEL:
    case GM_TURN:
        if (in_call) break;
        p->newline_held = false;
        p->n_name = 0;
        p->state = marker == GM_TURN ? IN_ROLE : IN_NAME;
        break;
    case GM_CHANNEL_END:
        if (in_call) break;
        p->newline_held = false;
        p->n_name = 0;
        p->state = IN_ANSWER;
        break;
    default: break; /* hidden */
    }
}

static void flush_bytes(gm_parser *p)
{
    if (p->n_bytes) put_char(p, replacement, sizeof replacement);
    p->n_bytes = 0;
}

/* ---- pushing ---- */

static bool unread(const gm_parser *p) { return p->n_in || p->marker != GM_NOTHING || p->n_text || p->call_ready; }

static uint32_t marker_of(const gm_parser *p, int32_t id)
{
    for (uint32_t i = 0; i < GM_MARKER_COUNT; i++)
        if (p->markers.id[i] == id) return i;
    return gm_tokenizer_is_end(p->tokenizer, id) ? GM_END : GM_NOTHING;
}

int gm_parser_push(gm_parser *p, int32_t id)
{
    if (unread(p)) return GEMMA_E_STATE;
    if (p->state == ENDED || id < 0) return GEMMA_OK;
    spell_end(p, &p->found, put_byte);
    p->marker = marker_of(p, id);
    p->spelled = false;
    p->in = p->piece;
    if (p->marker == GM_NOTHING) p->n_in = gm_tokenizer_piece(p->tokenizer, id, false, p->piece, p->piece_cap);
    return GEMMA_OK;
}

int gm_parser_push_text(gm_parser *p, const char *text, size_t n_bytes)
{
    if (unread(p)) return GEMMA_E_STATE;
    if (p->state == ENDED) return GEMMA_OK;
    p->spelled = true;
    p->in = text;
    p->n_in = n_bytes;
    return GEMMA_OK;
}

int gm_parser_finish(gm_parser *p)
{
    if (unread(p)) return GEMMA_E_STATE;
    if (p->state == ENDED) return GEMMA_OK;
    spell_end(p, &p->found, put_byte);
    p->marker = GM_END;
    return GEMMA_OK;
}

/* ---- reading ---- */

static void give_text(gm_parser *p, gemma_part *part)
{
    *part = (gemma_part){ .size = part->size, .kind = p->kind, .text = p->text, .n_bytes = p->n_text, .name = "" };
    p->n_text = 0;
}

/* Of a call that cannot be read the text without its quotes. */
static size_t without_quotes(char *text, size_t n)
{
    size_t n_kept = 0;
    for (size_t i = 0; i < n; i++)
        if (text[i] != GM_CALL_QUOTE) text[n_kept++] = text[i];
    return n_kept;
}

static void give_call(gm_parser *p, gemma_part *part)
{
    *part = (gemma_part){ .size = part->size, .kind = GEMMA_PART_CALL, .text = p->json.data, .name = p->function };
    p->json.n = 0;
    p->json.rc = GEMMA_OK;
    part->error = p->call_too_long ? GEMMA_E_SMALL : gm_call_parse(p->call.data, p->call.n, p->function, &p->json);
    part->n_bytes = p->json.n;
    if (part->error) {
        part->kind = GEMMA_PART_BROKEN;
        part->name = "";
        part->text = p->call.data;
        part->n_bytes = without_quotes(p->call.data, p->call.n);
    }
    p->call_ready = false;
    begin_call(p);
}

bool gm_parser_next(gm_parser *p, gemma_part *part)
{
    for (;;) {
        bool full = p->n_text > TEXT_ROOM - TEXT_MARGIN;
        if (p->n_text && (full || p->marker != GM_NOTHING || p->call_ready || !p->n_in)) {
            give_text(p, part);
            return true;
        }
        if (p->call_ready) {
            give_call(p, part);
            return true;
        }
        if (p->marker != GM_NOTHING) {
            uint32_t marker = p->marker;
            flush_bytes(p); /* in front of the marker */
            if (!p->n_text && is_end(marker)) spell_end(p, p->out + 1, emit_thought);
            if (!p->n_text && is_end(marker)) spell_end(p, p->out, emit_answer);
            if (p->n_text) continue;
            p->marker = GM_NOTHING;
            take_marker(p, marker);
        } else if (p->n_in && p->state != ENDED) {
            char byte = *p->in++;
            p->n_in--;
            uint32_t found = GM_NOTHING;
            if (p->spelled)
                found = spell(p, &p->found, byte, put_byte);
            else
                put_byte(p, byte);
            if (found != GM_NOTHING) p->marker = found;
        } else {
            p->n_in = 0;
            return false;
        }
    }
}
