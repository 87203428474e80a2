#include "models.h"

#include <ctype.h>
#include <glob.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_LISTED = 20, HEX_DIGITS = 64 };

typedef struct model {
    char *name, *path;
    size_t n_root; /* that many bytes of the path are the folder with all of its kind: Ollama's, a snapshot */
    bool kept;
} model;

typedef struct models {
    const char *prefix; /* "ollama:" */
    model *at;
    size_t n;
} models;

/* Takes the name. */
static void add(models *all, char *name, const char *path, size_t n_root)
{
    model *grown = realloc(all->at, (all->n + 1) * sizeof *grown);
    if (grown) all->at = grown;
    char *copy = grown ? strdup(path) : NULL;
    if (copy)
        all->at[all->n++] = (model){ name, copy, n_root, true };
    else
        free(name);
}

static void forget(models *all)
{
    for (size_t i = 0; i < all->n; i++) {
        free(all->at[i].name);
        free(all->at[i].path);
    }
    free(all->at);
}

/* The files root/pattern; what looks like a pattern in the root means itself. */
static void search(const char *root, const char *pattern, glob_t *files)
{
    char *whole = malloc(2 * strlen(root) + strlen(pattern) + 2), *to = whole;
    if (!whole) return;
    for (const char *from = root; *from; *to++ = *from++)
        if (strchr("\\*?[", *from)) *to++ = '\\';
    *to++ = '/';
    strcpy(to, pattern);
    glob(whole, files->gl_pathv ? GLOB_APPEND : 0, NULL, files);
    free(whole);
}

/* ---- choosing ---- */

typedef bool (*test)(const model *m, const void *wanted);

/* Keeps those that fit, or all where none does. Returns how many fit. */
static size_t narrow(models *all, test fits, const void *wanted)
{
    size_t n = 0;
    for (size_t i = 0; i < all->n; i++) n += all->at[i].kept && fits(&all->at[i], wanted);
    for (size_t i = 0; n && i < all->n; i++) all->at[i].kept &= fits(&all->at[i], wanted);
    return n;
}

static size_t n_kept(const models *all)
{
    size_t n = 0;
    for (size_t i = 0; i < all->n; i++) n += all->at[i].kept;
    return n;
}

static const model *first_kept(const models *all)
{
    size_t i = 0;
    while (!all->at[i].kept) i++;
    return &all->at[i];
}

static void list(const models *all)
{
    size_t n = 0;
    for (size_t i = 0; i < all->n; i++) {
        if (!all->at[i].kept || ++n > MOST_LISTED) continue;
        fprintf(stderr, "  %s%s\n", all->prefix, all->at[i].name);
    }
    if (n > MOST_LISTED) fprintf(stderr, "  and %zu more\n", n - MOST_LISTED);
}

static char *in_home(const char *path)
{
    const char *home = getenv("HOME");
    char *whole = NULL;
    if (asprintf(&whole, "%s%s", home ? home : "", path) < 0) return NULL;
    return whole;
}

static const char *set_variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* ---- Ollama: manifests/HOST/USER/NAME/TAG names blobs ---- */

static void add_ollama(models *all, const char *root)
{
    static const char pattern[] = "manifests/*/*/*/*", *const usual[] = { "registry.ollama.ai/", "library/" };
    glob_t files = { 0 };
    search(root, pattern, &files);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        const char *path = files.gl_pathv[i], *name = path + strlen(root) + strlen("/manifests/");
        for (size_t k = 0; k < 2 && !strncmp(name, usual[k], strlen(usual[k])); k++) name += strlen(usual[k]);
        char *shown = strdup(name);
        if (!shown) continue;
        *strrchr(shown, '/') = ':';
        add(all, shown, path, strlen(root));
    }
    globfree(&files);
}

static bool is_digest(const char *text)
{
    return text && !strncmp(text, "sha256:", 7) && strspn(text + 7, "0123456789abcdef") == HEX_DIGITS &&
           strlen(text + 7) == HEX_DIGITS;
}

