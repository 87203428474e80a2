#include "chat/message.h"

static int check_string(gm_value object, const char *key, bool needed, const char *what, gemma_error *error)
{
    gm_value v = gm_value_find(object, key);
    if (gm_value_is(v, GM_JSON_STRING) || (!needed && gm_value_absent(v))) return GEMMA_OK;
    return gm_fail(error, GEMMA_E_FORMAT, "%s: \"%s\" %s", what, key,
                   gm_value_absent(v) ? "is missing" : "is not a string");
}

static int check_list(gm_value v, const char *what, const char *key, gemma_error *error)
{
    if (gm_value_absent(v) || gm_value_is(v, GM_JSON_LIST)) return GEMMA_OK;
    return gm_fail(error, GEMMA_E_FORMAT, "%s: \"%s\" is not a list", what, key);
}

/* ---- content ---- */

gm_part_kind gm_part_of(gm_value part, gm_marker *marker)
{
    static const struct {
        const char *type;
        gm_marker marker;
    } media[] = { { "image", GM_IMAGE },
                  { "image_url", GM_IMAGE },
                  { "audio", GM_AUDIO },
                  { "input_audio", GM_AUDIO },
                  { "video", GM_VIDEO } };
    gm_value type = gm_value_find(part, "type");
    if (gm_value_equals(type, "text")) return GM_CONTENT_TEXT;
    for (uint32_t i = 0; i < GM_COUNT(media); i++) {
        if (!gm_value_equals(type, media[i].type)) continue;
        *marker = media[i].marker;
        return GM_CONTENT_MEDIA;
    }
    return GM_CONTENT_OTHER;
}

static int check_content(gm_value content, uint32_t role, gemma_error *error)
{
    gm_marker marker;
    if (gm_value_absent(content) || gm_value_is(content, GM_JSON_STRING)) return GEMMA_OK;
    if (!gm_value_is(content, GM_JSON_LIST)) {
        if (role == GEMMA_ROLE_TOOL) return GEMMA_OK; /* any value is a result */
        return gm_fail(error, GEMMA_E_FORMAT, "message: \"content\" is neither text nor a list of parts");
    }
    for (gm_value i = gm_value_first(content); gm_value_in(i, content); i = gm_value_after(i)) {
        gm_part_kind kind = gm_part_of(i, &marker);
        if (kind == GM_CONTENT_OTHER)
            return gm_fail(error, GEMMA_E_FORMAT,
                           "message: a part of \"content\" has no \"type\" of text, image, "
                           "image_url, audio, input_audio, video");
        int rc = kind == GM_CONTENT_TEXT ? check_string(i, "text", true, "message: a part of \"content\"", error) : 0;
        if (rc) return rc;
    }
    return GEMMA_OK;
}

/* ---- calls and tools ---- */

int gm_call_check(gm_value call, const char *what, gemma_error *error)
{
    gm_value function = gm_value_find(call, "function"), arguments = gm_value_find(function, "arguments");
    if (!gm_value_is(function, GM_JSON_OBJECT))
        return gm_fail(error, GEMMA_E_FORMAT, "%s: a tool call without \"function\"", what);
    int rc = check_string(function, "name", true, what, error);
    if (!rc) rc = check_string(call, "id", false, what, error);
    if (!rc && !gm_value_absent(arguments) && !gm_value_is(arguments, GM_JSON_OBJECT))
        rc = gm_fail(error, GEMMA_E_FORMAT, "%s: the arguments of a call must be a JSON object%s", what,
                     gm_value_is(arguments, GM_JSON_STRING) ? ", not a string that holds one" : "");
    return rc;
}

gm_value gm_tool_function(const gm_json *tool)
{
    gm_value function = gm_value_find(gm_json_root(tool), "function");
    return gm_value_is(function, GM_JSON_OBJECT) ? function : gm_json_root(tool);
}

int gm_tool_check(const gm_json *json, gemma_error *error)
{
    gm_value function = gm_tool_function(json);
    int rc = check_string(function, "name", true, "tool", error);
    if (!rc) rc = check_string(function, "description", false, "tool", error);
    gm_value parameters = gm_value_find(function, "parameters");
    if (!rc && !gm_value_absent(parameters) && !gm_value_is(parameters, GM_JSON_OBJECT))
        rc = gm_fail(error, GEMMA_E_FORMAT, "tool: \"parameters\" is not a JSON schema object");
    return rc;
}

/* ---- messages ---- */

