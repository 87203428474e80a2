#include "api/handles.h"

void gm_plan_drop(gemma_plan *plan)
{
    if (!plan || !gm_ref_drop(&plan->ref)) return;
    gemma_file *file = plan->file;
    gm_plan_destroy(plan->plan);
    gm_delete(&file->runtime->mem, plan);
    gm_file_drop(file);
}

static bool is_gpu(const gemma_device_info *info)
{
    return info->usable && (info->kind == GEMMA_DEVICE_DISCRETE || info->kind == GEMMA_DEVICE_INTEGRATED);
}

/* The device asked for, then those that may carry a part of the plan: real GPUs, and the CPU as the slowest last. */
static gm_devices devices_for(const gemma_runtime *rt, uint32_t device)
{
    gm_devices d = { .backends = { rt->devices[device] }, .numbers = { device }, .n = 1, .host = rt->devices[0] };
    for (uint32_t i = 1; i <= rt->n_devices && d.n < GM_SHARES_MAX; i++) {
        uint32_t number = i % rt->n_devices; /* 0, the CPU, comes at the end */
        gemma_device_info info = { .size = sizeof info };
        rt->devices[number]->fns->describe(rt->devices[number], &info);
        if (number == device || (number && !is_gpu(&info))) continue;
        d.numbers[d.n] = number;
        d.backends[d.n++] = rt->devices[number];
    }
    return d;
}

/* A plan of the file for one device. */
static int plan_for(gemma_file *file, const gemma_plan_options *o, gm_plan **out, gemma_error *error)
{
    gemma_runtime *rt = file->runtime;
    gm_settings settings;
    gm_devices devices = devices_for(rt, o->device);
    int rc = gm_settings_read(file->model, &devices, o, &settings, error);
    if (rc) return rc;
    settings.mapped = file->in_memory;
    if (o->replaces && !gm_engine_is_parked(o->replaces->engine)) settings.replaced = o->replaces->plan->plan;
    return gm_plan_create(&rt->mem, file->gguf, file->model, &devices, &settings, out, error);
}

/* GEMMA_DEVICE_AUTO: the first real GPU that holds the plan, else the CPU; the note says why GPUs were passed over. */
static int plan_for_any(gemma_plan *plan, gemma_plan_options o, gemma_error *error)
{
    gemma_runtime *rt = plan->file->runtime;
    size_t at = gm_text_format(plan->note, sizeof plan->note, "%s", rt->why_no_gpu.message);
    for (uint32_t i = 0; i < rt->n_devices; i++) {
        gemma_device_info info = { .size = sizeof info };
        rt->devices[i]->fns->describe(rt->devices[i], &info);
        if (info.kind != GEMMA_DEVICE_DISCRETE && info.kind != GEMMA_DEVICE_INTEGRATED) continue;
        if (!info.usable) {
            at += gm_text_format(plan->note + at, sizeof plan->note - at, "%s%s: %s", at ? "; " : "", info.name,
                                 info.reason);
            continue;
        }
        gemma_error why = { .size = sizeof why };
        o.device = i;
        int rc = plan_for(plan->file, &o, &plan->plan, &why);
        if (!rc) rc = gm_plan_check(plan->plan, &why);
        if (!rc || rc == GEMMA_E_NOMEM) return rc ? gm_fail(error, rc, "%s", why.message) : rc;
        gm_plan_destroy(plan->plan);
        plan->plan = NULL;
        at += gm_text_format(plan->note + at, sizeof plan->note - at, "%s%s", at ? "; " : "", why.message);
    }
    o.device = 0; /* the CPU is always the first */
    return plan_for(plan->file, &o, &plan->plan, error);
}

int gemma_plan_create(gemma_file *file, const gemma_plan_options *options, gemma_plan **out, gemma_error *error)
{
    gm_error_clear(error);
    if (!out) return gm_fail(error, GEMMA_E_ARG, "gemma_plan_create: out is NULL");
    *out = NULL;
    gemma_plan_options o;
    int rc = gm_options_read(&o, sizeof o, options, "gemma_plan_options", error);
    if (rc) return rc;
    if (!file) return gm_fail(error, GEMMA_E_ARG, "gemma_plan_create: file is NULL");
    gemma_runtime *rt = file->runtime;
    if (!file->model)
        return gm_fail(error, GEMMA_E_FORMAT, "%s holds a vocabulary but no tensors: there is nothing to plan",
                       gm_gguf_name(file->gguf));
    if (o.device >= rt->n_devices && o.device != GEMMA_DEVICE_AUTO)
        return gm_fail(error, GEMMA_E_DEVICE, "no device %u: there are %u", o.device, rt->n_devices);

    gemma_plan *plan = gm_new(&rt->mem, sizeof *plan, GEMMA_TAG_OBJECT);
    if (!plan) return gm_fail_nomem(error, "a plan handle", sizeof *plan);
    gm_ref_init(&plan->ref);
    plan->file = file;
    gm_ref_take(&file->ref);
    rc = o.device == GEMMA_DEVICE_AUTO ? plan_for_any(plan, o, error) : plan_for(file, &o, &plan->plan, error);
    if (rc) {
        gm_plan_drop(plan);
        return rc;
    }
    *out = plan;
    return GEMMA_OK;
}

