/* cli/stage_prepare.c -- rows into token shards; before them, a tokenizer when the recipe trains one. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/session.h"
#include "core/arena.h"
#include "core/file.h"
#include "core/json.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/rng.h"
#include "core/stop.h"
#include "data/chat.h"
#include "data/reader.h"
#include "data/rows.h"
#include "data/shard.h"

enum { LANES = 128 }; /* rows encoded together */

/* A set of shards being made. */
typedef struct set {
    const char *name;
    dc_shard_writer *writer;
    int64_t docs, tokens, trained, max_tokens;
    int64_t seen_before, rejects_before; /* of the sets before it */
} set;

typedef struct prepare {
    const dc_session *s;
    dc_tokenizer *tokenizer;
    dc_template *chat;
    dc_rows_options rows;
    dc_set_info info;
    char *dir; /* output_dir/data */
    dc_writer rejects;
    int rejects_open;
    int64_t n_rejects, max_bad;
    char first_reject[512];
    dc_progress bar;
    int64_t seen;
} prepare;

/* One row in work. */
typedef struct lane {
    json_t *row;
    char *place;
    uint64_t number;
    dc_examples examples;
    dc_error err;
} lane;

typedef struct batch {
    prepare *p;
    lane lanes[LANES];
    int64_t n;
} batch;

static int reject(prepare *p, const char *place, const char *kind, const char *reason, dc_error *err)
{
    json_t *line = json_pack("{s:s, s:s, s:s}", "place", place, "reject", kind, "reason", reason);
    if (!line)
        line = json_pack("{s:s, s:s, s:s}", "place", "(a name that is not UTF-8)", "reject", kind, "reason",
                         "(text that is not UTF-8)");
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    int rc = text ? dc_writer_put(&p->rejects, text, strlen(text), err) : dc_fail_memory(err, 0, "a rejected row");
    if (rc == DC_OK) rc = dc_writer_put(&p->rejects, "\n", 1, err);
    p->n_rejects++;
    if (!p->first_reject[0]) snprintf(p->first_reject, sizeof p->first_reject, "%s: %s", place, reason);
    if (rc == DC_OK && p->max_bad >= 0 && p->n_rejects > p->max_bad)
        rc = dc_fail(err, DC_EFORMAT,
                     "%lld rows were rejected, more than data.max_bad_rows %lld allows; the last: %s: %s",
                     (long long)p->n_rejects, (long long)p->max_bad, place, reason);
    free(text);
    json_decref(line);
    return rc;
}

static void encode_lane(void *context, int64_t i)
{
    batch *b = context;
    lane *l = &b->lanes[i];
    l->err = (dc_error){0};
    dc_rows_encode(&l->examples, l->row, b->p->tokenizer, b->p->chat, &b->p->rows, &l->err);
}

/* The documents of one row into a set; a set with max_tokens is cut there. */
static int add_row(prepare *p, set *to, const lane *l, uint32_t source, dc_error *err)
{
    for (size_t k = 0; k < l->examples.n; k++) {
        const dc_example *e = &l->examples.items[k];
        dc_doc doc = {.ids = l->examples.ids + e->begin,
                      .mask = l->examples.mask + e->begin,
                      .n = (int64_t)e->n,
                      .source = source,
                      .row = l->number,
                      .weight = 1};
        if (to->max_tokens && to->tokens + doc.n > to->max_tokens) doc.n = to->max_tokens - to->tokens;
        int64_t trained = 0;
        for (int64_t t = 1; t < doc.n; t++) trained += doc.mask[t];
        if (!trained) continue;
        const int rc = dc_shard_writer_add(to->writer, &doc, err);
        if (rc != DC_OK) return rc;
        to->docs++, to->tokens += doc.n, to->trained += trained;
    }
    (void)p;
    return DC_OK;
}

