/* gemma.h — libgemma: Google's Gemma models inside your own program.
 *
 * The road from a file to text:
 *
 *     gemma_runtime   the library's root: host hooks, threads, devices
 *     gemma_file      a GGUF file's header, tensors and vocabulary; no weights yet
 *     gemma_plan      every byte and where it will lie; arithmetic only
 *     gemma_model     the plan carried out: weights resident, KV pool reserved
 *     gemma_session   one conversation: its token ids, KV pages and position
 *     gemma_generation / gemma_step   text out, piece by piece / rows of many sessions in one pass
 *
 * Rules that hold for every call
 * - Errors are negative ints (GEMMA_E_…); 0 (GEMMA_OK) or a positive value is success. A creating call takes a
 *   caller-owned gemma_error last (NULL allowed) and sets *out to NULL on failure. Other calls leave a sentence on
 *   their object, copied out by gemma_X_message().
 * - Option and result structs begin with `uint32_t size`: set it to sizeof the struct, zero the rest; zero means
 *   "default". Fields are only ever appended. The library writes no more than `size` bytes of a result struct.
 * - Text is UTF-8, paths too, on every system. Sizes end in _bytes.
 * - A destroying call takes NULL. Children keep their parents alive: they may be destroyed in any order.
 * - The library never ends the process, never raises a signal, never writes to stdout or stderr, reads no environment
 *   variable and has no global state. All memory goes through gemma_host.alloc.
 * - Threads: stated once per type ("Threads:"). Callbacks run on the thread that called the library (`log`, `alloc`
 *   and `free` also on pool threads) and may call gemma_cancel_… functions only.
 */
#ifndef GEMMA_H
#define GEMMA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(GEMMA_STATIC)
#define GEMMA_PUBLIC
#elif defined(_WIN32)
#ifdef GEMMA_BUILD
#define GEMMA_PUBLIC __declspec(dllexport)
#else
#define GEMMA_PUBLIC __declspec(dllimport)
#endif
#else
#define GEMMA_PUBLIC __attribute__((visibility("default")))
#endif

/* ---------------------------------------------------------------- version */

#define GEMMA_VERSION_MAJOR 0
#define GEMMA_VERSION_MINOR 1
#define GEMMA_VERSION_PATCH 0

/* Version of the library that was loaded: major << 16 | minor << 8 | patch. Any thread. Since 0.1. */
GEMMA_PUBLIC uint32_t gemma_version(void);

/* ---------------------------------------------------------------- errors */

/* One list gives number, name and meaning. Numbers never change. */
#define GEMMA_ERROR_LIST(X)                                                                                            \
    X(ARG, -1, "invalid argument")                                                                                     \
    X(NOMEM, -2, "out of host memory")                                                                                 \
    X(DEVMEM, -3, "out of device memory")                                                                              \
    X(LOST, -4, "the device was lost; load the model again")                                                           \
    X(IO, -5, "a file could not be opened or read")                                                                    \
    X(FORMAT, -6, "the file is damaged or is not what it should be")                                                   \
    X(UNSUPPORTED, -7, "this file or option needs something the library lacks")                                        \
    X(NOFIT, -8, "the plan does not fit the memory budget")                                                            \
    X(STALE, -9, "the budget has shrunk since the plan was made; plan again")                                          \
    X(FULL, -10, "the session's context is full")                                                                      \
    X(NOPAGES, -11, "other sessions hold the KV pages that are needed")                                                \
    X(CANCELLED, -12, "cancelled by the caller")                                                                       \
    X(BUSY, -13, "the model is busy")                                                                                  \
    X(TOKEN, -14, "a token id is outside the vocabulary")                                                              \
    X(UTF8, -15, "the text is not valid UTF-8")                                                                        \
    X(REWIND, -16, "the position can no longer be had")                                                                \
    X(VERSION, -17, "the caller uses fields this library does not know")                                               \
    X(DEVICE, -18, "no such device, or it cannot be used")                                                             \
    X(STATE, -19, "the call does not fit the object's state")                                                          \
    X(TIMEOUT, -20, "the time limit passed")                                                                           \
    X(SMALL, -21, "the caller's buffer is too small")                                                                  \
    X(INTERNAL, -22, "a fault inside the library; please report it")

enum {
    GEMMA_OK = 0,
#define GEMMA_ERROR_ENUM(name, value, text) GEMMA_E_##name = (value),
    GEMMA_ERROR_LIST(GEMMA_ERROR_ENUM)
#undef GEMMA_ERROR_ENUM
};

/* "GEMMA_E_NOMEM" for -2, "GEMMA_OK" for 0, "GEMMA_E_UNKNOWN" otherwise; static storage. Any thread. Since 0.1. */
GEMMA_PUBLIC const char *gemma_error_name(int code);
/* The meaning of a code in one phrase; static storage. Any thread. Since 0.1. */
GEMMA_PUBLIC const char *gemma_error_text(int code);

/* Filled by creating calls: a code and a sentence with names and numbers. Owned by the caller. */
typedef struct gemma_error {
    uint32_t size;
    int32_t code;
    char message[504]; /* NUL-terminated UTF-8, cut at a character */
} gemma_error;

/* ---------------------------------------------------------------- host */

enum { GEMMA_LOG_NONE = 0, GEMMA_LOG_ERROR = 1, GEMMA_LOG_WARN = 2, GEMMA_LOG_INFO = 3, GEMMA_LOG_DEBUG = 4 };

/* What a block of host memory is for, given to alloc and free. The bulk tags (WEIGHTS … STAGING) are allocated by
 * gemma_model_load only, and their sum is exactly what the plan's bill says for the host heap. */
enum {
    GEMMA_TAG_OBJECT = 0,  /* handles and small state */
    GEMMA_TAG_FILE = 1,    /* GGUF metadata, tensor table, read buffers */
    GEMMA_TAG_VOCAB = 2,   /* tokenizer tables */
    GEMMA_TAG_WEIGHTS = 3, /* bulk */
    GEMMA_TAG_KV = 4,      /* bulk: KV pages, page tables */
    GEMMA_TAG_SCRATCH = 5, /* bulk: activations, kernel workspace */
    GEMMA_TAG_STAGING = 6, /* bulk: step block, results */
    GEMMA_TAG_COUNT = 7
};

typedef void (*gemma_task)(void *arg, uint32_t index);

/* The host's hooks; copied by gemma_runtime_create. A NULL hook means the library's own. */
typedef struct gemma_host {
    uint32_t size;
    uint32_t log_level; /* GEMMA_LOG_…: lines above it are not produced; 0 = none */
    void *user;         /* first argument of every hook */
    /* n_bytes > 0 at `align` (a power of two, ≤ 4096), or NULL: out of memory, which every call survives. */
    void *(*alloc)(void *user, size_t n_bytes, size_t align, uint32_t tag);
    void (*free)(void *user, void *block, size_t n_bytes, uint32_t tag);
    /* One line, no newline. */
    void (*log)(void *user, uint32_t level, const char *line);
    /* Replaces file access: copy up to n_bytes at `offset` of `path` to dst, return the count (less only at the end
     * of the file) or a negative number. With dst NULL: return the file's size. May be called from several threads. */
    int64_t (*read)(void *user, const char *path, uint64_t offset, void *dst, uint64_t n_bytes);
    /* Run task(arg, 0 … n_tasks-1), return when all are done. Tasks never wait for each other. A step on the CPU calls it
     * gemma_model_status.last_dispatches times, one call behind the other, and once more where it copies KV pages; what a
     * call costs is gemma_probe.dispatch_us. */
    void (*parallel_for)(void *user, uint32_t n_tasks, gemma_task task, void *arg);
} gemma_host;

/* ---------------------------------------------------------------- cancel */

typedef struct gemma_cancel gemma_cancel; /* Threads: any; raised until cleared. */
typedef struct gemma_runtime gemma_runtime;

