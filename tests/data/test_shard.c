/* tests/data/test_shard.c -- token shards: round trip, the set's hash, damage, kills. */
#include "data/shard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/pool.h"
#include "core/str.h"
#include "data/h5.h"
#include "data/shard_private.h"
#include "tests/core/temp.h"
#include "tests/data/damage.h"
#include "tests/data/set_kit.h"

static void must(int rc, const dc_error *err)
{
    if (rc) fail_msg("%d: %s", rc, err->message);
}

/* Reads document d and compares it with what kit_write wrote. */
static int check_doc(dc_set *s, int64_t d, int64_t vocab_size, uint32_t source, dc_error *err)
{
    kit_doc memory;
    int32_t ids[KIT_LONGEST];
    uint8_t mask[KIT_LONGEST];
    float weight = -1;
    const dc_doc *wanted = kit_document(&memory, d, vocab_size, source);
    int64_t trained = 0;
    for (int64_t i = 1; i < wanted->n; i++) trained += wanted->mask[i];
    const int rc = dc_set_read(s, d, ids, mask, &weight, err);
    if (rc != DC_OK) return rc;
    if (dc_set_doc_length(s, d) != wanted->n || dc_set_doc_trained(s, d) != trained ||
        dc_set_doc_source(s, d) != source || memcmp(ids, wanted->ids, (size_t)wanted->n * sizeof *ids) != 0 ||
        memcmp(mask, wanted->mask, (size_t)wanted->n) != 0 || weight < wanted->weight || weight > wanted->weight)
        return dc_fail(err, DC_EFORMAT, "WRONG document %lld", (long long)d);
    return DC_OK;
}

static int check_set(const char *dir, const char *set, int64_t n, int64_t vocab_size, int64_t sources, dc_error *err)
{
    dc_set *s = NULL;
    int64_t tokens = 0, trained = 0;
    int rc = dc_set_open(&s, dir, set, err);
    if (rc == DC_OK && dc_set_docs(s) != n) rc = dc_fail(err, DC_EFORMAT, "WRONG number of documents");
    for (int64_t i = 0; rc == DC_OK && i < n; i++) {
        const int64_t d = i % 2 ? n - (i + 1) / 2 : i / 2; /* from both ends */
        tokens += dc_set_doc_length(s, d), trained += dc_set_doc_trained(s, d);
        rc = check_doc(s, d, vocab_size, (uint32_t)(d * sources / n), err);
    }
    if (rc == DC_OK && (tokens != dc_set_tokens(s) || trained != dc_set_trained(s)))
        rc = dc_fail(err, DC_EFORMAT, "WRONG sums");
    dc_set_close(s);
    return rc;
}

static void documents_come_back(void **state)
{
    (void)state;
    dc_error err = {0};
    static const int64_t vocabularies[] = {300, 65536, 65537, 151936};
    for (size_t i = 0; i < 4; i++) {
        must(kit_write(temp_path("sets"), "train", 2001, vocabularies[i], 3, &err), &err);
        must(check_set(temp_path("sets"), "train", 2001, vocabularies[i], 3, &err), &err);
    }
    must(kit_write(temp_path("sets"), "eval", 1, 300, 1, &err), &err); /* beside the other */
    must(kit_write(temp_path("sets"), "none", 0, 300, 1, &err), &err);
    must(check_set(temp_path("sets"), "eval", 1, 300, 1, &err), &err);
    must(check_set(temp_path("sets"), "none", 0, 300, 1, &err), &err);
    must(check_set(temp_path("sets"), "train", 2001, 151936, 3, &err), &err);
    char **names = NULL;
    size_t n = 0;
    must(dc_manifest_check(temp_path("sets"), 1, &names, &n, &err), &err);
    assert_int_equal(n, 3);
    dc_names_free(names);
}

