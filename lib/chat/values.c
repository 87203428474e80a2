/* Gemma 4's notation of values and of tool declarations (the order of the fields is the templates'). */
#include "chat/write.h"

static void put_quoted(gm_writer *w, gm_value string)
{
    gm_put_marker(w, GM_QUOTE);
    gm_put_string(w, string);
    gm_put_marker(w, GM_QUOTE);
}

void gm_put_members(gm_writer *w, gm_value object, bool quoted_keys)
{
    gm_member *m;
    uint32_t n;
    if (gm_members_sort(w->mem, object, &m, &n)) w->text.rc = GEMMA_E_NOMEM;
    for (uint32_t i = 0; i < n; i++) {
        if (i) gm_put_text(w, ",");
        if (quoted_keys)
            put_quoted(w, m[i].key);
        else
            gm_put_string(w, m[i].key);
        gm_put_text(w, ":");
        gm_put_value(w, m[i].value, quoted_keys);
    }
    gm_delete(w->mem, m);
}

void gm_put_value(gm_writer *w, gm_value v, bool quoted_keys)
{
    static const char *const words[] = { "null", "null", "false", "true" };
    gm_json_kind kind = gm_value_kind(v);
    size_t n;
    const char *text = gm_value_text(v, &n);
    if (kind <= GM_JSON_TRUE) {
        gm_put_text(w, words[kind]);
    } else if (kind == GM_JSON_NUMBER) {
        gm_put_number(&w->text, text, n);
    } else if (kind == GM_JSON_STRING) {
        put_quoted(w, v);
    } else if (kind == GM_JSON_OBJECT) {
        gm_put_text(w, "{");
        gm_put_members(w, v, quoted_keys);
        gm_put_text(w, "}");
    } else {
        gm_put_text(w, "[");
        for (gm_value i = gm_value_first(v); gm_value_in(i, v); i = gm_value_after(i)) {
            if (i.at != v.at + 1) gm_put_text(w, ",");
            gm_put_value(w, i, quoted_keys);
        }
        gm_put_text(w, "]");
    }
}

/* ---- declarations ---- */

static void put_upper(gm_writer *w, gm_value string)
{
    size_t from = w->text.n;
    gm_put_string(w, string);
    for (size_t i = from; i < w->text.n; i++) {
        char *c = w->text.data + i;
        if (*c >= 'a' && *c <= 'z') *c = (char)(*c - 32);
    }
}

/* Any case; `name` is in small letters. */
static bool type_is(gm_value schema, const char *name)
{
    size_t n;
    const char *text = gm_value_text(gm_value_find(schema, "type"), &n);
    if (n != strlen(name)) return false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 32) : text[i];
        if (c != name[i]) return false;
    }
    return true;
}

/* A comma between fields: none in front of the first. */
static void put_field(gm_writer *w, bool *first, const char *name)
{
    if (!*first) gm_put_text(w, ",");
    *first = false;
    gm_put_text(w, name);
}

static void put_description(gm_writer *w, gm_value schema, bool *first)
{
    gm_value text = gm_value_find(schema, "description");
    if (!gm_value_true(text)) return;
    put_field(w, first, "description:");
    put_quoted(w, text);
}

/* One type in capitals, in quotes; several in Python's notation of a list. */
static void put_type(gm_writer *w, gm_value type, const char *otherwise)
{
    gm_put_text(w, "type:");
    gm_put_marker(w, GM_QUOTE);
    if (gm_value_is(type, GM_JSON_LIST)) {
        gm_put_text(w, "[");
        for (gm_value i = gm_value_first(type); gm_value_in(i, type); i = gm_value_after(i)) {
            gm_put_text(w, i.at == type.at + 1 ? "'" : ", '");
            put_upper(w, i);
            gm_put_text(w, "'");
        }
        gm_put_text(w, "]");
    } else if (gm_value_true(type)) {
        put_upper(w, type);
    } else {
        gm_put_text(w, otherwise);
    }
    gm_put_marker(w, GM_QUOTE);
}

static void put_names(gm_writer *w, gm_value list)
{
    gm_put_text(w, "[");
    if (gm_value_is(list, GM_JSON_LIST)) {
        for (gm_value i = gm_value_first(list); gm_value_in(i, list); i = gm_value_after(i)) {
            if (i.at != list.at + 1) gm_put_text(w, ",");
            put_quoted(w, i);
        }
    }
    gm_put_text(w, "]");
}

static void put_properties(gm_writer *w, gm_value object, bool own_keys);

/* The types of a list's items: a quoted one, or a list of quoted ones. */
static void put_item_type(gm_writer *w, gm_value type)
{
    gm_put_text(w, "type:");
    if (gm_value_is(type, GM_JSON_LIST)) {
        gm_put_text(w, "[");
        for (gm_value i = gm_value_first(type); gm_value_in(i, type); i = gm_value_after(i)) {
            if (i.at != type.at + 1) gm_put_text(w, ",");
            gm_put_marker(w, GM_QUOTE);
            put_upper(w, i);
            gm_put_marker(w, GM_QUOTE);
        }
        gm_put_text(w, "]");
        return;
    }
    gm_put_marker(w, GM_QUOTE);
    put_upper(w, type);
    gm_put_marker(w, GM_QUOTE);
}