/* Must outlive every call, submitted step and generation it was given to. Errors: ARG, NOMEM. Since 0.1. */
GEMMA_PUBLIC int gemma_cancel_create(gemma_runtime *runtime, gemma_cancel **out, gemma_error *error);
/* Async-signal-safe: may be called from a signal handler. Since 0.1. */
GEMMA_PUBLIC void gemma_cancel_raise(gemma_cancel *cancel);
GEMMA_PUBLIC void gemma_cancel_clear(gemma_cancel *cancel);
GEMMA_PUBLIC int gemma_cancel_raised(const gemma_cancel *cancel); /* 1 or 0; NULL: 0 */
GEMMA_PUBLIC void gemma_cancel_destroy(gemma_cancel *cancel);

/* Called on long work with what is done and what there is, in bytes or rows. Returning non-zero cancels. */
typedef int (*gemma_progress)(void *user, uint64_t done, uint64_t total);

/* ---------------------------------------------------------------- runtime and devices */

enum { GEMMA_RUNTIME_NO_VULKAN = 1 /* do not look for GPUs */ };

struct gemma_vulkan_host; /* gemma/vulkan.h */

typedef struct gemma_runtime_options {
    uint32_t size;
    uint32_t n_threads; /* 0: one per core the process may use; ignored with host.parallel_for but as the task count */
    uint32_t cpu_mask;  /* tests: CPU features (GEMMA_CPU_…) not to use; 0 = use all */
    uint32_t flags;     /* GEMMA_RUNTIME_… */
    const struct gemma_vulkan_host *vulkan; /* the host's own Vulkan; NULL: the system's, if there is one */
    uint64_t ram_bytes;                     /* plan as if the machine had so much RAM, all of it free; 0: ask */
} gemma_runtime_options;

/* Threads: immutable after creation, any thread.
 * Errors: ARG (size), VERSION, NOMEM, INTERNAL (a thread could not be started). Since 0.1. */
GEMMA_PUBLIC int gemma_runtime_create(const gemma_host *host, const gemma_runtime_options *options, gemma_runtime **out,
                                      gemma_error *error);
GEMMA_PUBLIC void gemma_runtime_destroy(gemma_runtime *runtime);

enum { GEMMA_DEVICE_CPU = 1, GEMMA_DEVICE_INTEGRATED = 2, GEMMA_DEVICE_DISCRETE = 3, GEMMA_DEVICE_SOFTWARE = 4 };

typedef struct gemma_device_info {
    uint32_t size;
    uint32_t kind; /* GEMMA_DEVICE_…; readers accept kinds they do not know */
    uint32_t n_heaps;
    uint32_t usable;  /* 0: `reason` says why not */
    char id[32];      /* what gemma_device_find takes: "cpu", "reference", "vulkan:0" */
    char name[128];   /* what a person reads */
    char reason[128]; /* of a device that is not usable; else empty */
} gemma_device_info;

typedef struct gemma_heap_info {
    uint32_t size;
    uint32_t pool; /* heaps with the same number draw on the same memory */
    uint64_t total_bytes;
    uint64_t budget_bytes; /* what this process may use, what it holds included */
    uint64_t used_bytes;   /* what this process holds, where known */
    double gb_s;           /* measured read bandwidth (10^9 bytes per second); 0 = not measured */
    char name[32];
    uint32_t reported; /* 0: the driver tells no budget; budget_bytes is the heap's size then. Since 0.1. */
    uint32_t reserved;
} gemma_heap_info;

GEMMA_PUBLIC uint32_t gemma_device_count(const gemma_runtime *runtime);
/* Errors: ARG. Since 0.1. */
GEMMA_PUBLIC int gemma_device_describe(const gemma_runtime *runtime, uint32_t device, gemma_device_info *info);
GEMMA_PUBLIC int gemma_heap_describe(const gemma_runtime *runtime, uint32_t device, uint32_t heap,
                                     gemma_heap_info *info);
/* As a plan's device: the first real GPU whose budget holds the plan, else the CPU. */
#define GEMMA_DEVICE_AUTO UINT32_MAX

/* `name`: NULL or "auto" (GEMMA_DEVICE_AUTO), an id, a kind ("vulkan"), or part of a device's name, any case.
 * Errors: DEVICE (the sentence lists the devices there are). Since 0.1. */
GEMMA_PUBLIC int gemma_device_find(const gemma_runtime *runtime, const char *name, uint32_t *device,
                                   gemma_error *error);

/* A device's measured speeds; kept by the host, handed to plans. Probes of several devices are chained. Rates are those
 * of the whole device, or of all threads; a multiply-add counts as two operations. 0: not measured; plans then leave
 * that cost out, or take read_gb_s for the rate of a product. gemma_plan_predict says what is made of them. */
typedef struct gemma_probe {
    uint32_t size;
    uint32_t device;
    double read_gb_s;               /* reading memory and doing nothing else */
    double compute_gflops;          /* products of a Q4_K matrix with up to 512 vectors at once */
    double op_us;                   /* one op, not a product: its start, and the wait for the one before */
    double submit_us;               /* starting a program on a device at rest and waiting for its end */
    const struct gemma_probe *next; /* of another device; NULL: none */
    double product_us;              /* the same of a product with a matrix */
    double row_ns;                  /* of a matrix a row, beyond its bytes, in the product with one vector */
    double q4_gb_s;                 /* bytes of a matrix a second in the product with one vector, beyond that: Q4_K */
    double q6_gb_s;                 /* Q6_K */
    double q8_gb_s;                 /* Q8_0 */
    double f16_gb_s;                /* F16 */
    double attention_gflops;        /* attention of one row, four query heads on one of F16 KV */
    double attention_us;            /* an attention op beyond that */
    double q5_gb_s;                 /* Q5_0 */
    double dispatch_us;             /* CPU: a call of parallel_for beyond its work; in op_us … attention_us already */
} gemma_probe;

/* Measures for about 300 ms with up to 256 MiB of the device's memory (freed before returning), less where it has less.
 * The first time a GPU's driver compiles kernels as well. Figures are medians, but for read_gb_s, the best.
 * Errors: ARG, UNSUPPORTED, NOMEM, DEVMEM, LOST, CANCELLED; after any, `result` is as it was. Threads: any; while a model
 * runs on the device each slows the other. Since 0.1. */
GEMMA_PUBLIC int gemma_device_probe(gemma_runtime *runtime, uint32_t device, gemma_cancel *cancel, gemma_probe *result,
                                    gemma_error *error);

/* A GPU's driver compiles kernels while a model is loaded, which can take seconds; a host may keep what came out and
 * hand it back in its next run. docs/formats.md describes the bytes. They hold code for the device: the checksum finds
 * damage, not malice, so keep them where only those can write who may write programs. */

/* The kernels compiled for a device so far, of every model loaded on it and of what was handed to load_kernels; they
 * are all there when gemma_model_load returns. *n_bytes is their length, SMALL when it is more than n_cap. 0 bytes: the
 * device has no such kernels (the CPU), none was compiled yet, or its driver gives none away. `buffer` (NULL when n_cap
 * is 0) belongs to the caller; after an error its content is undefined and *n_bytes is 0, but for SMALL. Any thread;
 * waits for a load on that device only while it compiles a kernel. Errors: ARG, SMALL, NOMEM, DEVMEM, LOST, INTERNAL.
 * Since 0.1. */
GEMMA_PUBLIC int gemma_device_save_kernels(gemma_runtime *runtime, uint32_t device, void *buffer, size_t n_cap,
                                           size_t *n_bytes, gemma_error *error);
/* What was saved, before the models that are to profit from it are loaded; at any other time it is added to what is
 * there. `bytes` are only read during the call. Opens the device, as loading a model would. Results are the same with and
 * without. 0 bytes are fine and change nothing. After an error the kernels are as they were and models are loaded as
 * ever, so a host may pass over it. Any thread.
 * Errors: ARG, FORMAT (damaged, or of another device, driver or library: the sentence says which), UNSUPPORTED (a device
 * without such kernels), NOMEM, DEVMEM, DEVICE, LOST, INTERNAL. Since 0.1. */
