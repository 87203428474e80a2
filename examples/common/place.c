/* --place CLASS[:LAYERS]=HOME: wishes, and the placement hook that carries them out. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

/* Scratch follows what works with it; so do small weights, but where their device has two homes for them. */
#define ALL                                                                                                            \
    (1u << GEMMA_CLASS_EMBEDDING | 1u << GEMMA_CLASS_PLE | 1u << GEMMA_CLASS_ATTENTION | 1u << GEMMA_CLASS_FFN |       \
     1u << GEMMA_CLASS_EXPERTS | 1u << GEMMA_CLASS_HEAD | 1u << GEMMA_CLASS_NORMS | 1u << GEMMA_CLASS_KV_GLOBAL |      \
     1u << GEMMA_CLASS_KV_SLIDING)

static const struct {
    const char *name;
    uint32_t classes; /* bits */
} names[] = {
    { "embedding", 1u << GEMMA_CLASS_EMBEDDING },
    { "ple", 1u << GEMMA_CLASS_PLE },
    { "attention", 1u << GEMMA_CLASS_ATTENTION },
    { "ffn", 1u << GEMMA_CLASS_FFN },
    { "experts", 1u << GEMMA_CLASS_EXPERTS },
    { "head", 1u << GEMMA_CLASS_HEAD },
    { "kv", 1u << GEMMA_CLASS_KV_GLOBAL | 1u << GEMMA_CLASS_KV_SLIDING },
    { "kv-global", 1u << GEMMA_CLASS_KV_GLOBAL },
    { "kv-sliding", 1u << GEMMA_CLASS_KV_SLIDING },
    { "all", ALL },
    { "per-layer-embedding", 1u << GEMMA_CLASS_PLE },
};
enum { N_NAMES = sizeof names / sizeof *names, N_LISTED = N_NAMES - 1 }; /* the last is another word for "ple" */

static const char how[] = "--place takes CLASS[:LAYERS]=HOME, as in experts=cpu or ffn:0-5=vulkan:1";

/* ---- reading a wish ---- */

static uint32_t classes_of(const cli *c, const char *text, size_t n)
{
    char list[160];
    size_t at = 0;
    for (size_t i = 0; i < N_NAMES; i++)
        if (strlen(names[i].name) == n && !strncmp(names[i].name, text, n)) return names[i].classes;
    for (size_t i = 0; i < N_LISTED; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", names[i].name);
    cli_usage(c, "--place: \"%.*s\" is no class of bytes that can be placed; there are: %s", (int)n, text, list);
}

/* "3", "0-5", "odd", "even". */
static void read_layers(const cli *c, const char *text, size_t n, cli_wish *w)
{
    char word[24], *end;
    snprintf(word, sizeof word, "%.*s", (int)n, text);
    w->step = 1;
    if (!strcmp(word, "odd") || !strcmp(word, "even")) {
        w->step = 2;
        w->first = word[0] == 'o';
        w->last = INT32_MAX;
        return;
    }
    long first = strtol(word, &end, 10), last = first;
    bool good = end > word && word[0] != '-' && word[0] != '+';
    if (good && *end == '-') {
        const char *second = end + 1;
        last = strtol(second, &end, 10);
        good = *second >= '0' && *second <= '9';
    }
    if (!good || *end || n >= sizeof word || last < first || last > 100000)
        cli_usage(c, "--place: \"%.*s\" names no layers; LAYERS is 3, 0-5, odd or even", (int)n, text);
    w->first = (int32_t)first;
    w->last = (int32_t)last;
}

void cli_add_wish(cli *c, const char *text)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1]) cli_usage(c, "%s; \"%s\" is none", how, text);
    if (c->n_wishes == CLI_WISHES_MAX) cli_usage(c, "--place can be given %d times", CLI_WISHES_MAX);
    cli_wish *w = &c->wishes[c->n_wishes++];
    const char *colon = memchr(text, ':', (size_t)(equals - text));
    const char *end = colon ? colon : equals;
    *w = (cli_wish){ .text = text, .home = equals + 1, .first = -1 };
    w->classes = classes_of(c, text, (size_t)(end - text));
    if (colon) read_layers(c, colon + 1, (size_t)(equals - colon - 1), w);
}