void gemma_plan_destroy(gemma_plan *plan) { gm_plan_drop(plan); }

int gemma_plan_check(const gemma_plan *plan, gemma_error *error)
{
    gm_error_clear(error);
    if (!plan) return gm_fail(error, GEMMA_E_ARG, "gemma_plan_check: plan is NULL");
    return gm_plan_check(plan->plan, error);
}

const char *gemma_class_name(uint32_t bytes_class) { return gm_class_name(bytes_class); }

int gemma_placement_home(const gemma_placement *want, uint32_t index, gemma_home *home)
{
    gemma_home full;
    if (!want || !home) return GEMMA_E_ARG;
    int rc = gm_placement_home(want, index, &full);
    return rc ? rc : gm_result_write(home, &full, sizeof full);
}

uint32_t gemma_plan_n_heaps(const gemma_plan *plan) { return plan ? plan->plan->n_lines : 0; }

int gemma_plan_bill(const gemma_plan *plan, uint32_t index, gemma_bill *bill)
{
    if (!plan || !bill || index >= plan->plan->n_lines) return GEMMA_E_ARG;
    const gm_bill_line *line = &plan->plan->lines[index];
    gemma_bill full = {
        .size = sizeof full,
        .device = plan->plan->devices.numbers[line->share],
        .heap = line->heap,
        .pool = line->pool,
        .kv_sliding_bytes = line->class_bytes[GEMMA_CLASS_KV_SLIDING],
        .kv_global_bytes = line->class_bytes[GEMMA_CLASS_KV_GLOBAL],
        .marks_bytes = line->class_bytes[GEMMA_CLASS_MARKS],
        .scratch_bytes = line->class_bytes[GEMMA_CLASS_SCRATCH],
        .staging_bytes = line->class_bytes[GEMMA_CLASS_STAGING],
        .driver_bytes = line->class_bytes[GEMMA_CLASS_DRIVER],
        .total_bytes = line->total_bytes,
        .budget_bytes = line->budget_bytes,
        .mapped_bytes = line->mapped_bytes,
        .file_bytes = line->file_bytes,
    };
    for (uint32_t c = GEMMA_CLASS_EMBEDDING; c <= GEMMA_CLASS_NORMS; c++) full.weight_bytes += line->class_bytes[c];
    memcpy(full.name, line->name, sizeof full.name);
    return gm_result_write(bill, &full, sizeof full);
}

uint64_t gemma_plan_class_bytes(const gemma_plan *plan, uint32_t index, uint32_t bytes_class)
{
    if (!plan || index >= plan->plan->n_lines || bytes_class >= GEMMA_CLASS_COUNT) return 0;
    return plan->plan->lines[index].class_bytes[bytes_class];
}

int gemma_plan_describe(const gemma_plan *plan, gemma_plan_info *info)
{
    if (!plan || !info) return GEMMA_E_ARG;
    const gm_settings *s = &plan->plan->settings;
    gemma_plan_info full = {
        .size = sizeof full,
        .device = s->device,
        .ctx = s->ctx,
        .n_sessions = s->n_sessions,
        .kv_tokens = s->kv_tokens,
        .kv_global = s->kv_type[GM_KV_GLOBAL],
        .kv_sliding = s->kv_type[GM_KV_SLIDING],
        .ubatch = s->ubatch,
        .n_marks = s->n_marks,
        .slack = s->slack,
        .logit_rows = s->logit_rows,
        .n_ops = plan->plan->programs[GM_PROGRAM_FULL]->n_ops,
        .fits = plan->plan->fits,
        .session_bytes = gm_engine_session_bytes(plan->plan) + sizeof(gm_session_link) + GM_NEW_EXTRA,
        .step_bytes = gm_engine_step_bytes(plan->plan),
    };
    bool split = s->split_layers || s->split_experts;
    full.second_device = split ? plan->plan->devices.numbers[s->second] : s->device;
    full.split_layers = s->split_layers;
    full.split_experts = s->split_experts;
    full.n_submits = plan->plan->cuts[GM_PROGRAM_FULL].n_segments;
    full.n_converted = plan->plan->n_converted;
    full.converted_bytes = plan->plan->converted_bytes;
    full.converted_file_bytes = plan->plan->converted_file_bytes;
    memcpy(full.note, plan->note, sizeof full.note);
    memcpy(full.warning, plan->plan->warning, sizeof full.warning);
    return gm_result_write(info, &full, sizeof full);
}

int gemma_plan_predict(const gemma_plan *plan, gemma_prediction *prediction)
{
    return gemma_plan_predict_at(plan, 0, prediction);
}

int gemma_plan_predict_at(const gemma_plan *plan, uint32_t depth, gemma_prediction *prediction)
{
    if (!plan || !prediction) return GEMMA_E_ARG;
    gemma_prediction full = gm_plan_predict(plan->plan, depth);
    return gm_result_write(prediction, &full, sizeof full);
}

uint32_t gemma_plan_n_advice(const gemma_plan *plan) { return plan ? plan->plan->n_advice : 0; }

int gemma_plan_advice(const gemma_plan *plan, uint32_t index, gemma_advice *advice)
{
    if (!plan || !advice || index >= plan->plan->n_advice) return GEMMA_E_ARG;
    return gm_result_write(advice, &plan->plan->advice[index], sizeof plan->plan->advice[index]);
}