GEMMA_PUBLIC int gemma_device_load_kernels(gemma_runtime *runtime, uint32_t device, const void *bytes, size_t n_bytes,
                                           gemma_error *error);

/* ---------------------------------------------------------------- file */

typedef struct gemma_file gemma_file; /* Threads: immutable, any thread. */

enum {
    GEMMA_FILE_MAP = 1 /* map the file into memory; a file truncated by someone else then raises SIGBUS */
};

typedef struct gemma_file_options {
    uint32_t size;
    uint32_t flags;    /* GEMMA_FILE_… */
    const void *bytes; /* the file's content in memory, instead of a path; must outlive the file and its children */
    uint64_t n_bytes;
    gemma_progress progress; /* reading a large header; NULL: none */
    void *progress_user;
} gemma_file_options;

/* Reads the header of a GGUF file (v2, v3). A split file is opened by its first part ("…-00001-of-00003.gguf"): the
 * others are found beside it. `path` may be NULL when options->bytes is set. Nothing in the file is trusted.
 * Errors: ARG, NOMEM, IO (missing, unreadable), FORMAT (not a GGUF, truncated, a count or offset that cannot be),
 * UNSUPPORTED (an architecture or quant type the library lacks, named), CANCELLED. Since 0.1. */
GEMMA_PUBLIC int gemma_file_open(gemma_runtime *runtime, const char *path, const gemma_file_options *options,
                                 gemma_file **out, gemma_error *error);
GEMMA_PUBLIC void gemma_file_close(gemma_file *file);

typedef struct gemma_file_info {
    uint32_t size;
    uint32_t has_weights;  /* 0: a vocabulary without tensors; tokenizers only */
    char architecture[32]; /* "gemma3", "gemma4" */
    char name[96];         /* general.name, or empty */
    char quantisation[32]; /* the type that holds most of the weights, "Q4_K" */
    uint32_t n_layers;
    uint32_t n_vocab;
    uint32_t n_embd;      /* width of the stream */
    uint32_t ctx_trained; /* tokens */
    uint32_t window;      /* sliding window in tokens; 0 = none */
    uint32_t n_tensors;
    uint64_t n_parameters;
    uint64_t tensor_bytes;
    uint64_t file_bytes; /* all parts */
} gemma_file_info;

GEMMA_PUBLIC int gemma_file_describe(const gemma_file *file, gemma_file_info *info);
/* A metadata value as text (arrays: their length in brackets). Returns its length without the NUL, or ARG when the
 * key is not there. The text is cut to n_bytes, always NUL-terminated when n_bytes > 0. Since 0.1. */
GEMMA_PUBLIC int64_t gemma_file_metadata(const gemma_file *file, const char *key, char *buffer, size_t n_bytes);

/* ---------------------------------------------------------------- plan */

typedef struct gemma_plan gemma_plan; /* Threads: immutable, any thread. */

enum { /* classes of bytes; readers accept numbers they do not know */
       GEMMA_CLASS_EMBEDDING = 0,
       GEMMA_CLASS_PLE = 1,
       GEMMA_CLASS_ATTENTION = 2,
       GEMMA_CLASS_FFN = 3,
       GEMMA_CLASS_EXPERTS = 4,
       GEMMA_CLASS_HEAD = 5,
       GEMMA_CLASS_NORMS = 6,
       GEMMA_CLASS_KV_SLIDING = 7,
       GEMMA_CLASS_KV_GLOBAL = 8,
       GEMMA_CLASS_MARKS = 9,
       GEMMA_CLASS_SCRATCH = 10,
       GEMMA_CLASS_STAGING = 11,
       GEMMA_CLASS_DRIVER = 12, /* what the driver takes for itself: an estimate */
       GEMMA_CLASS_COUNT = 13
};
/* "embedding", "attention", … ; "unknown class" for unknown numbers; static storage. Any thread. Since 0.1. */
GEMMA_PUBLIC const char *gemma_class_name(uint32_t bytes_class);

enum { GEMMA_TYPE_DEFAULT = 0, GEMMA_TYPE_F32 = 1, GEMMA_TYPE_F16 = 2, GEMMA_TYPE_Q8_0 = 3, GEMMA_TYPE_Q4_0 = 4 };
enum { GEMMA_FIT_REFUSE = 0, GEMMA_FIT_SHRINK = 1, GEMMA_FIT_SPLIT = 2 };

struct gemma_candidates;

/* One group of bytes the placement hook is asked about: a class of a layer's weights, its KV, or memory for the work. */
typedef struct gemma_placement {
    uint32_t size;
    uint32_t bytes_class;
    int32_t layer; /* -1: not of a layer */
    uint32_t n_candidates;
    uint64_t n_bytes;                          /* in memory: of weights that are converted, as Q8_0 */
    uint64_t read_per_token;                   /* bytes of it that one decoded token reads */
    const struct gemma_candidates *candidates; /* for gemma_placement_home; valid during the call of the hook */
} gemma_placement;

enum {                        /* what kind of home; readers accept numbers they do not know */
       GEMMA_HOME_MEMORY = 0, /* a device's memory */
       GEMMA_HOME_MAPPED = 1, /* used in place in the mapped file */
       GEMMA_HOME_FILE = 2    /* stays in the file, a row of it is read for every token */
};

/* One place where a group could lie. */
typedef struct gemma_home {
    uint32_t size;
    uint32_t kind;       /* GEMMA_HOME_… */
    uint32_t device;     /* that works on it */
    uint32_t heap;       /* of the device; MEMORY only */
    uint64_t free_bytes; /* what the plan may still put there; MEMORY only */
    double gb_s;         /* the device's read bandwidth, if its probe was given; else 0 */
} gemma_home;

/* Candidate `index` of a question; for the hook. Small weights (class NORMS) and scratch follow the ops that need them.
 * Errors: ARG. Since 0.1. */
GEMMA_PUBLIC int gemma_placement_home(const gemma_placement *want, uint32_t index, gemma_home *home);

typedef struct gemma_plan_options {
    uint32_t size;
    uint32_t device;     /* index or GEMMA_DEVICE_AUTO, from gemma_device_find */
    uint32_t ctx;        /* tokens a session may hold; 0: min(trained context, 4096) */
    uint32_t n_sessions; /* sessions alive at once; 0: 1 */
    uint64_t kv_tokens;  /* tokens the global KV pool holds in all; 0: ctx × n_sessions */
    uint32_t kv_global;  /* GEMMA_TYPE_…; default F16 (F32 on the reference device) */
    uint32_t kv_sliding;
    uint32_t ubatch;          /* most rows of one step; 0: 512 */
    uint32_t n_marks;         /* marks alive at once; 0: none */
    uint32_t slack;           /* tokens a session can be rewound without a mark; 0: 32 */
    uint32_t logit_rows;      /* rows of one step that may want all logits; 0: 1 */
    uint32_t fit;             /* GEMMA_FIT_… */
    uint32_t min_ctx;         /* SHRINK: never below; 0: 512 */
    uint64_t headroom_bytes;  /* kept free of a budget; 0: max(128 MiB, 3 %) */
    uint64_t budget_bytes;    /* plan as if the device's heap had this budget; 0: ask */
    const gemma_probe *probe; /* measured speeds for the prediction; NULL: marked unmeasured */
    /* Placement hook: answers with a candidate's index, 0 = as proposed. A pure function: asked again for every plan
     * tried. NULL: as proposed. */
    uint32_t (*place)(void *user, const gemma_placement *want);
    void *place_user;
    struct gemma_model *replaces; /* for gemma_model_replan: what this model holds counts as free; NULL: nothing does */
} gemma_plan_options;

/* Arithmetic only: no weights are read, no bulk memory is touched. A plan that does not fit is still a plan (so that
 * its bill can be shown); gemma_plan_check says so and gemma_model_load refuses it.
 * Errors: ARG, VERSION, NOMEM, DEVICE, FORMAT (a tensor missing or of the wrong shape, named; a key missing),
 * UNSUPPORTED (a KV type or a home the device lacks, a norm that is not F32). Since 0.1. */
