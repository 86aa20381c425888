/* cli/inspect_weights.c -- GGUF, safetensors, models, adapters. */
#include <stdio.h>
#include <string.h>

#include "cli/inspect.h"
#include "core/arena.h"
#include "core/file.h"
#include "core/gguf.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "data/tokenizer.h"
#include "model/arch.h"

enum { SHOWN_TENSORS = 24, SHOWN_ITEMS = 6, SHOWN_TEXT = 72 };

/* ---- tensors: a list of {"name", "type", "shape" (slowest first), "bytes"} ---- */

static json_t *tensor_json(const char *name, dc_dtype type, int n_dims, const int64_t *shape, int reversed,
                           int64_t bytes)
{
    json_t *dims = json_array();
    for (int d = 0; d < n_dims; d++)
        json_array_append_new(dims, json_integer((json_int_t)shape[reversed ? n_dims - 1 - d : d]));
    json_t *tensor = json_pack("{s:s, s:s, s:o, s:I}", "name", name, "type", dc_dtype_get(type)->name, "shape", dims,
                               "bytes", (json_int_t)bytes);
    return tensor ? tensor : json_pack("{s:s, s:I}", "name", "(a name that is not UTF-8)", "bytes", (json_int_t)bytes);
}

static int64_t elements(const json_t *tensor)
{
    size_t i;
    json_t *dim;
    int64_t n = 1;
    json_array_foreach(json_object_get(tensor, "shape"), i,
                       dim) if (dc_mul_size(&n, n, json_integer_value(dim))) return 0;
    return n;
}

static void put_tensor(dc_str *out, const json_t *tensor)
{
    char shape[128], bytes[32];
    size_t i, n = 0;
    json_t *dim;
    const char *name = json_string_value(json_object_get(tensor, "name")),
               *type = json_string_value(json_object_get(tensor, "type"));
    shape[0] = 0;
    json_array_foreach(json_object_get(tensor, "shape"), i, dim) if (n < sizeof shape - 24) n +=
        (size_t)snprintf(shape + n, sizeof shape - n, "%s%lld", i ? " x " : "", (long long)json_integer_value(dim));
    dc_str_putf(out, "  %-6s %16s %10s  ", type ? type : "?", shape,
                dc_human_bytes(bytes, sizeof bytes, (double)json_integer_value(json_object_get(tensor, "bytes"))));
    dc_inspect_text(out, name, strlen(name), 0);
    dc_str_putc(out, '\n');
}

/* "Q8_0 211 tensors 130 MB, F32 61 tensors 0.1 MB" by type, and the first tensors. */
static void put_tensors(dc_inspect *v, json_t *tensors)
{
    size_t i;
    json_t *tensor, *types = json_object(), *count;
    int64_t parameters = 0, bytes = 0;
    const char *type;
    char a[32], b[32];
    json_array_foreach(tensors, i, tensor)
    {
        const char *name = json_string_value(json_object_get(tensor, "type"));
        parameters += elements(tensor), bytes += json_integer_value(json_object_get(tensor, "bytes"));
        if (name) json_object_set_new(types, name, json_integer(json_integer_value(json_object_get(types, name)) + 1));
    }
    dc_inspect_fact(v, "parameters", "parameters", json_integer((json_int_t)parameters), "%s in %s",
                    dc_human_count(a, sizeof a, parameters), dc_human_bytes(b, sizeof b, (double)bytes));
    dc_str_putf(&v->text, "%-13s %zu", "tensors", json_array_size(tensors));
    i = 0;
    json_object_foreach(types, type, count)
        dc_str_putf(&v->text, "%s%s %lld", i++ ? ", " : ": ", type, (long long)json_integer_value(count));
    dc_str_putc(&v->text, '\n');
    const int64_t shown = dc_inspect_count(v, (int64_t)json_array_size(tensors), SHOWN_TENSORS);
    for (i = 0; i < (size_t)shown; i++) put_tensor(&v->text, json_array_get(tensors, i));
    dc_inspect_more(v, shown, (int64_t)json_array_size(tensors), "tensors");
    json_object_set_new(v->json, "types", types);
    if (json_object_set_new(v->json, "tensors", tensors)) v->text.failed = 1;
}

/* ---- GGUF ---- */

static json_t *item_json(const dc_gguf_kv *kv, dc_gguf_type type, int64_t i)
{
    if (type == DC_GGUF_STRING) {
        json_t *text = json_stringn(kv->texts[i].data, kv->texts[i].n);
        return text ? text : json_string("(not UTF-8)");
    }
    if (type == DC_GGUF_BOOL) return json_boolean(kv->data[i]);
    if (type == DC_GGUF_F32 || type == DC_GGUF_F64) {
        json_t *real = json_real(dc_gguf_item_f64(kv, i));
        return real ? real : json_null(); /* JSON has no NaN */
    }
    return json_integer((json_int_t)dc_gguf_item_i64(kv, i));
}