/* With a fraction, rows are held out by a draw keyed by their place: the same rows whatever else the data hold. */
static set *set_of(const prepare *p, set *train, set *eval, double fraction, uint32_t source, uint64_t row)
{
    uint32_t u[4];
    if (!eval || fraction <= 0) return train;
    dc_rng_u32x4(u, p->info.vocab_size ? (uint64_t)dc_recipe_int(p->s->recipe, "seed") : 0, DC_RNG_SPLIT, row, source);
    return dc_rng_f64(u[0], u[1]) < fraction ? eval : train;
}

static int is_full(const set *s) { return s->max_tokens && s->tokens >= s->max_tokens; }

/* Encodes the gathered rows and adds them in their order. */
static int flush(batch *b, set *train, set *eval, double fraction, uint32_t source, dc_error *err)
{
    prepare *p = b->p;
    int rc = dc_stop_check("prepare", err);
    if (rc == DC_OK) dc_pool_for(b->n, encode_lane, b);
    for (int64_t i = 0; i < b->n; i++) {
        lane *l = &b->lanes[i];
        if (rc == DC_OK && l->err.code != DC_OK) rc = dc_fail(err, l->err.code, "%s: %s", l->place, l->err.message);
        if (rc == DC_OK && l->examples.reject == DC_REJECT_LONG && p->rows.truncation == DC_TRUNCATE_ERROR)
            rc = dc_fail(err, DC_EFORMAT, "%s: %s. Raise data.max_length, or set data.truncation to cut or split",
                         l->place, l->examples.reason);
        else if (rc == DC_OK && l->examples.reject)
            rc = reject(p, l->place, dc_reject_name(l->examples.reject), l->examples.reason, err);
        else if (rc == DC_OK) rc = add_row(p, set_of(p, train, eval, fraction, source, l->number), l, source, err);
        json_decref(l->row);
        dc_free(l->place);
        l->row = NULL, l->place = NULL;
    }
    p->seen += b->n;
    b->n = 0;
    dc_progress_update(&p->bar, p->seen, NULL, 0, NULL);
    return rc;
}

static int gather(batch *b, const dc_record *record, dc_error *err)
{
    lane *l = &b->lanes[b->n];
    l->place = dc_strdup(record->place);
    if (!l->place) return dc_fail_memory(err, strlen(record->place), "a place");
    l->row = json_incref(record->value);
    l->number = record->row;
    b->n++;
    return DC_OK;
}

/* All rows of one source. */
static int read_source(prepare *p, batch *b, const char *item, uint32_t source, set *train, set *eval, double fraction,
                       dc_error *err)
{
    int rc = DC_OK;
    char key[96];
    dc_reader *reader = NULL;
#define KEY(name) (snprintf(key, sizeof key, "%s.%s", item, name), key)
    const dc_recipe *r = p->s->recipe;
    const char *path = dc_recipe_str(r, KEY("path"));
    const int64_t limit = dc_recipe_int(r, KEY("limit"));
    if (!path) return dc_fail(err, DC_EUSAGE, "%s: %s needs a path", dc_recipe_place(r, item), item);
    p->rows.schema = (dc_schema_kind)dc_schema_kind_find(dc_recipe_str(r, KEY("format")));
    p->rows.text_field = dc_recipe_str(r, KEY("text_field"));
#undef KEY
    DC_TRY(dc_reader_open(&reader, path, NULL, err));
    for (;;) {
        dc_record record;
        DC_TRY(dc_reader_next(reader, &record, err));
        if (record.kind == DC_READ_END || (limit && (int64_t)record.row >= limit)) break;
        if (record.kind == DC_READ_BAD) DC_TRY(reject(p, record.place, "read", record.reason, err));
        else DC_TRY(gather(b, &record, err));
        if (b->n == LANES) DC_TRY(flush(b, train, eval, fraction, source, err));
        if (is_full(train) && (!eval || is_full(eval) || fraction <= 0)) break;
    }
    DC_TRY(flush(b, train, eval, fraction, source, err));
done:
    dc_reader_close(reader);
    return rc;
}