GEMMA_PUBLIC int gemma_plan_create(gemma_file *file, const gemma_plan_options *options, gemma_plan **out,
                                   gemma_error *error);
GEMMA_PUBLIC void gemma_plan_destroy(gemma_plan *plan);
/* OK, or NOFIT with a sentence: heap, what is needed, what there is. Since 0.1. */
GEMMA_PUBLIC int gemma_plan_check(const gemma_plan *plan, gemma_error *error);

/* One heap's bill, total = sum of the classes = what gemma_model_load allocates there, to the byte (but for the
 * driver's estimate). */
typedef struct gemma_bill {
    uint32_t size;
    uint32_t device;
    uint32_t heap;
    uint32_t pool;
    uint64_t weight_bytes; /* classes EMBEDDING … NORMS */
    uint64_t kv_sliding_bytes;
    uint64_t kv_global_bytes;
    uint64_t marks_bytes;
    uint64_t scratch_bytes;
    uint64_t staging_bytes;
    uint64_t driver_bytes; /* estimate, not in the total */
    uint64_t total_bytes;
    uint64_t budget_bytes; /* less headroom */
    uint64_t mapped_bytes; /* weights used in place from the mapped file; not in the total */
    uint64_t file_bytes;   /* tables that stay in the file, a row read for every token; not in the total */
    char name[64];         /* "CPU · RAM" */
} gemma_bill;

GEMMA_PUBLIC uint32_t gemma_plan_n_heaps(const gemma_plan *plan);
/* Errors: ARG. Since 0.1. */
GEMMA_PUBLIC int gemma_plan_bill(const gemma_plan *plan, uint32_t index, gemma_bill *bill);
/* Bytes of one class in the index-th heap of the plan; 0 for unknown numbers. Since 0.1. */
GEMMA_PUBLIC uint64_t gemma_plan_class_bytes(const gemma_plan *plan, uint32_t index, uint32_t bytes_class);

/* What a plan settled on. */
typedef struct gemma_plan_info {
    uint32_t size;
    uint32_t device;
    uint32_t ctx;
    uint32_t n_sessions;
    uint64_t kv_tokens;
    uint32_t kv_global;
    uint32_t kv_sliding;
    uint32_t ubatch;
    uint32_t n_marks;
    uint32_t slack;
    uint32_t logit_rows;
    uint32_t n_ops; /* of one decode step */
    uint32_t fits;
    uint64_t session_bytes; /* small host memory one gemma_session takes */
    uint64_t step_bytes;    /* one gemma_step */
    char note[256];         /* GEMMA_DEVICE_AUTO: why better devices were passed over; else empty */
    /* Weights of a type the device has no kernel for are turned into Q8_0 as they are loaded. Since 0.1. */
    uint32_t n_converted;          /* tensors, those whose rows are read from the file not among them */
    uint32_t n_submits;            /* of one decode step: one a device, or more where it goes back and forth */
    uint64_t converted_bytes;      /* they take in memory: among the bill's weights */
    uint64_t converted_file_bytes; /* they have in the file */
    char warning[256];             /* says so with the types; else empty. Loading logs it as GEMMA_LOG_WARN */
    /* What a split moved; the placement hook may have moved more. Since 0.1. */
    uint32_t second_device; /* to which; without a split the plan's own */
    uint32_t split_layers;  /* the first so many layers */
    uint32_t split_experts; /* the experts of the first so many */
    uint32_t reserved_split;
} gemma_plan_info;
GEMMA_PUBLIC int gemma_plan_describe(const gemma_plan *plan, gemma_plan_info *info);

typedef struct gemma_prediction {
    uint32_t size;
    uint32_t measured;        /* 0: a device of the plan has no probe; the rates are 0 */
    uint64_t bytes_per_token; /* weights a decoded token reads */
    uint64_t kv_bytes_full;   /* KV it reads on top when the context is full */
    double decode_tok_s;      /* at `depth` */
    double decode_full_tok_s; /* at full context */
    double prefill_tok_s;     /* of `ubatch` tokens behind `depth`; 0: a device's compute_gflops was not measured */
    uint64_t depth;           /* tokens in the context before */
    uint64_t kv_bytes;        /* KV a decoded token reads on top at `depth` */
    uint64_t prompt_bytes;    /* weights a step reads of whose rows nothing is wanted, however many they are */
} gemma_prediction;
/* How fast one session will be, on devices that do nothing else. The time of a token is the sum over the plan's devices
 * (they work one behind the other) of
 *     weights read / rate of their format        q4_gb_s below 5 bits a weight, q6_ below 8 (q5_ in
 *                                              blocks of 32), q8_ below 16, f16_ above
 *   + attention                                  KV read / read_gb_s or its operations / attention_gflops, if longer
 *   + products × product_us + rows of their matrices × row_ns + attention ops × attention_us + other ops × op_us
 *   + submits × submit_us + bytes that come from other devices / read_gb_s.
 * For a prompt, products take what they read / read_gb_s or their operations / compute_gflops, if longer; attention is
 * that of a token in the middle, for each. Formats whose kernels are slower than the one measured (few bits, from
 * codebooks) are predicted too fast, and sampling is left out. The same as gemma_plan_predict_at with depth 0. Any
 * thread. Errors: ARG. Since 0.1. */
GEMMA_PUBLIC int gemma_plan_predict(const gemma_plan *plan, gemma_prediction *prediction);
/* With `depth` tokens in the context before; no more than the plan's context counts. Any thread. Errors: ARG. Since 0.1. */
GEMMA_PUBLIC int gemma_plan_predict_at(const gemma_plan *plan, uint32_t depth, gemma_prediction *prediction);

/* Advice: plans that would fit, as changed options, each tried: with them gemma_plan_create gives that plan.
 * Errors: ARG (index). Since 0.1. */
typedef struct gemma_advice {
    uint32_t size;
    uint32_t ctx;
    uint32_t kv_global;
    uint32_t kv_sliding;
    uint32_t n_sessions;
    uint32_t ubatch;
    uint64_t total_bytes; /* of the plan's first heap */
    uint64_t budget_bytes;
    uint32_t fit;           /* GEMMA_FIT_SPLIT: a part goes to a second device; else as asked */
    uint32_t second_device; /* SPLIT: which; else the plan's */
    uint32_t split_layers;  /* SPLIT: the first so many layers go there */
    uint32_t split_experts; /* SPLIT: the experts of the first so many go there */
    double decode_tok_s;    /* predicted; 0: a device of it was not measured */
    double decode_full_tok_s;
} gemma_advice;
GEMMA_PUBLIC uint32_t gemma_plan_n_advice(const gemma_plan *plan);
GEMMA_PUBLIC int gemma_plan_advice(const gemma_plan *plan, uint32_t index, gemma_advice *advice);

/* ---------------------------------------------------------------- model */

/* Threads: steps may come from any thread and queue up; status calls from any thread. */
typedef struct gemma_model gemma_model;

enum {                           /* what happened to memory; readers accept numbers they do not know */
       GEMMA_EVENT_SHRUNK = 1,   /* a heap's budget no longer covers what the model has there */
       GEMMA_EVENT_PAGED = 2,    /* a block is read so slowly that it can no longer lie in the device's memory */
       GEMMA_EVENT_RECOVERED = 3 /* neither is so any more */
};

enum { /* what the host wants done about it; unknown numbers, and STOP to RECOVERED: KEEP */
       GEMMA_PRESSURE_KEEP = 0,
       GEMMA_PRESSURE_STOP = 1, /* this step and later ones answer STALE, until RECOVERED, resume or replan */
       GEMMA_PRESSURE_PARK = 2, /* gemma_model_park; this step and later ones answer STATE until resume or replan */
       /* A plan of the same options takes over, shrunk to the budgets of now (PAGED: by half of slow_bytes). Where none fits, or
        * its loading fails, the step answers why and the model is parked. */
       GEMMA_PRESSURE_REPLAN = 3
};