static uint32_t read_role(gm_value message)
{
    static const struct {
        const char *name;
        uint32_t role;
    } roles[] = {
        { "system", GEMMA_ROLE_SYSTEM },   { "developer", GEMMA_ROLE_DEVELOPER }, { "user", GEMMA_ROLE_USER },
        { "assistant", GEMMA_ROLE_MODEL }, { "model", GEMMA_ROLE_MODEL },         { "tool", GEMMA_ROLE_TOOL }
    };
    gm_value role = gm_value_find(message, "role");
    for (uint32_t i = 0; i < GM_COUNT(roles); i++)
        if (gm_value_equals(role, roles[i].name)) return roles[i].role;
    return 0;
}

static int check_model_fields(gm_value message, gemma_error *error)
{
    gm_value calls = gm_value_find(message, "tool_calls"), responses = gm_value_find(message, "tool_responses");
    int rc = check_string(message, "reasoning", false, "message", error);
    if (!rc) rc = check_string(message, "reasoning_content", false, "message", error);
    if (!rc) rc = check_list(calls, "message", "tool_calls", error);
    if (!rc) rc = check_list(responses, "message", "tool_responses", error);
    if (rc) return rc;
    if (gm_value_count(calls) > GM_CALLS_MAX)
        return gm_fail(error, GEMMA_E_FORMAT, "message: %u tool calls; the limit is %d", gm_value_count(calls),
                       GM_CALLS_MAX);
    for (gm_value i = gm_value_first(calls); calls.json && gm_value_in(i, calls) && !rc; i = gm_value_after(i))
        rc = gm_call_check(i, "message", error);
    for (gm_value i = gm_value_first(responses); responses.json && gm_value_in(i, responses) && !rc;
         i = gm_value_after(i))
        rc = check_string(i, "name", false, "message: tool_responses", error);
    return rc;
}

int gm_message_check(gm_json *json, gm_message *m, gemma_error *error)
{
    gm_value message = gm_json_root(json);
    if (!gm_value_is(message, GM_JSON_OBJECT)) return gm_fail(error, GEMMA_E_FORMAT, "message: not a JSON object");
    uint32_t role = read_role(message);
    if (!role)
        return gm_fail(error, GEMMA_E_FORMAT,
                       "message: \"role\" is none of system, developer, user, assistant, model, tool");
    int rc = check_content(gm_value_find(message, "content"), role, error);
    if (!rc) rc = check_model_fields(message, error);
    if (!rc) rc = check_string(message, "tool_call_id", false, "message", error);
    if (!rc) rc = check_string(message, "name", false, "message", error);
    if (!rc) *m = (gm_message){ .json = json, .role = role };
    return rc;
}

void gm_message_free(gm_mem *mem, gm_message *m)
{
    for (uint32_t i = 0; i < m->n_calls; i++) gm_json_destroy(mem, m->calls[i]);
    gm_delete(mem, m->calls);
    gm_json_destroy(mem, m->json);
    *m = (gm_message){ 0 };
}

uint32_t gm_message_n_calls(const gm_message *m)
{
    return gm_value_count(gm_message_field(m, "tool_calls")) + m->n_calls;
}

gm_value gm_message_call(const gm_message *m, uint32_t i)
{
    gm_value list = gm_message_field(m, "tool_calls"), call;
    uint32_t n_listed = gm_value_count(list);
    if (i >= n_listed) return gm_json_root(m->calls[i - n_listed]);
    for (call = gm_value_first(list); i > 0; i--) call = gm_value_after(call);
    return call;
}

gm_value gm_message_thought(const gm_message *m)
{
    gm_value thought = gm_message_field(m, "reasoning");
    if (!gm_value_true(thought)) thought = gm_message_field(m, "reasoning_content");
    return gm_value_true(thought) ? thought : (gm_value){ 0 };
}

void gm_message_write(const gm_message *m, gm_strbuf *out)
{
    gm_value message = gm_json_root(m->json);
    bool first = true;
    gm_strbuf_char(out, '{');
    for (gm_value k = gm_value_first(message); gm_value_in(k, message); k = gm_value_after(gm_value_after(k))) {
        if (gm_value_equals(k, "tool_calls")) continue;
        if (!first) gm_strbuf_char(out, ',');
        first = false;
        gm_value_write(k, out);
        gm_strbuf_char(out, ':');
        gm_value_write(gm_value_after(k), out);
    }
    uint32_t n_calls = gm_message_n_calls(m);
    for (uint32_t i = 0; i < n_calls; i++) {
        gm_strbuf_text(out, i ? "," : ",\"tool_calls\":[");
        gm_value_write(gm_message_call(m, i), out);
    }
    gm_strbuf_text(out, n_calls ? "]}" : "}");
}