static int begin_set(prepare *p, set *s, const char *name, const char *bound, dc_error *err)
{
    *s = (set){.name = name,
               .max_tokens = bound ? dc_recipe_int(p->s->recipe, bound) : 0,
               .seen_before = p->seen,
               .rejects_before = p->n_rejects};
    p->first_reject[0] = 0;
    return dc_shard_writer_new(&s->writer, p->dir, name, &p->info, err);
}

static int end_set(prepare *p, set *s, const char *items, json_t *summary, dc_error *err)
{
    if (!s->docs)
        return dc_fail(
            err, DC_EFORMAT,
            "%s: there is nothing to learn from: %lld rows were read, %lld rejected%s%s. See %s/rejects.jsonl", items,
            (long long)(p->seen - s->seen_before), (long long)(p->n_rejects - s->rejects_before),
            *p->first_reject ? "; the first: " : "", p->first_reject, p->dir);
    const int rc = dc_shard_writer_commit(s->writer, err);
    if (rc != DC_OK) return rc;
    json_object_set_new(summary, s->name,
                        json_pack("{s:I, s:I, s:I}", "documents", (json_int_t)s->docs, "tokens", (json_int_t)s->tokens,
                                  "trained_tokens", (json_int_t)s->trained));
    return DC_OK;
}

/* A list of sources into one set, or two when a fraction is held out. */
static int make_sets(prepare *p, const char *items, const char *name, const char *bound, const char *eval_name,
                     double fraction, json_t *summary, dc_error *err)
{
    int rc = DC_OK;
    set train = {0}, eval = {0};
    batch *b = dc_calloc(1, sizeof *b);
    if (!b) return dc_fail_memory(err, sizeof *b, "rows in work");
    b->p = p;
    DC_TRY(begin_set(p, &train, name, bound, err));
    if (eval_name) DC_TRY(begin_set(p, &eval, eval_name, "data.max_eval_tokens", err));
    for (size_t i = 0; i < dc_recipe_count(p->s->recipe, items); i++) {
        char item[64];
        snprintf(item, sizeof item, "%s[%zu]", items, i);
        DC_TRY(read_source(p, b, item, (uint32_t)i, &train, eval_name ? &eval : NULL, fraction, err));
    }
    DC_TRY(end_set(p, &train, items, summary, err));
    if (eval_name) DC_TRY(end_set(p, &eval, "data.eval_fraction", summary, err));
done:
    for (int64_t i = 0; i < LANES; i++) {
        json_decref(b->lanes[i].row);
        dc_free(b->lanes[i].place);
        dc_examples_release(&b->lanes[i].examples);
    }
    dc_free(b);
    dc_shard_writer_free(train.writer);
    dc_shard_writer_free(eval.writer);
    return rc;
}

/* A template given inline or as a file; else the tokenizer's; NULL when there is none. */
static int open_template(prepare *p, dc_error *err)
{
    int rc = DC_OK;
    dc_str text = {0};
    const char *given = dc_recipe_str(p->s->recipe, "data.chat_template"), *source = given;
    if (given && !strpbrk(given, "{\n")) {
        rc = dc_file_read(&text, given, 1 << 20, err);
        source = dc_str_text(&text);
    }
    if (!given) source = dc_tokenizer_chat_template(p->tokenizer);
    if (rc == DC_OK && source) {
        const dc_hash hash = dc_hash_bytes(source, strlen(source));
        p->info.chat_template = hash;
        rc = dc_template_new(&p->chat, source, given && text.data ? given : "chat_template", err);
    }
    dc_str_release(&text);
    return rc;
}