typedef struct gemma_pressure {
    uint32_t size;
    uint32_t kind; /* GEMMA_EVENT_… */
    uint32_t device;
    uint32_t heap;
    uint64_t budget_bytes;  /* of the heap, as the driver says now */
    uint64_t used_bytes;    /* by this process, as far as is known */
    uint64_t planned_bytes; /* what the model has there */
    uint64_t slow_bytes;    /* PAGED: of the blocks that are slow */
    double gb_s;            /* PAGED, RECOVERED: measured on the slowest block; else 0 */
    double expected_gb_s;   /* the same when the model was loaded; 0: not measured */
} gemma_pressure;

enum {
    GEMMA_LOAD_REHEARSE =
        1 /* takes all memory and moves no weights: shows that the plan can be had. Steps answer STATE */
};

typedef struct gemma_load_options {
    uint32_t size;
    uint32_t flags;          /* GEMMA_LOAD_… */
    gemma_progress progress; /* bytes; called at least every 64 MiB, the last call has done == total */
    void *progress_user;
    gemma_cancel *cancel; /* NULL: none */
    /* Called before a step, at most once a second, when something happened to the memory; answers GEMMA_PRESSURE_…. On the
     * thread that submits the step; may call gemma_cancel_…, gemma_model_query and gemma_heap_describe. NULL: budgets are
     * not watched. */
    uint32_t (*pressure)(void *user, const gemma_pressure *event);
    void *pressure_user;
} gemma_load_options;

/* Carries the plan out: the one call that takes bulk memory. On failure nothing is left. Where weights are converted
 * (gemma_plan_info), 256 KiB of GEMMA_TAG_OBJECT besides, until it returns.
 * Errors: ARG, NOFIT, STALE, NOMEM, DEVMEM, IO, FORMAT, CANCELLED, LOST. Since 0.1. */
GEMMA_PUBLIC int gemma_model_load(gemma_plan *plan, const gemma_load_options *options, gemma_model **out,
                                  gemma_error *error);
GEMMA_PUBLIC void gemma_model_close(gemma_model *model);

/* Gives back all bulk memory; the KV pages in use are kept in host memory, and sessions, their positions, forks and marks
 * stay. Until the model is resumed or replanned, steps, feeds and saving answer STATE. Waits for the step under way; steps
 * and feeds of other threads wait meanwhile. Any thread, but one of these three calls at a time, and no session or step of
 * the model is created, saved or loaded meanwhile.
 * Errors: ARG, NOMEM, LOST, STATE (it is parked): nothing has changed. Since 0.1. */
GEMMA_PUBLIC int gemma_model_park(gemma_model *model, gemma_error *error);
/* Takes the memory again by the model's plan. `options` as for gemma_model_load (NULL: as given then); a REHEARSE flag is
 * refused. Errors: as gemma_model_load, STATE (it is not parked); the model is parked as before. Since 0.1. */
GEMMA_PUBLIC int gemma_model_resume(gemma_model *model, const gemma_load_options *options, gemma_error *error);
/* Goes on with another plan of the same file: parks where that was not done, then loads. Nothing is needed twice at once
 * but the KV pages in use, in host memory. Sessions keep their content; KV of another type is converted (and no longer
 * bit for bit what it was); sessions longer than the new ctx, or more than it has pages or sessions for, are refused before
 * anything is given back. Steps made for more rows than the new ubatch answer SMALL. Marks the new plan has no room for go.
 * Errors: as gemma_model_load; ARG (a plan of another file), FULL, NOPAGES, NOFIT: nothing has changed, otherwise the model
 * is parked. Since 0.1. */
GEMMA_PUBLIC int gemma_model_replan(gemma_model *model, gemma_plan *plan, const gemma_load_options *options,
                                    gemma_error *error);
/* The plan it goes by, which REPLAN may have made; valid while the model is open and no other takes over. NULL: no model. */
GEMMA_PUBLIC gemma_plan *gemma_model_plan(gemma_model *model);

typedef struct gemma_model_status {
    uint32_t size;
    uint32_t lost;            /* 1: the device is gone; only closing helps */
    uint64_t allocated_bytes; /* bulk memory held = the bill's total */
    uint64_t steps;           /* carried out since loading */
    uint64_t rows;
    uint64_t step_ns; /* time spent in them */
    uint64_t last_step_ns;
    uint32_t global_pages_free;
    uint32_t global_pages;
    uint32_t sliding_pages_free;
    uint32_t sliding_pages;
    double load_seconds;
    uint64_t load_bytes;
    uint64_t driver_bytes; /* what a GPU's driver took on top, by its own count; 0 where it keeps none */
    uint32_t parked;       /* 1: it holds no bulk memory but its sessions' pages */
    uint32_t n_events;     /* of pressure, since loading */
    double slowest_gb_s;   /* proof: each block was read once when loaded, the slowest at this rate; 0: not measured */
    double median_gb_s;
    /* Of the last step that was carried out, on all devices. Since 0.1. */
    uint32_t last_dispatches; /* CPU: phases of its ops, each shared out among the threads; a GPU: kernels started */
    uint32_t last_submits;    /* programs begun on a device, or their pieces */
} gemma_model_status;
GEMMA_PUBLIC int gemma_model_query(const gemma_model *model, gemma_model_status *status);

/* ---------------------------------------------------------------- tokenizer */

typedef struct gemma_tokenizer gemma_tokenizer; /* Threads: immutable, any thread. */

/* Errors: ARG, NOMEM, FORMAT (the vocabulary contradicts itself), UNSUPPORTED (another tokenizer model). Since 0.1. */
GEMMA_PUBLIC int gemma_tokenizer_create(gemma_file *file, gemma_tokenizer **out, gemma_error *error);
GEMMA_PUBLIC void gemma_tokenizer_destroy(gemma_tokenizer *tokenizer);

typedef struct gemma_tokenizer_info {
    uint32_t size;
    uint32_t n_vocab;
    int32_t bos, eos, unknown, padding; /* -1: none */
} gemma_tokenizer_info;
GEMMA_PUBLIC int gemma_tokenizer_describe(const gemma_tokenizer *tokenizer, gemma_tokenizer_info *info);

enum {
    GEMMA_TOKENIZE_BOS = 1,       /* put the BOS id in front, unless the text already begins with it as a special */
    GEMMA_TOKENIZE_SPECIAL = 2,   /* recognise control tokens such as <start_of_turn> in the text */
    GEMMA_TOKENIZE_UNTRUSTED = 4, /* recognise no marker at all: text of a user cannot inject one (spec: white-space
                                     runs of Gemma 3 are still recognised). Excludes SPECIAL */
    GEMMA_TOKENIZE_STRICT = 8     /* UTF8 instead of byte tokens for invalid UTF-8 */
};

/* Text to ids. Writes up to n_cap ids and sets *n_ids to the number there are; SMALL when they are more than n_cap
 * (ids NULL with n_cap 0 asks for the count). No more ids than n_bytes + 1. Takes working memory from the host when
 * the text is long. Errors: ARG, NOMEM, UTF8 (STRICT), SMALL. Since 0.1. */
GEMMA_PUBLIC int gemma_tokenize(const gemma_tokenizer *tokenizer, const char *text, size_t n_bytes, uint32_t flags,
                                int32_t *ids, size_t n_cap, size_t *n_ids);

enum { GEMMA_DETOKENIZE_SPECIAL = 1 /* control tokens as their text instead of nothing */ };

/* Ids to bytes (UTF-8 where the ids make it so; not NUL-terminated). SMALL as above. Errors: ARG, TOKEN, SMALL.
 * Since 0.1. */
GEMMA_PUBLIC int gemma_detokenize(const gemma_tokenizer *tokenizer, const int32_t *ids, size_t n_ids, uint32_t flags,
                                  char *buffer, size_t n_cap, size_t *n_bytes);
/* 1 if the id ends a turn or the text (EOS, <end_of_turn>, …), else 0. */
GEMMA_PUBLIC int gemma_token_is_end(const gemma_tokenizer *tokenizer, int32_t id);

/* ---------------------------------------------------------------- session */

typedef struct gemma_session gemma_session; /* Threads: one at a time. */