static void put_items(gm_writer *w, gm_value items)
{
    gm_member *m;
    uint32_t n;
    bool first = true;
    if (gm_members_sort(w->mem, items, &m, &n)) w->text.rc = GEMMA_E_NOMEM;
    for (uint32_t i = 0; i < n; i++) {
        gm_value v = m[i].value;
        if (gm_value_is(v, GM_JSON_NULL)) continue;
        put_field(w, &first, "");
        if (gm_value_equals(m[i].key, "properties")) {
            gm_put_text(w, "properties:{");
            if (gm_value_is(v, GM_JSON_OBJECT)) put_properties(w, v, false);
            gm_put_text(w, "}");
        } else if (gm_value_equals(m[i].key, "required")) {
            gm_put_text(w, "required:");
            put_names(w, v);
        } else if (gm_value_equals(m[i].key, "type")) {
            put_item_type(w, v);
        } else {
            gm_put_string(w, m[i].key);
            gm_put_text(w, ":");
            gm_put_value(w, v, true);
        }
    }
    gm_delete(w->mem, m);
}

static void put_property(gm_writer *w, gm_value schema)
{
    bool first = true;
    gm_value listed = gm_value_find(schema, "enum"), items = gm_value_find(schema, "items");
    gm_value inner = gm_value_find(schema, "properties"), required = gm_value_find(schema, "required");
    gm_put_text(w, "{");
    put_description(w, schema, &first);
    if (type_is(schema, "string") && gm_value_true(listed)) {
        put_field(w, &first, "enum:");
        gm_put_value(w, listed, true);
    } else if (type_is(schema, "array") && gm_value_is(items, GM_JSON_OBJECT) && gm_value_true(items)) {
        put_field(w, &first, "items:{");
        put_items(w, items);
        gm_put_text(w, "}");
    }
    if (gm_value_true(gm_value_find(schema, "nullable"))) put_field(w, &first, "nullable:true");
    if (type_is(schema, "object")) {
        bool own = !gm_value_is(inner, GM_JSON_OBJECT);
        put_field(w, &first, "properties:{");
        put_properties(w, own ? schema : inner, own);
        gm_put_text(w, "}");
        if (gm_value_true(required)) {
            put_field(w, &first, "required:");
            put_names(w, required);
        }
    }
    put_field(w, &first, "");
    put_type(w, gm_value_find(schema, "type"), "");
    gm_put_text(w, "}");
}

static bool is_schema_key(gm_value key)
{
    static const char *const keys[] = { "description", "type", "properties", "required", "nullable" };
    for (uint32_t i = 0; i < GM_COUNT(keys); i++)
        if (gm_value_equals(key, keys[i])) return true;
    return false;
}

/* own_keys: the object is a schema without `properties`; its other keys count as such. */
static void put_properties(gm_writer *w, gm_value object, bool own_keys)
{
    gm_member *m;
    uint32_t n;
    bool first = true;
    if (gm_members_sort(w->mem, object, &m, &n)) w->text.rc = GEMMA_E_NOMEM;
    for (uint32_t i = 0; i < n; i++) {
        if (own_keys && is_schema_key(m[i].key)) continue;
        put_field(w, &first, "");
        gm_put_string(w, m[i].key);
        gm_put_text(w, ":");
        put_property(w, m[i].value);
    }
    gm_delete(w->mem, m);
}

static void put_parameters(gm_writer *w, gm_value schema)
{
    gm_value properties = gm_value_find(schema, "properties"), required = gm_value_find(schema, "required");
    gm_put_text(w, ",parameters:{");
    if (gm_value_is(properties, GM_JSON_OBJECT) && gm_value_true(properties)) {
        gm_put_text(w, "properties:{");
        put_properties(w, properties, false);
        gm_put_text(w, "},");
    }
    if (gm_value_true(required)) {
        gm_put_text(w, "required:");
        put_names(w, required);
        gm_put_text(w, ",");
    }
    put_type(w, gm_value_find(schema, "type"), "OBJECT");
    gm_put_text(w, "}");
}

static void put_answer(gm_writer *w, gm_value schema)
{
    bool first = true;
    gm_put_text(w, ",response:{");
    put_description(w, schema, &first);
    put_field(w, &first, "");
    put_type(w, (gm_value){ 0 }, "OBJECT");
    gm_put_text(w, "}");
}

void gm_put_declaration(gm_writer *w, gm_value function)
{
    gm_value parameters = gm_value_find(function, "parameters"), answer = gm_value_find(function, "response");
    gm_put_text(w, "declaration:");
    gm_put_string(w, gm_value_find(function, "name"));
    gm_put_text(w, "{description:");
    put_quoted(w, gm_value_find(function, "description"));
    if (gm_value_is(parameters, GM_JSON_OBJECT) && gm_value_true(parameters)) put_parameters(w, parameters);
    if (!gm_value_absent(answer)) put_answer(w, answer);
    gm_put_text(w, "}");
}