void cli_find_homes(cli *c)
{
    for (uint32_t i = 0; i < c->n_wishes; i++) {
        cli_wish *w = &c->wishes[i];
        gemma_error e = { .size = sizeof e };
        w->anywhere = !strcmp(w->home, "file") || !strcmp(w->home, "memory");
        if (w->anywhere) continue;
        int rc = gemma_device_find(c->runtime, w->home, &w->device, &e);
        if (rc || w->device == GEMMA_DEVICE_AUTO)
            cli_usage(c, "--place %s: %s; or file, or memory (of the plan's device)", w->text,
                      rc ? e.message : "\"auto\" is no home");
    }
}

/* ---- the hook ---- */

static bool concerns(const cli_wish *w, const gemma_placement *want)
{
    if (!(w->classes >> want->bytes_class & 1)) return false;
    if (w->first < 0) return true;
    return want->layer >= w->first && want->layer <= w->last && (want->layer - w->first) % w->step == 0;
}

static bool is_home(const cli_wish *w, const gemma_home *first, const gemma_home *home)
{
    bool memory = home->kind == GEMMA_HOME_MEMORY;
    if (!w->anywhere) return home->device == w->device && home->kind != GEMMA_HOME_FILE;
    return w->home[0] == 'f' ? !memory : memory && home->device == first->device;
}

/* The candidates as a wish would name them. */
static void list_homes(const cli *c, const gemma_placement *want, char *list, size_t n)
{
    size_t at = 0;
    bool file = false;
    list[0] = '\0';
    for (uint32_t i = 0; i < want->n_candidates && at < n; i++) {
        gemma_home home = { .size = sizeof home };
        gemma_device_info d = { .size = sizeof d };
        gemma_placement_home(want, i, &home);
        gemma_device_describe(c->runtime, home.device, &d);
        if (home.kind == GEMMA_HOME_MEMORY) at += (size_t)snprintf(list + at, n - at, "%s%s", at ? ", " : "", d.id);
        file |= home.kind != GEMMA_HOME_MEMORY;
    }
    if (file && at < n) snprintf(list + at, n - at, "%sfile", at ? ", " : "");
}

static uint32_t place(void *user, const gemma_placement *want)
{
    cli *c = user;
    uint32_t answer = 0;
    gemma_home first = { .size = sizeof first }, home = { .size = sizeof home };
    gemma_placement_home(want, 0, &first);
    for (uint32_t i = 0; i < c->n_wishes; i++) { /* the last one that concerns it counts */
        cli_wish *w = &c->wishes[i];
        w->has_class |= w->classes >> want->bytes_class & 1;
        if (want->layer >= c->n_layers) c->n_layers = want->layer + 1;
        if (!concerns(w, want)) continue;
        uint32_t k = 0;
        while (k < want->n_candidates && (gemma_placement_home(want, k, &home) || !is_home(w, &first, &home))) k++;
        bool found = k < want->n_candidates;
        w->concerned |= found;
        if (found) answer = k;
        if (found || w->refused || want->bytes_class == GEMMA_CLASS_NORMS) continue;
        w->refused = true;
        snprintf(w->what, sizeof w->what, "%s", gemma_class_name(want->bytes_class));
        list_homes(c, want, w->homes, sizeof w->homes);
    }
    return answer;
}

void cli_place(cli *c, gemma_plan_options *o)
{
    if (!c->n_wishes) return;
    o->place = place;
    o->place_user = c;
}

void cli_check_wishes(const cli *c)
{
    for (uint32_t i = 0; i < c->n_wishes; i++) {
        const cli_wish *w = &c->wishes[i];
        if (w->refused) cli_usage(c, "--place %s: %s cannot lie there; there is: %s", w->text, w->what, w->homes);
        if (w->concerned) continue;
        if (!w->has_class) cli_usage(c, "--place %s: this model has nothing of that class", w->text);
        cli_usage(c, "--place %s: nothing of that class in those layers; the model has layers 0 to %d", w->text,
                  (int)c->n_layers - 1);
    }
}