typedef struct gemma_session_options {
    uint32_t size;
    uint32_t ctx;            /* tokens; 0: the plan's; never more */
    uint32_t first_position; /* position of the first token, for the rotary angles; at most 2^28 */
    uint32_t reserved;
} gemma_session_options;

/* Errors: ARG, NOMEM, NOPAGES (the plan's n_sessions are all alive). Since 0.1. */
GEMMA_PUBLIC int gemma_session_create(gemma_model *model, const gemma_session_options *options, gemma_session **out,
                                      gemma_error *error);
GEMMA_PUBLIC void gemma_session_destroy(gemma_session *session);
/* The last failed call's sentence, cut to n_bytes and NUL-terminated when n_bytes > 0; returns the bytes written without
 * the NUL. Since 0.1. */
GEMMA_PUBLIC size_t gemma_session_message(const gemma_session *session, char *buffer, size_t n_bytes);

GEMMA_PUBLIC uint32_t gemma_session_position(const gemma_session *session); /* committed tokens */
GEMMA_PUBLIC uint32_t gemma_session_room(const gemma_session *session);     /* tokens it can still take */
/* The committed token ids from `from` on; returns how many were copied. Since 0.1. */
GEMMA_PUBLIC size_t gemma_session_ids(const gemma_session *session, uint32_t from, int32_t *ids, size_t n_cap);

typedef struct gemma_feed_options {
    uint32_t size;
    uint32_t piece;          /* rows per step; 0: the plan's ubatch */
    gemma_progress progress; /* rows */
    void *progress_user;
    gemma_cancel *cancel;
} gemma_feed_options;

/* Feeds tokens and waits. An empty prompt (n 0) is ARG. Errors: ARG, TOKEN, FULL (n > room), NOPAGES: the session is
 * unchanged. CANCELLED, LOST, NOMEM: it stands at the last whole piece. Since 0.1. */
GEMMA_PUBLIC int gemma_session_feed(gemma_session *session, const int32_t *ids, size_t n,
                                    const gemma_feed_options *options);
/* Back to a shorter position: 0, a mark, or within the slack of the longest position reached since the session last went
 * back to 0 or to a mark (and not below that mark). REWIND otherwise: the session is unchanged, the sentence names the
 * nearest position below that can be had. Since 0.1. */
GEMMA_PUBLIC int gemma_session_rewind(gemma_session *session, uint32_t position);
/* Pins the window at the present position so that it can be rewound to; the oldest of the session's marks is dropped
 * when the plan's marks are used up by this session alone, else NOPAGES. Since 0.1. */
GEMMA_PUBLIC int gemma_session_mark(gemma_session *session);
GEMMA_PUBLIC int gemma_session_unmark(gemma_session *session, uint32_t position);
/* A second session with the same content; pages are shared until one of them writes. Errors: as create. Since 0.1. */
GEMMA_PUBLIC int gemma_session_fork(gemma_session *session, gemma_session **out, gemma_error *error);
/* Rewinds to the longest common prefix with ids that can be had; *kept says how long it is, never more than n - 1 (a
 * last token must be fed to get a prediction). Feed ids + kept next. Since 0.1. */
GEMMA_PUBLIC int gemma_session_match(gemma_session *session, const int32_t *ids, size_t n, uint32_t *kept);

/* Where a saved session goes. `write` takes the next n_bytes and returns 0, or non-zero: they could not be written. */
typedef struct gemma_save_options {
    uint32_t size;
    uint32_t reserved;
    int (*write)(void *user, const void *bytes, uint64_t n_bytes);
    void *user;
    gemma_cancel *cancel; /* NULL: none */
} gemma_save_options;

/* Where it comes from. `read` copies up to n_bytes at `offset` to dst and returns the count (less only at the end), or a
 * negative number. */
typedef struct gemma_restore_options {
    uint32_t size;
    uint32_t reserved;
    int64_t (*read)(void *user, uint64_t offset, void *dst, uint64_t n_bytes);
    void *user;
    gemma_cancel *cancel; /* NULL: none */
} gemma_restore_options;

/* Writes the session out, front to back: ids, positions and KV pages with checksums (docs/formats.md), in pieces of no more
 * than one page of one layer. Marks are not saved. What is not of this session is not in it. The session is as before
 * whatever happens; after an error what was written is of no use. Takes working memory of one piece; other sessions' steps
 * run in between. Errors: ARG, VERSION, NOMEM, IO (`write` refused; the model's file), STATE (a step has rows of the
 * session), CANCELLED, LOST. Since 0.1. */
GEMMA_PUBLIC int gemma_session_save(gemma_session *session, const gemma_save_options *options);
/* Makes an empty session (position 0) the saved one, its first_position too: it goes on with the same results, bit for bit
 * on the same device and plan. Nothing in the file is trusted. On an error the session is empty as before. Errors: ARG (also:
 * of another model, KV type), VERSION, NOMEM, STATE (the session is not empty, or a step has rows of it), IO (`read` failed; the
 * model's file), FORMAT (damaged, cut short), UNSUPPORTED (a newer format), FULL (longer than this session's ctx), NOPAGES,
 * CANCELLED, LOST. Since 0.1. */
GEMMA_PUBLIC int gemma_session_load(gemma_session *session, const gemma_restore_options *options);

/* ---------------------------------------------------------------- step */

typedef struct gemma_step gemma_step; /* Threads: one at a time. Rows of many sessions of one model in one pass. */

enum {
    GEMMA_WANT_CANDIDATES = 1, /* the 64 best ids with their logits, and the log of the softmax sum */
    GEMMA_WANT_LOGITS = 2,     /* all logits (no more rows than the plan's logit_rows) */
    GEMMA_WANT_HIDDEN = 4,     /* the hidden state after the output norm */
    GEMMA_WANT_SCORE = 8       /* the logit of `target`, and the log of the softmax sum */
};

typedef struct gemma_row {
    uint32_t size;
    int32_t token;
    int32_t target; /* WANT_SCORE: the id whose logit is wanted */
    uint32_t want;  /* GEMMA_WANT_…, or 0 */
} gemma_row;

GEMMA_PUBLIC int gemma_step_create(gemma_model *model, gemma_step **out, gemma_error *error);
GEMMA_PUBLIC void gemma_step_destroy(gemma_step *step);
GEMMA_PUBLIC size_t gemma_step_message(const gemma_step *step, char *buffer, size_t n_bytes);
/* Forgets rows and results. */
GEMMA_PUBLIC int gemma_step_clear(gemma_step *step);
/* Appends the next row of a session (its position follows the session's last row). *row is the row's index.
 * Errors: ARG, TOKEN, FULL (the session), SMALL (the plan's ubatch or logit_rows are used up), STATE: the step is
 * unchanged. Since 0.1. */
GEMMA_PUBLIC int gemma_step_add(gemma_step *step, gemma_session *session, const gemma_row *row, uint32_t *index);
/* Starts the pass. NOPAGES: nothing has changed. After submit no row's session may be used until the wait. */
GEMMA_PUBLIC int gemma_step_submit(gemma_step *step, gemma_cancel *cancel);
/* Waits up to timeout_ns (UINT64_MAX: for ever; 0: just asks). TIMEOUT: still running. CANCELLED, LOST, …: the
 * sessions are as before the step. OK: the rows are committed to their sessions, results can be read. */
GEMMA_PUBLIC int gemma_step_wait(gemma_step *step, uint64_t timeout_ns);

/* Results, valid until the next clear. Candidates come best first, equal logits by lower id. */
GEMMA_PUBLIC uint32_t gemma_step_n_candidates(const gemma_step *step, uint32_t row);
GEMMA_PUBLIC int gemma_step_candidate(const gemma_step *step, uint32_t row, uint32_t index, int32_t *id, float *logit);
/* log of the sum of exp(logit) over the vocabulary: log-probability = logit - this. */
GEMMA_PUBLIC int gemma_step_log_sum(const gemma_step *step, uint32_t row, float *log_sum);
GEMMA_PUBLIC int gemma_step_score(const gemma_step *step, uint32_t row, float *logit);
GEMMA_PUBLIC int gemma_step_logits(const gemma_step *step, uint32_t row, float *logits, size_t n_cap);
GEMMA_PUBLIC int gemma_step_hidden(const gemma_step *step, uint32_t row, float *hidden, size_t n_cap);