static void the_info_comes_back(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_set *s = NULL;
    const dc_set_info wanted = kit_info(300);
    must(kit_write(temp_path("info"), "train", 10, 300, 1, &err), &err);
    int there = 7;
    must(dc_set_there(&there, temp_path("info"), "eval", &err), &err);
    assert_false(there);
    must(dc_set_there(&there, temp_path("info"), "train", &err), &err);
    assert_true(there);
    must(dc_set_open(&s, temp_path("info"), "train", &err), &err);
    const dc_set_info *info = dc_set_info_of(s);
    assert_int_equal(info->vocab_size, 300);
    assert_int_equal(info->max_length, KIT_LONGEST);
    assert_string_equal(info->tokenizer.hex, wanted.tokenizer.hex);
    assert_string_equal(info->chat_template.hex, "");
    assert_string_equal(info->settings.hex, wanted.settings.hex);
    dc_set_close(s);
}

/* Documents of `length` tokens, so that a set crosses files quickly. */
static int write_long(const char *dir, int64_t n, int64_t length, dc_error *err)
{
    dc_shard_writer *w = NULL;
    dc_set_info info = kit_info(65536);
    info.max_length = length;
    int32_t *ids = dc_calloc((size_t)length, sizeof *ids);
    uint8_t *mask = dc_calloc((size_t)length, 1);
    int rc = dc_shard_writer_new(&w, dir, "train", &info, err);
    for (int64_t d = 0; rc == DC_OK && d < n; d++) {
        ids[0] = (int32_t)d, mask[1] = (uint8_t)(d % 2);
        const dc_doc doc = {.ids = ids, .mask = mask, .n = length, .row = (uint64_t)d, .weight = 1};
        rc = dc_shard_writer_add(w, &doc, err);
    }
    if (rc == DC_OK) rc = dc_shard_writer_commit(w, err);
    dc_shard_writer_free(w);
    dc_free(ids);
    dc_free(mask);
    return rc;
}

static void a_set_spans_files(void **state)
{
    (void)state;
    enum { LENGTH = DC_SHARD_TOKENS / 4, N = 9 };
    dc_error err = {0};
    dc_set *s = NULL;
    must(write_long(temp_path("long"), N, LENGTH, &err), &err);
    assert_true(dc_path_exists(temp_path("long/train-00002.h5")));
    assert_false(dc_path_exists(temp_path("long/train-00003.h5")));
    must(dc_set_open(&s, temp_path("long"), "train", &err), &err);
    assert_int_equal(dc_set_docs(s), N);
    assert_int_equal(dc_set_tokens(s), (int64_t)N * LENGTH);
    int32_t *ids = dc_malloc((size_t)LENGTH * sizeof *ids);
    for (int64_t d = 0; d < N; d++) {
        must(dc_set_read(s, d, ids, NULL, NULL, &err), &err);
        assert_int_equal(ids[0], d);
        assert_int_equal(dc_set_doc_trained(s, d), d % 2);
    }
    dc_free(ids);
    dc_set_close(s);
    /* a shorter set in its place leaves nothing of it */
    must(write_long(temp_path("again"), N, LENGTH, &err), &err);
    must(write_long(temp_path("again"), 1, LENGTH, &err), &err);
    must(dc_set_open(&s, temp_path("again"), "train", &err), &err);
    assert_int_equal(dc_set_docs(s), 1);
    dc_set_close(s);
    char **names = NULL;
    size_t n = 0;
    must(dc_manifest_check(temp_path("again"), 1, &names, &n, &err), &err);
    assert_int_equal(n, 1);
    dc_names_free(names);
    must(dc_remove_tree(temp_path("again"), NULL), &err);
    /* without its last file it is not the set */
    unlink(temp_path("long/train-00002.h5"));
    assert_int_equal(dc_set_open(&s, temp_path("long"), "train", &err), DC_EFORMAT);
    assert_non_null(strstr(err.message, "not finished"));
    err = (dc_error){0};
    unlink(temp_path("long/train-00000.h5"));
    assert_int_equal(dc_set_open(&s, temp_path("long"), "train", &err), DC_EFORMAT);
    assert_non_null(strstr(err.message, "only 1 are there"));
    must(dc_remove_tree(temp_path("long"), NULL), &err);
}