static int open_prepare(prepare *p, dc_error *err)
{
    int rc = DC_OK;
    const dc_recipe *r = p->s->recipe;
    const char *truncation = dc_recipe_str(r, "data.truncation");
    char *rejects = NULL;
    DC_TRY(dc_session_tokenizer(&p->tokenizer, p->s, err));
    DC_TRY(open_template(p, err));
    p->rows = dc_rows_defaults();
    p->rows.assistant_only_loss = dc_recipe_bool(r, "data.assistant_only_loss");
    p->rows.completion_only_loss = dc_recipe_bool(r, "data.completion_only_loss");
    p->rows.train_on_eot = dc_recipe_bool(r, "data.train_on_eot");
    p->rows.add_special = dc_recipe_bool(r, "data.add_special_tokens");
    p->rows.system = dc_recipe_str(r, "data.system_prompt");
    p->rows.max_length = dc_recipe_int(r, "data.max_length");
    p->rows.truncation = !strcmp(truncation, "cut")     ? DC_TRUNCATE_CUT
                         : !strcmp(truncation, "split") ? DC_TRUNCATE_SPLIT
                                                        : DC_TRUNCATE_ERROR;
    p->max_bad = dc_recipe_int(r, "data.max_bad_rows");
    p->info.vocab_size = dc_tokenizer_size(p->tokenizer);
    p->info.max_length = p->rows.max_length;
    p->info.tokenizer = dc_tokenizer_hash(p->tokenizer);
    p->info.settings = dc_recipe_hash(r, 'p');
    DC_TRY(dc_mkdirs(p->dir, err));
    rejects = dc_path_join(p->dir, "rejects.jsonl");
    if (!rejects) return dc_fail_memory(err, 0, "a path");
    DC_TRY(dc_writer_open(&p->rejects, rejects, err));
    p->rejects_open = 1;
done:
    dc_free(rejects);
    return rc;
}

static int make_all(prepare *p, json_t *summary, dc_error *err)
{
    int rc = DC_OK;
    const dc_recipe *r = p->s->recipe;
    const int has_eval = dc_recipe_has(r, "data.eval");
    const double fraction = has_eval ? 0 : dc_recipe_real(r, "data.eval_fraction");
    DC_TRY(open_prepare(p, err));
    dc_progress_begin(&p->bar, "prepare", 0);
    if (dc_recipe_has(r, "teacher.data"))
        DC_TRY(make_sets(p, "teacher.data.train", "teacher", NULL, NULL, 0, summary, err));
    if (dc_recipe_has(r, "data.train"))
        DC_TRY(make_sets(p, "data.train", "train", "data.max_tokens", fraction > 0 ? "eval" : NULL, fraction, summary,
                         err));
    if (has_eval) DC_TRY(make_sets(p, "data.eval", "eval", "data.max_eval_tokens", NULL, 0, summary, err));
    json_object_set_new(summary, "rows", json_integer((json_int_t)p->seen));
    json_object_set_new(summary, "rejected", json_integer((json_int_t)p->n_rejects));
    DC_TRY(dc_writer_commit(&p->rejects, err));
    p->rejects_open = 0;
done:
    dc_progress_end(&p->bar);
    return rc;
}

/* Hash over the sets that stand there now. */
static int output_hash(const prepare *p, dc_hash *out, dc_error *err)
{
    static const char *const names[] = {"teacher", "train", "eval"};
    dc_hasher *h = dc_hasher_new();
    if (!h) return dc_fail_memory(err, 0, "a hash");
    int rc = DC_OK;
    for (size_t i = 0; rc == DC_OK && i < 3; i++) {
        dc_set *s = NULL;
        int there;
        rc = dc_set_there(&there, p->dir, names[i], err);
        if (rc != DC_OK || !there) continue;
        rc = dc_set_open(&s, p->dir, names[i], err);
        if (rc == DC_OK) {
            const dc_hash one = dc_set_hash(s);
            dc_hasher_add_text(h, names[i]);
            dc_hasher_add_text(h, one.hex);
        }
        dc_set_close(s);
    }
    *out = dc_hasher_get(h);
    dc_hasher_free(h);
    return rc;
}

/* What the stage depends on: its keys, the files' bytes, the tokenizer's. */
static int hash_sources(dc_hasher *h, const dc_recipe *r, const char *items, dc_error *err)
{
    for (size_t i = 0; i < dc_recipe_count(r, items); i++) {
        char key[96];
        dc_hash one;
        snprintf(key, sizeof key, "%s[%zu].path", items, i);
        const char *path = dc_recipe_str(r, key);
        const int rc = path ? dc_reader_hash(&one, path, err)
                            : dc_fail(err, DC_EUSAGE, "%s: a source needs a path", dc_recipe_place(r, items));
        if (rc != DC_OK) return rc;
        dc_hasher_add_text(h, one.hex);
    }
    return DC_OK;
}