/* ---------------------------------------------------------------- sampler */

typedef struct gemma_sampler gemma_sampler; /* Threads: one at a time. */

/* Order: logit bias → repetition, frequency, presence penalty → temperature → top-k → top-p → min-p → draw.
 * All zero (but seed) is greedy: the highest logit, the lowest id among equals. */
typedef struct gemma_sampler_options {
    uint32_t size;
    float temperature;     /* 0: greedy */
    uint32_t top_k;        /* 0: off */
    float top_p;           /* 0 or ≥ 1: off */
    float min_p;           /* 0: off */
    float repetition;      /* 0 or 1: off; > 1 discourages ids of the last penalty_last tokens */
    float frequency;       /* subtracted per occurrence */
    float presence;        /* subtracted once */
    uint32_t penalty_last; /* 0: 64 */
    uint32_t n_vocab;      /* memory for draws from whole rows is taken at creation; 0: at the first such draw */
    uint64_t seed;         /* the same seed draws the same ids on every platform */
} gemma_sampler_options;

GEMMA_PUBLIC int gemma_sampler_create(gemma_runtime *runtime, const gemma_sampler_options *options, gemma_sampler **out,
                                      gemma_error *error);
GEMMA_PUBLIC void gemma_sampler_destroy(gemma_sampler *sampler);
/* Adds `bias` to the logit of `id` (-INFINITY forbids it, 0 takes a bias away); at most 1024 ids. Set biases before a
 * generation is created: they change what its rows must want. Errors: ARG, NOMEM, SMALL. Since 0.1. */
GEMMA_PUBLIC int gemma_sampler_bias(gemma_sampler *sampler, int32_t id, float bias);
/* What a row must want for this sampler: CANDIDATES, or LOGITS where 64 candidates would not be exact. */
GEMMA_PUBLIC uint32_t gemma_sampler_wants(const gemma_sampler *sampler);
/* Draws from a row's results; the id is not yet accepted. *log_prob (may be NULL) is the model's own, before any of
 * the sampler's settings. Errors: ARG, STATE (the row lacks what gemma_sampler_wants said). Since 0.1. */
GEMMA_PUBLIC int gemma_sampler_draw(gemma_sampler *sampler, const gemma_step *step, uint32_t row, int32_t *id,
                                    float *log_prob);
/* Tells the sampler which id was taken (or stood in the prompt); penalties count these. */
GEMMA_PUBLIC int gemma_sampler_accept(gemma_sampler *sampler, int32_t id);
/* Forgets accepted ids and goes back to the seed. */
GEMMA_PUBLIC int gemma_sampler_reset(gemma_sampler *sampler);

/* ---------------------------------------------------------------- generation */

typedef struct gemma_generation gemma_generation; /* Threads: one at a time. Holds its session until destroyed. */

enum { /* why a generation stopped; 0 = it goes on */
       GEMMA_STOP_NONE = 0,
       GEMMA_STOP_END = 1,    /* an end token */
       GEMMA_STOP_LENGTH = 2, /* max_tokens */
       GEMMA_STOP_STRING = 3, /* a stop string; it is not part of the text */
       GEMMA_STOP_FULL = 4,   /* the context is full */
       GEMMA_STOP_CANCELLED = 5,
       GEMMA_STOP_ERROR = 6
};

typedef struct gemma_generation_options {
    uint32_t size;
    uint32_t max_tokens; /* 0: until the context is full */
    uint32_t flags;      /* GEMMA_DETOKENIZE_SPECIAL, GEMMA_GENERATION_NO_END */
    uint32_t reserved;
    gemma_cancel *cancel; /* NULL: none */
} gemma_generation_options;
enum { GEMMA_GENERATION_NO_END = 2 /* end tokens do not stop it */ };

typedef struct gemma_piece {
    uint32_t size;
    int32_t id;       /* the token drawn, -1 when none was */
    const char *text; /* whole UTF-8 characters, may be empty; valid until the next call on the generation */
    size_t n_bytes;
    float log_prob; /* of id */
    uint32_t stop;  /* GEMMA_STOP_…: non-zero on the last piece */
} gemma_piece;

/* The tokenizer is used for text and end tokens; NULL: ids only, no text, no end. `prompt` (copied, n_prompt ≥ 1) is
 * fed by the first gemma_generation_next. Errors: ARG (an empty prompt), TOKEN, FULL, NOMEM. Since 0.1. */
GEMMA_PUBLIC int gemma_generation_create(gemma_session *session, gemma_sampler *sampler, gemma_tokenizer *tokenizer,
                                         const int32_t *prompt, size_t n_prompt,
                                         const gemma_generation_options *options, gemma_generation **out,
                                         gemma_error *error);
GEMMA_PUBLIC void gemma_generation_destroy(gemma_generation *generation);
/* Text that ends the generation; up to 16 strings of 1 to 256 bytes. Text that might become one is held back. */
GEMMA_PUBLIC int gemma_generation_stop_at(gemma_generation *generation, const char *text, size_t n_bytes);
/* The next piece. Returns OK also when piece->stop says why it ended (text may be left in the piece); after that
 * STATE. ERROR: the code is returned, gemma_generation_message has the sentence. Allocates nothing. Since 0.1. */
GEMMA_PUBLIC int gemma_generation_next(gemma_generation *generation, gemma_piece *piece);
GEMMA_PUBLIC size_t gemma_generation_message(const gemma_generation *generation, char *buffer, size_t n_bytes);

/* ---------------------------------------------------------------- chat */

typedef struct gemma_chat gemma_chat; /* Threads: one at a time. A conversation and how the model wants it written. */

/* Turn formats. */
enum {
    GEMMA_CHAT_AUTO = 0,         /* what the file needs */
    GEMMA_CHAT_GEMMA3 = 1,       /* turns of user and model; no thoughts, no tools */
    GEMMA_CHAT_GEMMA4_SMALL = 2, /* E2B, E4B */
    GEMMA_CHAT_GEMMA4_LARGE = 3  /* 12B, 26B-A4B, 31B: an empty thought in front of answers without thinking */
};

typedef struct gemma_chat_options {
    uint32_t size;
    uint32_t variant; /* GEMMA_CHAT_… above */
} gemma_chat_options;

/* `file` is only asked for its architecture and chat template, and may be NULL when options name a variant. The chat
 * keeps the tokenizer alive. Errors: ARG, NOMEM, UNSUPPORTED (an architecture without a turn format, a vocabulary
 * without its tokens). Since 0.1. */
GEMMA_PUBLIC int gemma_chat_create(gemma_tokenizer *tokenizer, gemma_file *file, const gemma_chat_options *options,
                                   gemma_chat **out, gemma_error *error);
GEMMA_PUBLIC void gemma_chat_destroy(gemma_chat *chat);
/* As gemma_session_message. */
GEMMA_PUBLIC size_t gemma_chat_message(const gemma_chat *chat, char *buffer, size_t n_bytes);
GEMMA_PUBLIC uint32_t gemma_chat_variant(const gemma_chat *chat); /* never AUTO; 0: chat is NULL */

enum {
    GEMMA_ROLE_SYSTEM = 1, /* first in the conversation */
    GEMMA_ROLE_USER = 2,
    GEMMA_ROLE_MODEL = 3,
    GEMMA_ROLE_TOOL = 4, /* the result of a call, behind the model's message that made it */
    GEMMA_ROLE_DEVELOPER = 5
};

typedef struct gemma_message {
    uint32_t size;
    uint32_t role;    /* GEMMA_ROLE_… */
    const char *text; /* what was said, or the result of a call; NULL: nothing */
    size_t n_text;
    const char *thought; /* of the model; written only while its turn lasts. NULL: none */
    size_t n_thought;
    const char *name;    /* of a tool's message: its function, when no call_id says which. NULL: not said */
    const char *call_id; /* of a tool's message: the id given to gemma_chat_add_call. NULL: not said */
} gemma_message;

