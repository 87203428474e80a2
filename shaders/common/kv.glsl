// KV pages: [page][n_kv][64][HEAD], HEAD_WORDS words a line. The kernel declares HEAD, KV_TYPE and, in its push block,
// tables_at, table_stride, table_first, ring, n_kv.
#define PAGE    64u
#define KV_F32  0u
#define KV_F16  1u
#define KV_Q4_0 2u
#define KV_Q8_0 8u

// Quantised: blocks of 32 values, an F16 scale before their codes, BLOCK_HALFS half-words together.
const bool KV_BLOCKS = KV_TYPE == KV_Q8_0 || KV_TYPE == KV_Q4_0;
const uint BLOCK_HALFS = KV_TYPE == KV_Q8_0 ? 17u : 9u;
const uint HEAD_WORDS = KV_BLOCKS ? HEAD / 64u * BLOCK_HALFS : KV_TYPE == KV_F16 ? HEAD / 2u : HEAD;

// First word of a KV head in the page that holds positions 64 e … 64 e + 63 of a row with page table t.
uint page_words(uint t, uint e, uint kv_head)
{
    uint place = push.ring == 0u ? e : e % push.ring;
    uint page = STEP(push.tables_at + t * push.table_stride + push.table_first + place);
    return (page * push.n_kv + kv_head) * PAGE * HEAD_WORDS;
}
