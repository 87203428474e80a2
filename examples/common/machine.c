/* Reading a described machine. */
#include "machine.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* The first complaint stays; later reads give zeros. */
typedef struct reader {
    const char *path;
    uint32_t device; /* whose keys are read */
    char *error;
    size_t n_error;
    bool failed;
} reader;

static void complain(reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void complain(reader *r, const char *format, ...)
{
    va_list args;
    if (r->failed) return;
    r->failed = true;
    int n = snprintf(r->error, r->n_error, "%s: ", r->path);
    va_start(args, format);
    if (n >= 0 && (size_t)n < r->n_error) vsnprintf(r->error + n, r->n_error - (size_t)n, format, args);
    va_end(args);
}

static void complain_of(reader *r, const char *key, const char *wanted)
{
    complain(r, "\"%s\" of device %u is not %s", key, r->device, wanted);
}

/* ---- values ---- */

static uint64_t whole(reader *r, const json_t *value, const char *key, uint64_t most)
{
    json_int_t n = json_integer_value(value);
    if (json_is_integer(value) && n >= 0 && (uint64_t)n <= most) return (uint64_t)n;
    complain_of(r, key, "what it should be, with a whole number in every place");
    return 0;
}

static uint64_t limit_of(reader *r, const json_t *limits, const char *key, uint64_t most)
{
    const json_t *value = json_object_get(limits, key);
    if (!value) complain(r, "\"limits\" of device %u has no \"%s\"", r->device, key);
    return whole(r, value, key, most);
}

static void text_of(reader *r, const json_t *object, const char *key, char *out, size_t n)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text) complain_of(r, key, "a text");
    snprintf(out, n, "%s", text ? text : "");
}

/* One of n names; its index. */
static uint32_t choice_of(reader *r, const char *key, const char *text, const char *const *names, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(text, names[i]) == 0) return i;
    complain(r, "\"%s\" of device %u cannot be \"%s\"", key, r->device, text);
    return 0;
}

/* A flag per letter. */
typedef struct letter {
    char letter;
    uint32_t flag;
} letter;

static uint32_t flags_of(reader *r, const json_t *value, const char *key, const letter *letters, size_t n)
{
    uint32_t flags = 0;
    const char *text = json_string_value(value);
    if (!text) complain_of(r, key, "what it should be, with flags as a text of letters");
    for (; text && *text; text++) {
        size_t i = 0;
        while (i < n && letters[i].letter != *text) i++;
        if (i == n) complain(r, "\"%s\" of device %u: there is no flag %c", key, r->device, *text);
        if (i < n) flags |= letters[i].flag;
    }
    return flags;
}

/* ---- memory ---- */

static const json_t *list_of(reader *r, const json_t *device, const char *key, size_t most)
{
    const json_t *list = json_object_get(device, key);
    if (json_array_size(list) && json_array_size(list) <= most) return list;
    complain(r, "\"%s\" of device %u is not a list of 1 to %zu", key, r->device, most);
    return NULL;
}

static void read_heaps(reader *r, const json_t *device, machine_device *d)
{
    static const letter letters[] = { { 'D', VK_MEMORY_HEAP_DEVICE_LOCAL_BIT },
                                      { 'M', VK_MEMORY_HEAP_MULTI_INSTANCE_BIT } };
    const json_t *list = list_of(r, device, "heaps", VK_MAX_MEMORY_HEAPS);
    d->memory.memoryHeapCount = (uint32_t)json_array_size(list);
    for (uint32_t i = 0; i < d->memory.memoryHeapCount; i++) {
        const json_t *heap = json_array_get(list, i), *budget = json_array_get(heap, 2);
        VkMemoryHeap *h = &d->memory.memoryHeaps[i];
        h->size = whole(r, json_array_get(heap, 0), "heaps", INT64_MAX);
        h->flags = flags_of(r, json_array_get(heap, 1), "heaps", letters, COUNT(letters));
        d->budgets[i] = json_is_null(budget) ? h->size : whole(r, budget, "heaps", INT64_MAX);
    }
    size_t i;
    json_t *shared;
    json_array_foreach(json_object_get(device, "shares_ram"), i, shared) d->shared_heaps |=
        1u << whole(r, shared, "shares_ram", VK_MAX_MEMORY_HEAPS - 1);
}

