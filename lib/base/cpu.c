#include "base/os.h"

#if defined(__x86_64__) || defined(__i386__)
#define X86 1
#include <cpuid.h>
#endif

#ifdef X86

typedef struct registers {
    uint32_t a, b, c, d;
} registers;

static registers cpuid(uint32_t leaf, uint32_t sub_leaf)
{
    registers r = { 0, 0, 0, 0 };
    if (!__get_cpuid_count(leaf, sub_leaf, &r.a, &r.b, &r.c, &r.d)) return (registers){ 0, 0, 0, 0 };
    return r;
}

static bool has(uint32_t word, uint32_t bit) { return word >> bit & 1; }

/* Which register files the OS saves on a task switch (XCR0). */
static uint32_t saved_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* Zen 4 carries 512-bit instructions out as two halves; Intel's processors and later ones of AMD do not. */
static bool is_fast_with_512(void)
{
    enum { INTEL = 0x756e6547, AMD = 0x68747541, ZEN_5 = 0x1a }; /* the first letters of the maker's name; a family */
    uint32_t maker = cpuid(0, 0).b, one = cpuid(1, 0).a;
    return maker == INTEL || (maker == AMD && (one >> 8 & 15) + (one >> 20 & 255) >= ZEN_5);
}

uint32_t gm_cpu_features(void)
{
    enum { YMM = 0x06, ZMM = 0xe6 };
    registers one = cpuid(1, 0), seven = cpuid(7, 0), more = cpuid(7, 1);
    if (seven.a < 1) more = (registers){ 0, 0, 0, 0 };
    uint32_t saved = has(one.c, 27) ? saved_state() : 0, found = 0;
    bool fma_f16c = has(one.c, 12) && has(one.c, 29);
    if ((saved & YMM) != YMM || !has(seven.b, 5) || !fma_f16c) return 0;
    found |= GM_CPU_AVX2 | (has(more.a, 4) ? GM_CPU_AVX_VNNI : 0u);
    bool f_dq_bw_vl = has(seven.b, 16) && has(seven.b, 17) && has(seven.b, 30) && has(seven.b, 31);
    if ((saved & ZMM) != ZMM || !f_dq_bw_vl) return found;
    return found | GM_CPU_AVX512 | (has(seven.c, 11) ? GM_CPU_AVX512_VNNI : 0u) |
           (has(more.a, 5) ? GM_CPU_AVX512_BF16 : 0u) | (is_fast_with_512() ? GM_CPU_FAST_512 : 0u);
}

void gm_cpu_name(char *buffer, size_t n)
{
    char text[49] = "";
    for (uint32_t i = 0; i < 3; i++) {
        registers r = cpuid(0x80000002u + i, 0);
        memcpy(text + i * sizeof r, &r, sizeof r);
    }
    const char *name = text + strspn(text, " ");
    size_t length = strlen(name);
    while (length && name[length - 1] == ' ') length--;
    gm_text_format(buffer, n, "%.*s", (int)length, length ? name : "x86");
}

#else

uint32_t gm_cpu_features(void) { return gm_os_cpu_features(); }

void gm_cpu_name(char *buffer, size_t n)
{
#if defined(__aarch64__)
    gm_text_format(buffer, n, "aarch64");
#elif defined(__riscv)
    gm_text_format(buffer, n, "risc-v");
#else
    gm_text_format(buffer, n, "unknown processor");
#endif
}

#endif

void gm_cpu_relax(void)
{
#if defined(X86)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* yield is a no-op on most cores; isb waits about as long as x86's pause */
#endif
}

/* x86: MXCSR, all exceptions masked, to nearest. Arm: FPCR, to nearest, denormals kept. */
#if defined(X86) && defined(__SSE__)
uint64_t gm_float_env_set_default(void)
{
    uint32_t saved, standard = 0x1f80;
    __asm__ volatile("stmxcsr %0" : "=m"(saved));
    __asm__ volatile("ldmxcsr %0" : : "m"(standard));
    return saved;
}
void gm_float_env_restore(uint64_t saved)
{
    uint32_t word = (uint32_t)saved;
    __asm__ volatile("ldmxcsr %0" : : "m"(word));
}
#elif defined(__aarch64__)
uint64_t gm_float_env_set_default(void)
{
    uint64_t saved, standard = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" : : "r"(standard));
    return saved;
}
void gm_float_env_restore(uint64_t saved) { __asm__ volatile("msr fpcr, %0" : : "r"(saved)); }
#else
uint64_t gm_float_env_set_default(void) { return 0; }
void gm_float_env_restore(uint64_t saved) { (void)saved; }
#endif