/* Appends a message; everything is copied. No text in it can become a control token, whatever it says. Each adding call
 * leaves the conversation as it was when it fails.
 * Errors: ARG, VERSION, NOMEM, UTF8. Since 0.1. */
GEMMA_PUBLIC int gemma_chat_add(gemma_chat *chat, const gemma_message *message);
/* A tool call of the last message, which must be the model's (add one without text first). `id` may be NULL;
 * `arguments` is a JSON object, as a parser gives it; n_bytes 0: none.
 * Errors: ARG, NOMEM, STATE, FULL (128 calls), FORMAT. Since 0.1. */
GEMMA_PUBLIC int gemma_chat_add_call(gemma_chat *chat, const char *id, const char *name, const char *arguments,
                                     size_t n_bytes);
/* A message in the common JSON shape: {"role", "content", "reasoning", "tool_calls": [{"id", "function": {"name",
 * "arguments"}}], "tool_call_id", "name"}; content is text or a list of {"type": "text", "text"} and media parts (written
 * as placeholders); arguments are an object. At most 64 MiB, nested at most 64 deep.
 * Errors: ARG, NOMEM, FORMAT (the sentence says where). Since 0.1. */
GEMMA_PUBLIC int gemma_chat_add_json(gemma_chat *chat, const char *json, size_t n_bytes);
/* A tool the model may call: {"type": "function", "function": {"name", "description", "parameters": JSON schema}}, or the
 * inner object alone. Errors: as above. Since 0.1. */
GEMMA_PUBLIC int gemma_chat_add_tool(gemma_chat *chat, const char *json, size_t n_bytes);
/* A whole conversation: {"messages": […], "tools": […], "add_generation_prompt", "enable_thinking",
 * "preserve_thinking"}, or the list of messages alone; appended. *flags (may be NULL) becomes the GEMMA_RENDER_… flags it
 * asks for. Errors: as above. Since 0.1. */
GEMMA_PUBLIC int gemma_chat_read(gemma_chat *chat, const char *json, size_t n_bytes, uint32_t *flags);
/* The conversation as gemma_chat_read takes it; *n_bytes is its length, SMALL when it is more than n_cap.
 * Errors: ARG, NOMEM, SMALL. Since 0.1. */
GEMMA_PUBLIC int gemma_chat_write(gemma_chat *chat, char *buffer, size_t n_cap, size_t *n_bytes);
/* Replaces the system message; n_bytes 0 takes it away. Errors: as gemma_chat_add. Since 0.1. */
GEMMA_PUBLIC int gemma_chat_set_system(gemma_chat *chat, const char *text, size_t n_bytes);

GEMMA_PUBLIC uint32_t gemma_chat_n_messages(const gemma_chat *chat);
/* Keeps the first n_messages; 0 clears the conversation. Tools stay. Errors: ARG. Since 0.1. */
GEMMA_PUBLIC int gemma_chat_keep(gemma_chat *chat, uint32_t n_messages);
/* Drops the oldest turn: everything up to the second user's message but the system message. Returns how many messages
 * went; 0: only one turn is left. Since 0.1. */
GEMMA_PUBLIC uint32_t gemma_chat_drop_oldest(gemma_chat *chat);
GEMMA_PUBLIC int gemma_chat_forget_tools(gemma_chat *chat);

enum {
    GEMMA_RENDER_GENERATE = 1,     /* end with the opening of the model's turn */
    GEMMA_RENDER_THINK = 2,        /* let it think; ignored by Gemma 3 */
    GEMMA_RENDER_KEEP_THOUGHTS = 4 /* thoughts before tool calls stay in later turns */
};

typedef struct gemma_rendering {
    uint32_t size;
    uint32_t in_thought; /* 1: the ids end inside a thought; give it to gemma_parser_reset */
    size_t n_ids;        /* BOS included */
    size_t n_standing;   /* so many stand when the answer and a user's message are added: the place for a mark. Thoughts
                            of this turn come after it, as the next turn's history is without them */
    size_t n_bytes;      /* of the text */
} gemma_rendering;

/* Writes the conversation out. The ids are those of tokenising the text with its markers, but what messages and tools
 * contain is never read as a marker. Rendering the same again costs nothing.
 * Errors: ARG, NOMEM, UNSUPPORTED (tools for Gemma 3; a token that is not in the vocabulary), STATE (Gemma 3: not user
 * and model in turn). Since 0.1. */
GEMMA_PUBLIC int gemma_chat_render(gemma_chat *chat, uint32_t flags, gemma_rendering *rendering);
/* Copies up to n_cap of the last rendering's ids, bytes (UTF-8, no NUL); returns how many. 0 after any change. */
GEMMA_PUBLIC size_t gemma_chat_ids(const gemma_chat *chat, int32_t *ids, size_t n_cap);
GEMMA_PUBLIC size_t gemma_chat_text(const gemma_chat *chat, char *buffer, size_t n_cap);

/* ---------------------------------------------------------------- parser of what the model writes */

typedef struct gemma_parser gemma_parser; /* Threads: one at a time. Works for every vocabulary. */

typedef struct gemma_parser_options {
    uint32_t size;
    uint32_t call_bytes; /* most of one tool call, as written and as JSON; 0: 65536; at most 16 MiB */
} gemma_parser_options;

enum { /* kinds of parts; readers accept numbers they do not know */
       GEMMA_PART_ANSWER = 1,
       GEMMA_PART_THOUGHT = 2,
       GEMMA_PART_CALL = 3,  /* name and arguments */
       GEMMA_PART_BROKEN = 4 /* a tool call that cannot be read: `error` says why, text is what there is of it */
};

typedef struct gemma_part {
    uint32_t size;
    uint32_t kind;    /* GEMMA_PART_… */
    const char *text; /* whole UTF-8 characters, never control text; CALL: the arguments, a JSON object */
    size_t n_bytes;
    const char *name; /* CALL: the function, NUL-terminated; else "" */
    int32_t error;    /* BROKEN: FORMAT, or SMALL when it is longer than call_bytes; else OK */
    uint32_t reserved;
} gemma_part;

/* Takes its memory once, about 3 × call_bytes; nothing below allocates. The parser keeps the tokenizer alive.
 * Errors: ARG, VERSION, NOMEM. Since 0.1. */
GEMMA_PUBLIC int gemma_parser_create(gemma_tokenizer *tokenizer, const gemma_parser_options *options,
                                     gemma_parser **out, gemma_error *error);
GEMMA_PUBLIC void gemma_parser_destroy(gemma_parser *parser);
/* A new output begins; in_thought as gemma_rendering says. Errors: ARG. Since 0.1. */
GEMMA_PUBLIC int gemma_parser_reset(gemma_parser *parser, uint32_t in_thought);
/* The next id of the output; markers are recognised by their ids only. Read the parts before the next push.
 * Errors: ARG, STATE (there are unread parts). Since 0.1. */
GEMMA_PUBLIC int gemma_parser_push(gemma_parser *parser, int32_t id);
/* Text instead of ids, cut anywhere, its markers spelled out; it must stay valid until its parts are read.
 * Errors: as above. Since 0.1. */
GEMMA_PUBLIC int gemma_parser_push_text(gemma_parser *parser, const char *text, size_t n_bytes);
/* The output ends here, with or without an end token: what was held back comes out. Errors: as above. Since 0.1. */
GEMMA_PUBLIC int gemma_parser_finish(gemma_parser *parser);
/* The next part (valid until the next call): 1, or 0 when there is none before the next push. Since 0.1. */
GEMMA_PUBLIC int gemma_parser_next(gemma_parser *parser, gemma_part *part);
/* 1 once an end token (or what can only follow one) was pushed: everything after it is ignored. */
GEMMA_PUBLIC int gemma_parser_ended(const gemma_parser *parser);

#ifdef __cplusplus
}
#endif

#endif
