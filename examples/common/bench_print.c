#include "bench.h"

#include <jansson.h>
#include <string.h>

static gemma_device_info device_of(const bench_report *b)
{
    gemma_device_info d = { .size = sizeof d };
    gemma_device_describe(b->c->runtime, b->c->device, &d);
    return d;
}

/* ---- JSON ---- */

static json_t *probes_json(const cli *c)
{
    json_t *list = json_array();
    for (const gemma_probe *p = &c->probe; p; p = p->next) {
        const struct {
            const char *name;
            double value;
        } figures[] = { { "read_gb_s", p->read_gb_s },
                        { "q4_gb_s", p->q4_gb_s },
                        { "q5_gb_s", p->q5_gb_s },
                        { "q6_gb_s", p->q6_gb_s },
                        { "q8_gb_s", p->q8_gb_s },
                        { "f16_gb_s", p->f16_gb_s },
                        { "row_ns", p->row_ns },
                        { "product_us", p->product_us },
                        { "op_us", p->op_us },
                        { "dispatch_us", p->dispatch_us },
                        { "submit_us", p->submit_us },
                        { "attention_gflops", p->attention_gflops },
                        { "attention_us", p->attention_us },
                        { "compute_gflops", p->compute_gflops } };
        gemma_device_info d = { .size = sizeof d };
        gemma_device_describe(c->runtime, p->device, &d);
        json_t *one = json_pack("{s:s}", "device", d.id);
        for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
            json_object_set_new(one, figures[i].name, json_real(figures[i].value));
        json_array_append_new(list, one);
    }
    return list;
}

static void print_json(const bench_report *b)
{
    gemma_device_info d = device_of(b);
    json_t *list = json_array();
    for (uint32_t i = 0; i < b->n_results; i++) {
        const bench_result *r = &b->results[i];
        json_t *one =
            json_pack("{s:s,s:i,s:i,s:i,s:s,s:s,s:{s:f,s:f},s:f,s:f,s:f,s:f,s:f,s:I,s:i,s:i,s:o}", "test", r->test,
                      "n_prompt", r->n_prompt, "n_gen", r->n_gen, "depth", r->depth, "device", d.id, "device_name",
                      d.name, "tok_s", "best", r->best, "median", r->median, "gb_s", bench_gb_s(r), "measured_gb_s",
                      r->measured_gb_s, "bandwidth_pct", bench_share(r), "predicted_tok_s", r->predicted,
                      "predicted_off_pct", r->off_pct, "bytes_per_token", (json_int_t)r->bytes_per_token, "dispatches",
                      r->dispatches, "submits", r->submits, "probes", probes_json(b->c));
        if (b->host_threads) json_object_set_new(one, "host_calls", json_real(r->host_calls));
        if (b->sweep && b->fits_ctx) json_object_set_new(one, "fits_ctx", json_integer(b->fits_ctx));
        json_array_append_new(list, one);
    }
    json_dumpf(list, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(list);
}

/* ---- CSV ---- */

/* Quoted where it must be. */
static void put_field(const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, stdout);
        return;
    }
    putchar('"');
    for (; *text; text++) {
        if (*text == '"') putchar('"');
        putchar(*text);
    }
    putchar('"');
}

static void print_csv(const bench_report *b)
{
    gemma_device_info d = device_of(b);
    puts("test,n_prompt,n_gen,depth,device,device_name,best_tok_s,median_tok_s,gb_s,measured_gb_s,bandwidth_pct,"
         "predicted_tok_s,predicted_off_pct,bytes_per_token,dispatches,submits");
    for (uint32_t i = 0; i < b->n_results; i++) {
        const bench_result *r = &b->results[i];
        printf("%s,%u,%u,%u,", r->test, r->n_prompt, r->n_gen, r->depth);
        put_field(d.id);
        putchar(',');
        put_field(d.name);
        printf(",%.3f,%.3f,%.4f,%.3f,%.2f,%.3f,%.1f,%.0f,%u,%u\n", r->best, r->median, bench_gb_s(r), r->measured_gb_s,
               bench_share(r), r->predicted, r->off_pct, r->bytes_per_token, r->dispatches, r->submits);
    }
}

/* ---- Markdown ---- */

static void print_probes(const cli *c)
{
    for (const gemma_probe *p = &c->probe; p; p = p->next) {
        gemma_device_info d = { .size = sizeof d };
        gemma_device_describe(c->runtime, p->device, &d);
        printf("%s: memory reads at %.1f GB/s, products at %.1f (Q4_K), %.1f (Q5_0), %.1f (Q6_K), %.1f (Q8_0), %.1f "
               "(F16); %.0f GFLOPS, in attention %.0f; a submit takes %.1f µs, an op %.1f, attention %.1f, a product "
               "%.1f, each of its rows %.1f ns",
               d.name, p->read_gb_s, p->q4_gb_s, p->q5_gb_s, p->q6_gb_s, p->q8_gb_s, p->f16_gb_s, p->compute_gflops,
               p->attention_gflops, p->submit_us, p->op_us, p->attention_us, p->product_us, p->row_ns);
        if (p->dispatch_us > 0) printf("; handing out to the threads %.2f µs", p->dispatch_us);
        fputs("\n\n", stdout);
    }
}

/* What the host's threads cost of a token, as the probe has measured it. */
static void print_host(const bench_report *b)
{
    for (uint32_t i = 0; i < b->n_results; i++) {
        const bench_result *r = &b->results[i];
        double us = r->host_calls * b->c->probe.dispatch_us;
        if (!r->n_gen) continue;
        printf("\nhost's parallel_for, %s at depth %u: %.0f calls a token, each %.2f µs beyond its work: %.1f %% of "
               "a token's time\n",
               r->test, r->depth, r->host_calls, b->c->probe.dispatch_us, 1e-4 * us * r->median);
    }
}

static void print_md(const bench_report *b)
{
    print_probes(b->c);
    puts(
        "| test | depth | best tok/s | median tok/s | GB/s | of measured GB/s | % | predicted tok/s | off by | bytes a "
        "token | dispatches | submits |");
    puts("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (uint32_t i = 0; i < b->n_results; i++) {
        const bench_result *r = &b->results[i];
        printf("| %s | %u | %.1f | %.1f | %.2f | %.1f | %.0f | %.1f | %+.0f %% | %s | %u | %u |\n", r->test, r->depth,
               r->best, r->median, bench_gb_s(r), r->measured_gb_s, bench_share(r), r->predicted, r->off_pct,
               cli_bytes((uint64_t)r->bytes_per_token), r->dispatches, r->submits);
    }
    if (b->sweep && b->fits_ctx) printf("\nA context of more than %u tokens does not fit.\n", b->fits_ctx);
    if (b->host_threads) print_host(b);
}

void bench_print(const bench_report *b, const char *format)
{
    if (!strcmp(format, "json"))
        print_json(b);
    else if (!strcmp(format, "csv"))
        print_csv(b);
    else
        print_md(b);
}
