#include "bill.h"

#include <string.h>

bill_heap bill_heap_at(const cli *c, uint32_t index)
{
    bill_heap h = { .bill = { .size = sizeof h.bill },
                    .device = { .size = sizeof h.device },
                    .heap = { .size = sizeof h.heap } };
    gemma_plan_bill(c->plan, index, &h.bill);
    gemma_device_describe(c->runtime, h.bill.device, &h.device);
    gemma_heap_describe(c->runtime, h.bill.device, h.bill.heap, &h.heap);
    return h;
}

/* ---- JSON ---- */

static json_t *classes_json(const cli *c, uint32_t heap)
{
    json_t *classes = json_object();
    for (uint32_t k = 0; k < GEMMA_CLASS_COUNT; k++) {
        uint64_t n = gemma_plan_class_bytes(c->plan, heap, k);
        if (n && k != GEMMA_CLASS_DRIVER)
            json_object_set_new(classes, gemma_class_name(k), json_integer((json_int_t)n));
    }
    return classes;
}

json_t *bill_json(const cli *c)
{
    json_t *heaps = json_array();
    for (uint32_t i = 0; i < gemma_plan_n_heaps(c->plan); i++) {
        bill_heap h = bill_heap_at(c, i);
        const gemma_bill *b = &h.bill;
        json_array_append_new(heaps, json_pack("{s:s,s:i,s:i,s:s,s:I,s:b,s:I,s:I,s:I,s:I,s:I,s:o}", "device",
                                               h.device.id, "heap", b->heap, "pool", b->pool, "name", b->name, "budget",
                                               (json_int_t)b->budget_bytes, "reported", h.heap.reported, "planned",
                                               (json_int_t)b->total_bytes, "left",
                                               (json_int_t)b->budget_bytes - (json_int_t)b->total_bytes, "mapped",
                                               (json_int_t)b->mapped_bytes, "file", (json_int_t)b->file_bytes, "driver",
                                               (json_int_t)b->driver_bytes, "classes", classes_json(c, i)));
    }
    return heaps;
}

json_t *bill_predict_json(const gemma_plan *plan, bool measured)
{
    gemma_prediction p = { .size = sizeof p };
    gemma_plan_predict(plan, &p);
    return json_pack("{s:f,s:f,s:f,s:I,s:I,s:b}", "decode_tok_s", p.decode_tok_s, "decode_full_tok_s",
                     p.decode_full_tok_s, "prefill_tok_s", p.prefill_tok_s, "bytes_per_token",
                     (json_int_t)p.bytes_per_token, "kv_bytes_full", (json_int_t)p.kv_bytes_full, "measured",
                     p.measured && measured);
}

/* The plan may have been made before anything was measured: it is made again for its prediction. */
double bill_predict_at(cli *c, uint32_t depth, gemma_prediction *p)
{
    gemma_plan_options o;
    gemma_plan *plan = NULL;
    gemma_prediction now = { .size = sizeof now };
    cli_plan_options(c, &o);
    if (c->model) o.replaces = c->model;
    gemma_plan_predict_at(c->plan, depth, p);
    if (!p->measured && !gemma_plan_create(c->file, &o, &plan, NULL)) gemma_plan_predict_at(plan, depth, &now);
    gemma_plan_destroy(plan);
    return p->measured ? p->decode_tok_s : now.decode_tok_s;
}

bool bill_is_spread(const cli *c)
{
    uint32_t first = bill_heap_at(c, 0).bill.device;
    for (uint32_t i = 1; i < gemma_plan_n_heaps(c->plan); i++)
        if (bill_heap_at(c, i).bill.device != first) return true;
    return false;
}

/* ---- the table ---- */

/* "vulkan:0 (NAME)"; the CPU's name says nothing here. */
static const char *name_device(const cli *c, uint32_t device, char *text, size_t n)
{
    gemma_device_info d = { .size = sizeof d };
    gemma_device_describe(c->runtime, device, &d);
    if (d.kind == GEMMA_DEVICE_CPU)
        snprintf(text, n, "%s", d.id);
    else
        snprintf(text, n, "%s (%s)", d.id, d.name);
    return text;
}