static dc_hash hash_of(const char *dir)
{
    dc_error err = {0};
    dc_set *s = NULL;
    must(dc_set_open(&s, dir, "train", &err), &err);
    const dc_hash h = dc_set_hash(s);
    dc_set_close(s);
    return h;
}

/* Writes three documents, of which one thing is changed. */
static dc_hash hash_with(int changed)
{
    dc_error err = {0};
    dc_shard_writer *w = NULL;
    kit_doc memory;
    dc_set_info info = kit_info(300);
    if (changed == 1) info.tokenizer = dc_hash_bytes("u", 1);
    must(dc_shard_writer_new(&w, temp_path("hash"), "train", &info, &err), &err);
    for (int64_t d = 0; d < 3; d++) {
        dc_doc doc = *kit_document(&memory, changed == 2 ? 2 - d : d, 300, 0);
        if (d == 1 && changed == 3) memory.ids[0] ^= 1;
        if (d == 1 && changed == 4) memory.mask[doc.n - 1] ^= 1;
        if (d == 1 && changed == 5) doc.weight *= 2;
        must(dc_shard_writer_add(w, &doc, &err), &err);
    }
    must(dc_shard_writer_commit(w, &err), &err);
    dc_shard_writer_free(w);
    return hash_of(temp_path("hash"));
}

static void the_hash_is_of_the_content(void **state)
{
    (void)state;
    const dc_hash h = hash_with(0), again = hash_with(0);
    assert_int_equal(strlen(h.hex), 32);
    assert_true(dc_hash_equal(&h, &again));
    for (int changed = 1; changed <= 5; changed++) {
        const dc_hash other = hash_with(changed);
        assert_false(dc_hash_equal(&h, &other));
    }
}

static void bad_documents_are_refused(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_shard_writer *w = NULL;
    int32_t ids[KIT_LONGEST + 1] = {0};
    const uint8_t mask[KIT_LONGEST + 1] = {0};
    const dc_set_info info = kit_info(300);
    must(dc_shard_writer_new(&w, temp_path("bad"), "train", &info, &err), &err);
    dc_doc doc = {.ids = ids, .mask = mask, .n = KIT_LONGEST + 1, .row = 17, .weight = 1};
    assert_int_equal(dc_shard_writer_add(w, &doc, &err), DC_EFORMAT);
    assert_non_null(strstr(err.message, "row 17 of source 0: a document of 65 tokens; 1 to 64 fit"));
    err = (dc_error){0};
    doc.n = 0;
    assert_int_equal(dc_shard_writer_add(w, &doc, &err), DC_EFORMAT);
    err = (dc_error){0};
    doc.n = 3, ids[2] = 300;
    assert_int_equal(dc_shard_writer_add(w, &doc, &err), DC_EFORMAT);
    assert_non_null(strstr(err.message, "token 2 is 300; the vocabulary has 300"));
    dc_shard_writer_free(w);
    dc_set *s = NULL;
    err = (dc_error){0};
    assert_int_equal(dc_set_open(&s, temp_path("bad"), "train", &err), DC_EIO);
    assert_non_null(strstr(err.message, "`decant prepare` makes it"));
    err = (dc_error){0};
    assert_int_equal(dc_set_open(&s, temp_path("absent"), "train", &err), DC_EIO);
}

/* Files of two preparations are not one set. */
static void mixed_files_are_refused(void **state)
{
    (void)state;
    dc_error err = {0};
    dc_set *s = NULL;
    must(kit_write(temp_path("mix"), "train", 5, 300, 1, &err), &err);
    must(kit_write(temp_path("mix"), "other", 5, 300, 1, &err), &err);
    assert_int_equal(rename(temp_path("mix/other-00000.h5"), temp_path("mix/train-00001.h5")), 0);
    assert_int_equal(dc_set_open(&s, temp_path("mix"), "train", &err), DC_EFORMAT);
    assert_non_null(strstr(err.message, "one before the end says it is the last"));
}