static int stage_key(dc_hash *out, const dc_session *s, dc_error *err)
{
    int rc = DC_OK;
    const dc_recipe *r = s->recipe;
    const dc_hash keys = dc_recipe_hash(r, 'p');
    const char *path = dc_recipe_str(r, "tokenizer.path");
    dc_tokenizer *t = NULL;
    dc_hasher *h = dc_hasher_new();
    if (!h) return dc_fail_memory(err, 0, "a hash");
    dc_hasher_add_text(h, keys.hex);
    DC_TRY(hash_sources(h, r, "data.train", err));
    DC_TRY(hash_sources(h, r, "data.eval", err));
    DC_TRY(hash_sources(h, r, "teacher.data.train", err));
    for (size_t i = 0; i < dc_recipe_count(r, "tokenizer.train.files"); i++) {
        dc_hash one;
        DC_TRY(dc_reader_hash(&one, dc_recipe_str_at(r, "tokenizer.train.files", i), err));
        dc_hasher_add_text(h, one.hex);
    }
    if (path || !dc_recipe_has(r, "tokenizer.train")) {
        DC_TRY(dc_session_tokenizer(&t, s, err));
        const dc_hash one = dc_tokenizer_hash(t);
        dc_hasher_add_text(h, one.hex);
    }
    *out = dc_hasher_get(h);
done:
    dc_tokenizer_free(t);
    dc_hasher_free(h);
    return rc;
}

static void say_done(const dc_session *s, const json_t *summary, const dc_stage *stage)
{
    char rows[32], tokens[32], seconds[32];
    const json_t *train = json_object_get(summary, "train");
    const int64_t n = json_integer_value(json_object_get(train, "tokens")),
                  trained = json_integer_value(json_object_get(train, "trained_tokens"));
    const int64_t rejected = json_integer_value(json_object_get(summary, "rejected"));
    dc_human_count(rows, sizeof rows, json_integer_value(json_object_get(summary, "rows")));
    dc_human_count(tokens, sizeof tokens, n);
    dc_human_time(seconds, sizeof seconds, dc_now() - stage->began);
    char bad[256] = "";
    if (rejected) snprintf(bad, sizeof bad, " · %lld rejected → %s/data/rejects.jsonl", (long long)rejected, s->dir);
    dc_log(DC_LOG_INFO, "prepare   done    %s rows · %s tokens (%.0f %% trained)%s   %s", rows, tokens,
           n ? 100.0 * (double)trained / (double)n : 0.0, bad, seconds);
}

int dc_stage_prepare(const dc_session *s, dc_error *err)
{
    int rc = DC_OK, kept = 0;
    dc_hash key, output;
    dc_stage stage = {0};
    prepare p = {.s = s};
    DC_TRY(stage_key(&key, s, err));
    DC_TRY(dc_stage_begin(&stage, &kept, s, "prepare", "data", NULL, key, err));
    if (kept) goto done;
    p.dir = dc_session_path(s, "data", err);
    if (!p.dir) {
        rc = DC_ENOMEM;
        goto done;
    }
    if (dc_recipe_has(s->recipe, "tokenizer.train")) DC_TRY(dc_make_tokenizer(s, err));
    DC_TRY(make_all(&p, stage.summary, err));
    DC_TRY(output_hash(&p, &output, err));
    DC_TRY(dc_stage_end(&stage, s, output, err));
    say_done(s, stage.summary, &stage);
done:
    if (p.rejects_open) dc_writer_abandon(&p.rejects);
    dc_template_free(p.chat);
    dc_tokenizer_free(p.tokenizer);
    dc_free(p.dir);
    dc_stage_release(&stage);
    return rc;
}