/* The file of the layer with the weights. */
static char *blob_of(const cli *c, const model *m)
{
    json_t *manifest = json_load_file(m->path, 0, NULL), *layer;
    const char *digest = NULL;
    size_t i;
    json_array_foreach(json_object_get(manifest, "layers"), i, layer)
    {
        const char *type = json_string_value(json_object_get(layer, "mediaType"));
        if (digest || !type || strcmp(type, "application/vnd.ollama.image.model")) continue;
        digest = json_string_value(json_object_get(layer, "digest"));
    }
    char *blob = NULL;
    if (!is_digest(digest))
        cli_fail(c, "%s is no manifest of an Ollama model: it names no model layer", m->path);
    else if (asprintf(&blob, "%.*s/blobs/sha256-%s", (int)m->n_root, m->path, digest + 7) < 0)
        blob = NULL;
    if (blob && access(blob, F_OK)) {
        cli_fail(c, "ollama:%s is not whole: there is no %s", m->name, blob);
        free(blob);
        blob = NULL;
    }
    json_decref(manifest);
    return blob;
}

static bool is_named(const model *m, const void *name) { return !strcasecmp(m->name, name); }

static char *find_ollama(const cli *c, const char *wanted)
{
    const char *slash = strrchr(wanted, '/'), *tagged = strchr(slash ? slash : wanted, ':');
    models all = { .prefix = "ollama:" };
    char *name, *own = set_variable("OLLAMA_MODELS") ? strdup(getenv("OLLAMA_MODELS")) : in_home("/.ollama/models");
    char *path = NULL;
    if (asprintf(&name, "%s%s", wanted, tagged ? "" : ":latest") < 0) name = NULL;
    if (own && name) {
        add_ollama(&all, own);
        if (!set_variable("OLLAMA_MODELS")) add_ollama(&all, "/usr/share/ollama/.ollama/models");
        if (narrow(&all, is_named, name)) {
            path = blob_of(c, first_kept(&all));
        } else if (all.n) {
            cli_fail(c, "Ollama has no model \"%s\"; it has:", name);
            list(&all);
        } else {
            cli_fail(c, "Ollama has no model \"%s\"; none is in %s", name, own);
        }
    }
    forget(&all);
    free(name);
    free(own);
    return path;
}

/* ---- Hugging Face: models--ORG--NAME/snapshots/COMMIT/FILE ---- */

/* ORG/NAME:FILE; NULL for a file that is no first part of weights. */
static char *hugging_name(const char *path, size_t n_hub, size_t *n_snapshot)
{
    const char *repo = path + n_hub + strlen("/models--"), *repo_end = strstr(repo, "/snapshots/");
    const char *file = strchr(repo_end + strlen("/snapshots/"), '/') + 1, *base = strrchr(path, '/') + 1;
    const char *of = strstr(base, "-of-");
    *n_snapshot = (size_t)(file - 1 - path);
    if (strcasestr(base, "mmproj") || strcasestr(base, "imatrix")) return NULL;
    if (of && of - base > 6 && of[-6] == '-' && strspn(of - 5, "0123456789") == 5 && strncmp(of - 5, "00001", 5))
        return NULL;
    char *name = NULL;
    if (asprintf(&name, "%.*s:%s", (int)(repo_end - repo), repo, file) < 0) return NULL;
    char *between = strstr(name, "--");
    if (between && between < strchr(name, ':')) {
        *between = '/';
        memmove(between + 1, between + 2, strlen(between + 2) + 1);
    }
    return name;
}

static const char *file_of(const model *m) { return strchr(m->name, ':') + 1; }

static bool is_of_repo(const model *m, const void *repo)
{
    size_t n = strlen(repo);
    return !strncasecmp(m->name, repo, n) && m->name[n] == ':';
}

static bool has_part(const model *m, const void *part) { return strcasestr(file_of(m), part); }

/* "Q4_K" is a part of "x-Q4_K_M.gguf", but no word of it. */
static bool has_word(const model *m, const void *word)
{
    const char *file = file_of(m), *at = file;
    size_t n = strlen(word);
    for (; (at = strcasestr(at, word)); at++) {
        bool begins = at == file || !(isalnum((unsigned char)at[-1]) || at[-1] == '_');
        if (begins && !(isalnum((unsigned char)at[n]) || at[n] == '_')) return true;
    }
    return false;
}