static void damage_is_found(void **state)
{
    (void)state;
    dc_error err = {0};
    char path[192];
    must(kit_write(temp_path("dmg"), "train", 40, 300, 1, &err), &err);
    snprintf(path, sizeof path, "%s", temp_path("dmg/train-00000.h5"));
    const size_t bytes = (size_t)dc_file_size(path);
    for (size_t at = 0; at < bytes; at += 1 + at % 29) {
        damage_flip(path, at, 16);
        err = (dc_error){0};
        const int rc = check_set(temp_path("dmg"), "train", 40, 300, 1, &err);
        if (rc && (rc != DC_EFORMAT || strstr(err.message, "WRONG"))) fail_msg("byte %zu: %s", at, err.message);
        damage_flip(path, at, 16);
    }
    for (size_t n = bytes; n-- > 0; n -= n / 8) {
        damage_cut(path, n);
        err = (dc_error){0};
        assert_int_equal(check_set(temp_path("dmg"), "train", 40, 300, 1, &err), DC_EFORMAT);
    }
}

static void every_failing_allocation_is_reported(void **state)
{
    (void)state;
    dc_error err = {0};
    int rc = DC_ENOMEM;
    long n = 1;
    for (; rc != DC_OK && n < 1000; n++) {
        err = (dc_error){0};
        dc_alloc_fail_at(n);
        rc = kit_write(temp_path("mem"), "train", 30, 300, 1, &err);
        dc_alloc_fail_at(0);
        if (rc != DC_OK) assert_int_equal(rc, DC_ENOMEM);
    }
    assert_true(rc == DC_OK && n > 30);
    rc = DC_ENOMEM;
    for (n = 1; rc != DC_OK && n < 1000; n++) {
        err = (dc_error){0};
        dc_alloc_fail_at(n);
        rc = check_set(temp_path("mem"), "train", 30, 300, 1, &err);
        dc_alloc_fail_at(0);
        if (rc != DC_OK) assert_int_equal(rc, DC_ENOMEM);
    }
    assert_true(rc == DC_OK && n > 30);
}

/* A preparation that is killed anywhere leaves no set, or a whole one; made again it is as if nothing had been. */
static void kills_leave_nothing_half(void **state)
{
    (void)state;
    enum { N = 30000, KILLS = 12 };
    dc_error err = {0};
    int unfinished = 0;
    must(kit_write(temp_path("calm"), "train", N, 300, 1, &err), &err);
    const dc_hash wanted = hash_of(temp_path("calm"));
    for (int k = 0; k < KILLS; k++) {
        const pid_t child = fork();
        if (child == 0) {
            dc_pool_set_threads(1); /* the threads did not come along */
            _exit(kit_write(temp_path("kill"), "train", N, 300, 1, NULL) == DC_OK ? 0 : 1);
        }
        usleep((useconds_t)(kit_mix((uint64_t)k) % 120000));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        err = (dc_error){0};
        if (check_set(temp_path("kill"), "train", N, 300, 1, &err) != DC_OK) {
            if (strstr(err.message, "WRONG")) fail_msg("%s", err.message);
            unfinished++;
        }
    }
    assert_true(unfinished > 0);
    err = (dc_error){0};
    must(kit_write(temp_path("kill"), "train", N, 300, 1, &err), &err);
    const dc_hash h = hash_of(temp_path("kill"));
    assert_true(dc_hash_equal(&h, &wanted));
    char **names = NULL;
    size_t n = 0;
    must(dc_dir_list(&names, &n, temp_path("kill"), &err), &err);
    assert_int_equal(n, 2); /* the file and the manifest */
    dc_names_free(names);
    must(dc_manifest_check(temp_path("kill"), 1, &names, &n, &err), &err);
    dc_names_free(names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_come_back),       cmocka_unit_test(the_info_comes_back),
        cmocka_unit_test(a_set_spans_files),         cmocka_unit_test(the_hash_is_of_the_content),
        cmocka_unit_test(bad_documents_are_refused), cmocka_unit_test(mixed_files_are_refused),
        cmocka_unit_test(damage_is_found),           cmocka_unit_test(every_failing_allocation_is_reported),
        cmocka_unit_test(kills_leave_nothing_half),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