/* A scalar as it is; an array as {"type", "n", "first": [...]}. */
static json_t *kv_json(const dc_gguf_kv *kv)
{
    if (kv->type != DC_GGUF_ARRAY) return item_json(kv, kv->type, 0);
    json_t *first = json_array();
    for (int64_t i = 0; i < kv->n && i < SHOWN_ITEMS; i++) json_array_append_new(first, item_json(kv, kv->item, i));
    return json_pack("{s:s, s:I, s:o}", "type", dc_gguf_type_name(kv->item), "n", (json_int_t)kv->n, "first", first);
}

static void put_json(dc_str *out, const json_t *value)
{
    if (json_is_string(value)) {
        dc_inspect_text(out, json_string_value(value), json_string_length(value), SHOWN_TEXT);
        return;
    }
    dc_json_dump(out, value, 0);
}

static void put_kv(dc_inspect *v, const dc_gguf_kv *kv, const json_t *value)
{
    size_t i;
    json_t *item;
    dc_str_puts(&v->text, "  ");
    dc_inspect_text(&v->text, kv->key, strlen(kv->key), 0);
    dc_str_puts(&v->text, " = ");
    if (kv->type != DC_GGUF_ARRAY) {
        if (kv->type == DC_GGUF_F32)
            dc_str_putf(&v->text, "%.7g", dc_gguf_item_f64(kv, 0)); /* a float's digits, not a double's */
        else put_json(&v->text, value);
        dc_str_putc(&v->text, '\n');
        return;
    }
    dc_str_putf(&v->text, "%lld of %s: ", (long long)kv->n, dc_gguf_type_name(kv->item));
    json_array_foreach(json_object_get(value, "first"), i, item)
    {
        dc_str_puts(&v->text, i ? ", " : "");
        put_json(&v->text, item);
    }
    dc_str_puts(&v->text, kv->n > SHOWN_ITEMS ? ", ...\n" : "\n");
}

int dc_inspect_gguf(dc_inspect *v, dc_error *err)
{
    dc_gguf *g = NULL;
    const int rc = dc_gguf_open(&g, v->path, err);
    if (rc != DC_OK) return rc;
    json_t *keys = json_object(), *tensors = json_array();
    dc_inspect_fact(v, "GGUF", "kind", json_string("gguf"), "%s", v->path);
    dc_str_putf(&v->text, "%-13s %lld\n", "keys", (long long)dc_gguf_n_kv(g));
    for (int64_t i = 0; i < dc_gguf_n_kv(g); i++) {
        const dc_gguf_kv *kv = dc_gguf_kv_at(g, i);
        json_t *value = kv_json(kv);
        put_kv(v, kv, value);
        json_object_set_new(keys, kv->key, value); /* a key that is not UTF-8 is left out */
    }
    for (int64_t i = 0; i < dc_gguf_n_tensors(g); i++) {
        const dc_gguf_tensor *t = dc_gguf_tensor_at(g, i);
        json_array_append_new(tensors, tensor_json(t->name, t->type, t->n_dims, t->ne, 1, t->bytes));
    }
    if (json_object_set_new(v->json, "keys", keys)) v->text.failed = 1;
    put_tensors(v, tensors);
    dc_gguf_close(g);
    return DC_OK;
}

/* ---- safetensors ---- */

static int put_safetensors(dc_inspect *v, const char *path, dc_error *err)
{
    dc_st *s = NULL;
    const int rc = dc_st_open(&s, path, err);
    if (rc != DC_OK) return rc;
    json_t *tensors = json_array();
    for (int64_t i = 0; i < dc_st_n(s); i++) {
        const dc_st_tensor *t = dc_st_at(s, i);
        json_array_append_new(tensors, tensor_json(t->name, t->type, t->n_dims, t->shape, 0, t->bytes));
    }
    put_tensors(v, tensors);
    dc_st_close(s);
    return DC_OK;
}

int dc_inspect_safetensors(dc_inspect *v, dc_error *err)
{
    dc_inspect_fact(v, "safetensors", "kind", json_string("safetensors"), "%s", v->path);
    return put_safetensors(v, v->path, err);
}

/* ---- an HF directory ---- */

static void put_config(dc_inspect *v, const dc_config *c)
{
    dc_inspect_fact(v, "family", "family", json_string(dc_family_hf_type(c->family)), "%s (%s in GGUF)",
                    dc_family_hf_type(c->family), dc_family_gguf_arch(c->family));
    dc_inspect_fact(v, "shape", "layers", json_integer((json_int_t)c->L), "%lld layers, width %lld, feed-forward %lld",
                    (long long)c->L, (long long)c->C, (long long)c->F);
    dc_inspect_fact(v, "attention", "heads", json_integer((json_int_t)c->H),
                    "%lld heads of %lld, %lld for keys and values", (long long)c->H, (long long)c->D, (long long)c->K);
    dc_inspect_fact(v, "vocabulary", "vocab_size", json_integer((json_int_t)c->V), "%lld%s", (long long)c->V,
                    c->tied ? ", head tied to the embedding" : "");
    dc_inspect_fact(v, "context", "max_position", json_integer((json_int_t)c->max_position),
                    "%lld positions, rope theta %g", (long long)c->max_position, c->rope.theta);
    json_object_set_new(v->json, "hidden_size", json_integer((json_int_t)c->C));
    json_object_set_new(v->json, "intermediate_size", json_integer((json_int_t)c->F));
    json_object_set_new(v->json, "kv_heads", json_integer((json_int_t)c->K));
    json_object_set_new(v->json, "head_dim", json_integer((json_int_t)c->D));
    json_object_set_new(v->json, "tied", json_boolean(c->tied));
}