static bool is_beside(const model *m, const void *other)
{
    const model *o = other;
    return m->n_root == o->n_root && !strncmp(m->path, o->path, m->n_root);
}

static struct timespec time_of_snapshot(const model *m)
{
    struct stat s = { 0 };
    char *folder = strndup(m->path, m->n_root);
    if (folder) stat(folder, &s);
    free(folder);
    return s.st_mtim;
}

static const model *newest(const models *all)
{
    const model *best = first_kept(all);
    struct timespec best_time = time_of_snapshot(best);
    for (size_t i = 0; i < all->n; i++) {
        if (!all->at[i].kept) continue;
        struct timespec t = time_of_snapshot(&all->at[i]);
        if (t.tv_sec < best_time.tv_sec || (t.tv_sec == best_time.tv_sec && t.tv_nsec <= best_time.tv_nsec)) continue;
        best = &all->at[i];
        best_time = t;
    }
    return best;
}

static void add_hugging(models *all, const char *hub)
{
    glob_t files = { 0 };
    search(hub, "models--*/snapshots/*/*.gguf", &files);
    search(hub, "models--*/snapshots/*/*/*.gguf", &files);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        size_t n_snapshot;
        const char *path = files.gl_pathv[i];
        if (access(path, F_OK)) continue; /* a link whose blob is gone */
        char *name = hugging_name(path, strlen(hub), &n_snapshot);
        if (name) add(all, name, path, n_snapshot);
    }
    globfree(&files);
}

static char *hub_folder(void)
{
    static const struct {
        const char *variable, *below;
    } homes[] = { { "HF_HUB_CACHE", "" }, { "HF_HOME", "/hub" }, { "XDG_CACHE_HOME", "/huggingface/hub" } };
    char *hub = NULL;
    for (size_t i = 0; i < sizeof homes / sizeof *homes; i++) {
        const char *value = set_variable(homes[i].variable);
        if (value) return asprintf(&hub, "%s%s", value, homes[i].below) < 0 ? NULL : hub;
    }
    return in_home("/.cache/huggingface/hub");
}

/* One file of those in the hub, or NULL with the sentence printed; they are narrowed to what is worth listing. */
static const model *choose(const cli *c, models *all, const char *hub, const char *repo, const char *part)
{
    if (!all->n) {
        cli_fail(c, "no GGUF file of \"%s\" is in the Hugging Face cache; none is in %s", repo, hub);
    } else if (!narrow(all, is_of_repo, repo)) {
        cli_fail(c, "no GGUF file of \"%s\" is in the Hugging Face cache; there are:", repo);
    } else if (*part && !narrow(all, has_part, part)) {
        cli_fail(c, "no file of %s has \"%s\" in its name; there are:", repo, part);
    } else {
        narrow(all, is_beside, newest(all));
        narrow(all, has_word, *part ? part : "Q4_K_M");
        if (n_kept(all) == 1) return first_kept(all);
        cli_fail(c, "several files of %s will do; say which with hf:%s:PART OF ITS NAME:", repo, repo);
    }
    list(all);
    return NULL;
}

static char *find_hugging(const cli *c, const char *wanted)
{
    models all = { .prefix = "hf:" };
    char *hub = hub_folder(), *repo = strndup(wanted, strcspn(wanted, ":")), *path = NULL;
    const char *part = strchr(wanted, ':');
    if (hub && repo) {
        add_hugging(&all, hub);
        const model *m = choose(c, &all, hub, repo, part ? part + 1 : "");
        if (m) path = strdup(m->path);
    }
    forget(&all);
    free(repo);
    free(hub);
    return path;
}

char *cli_find_model(const cli *c, const char *name)
{
    if (!strncmp(name, "ollama:", 7)) return find_ollama(c, name + 7);
    if (!strncmp(name, "hf:", 3)) return find_hugging(c, name + 3);
    return strdup(name);
}