static void read_types(reader *r, const json_t *device, machine_device *d)
{
    static const letter letters[] = {
        { 'D', VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT },        { 'V', VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT },
        { 'C', VK_MEMORY_PROPERTY_HOST_COHERENT_BIT },       { 'H', VK_MEMORY_PROPERTY_HOST_CACHED_BIT },
        { 'L', VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT },    { 'P', VK_MEMORY_PROPERTY_PROTECTED_BIT },
        { 'A', VK_MEMORY_PROPERTY_DEVICE_COHERENT_BIT_AMD }, { 'U', VK_MEMORY_PROPERTY_DEVICE_UNCACHED_BIT_AMD }
    };
    const json_t *list = list_of(r, device, "types", VK_MAX_MEMORY_TYPES);
    d->memory.memoryTypeCount = (uint32_t)json_array_size(list);
    for (uint32_t i = 0; i < d->memory.memoryTypeCount; i++) {
        const json_t *type = json_array_get(list, i);
        uint64_t heap = whole(r, json_array_get(type, 0), "types", INT64_MAX);
        if (heap >= d->memory.memoryHeapCount)
            complain(r, "\"types\" of device %u: type %u is of heap %llu, which is not there", r->device, i,
                     (unsigned long long)heap);
        d->memory.memoryTypes[i].heapIndex = (uint32_t)heap;
        d->memory.memoryTypes[i].propertyFlags = flags_of(r, json_array_get(type, 1), "types", letters, COUNT(letters));
    }
}

/* ---- features ---- */

#define AS_NAME(name, text, extension) text,
static const char *const feature_names[] = { MACHINE_FEATURES(AS_NAME) };

/* Bits of the words of a text; the key may be absent. */
static uint32_t features_of(reader *r, const json_t *device, const char *key)
{
    uint32_t bits = 0;
    const char *at = json_string_value(json_object_get(device, key));
    for (; at && *at; at += strspn(at, " ")) {
        char word[24];
        size_t n = strcspn(at, " ");
        snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : sizeof word - 1), at);
        bits |= 1u << choice_of(r, key, word, feature_names, MACHINE_N_FEATURES);
        at += n;
    }
    return bits;
}

/* ---- a device ---- */

static VkDriverId driver_of(const char *driver)
{
    static const struct {
        const char *begins;
        VkDriverId id;
    } drivers[] = {
        { "NVIDIA", VK_DRIVER_ID_NVIDIA_PROPRIETARY },
        { "AMD", VK_DRIVER_ID_AMD_PROPRIETARY },
        { "radv", VK_DRIVER_ID_MESA_RADV },
        { "Intel", VK_DRIVER_ID_INTEL_PROPRIETARY_WINDOWS },
        { "MoltenVK", VK_DRIVER_ID_MOLTENVK },
        { "V3DV", VK_DRIVER_ID_MESA_V3DV },
        { "ARM", VK_DRIVER_ID_ARM_PROPRIETARY },
        { "Qualcomm", VK_DRIVER_ID_QUALCOMM_PROPRIETARY },
        { "llvmpipe", VK_DRIVER_ID_MESA_LLVMPIPE },
        { "SwiftShader", VK_DRIVER_ID_GOOGLE_SWIFTSHADER },
    };
    for (size_t i = 0; i < COUNT(drivers); i++)
        if (strncmp(driver, drivers[i].begins, strlen(drivers[i].begins)) == 0) return drivers[i].id;
    return 0; /* one that nothing is known of */
}

static void read_limits(reader *r, const json_t *device, machine_device *d)
{
    const json_t *limits = json_object_get(device, "limits");
    const json_t *subgroup = json_object_get(limits, "subgroup");
    d->allocation_bytes = limit_of(r, limits, "alloc", INT64_MAX);
    d->range_bytes = limit_of(r, limits, "range", UINT32_MAX);
    d->storage_align = (uint32_t)limit_of(r, limits, "ssbo_align", UINT32_MAX);
    d->shared_bytes = (uint32_t)limit_of(r, limits, "shared", UINT32_MAX);
    d->invocations = (uint32_t)limit_of(r, limits, "invocations", UINT32_MAX);
    d->push_bytes = (uint32_t)limit_of(r, limits, "push", UINT32_MAX);
    d->subgroup = (uint32_t)whole(r, json_array_get(subgroup, 0), "subgroup", UINT32_MAX);
}

static void read_speed(const json_t *device, machine_device *d)
{
    const json_t *gb_s = json_object_get(device, "gb_s"), *measured = json_array_get(gb_s, 1);
    d->gb_s = json_number_value(json_is_number(measured) ? measured : json_array_get(gb_s, 0));
}