static int load_below(json_t **out, const char *dir, const char *name, dc_error *err)
{
    char *path = dc_path_join(dir, name);
    if (!path) return dc_fail_memory(err, strlen(dir), "a path");
    const int rc = dc_json_load(out, path, err);
    dc_free(path);
    return rc;
}

int dc_inspect_model(dc_inspect *v, dc_error *err)
{
    int rc = DC_OK;
    dc_config config;
    dc_error why = {0};
    json_t *json = NULL;
    DC_TRY(load_below(&json, v->path, "config.json", err));
    dc_inspect_fact(v, "model", "kind", json_string("model"), "%s", v->path);
    if (dc_config_from_json(&config, json, "config.json", &why) == DC_OK) put_config(v, &config);
    else dc_inspect_fact(v, "not runnable", "refused", json_string(why.message), "%s", why.message);
    DC_TRY(put_safetensors(v, v->path, err));
done:
    json_decref(json);
    return rc;
}

/* ---- a PEFT directory ---- */

static void put_targets(dc_inspect *v, const json_t *config)
{
    size_t i;
    json_t *name, *targets = json_object_get(config, "target_modules");
    dc_str text = {0};
    if (json_is_string(targets)) dc_str_puts(&text, json_string_value(targets));
    json_array_foreach(targets, i, name)
        dc_str_putf(&text, "%s%s", i ? ", " : "", json_string_value(name) ? json_string_value(name) : "?");
    dc_inspect_fact(v, "targets", "target_modules", targets ? json_incref(targets) : json_null(), "%s",
                    dc_str_text(&text));
    dc_str_release(&text);
}

int dc_inspect_adapter(dc_inspect *v, dc_error *err)
{
    int rc = DC_OK;
    json_t *config = NULL;
    double r = 0, alpha = 0;
    const char *base = NULL;
    char *weights = dc_path_join(v->path, "adapter_model.safetensors");
    if (!weights) return dc_fail_memory(err, strlen(v->path), "a path");
    DC_TRY(load_below(&config, v->path, "adapter_config.json", err));
    DC_TRY(dc_json_f64(&r, config, "r", 0, "adapter_config.json", err));
    DC_TRY(dc_json_f64(&alpha, config, "lora_alpha", 0, "adapter_config.json", err));
    DC_TRY(dc_json_text(&base, config, "base_model_name_or_path", "", "adapter_config.json", err));
    dc_inspect_fact(v, "adapter", "kind", json_string("adapter"), "%s", v->path);
    dc_inspect_fact(v, "base", "base", json_string(base), "%s", *base ? base : "not said");
    dc_inspect_fact(v, "rank", "r", json_real(r), "%g, alpha %g%s", r, alpha,
                    json_is_true(json_object_get(config, "use_rslora")) ? ", rsLoRA" : "");
    json_object_set_new(v->json, "lora_alpha", json_real(alpha));
    put_targets(v, config);
    DC_TRY(put_safetensors(v, weights, err));
done:
    json_decref(config);
    dc_free(weights);
    return rc;
}

/* ---- a tokenizer ---- */

int dc_inspect_tokenizer(dc_inspect *v, dc_error *err)
{
    size_t n = 0;
    dc_tokenizer *t = NULL;
    const int rc = dc_tokenizer_open(&t, v->path, err);
    if (rc != DC_OK) return rc;
    const dc_hash hash = dc_tokenizer_hash(t);
    const char *chat = dc_tokenizer_chat_template(t);
    dc_tokenizer_eog(t, &n);
    dc_inspect_fact(v, "tokenizer", "kind", json_string("tokenizer"), "%s", v->path);
    dc_inspect_fact(v, "entries", "size", json_integer((json_int_t)dc_tokenizer_size(t)), "%lld",
                    (long long)dc_tokenizer_size(t));
    dc_inspect_fact(v, "begins with", "bos", json_integer(dc_tokenizer_bos(t)),
                    dc_tokenizer_bos(t) < 0 ? "nothing" : "id %d", dc_tokenizer_bos(t));
    dc_inspect_fact(v, "ends with", "eos", json_integer(dc_tokenizer_eos(t)),
                    dc_tokenizer_eos(t) < 0 ? "nothing" : "id %d", dc_tokenizer_eos(t));
    dc_inspect_fact(v, "stops", "n_eog", json_integer((json_int_t)n), "%zu tokens end a generation", n);
    dc_inspect_fact(v, "chat template", "has_chat_template", json_boolean(chat != NULL), chat ? "%zu bytes" : "none",
                    chat ? strlen(chat) : 0);
    dc_inspect_fact(v, "hash", "hash", json_string(hash.hex), "%s", hash.hex);
    dc_tokenizer_free(t);
    return DC_OK;
}