void bill_split_text(const cli *c, const gemma_plan_info *info, char *text, size_t n_text)
{
    char what[48], first[176], second[176];
    uint32_t n = info->split_experts ? info->split_experts : info->split_layers;
    const char *of = info->split_experts ? "the experts of " : "";
    text[0] = '\0';
    if (!n) return;
    if (n == 1)
        snprintf(what, sizeof what, "%slayer 0", of);
    else
        snprintf(what, sizeof what, "%slayers 0 to %u", of, n - 1);
    snprintf(text, n_text, "%s on %s, the rest on %s", what, name_device(c, info->second_device, second, sizeof second),
             name_device(c, info->device, first, sizeof first));
}

static void print_bar(FILE *to, uint64_t part, uint64_t whole)
{
    int n = whole ? (int)(24.0 * (double)part / (double)whole + 0.5) : 0;
    if (n > 24) n = 24;
    for (int i = 0; i < 24; i++) fputs(i < n ? "█" : "·", to);
}

/* A row: a name and bytes, and what is to be said of them. */
static void print_row(FILE *to, const char *name, uint64_t n_bytes, const char *words)
{
    fprintf(to, "  %-20s %11s  %s\n", name, cli_bytes(n_bytes), words);
}

static void print_budget(FILE *to, const bill_heap *h)
{
    const gemma_bill *b = &h->bill;
    bool fits = b->total_bytes <= b->budget_bytes;
    fprintf(to, "  %-20s %11s  of %s that may be used; %s %s\n", "total", cli_bytes(b->total_bytes),
            cli_bytes(b->budget_bytes),
            cli_bytes(fits ? b->budget_bytes - b->total_bytes : b->total_bytes - b->budget_bytes),
            fits ? "left" : "short");
    if (!h->heap.reported)
        fprintf(to, "  %-20s %11s  no budget is told by the driver: 80 %% of the heap's %s is planned with\n", "budget",
                "hidden", cli_bytes(h->heap.total_bytes));
}

static void print_heap(const cli *c, FILE *to, uint32_t index)
{
    bill_heap h = bill_heap_at(c, index);
    const gemma_bill *b = &h.bill;
    fprintf(to, "%s  [%s, heap %u]\n", b->name, h.device.id, b->heap);
    for (uint32_t k = 0; k < GEMMA_CLASS_COUNT; k++) {
        uint64_t n = gemma_plan_class_bytes(c->plan, index, k);
        if (!n || k == GEMMA_CLASS_DRIVER) continue;
        fprintf(to, "  %-20s %11s  ", gemma_class_name(k), cli_bytes(n));
        print_bar(to, n, b->total_bytes);
        fputc('\n', to);
    }
    print_budget(to, &h);
    if (b->driver_bytes) print_row(to, "driver", b->driver_bytes, "for itself, as it is estimated; not in the total");
    if (b->file_bytes)
        print_row(to, gemma_class_name(GEMMA_CLASS_PLE), b->file_bytes, "stay in the file, a row read for every token");
    if (b->mapped_bytes) print_row(to, "weights", b->mapped_bytes, "read in place from the mapped file");
    if (b->mapped_bytes && b->total_bytes <= b->budget_bytes && b->mapped_bytes > b->budget_bytes - b->total_bytes)
        fprintf(to, "  the mapped weights are more than the memory that is free: the disk is read for every token\n");
}

/* Heaps that draw on the machine's own memory are several doors to one room: both must hold. */
static void print_pool(const cli *c, FILE *to)
{
    uint64_t n_bytes = 0;
    uint32_t n = 0;
    gemma_heap_info ram = { .size = sizeof ram };
    for (uint32_t i = 0; i < gemma_plan_n_heaps(c->plan); i++) {
        bill_heap h = bill_heap_at(c, i);
        if (h.bill.pool) continue;
        n_bytes += h.bill.total_bytes;
        n++;
    }
    if (n < 2) return;
    gemma_heap_describe(c->runtime, 0, 0, &ram);
    fprintf(to, "the %u heaps that draw on the machine's own memory take %s of its %s together\n", n,
            cli_bytes(n_bytes), cli_bytes(ram.budget_bytes));
}

void cli_print_bill(const cli *c, FILE *to)
{
    gemma_plan_info info = { .size = sizeof info };
    char split[400];
    gemma_plan_describe(c->plan, &info);
    bill_split_text(c, &info, split, sizeof split);
    if (c->note[0]) fprintf(to, "on the CPU: %s\n", c->note);
    if (info.warning[0]) fprintf(to, "%s\n", info.warning);
    if (split[0]) fprintf(to, "split: %s\n", split);
    for (uint32_t i = 0; i < gemma_plan_n_heaps(c->plan); i++) print_heap(c, to, i);
    print_pool(c, to);
}