static void read_device(reader *r, const json_t *device, const char *os, machine_device *d)
{
    static const char *const types[] = { "discrete", "integrated", "cpu" };
    static const VkPhysicalDeviceType values[] = { VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU,
                                                   VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU,
                                                   VK_PHYSICAL_DEVICE_TYPE_CPU };
    static const char *const spills[] = { "refuses", "pages", "overcommits" };
    char type[16], api[24], mode[16];
    unsigned major = 0, minor = 0, patch = 0;
    text_of(r, device, "name", d->name, sizeof d->name);
    text_of(r, device, "driver", d->driver, sizeof d->driver);
    text_of(r, device, "type", type, sizeof type);
    text_of(r, device, "api", api, sizeof api);
    text_of(r, json_object_get(device, "spill"), "mode", mode, sizeof mode);
    if (sscanf(api, "%u.%u.%u", &major, &minor, &patch) != 3) complain_of(r, "api", "a version such as 1.3.224");
    d->api_version = VK_MAKE_API_VERSION(0, major, minor, patch);
    d->type = values[choice_of(r, "type", type, types, COUNT(types))];
    d->spill = (machine_spill)choice_of(r, "spill", mode, spills, COUNT(spills));
    d->driver_id = driver_of(d->driver);
    uint32_t *ids[] = { &d->vendor, &d->id };
    for (size_t i = 0; i < COUNT(ids); i++) {
        const char *text = json_string_value(json_array_get(json_object_get(device, "ids"), i));
        char *end = NULL;
        *ids[i] = text ? (uint32_t)strtoul(text, &end, 16) : 0;
        if (!text || !*text || *end) complain_of(r, "ids", "two numbers in hex, as texts");
    }
    read_heaps(r, device, d);
    read_types(r, device, d);
    read_limits(r, device, d);
    read_speed(device, d);
    d->features = features_of(r, device, "features") | features_of(r, device, "features+");
    d->features &= ~features_of(r, device, "features-");
    d->constant_budget = d->driver_id == VK_DRIVER_ID_NVIDIA_PROPRIETARY && strcmp(os, "windows") == 0;
}

/* ---- a file ---- */

/* Puts what a variant lists over the machine and its device. */
static void apply(reader *r, json_t *root, json_t *variant, machine *m)
{
    size_t at = (size_t)whole(r, json_object_get(variant, "device"), "variants", MACHINE_DEVICES_MAX - 1);
    json_t *device = json_array_get(json_object_get(root, "devices"), at);
    text_of(r, variant, "id", m->variant, sizeof m->variant);
    const char *key;
    json_t *value;
    json_object_foreach(variant, key, value)
    {
        if (!strcmp(key, "id")) continue;
        bool of_machine = !strcmp(key, "os") || !strcmp(key, "ram_gib");
        if (!strcmp(key, "limits"))
            json_object_update(json_object_get(device, key), value);
        else if (!strcmp(key, "spill") && json_is_string(value))
            json_object_set(json_object_get(device, key), "mode", value);
        else
            json_object_set(of_machine ? root : device, key, value);
    }
}

static void read_machine(reader *r, json_t *root, uint32_t variant, machine *m)
{
    json_t *variants = json_object_get(root, "variants"), *devices;
    m->n_variants = (uint32_t)json_array_size(variants);
    if (variant > m->n_variants) complain(r, "there are %u variants, and none is number %u", m->n_variants, variant);
    if (!r->failed && variant) apply(r, root, json_array_get(variants, variant - 1), m);
    const char *id = json_string_value(json_object_get(root, "id"));
    const char *os = json_string_value(json_object_get(root, "os"));
    double ram_gib = json_number_value(json_object_get(root, "ram_gib"));
    devices = json_object_get(root, "devices");
    if (!id) complain(r, "\"id\" is not a text");
    if (!(ram_gib > 0 && ram_gib < 1e6)) complain(r, "\"ram_gib\" is not a number above 0");
    if (!json_is_array(devices) || json_array_size(devices) > MACHINE_DEVICES_MAX)
        complain(r, "\"devices\" is not a list of at most %d", MACHINE_DEVICES_MAX);
    if (r->failed) return;
    snprintf(m->id, sizeof m->id, "%s", id);
    m->ram_bytes = (uint64_t)llround(ram_gib * (1u << 30));
    m->n_devices = (uint32_t)json_array_size(devices);
    for (r->device = 0; r->device < m->n_devices; r->device++)
        read_device(r, json_array_get(devices, r->device), os ? os : "", &m->devices[r->device]);
}

bool machine_read(const char *path, uint32_t variant, machine *m, char *error, size_t n)
{
    reader r = { .path = path, .error = error, .n_error = n };
    json_error_t e;
    *m = (machine){ 0 };
    json_t *root = json_load_file(path, 0, &e);
    if (!root && e.line > 0)
        complain(&r, "line %d is not JSON: %s", e.line, e.text);
    else if (!root)
        complain(&r, "cannot be read");
    else
        read_machine(&r, root, variant, m);
    json_decref(root);
    return !r.failed;
}
