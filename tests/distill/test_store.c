/* tests/distill/test_store.c -- the store of targets: round trip, resumed captures, mismatches, damage. */
#include "distill/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/half.h"
#include "core/pool.h"
#include "core/str.h"
#include "data/h5.h"
#include "distill/store_private.h"
#include "tests/core/faults.h"
#include "tests/core/temp.h"
#include "tests/data/damage.h"

enum { MOST_ROWS = 6, MOST = 400, V = 151936 };

static uint64_t mix(uint64_t i)
{
    i = (i ^ (i >> 31)) * 0x9E3779B97F4A7C15u;
    return i ^ (i >> 29);
}

static dc_store_info info_of(dc_targets kind, int64_t entries)
{
    return (dc_store_info){.kind = kind,
                           .n_samples = kind == DC_TARGETS_SAMPLED ? entries : 0,
                           .topk = kind == DC_TARGETS_TOPK ? entries : 0,
                           .temperature = 1.5,
                           .vocab_size = V,
                           .seed = UINT64_MAX - 5,
                           .teacher = dc_hash_bytes("t", 1),
                           .data = dc_hash_bytes("d", 1),
                           .tokenizer = dc_hash_bytes("k", 1)};
}

/* Made-up targets of one document, in memory of its own. */
typedef struct made {
    int64_t first[MOST_ROWS + 1];
    int32_t ids[MOST_ROWS * MOST];
    float p[MOST_ROWS * MOST], entropy[MOST_ROWS], ce[MOST_ROWS], logsumexp[MOST_ROWS];
    dc_rows rows;
} made;

/* A row's draws: `entries` of them over ids with gaps of all sizes; or a top-k row whose mass is nearly 1. */
static int64_t make_row(made *m, int64_t at, uint64_t key, const dc_store_info *info)
{
    const int sampled = info->kind == DC_TARGETS_SAMPLED;
    const int64_t entries = sampled ? info->n_samples : info->topk;
    int64_t left = entries, n = 0, id = (int64_t)(mix(key) % 200);
    double sum = 0;
    while (left > 0) {
        const uint64_t r = mix(key * 1000 + (uint64_t)n);
        int64_t count = sampled ? 1 + (int64_t)(r % 7 == 0 ? r % 200 : 0) : 1;
        if (count > left) count = left;
        m->ids[at + n] = (int32_t)id;
        m->p[at + n] = sampled ? (float)count / (float)entries : 1.0f / (float)(1 + r % 1000);
        sum += (double)m->p[at + n];
        id += 1 + (int64_t)(r >> 20) % (r % 5 ? 3 : V / (2 * MOST));
        left -= count, n++;
    }
    for (int64_t i = 0; !sampled && i < n; i++) m->p[at + i] = (float)((double)m->p[at + i] / sum);
    return n;
}

static const dc_rows *make_doc(made *m, int64_t doc, const dc_store_info *info)
{
    const int64_t M = (int64_t)(mix((uint64_t)doc) % (MOST_ROWS + 1));
    m->first[0] = 0;
    for (int64_t r = 0; r < M; r++) {
        const uint64_t key = (uint64_t)(doc * 64 + r);
        m->first[r + 1] = m->first[r] + make_row(m, m->first[r], key, info);
        m->entropy[r] = (float)(mix(key) % 100) / 16;
        m->ce[r] = r == 3 ? 1e6f : (float)(mix(key) % 90) / 7;
        m->logsumexp[r] = (float)(mix(key) % 1000) / 3;
    }
    m->rows =
        (dc_rows){.M = M, .first = m->first, .ids = m->ids, .p = m->p, .entropy = m->entropy, .teacher_ce = m->ce};
    return &m->rows;
}

static int64_t began; /* the document that the last capture went on from */

/* Captures documents up to n into DIR, flushing before those of which `flush` says so; from where the last run ended. */
static int capture(const char *dir, int64_t n, const dc_store_info *info, int64_t (*flush)(int64_t doc), int commit,
                   dc_error *err)
{
    static made m;
    dc_store_writer *w = NULL;
    int64_t doc = 0;
    int rc = dc_store_writer_new(&w, &doc, dir, "train", info, err);
    began = doc;
    for (; rc == DC_OK && doc < n; doc++) {
        const dc_rows *rows = make_doc(&m, doc, info);
        if (flush && flush(doc)) rc = dc_store_writer_flush(w, err);
        if (rc == DC_OK) rc = dc_store_writer_add(w, doc, rows, m.logsumexp, err);
    }
    if (rc == DC_OK && commit) rc = dc_store_writer_commit(w, err);
    dc_store_writer_free(w);
    return rc;
}

static int check_row(const dc_rows *rows, int64_t i, const made *m, int64_t r, const dc_store_info *info, dc_error *err)
{
    const int64_t n = m->first[r + 1] - m->first[r], at = rows->first[i], from = m->first[r];
    double sum = 0;
    if (rows->first[i + 1] - at != n || memcmp(rows->ids + at, m->ids + from, (size_t)n * sizeof *m->ids) != 0)
        return dc_fail(err, DC_EFORMAT, "WRONG ids");
    for (int64_t k = 0; k < n; k++) {
        const double got = (double)rows->p[at + k], wanted = (double)m->p[from + k];
        /* a half log-probability: half a unit in the last place, a whole one where the row is rounded down */
        const double bound = info->kind == DC_TARGETS_SAMPLED ? 0 : wanted * fabs(log(wanted)) / 1024 + 1e-7;
        if (!(fabs(got - wanted) <= bound)) return dc_fail(err, DC_EFORMAT, "WRONG p: %.9g for %.9g", got, wanted);
        sum += got;
    }
    if (sum > (info->kind == DC_TARGETS_SAMPLED ? 1 + 1e-5 : 1))
        return dc_fail(err, DC_EFORMAT, "WRONG sum %.17g", sum);
    const float entropy = dc_f16_to_f32(dc_f32_to_f16(m->entropy[r])),
                ce = dc_f16_to_f32(dc_f32_to_f16(fminf(m->ce[r], 65504)));
    if (memcmp(&entropy, &rows->entropy[i], 4) != 0 || memcmp(&ce, &rows->teacher_ce[i], 4) != 0)
        return dc_fail(err, DC_EFORMAT, "WRONG figures");
    return DC_OK;
}

/* Reads all documents, several at a time into the same rows. */
static int check(const char *dir, int64_t n, const dc_store_info *info, dc_error *err)
{
    static made m;
    dc_store *s = NULL;
    dc_rows rows = {0};
    int64_t before = 0;
    int rc = dc_store_open(&s, dir, "train", info, err);
    if (rc == DC_OK && dc_store_docs(s) != n) rc = dc_fail(err, DC_EFORMAT, "WRONG number of documents");
    for (int64_t i = 0; rc == DC_OK && i < n; i++) {
        const int64_t doc = i % 2 ? n - (i + 1) / 2 : i / 2; /* from both ends */
        const int64_t M = make_doc(&m, doc, info)->M;
        if (i % 5 == 0) rows.M = 0;
        before = rows.M;
        rc = dc_store_read(s, &rows, doc, M, err);
        if (rc == DC_OK && rows.M != before + M) rc = dc_fail(err, DC_EFORMAT, "WRONG number of rows");
        for (int64_t r = 0; rc == DC_OK && r < M; r++) rc = check_row(&rows, before + r, &m, r, info, err);
    }
    dc_rows_release(&rows);
    dc_store_close(s);
    return rc;
}

static void must(int rc, const dc_error *err)
{
    if (rc) fail_msg("%d: %s", rc, err->message);
}

static void targets_come_back(void **state)
{
    static const int64_t entries[] = {1, 50, 255, 256, MOST};
    (void)state;
    for (int kind = 0; kind < 2; kind++)
        for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
            dc_error err = {0};
            const dc_store_info info = info_of((dc_targets)kind, entries[i]);
            must(dc_remove_tree(temp_path("s"), &err), &err);
            must(capture(temp_path("s"), 300, &info, NULL, 1, &err), &err);
            must(check(temp_path("s"), 300, &info, &err), &err);
        }
}

static void all_mass_on_the_kept_ids_stays_below_one(void **state)
{
    static const float cases[][4] = {{1, 0, 0, 0},
                                     {1, 1e-9f, 1e-20f, 1e-40f},
                                     {0.25f, 0.25f, 0.25f, 0.25f},
                                     {0.5f, 0.25f, 0.125f, 0.125f},
                                     {0.97f, 0.01f, 0.01f, 0.01f},
                                     {0.3333333f, 0.3333333f, 0.3333334f, 0}};
    (void)state;
    dc_error err = {0};
    dc_store_info info = info_of(DC_TARGETS_TOPK, 4);
    info.vocab_size = 4;
    const int64_t first[] = {0, 4};
    int32_t ids[] = {0, 1, 2, 3};
    float entropy = 0, ce = 0, p_of[0x8000];
    for (int h = 0; h < 0x8000; h++) p_of[h] = (float)exp(-(double)dc_f16_to_f32((uint16_t)h));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float p[4];
        dc_store_doc d = {0};
        dc_rows back = {0};
        memcpy(p, cases[i], sizeof p);
        const dc_rows rows = {
            .M = 1, .first = (int64_t *)(uintptr_t)first, .ids = ids, .p = p, .entropy = &entropy, .teacher_ce = &ce};
        must(dc_store_pack(&d, &rows, &entropy, &info, &err), &err);
        must(dc_store_unpack(&back, &d, p_of, &info, "case", &err), &err);
        double sum = 0;
        for (int k = 0; k < 4; k++) {
            sum += (double)back.p[k];
            assert_true(fabs((double)back.p[k] - (double)p[k]) <=
                        1e-3 * (double)p[k] * (1 - log((double)p[k] + 1e-45)) + 1e-7);
        }
        assert_true(sum <= 1 && sum > 0.998);
        dc_store_doc_release(&d);
        dc_rows_release(&back);
    }
}

/* ---- interruptions ---- */

enum { DOCS = DC_STORE_DOCS + 900 };

static int64_t sometimes(int64_t doc) { return doc % 1171 == 600; }

/* Both folders have the same names and bytes. */
static void same_folders(const char *a, const char *b)
{
    dc_error err = {0};
    char **names = NULL, **others = NULL;
    size_t n = 0, m = 0;
    must(dc_dir_list(&names, &n, a, &err), &err);
    must(dc_dir_list(&others, &m, b, &err), &err);
    assert_int_equal(n, m);
    for (size_t i = 0; i < n; i++) {
        dc_str x = {0}, y = {0};
        assert_string_equal(names[i], others[i]);
        char *pa = dc_path_join(a, names[i]), *pb = dc_path_join(b, names[i]);
        must(dc_file_read(&x, pa, 1 << 28, &err), &err);
        must(dc_file_read(&y, pb, 1 << 28, &err), &err);
        if (x.n != y.n || memcmp(x.data, y.data, x.n) != 0) fail_msg("%s differs", names[i]);
        dc_str_release(&x), dc_str_release(&y);
        dc_free(pa), dc_free(pb);
    }
    dc_names_free(names), dc_names_free(others);
}

static void a_flush_changes_no_byte(void **state)
{
    (void)state;
    dc_error err = {0};
    const dc_store_info info = info_of(DC_TARGETS_SAMPLED, 50);
    must(capture(temp_path("calm"), DOCS, &info, NULL, 1, &err), &err);
    must(check(temp_path("calm"), DOCS, &info, &err), &err);
    must(capture(temp_path("flushed"), DOCS, &info, sometimes, 1, &err), &err);
    same_folders(temp_path("calm"), temp_path("flushed"));
}

static void a_stop_keeps_the_documents_so_far(void **state)
{
    static const int64_t stops[] = {0, 1, 700, DC_STORE_DOCS, DC_STORE_DOCS + 1, DC_STORE_DOCS + 500};
    (void)state;
    dc_error err = {0};
    const dc_store_info info = info_of(DC_TARGETS_SAMPLED, 50);
    static made m;
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        dc_store_writer *w = NULL;
        int64_t doc = -1;
        must(dc_store_writer_new(&w, &doc, temp_path("stop"), "train", &info, &err), &err);
        assert_int_equal(doc, i ? stops[i - 1] : 0);
        for (; doc < stops[i]; doc++) must(dc_store_writer_add(w, doc, make_doc(&m, doc, &info), NULL, &err), &err);
        must(dc_store_writer_flush(w, &err), &err);
        dc_store_writer_free(w);
        dc_store *s = NULL;
        assert_int_equal(dc_store_open(&s, temp_path("stop"), "train", NULL, NULL), i < 4 ? DC_EIO : DC_EMISMATCH);
    }
    must(capture(temp_path("stop"), DOCS, &info, NULL, 1, &err), &err);
    same_folders(temp_path("calm"), temp_path("stop"));
    /* a finished store has nothing left to do */
    must(capture(temp_path("stop"), DOCS, &info, NULL, 1, &err), &err);
    same_folders(temp_path("calm"), temp_path("stop"));
}

static void kills_change_no_byte(void **state)
{
    (void)state;
    dc_error err = {0};
    const dc_store_info info = info_of(DC_TARGETS_SAMPLED, 50);
    int killed = 0, status = -1;
    for (int k = 0; k < 200 && status != 0; k++) {
        const pid_t child = fork();
        if (child == 0) {
            dc_pool_set_threads(1); /* the threads did not come along */
            _exit(capture(temp_path("kill"), DOCS, &info, sometimes, 1, NULL) == DC_OK ? 0 : 1);
        }
        usleep((useconds_t)(2000 + mix((uint64_t)k) % (k < 60 ? 60000u : 3000000u)));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) || status == 0);
        killed += status != 0;
    }
    assert_true(killed > 0 && status == 0);
    same_folders(temp_path("calm"), temp_path("kill"));
    must(check(temp_path("kill"), DOCS, &info, &err), &err);
}

/* The moments between two steps of publishing a file. */
static void every_gap_of_publishing_is_closed(void **state)
{
    (void)state;
    dc_error err = {0};
    const dc_store_info info = info_of(DC_TARGETS_SAMPLED, 50);
    must(capture(temp_path("gap"), DOCS, &info, NULL, 1, &err), &err);
    /* renamed, but without its line */
    must(dc_remove_tree(temp_path("gap/manifest.jsonl"), &err), &err);
    must(dc_remove_tree(temp_path("gap/train-00001.h5"), &err), &err);
    must(capture(temp_path("gap"), DOCS, &info, NULL, 1, &err), &err);
    same_folders(temp_path("calm"), temp_path("gap"));
    /* whole, but not renamed */
    assert_int_equal(rename(temp_path("gap/train-00001.h5"), temp_path("gap/train-00001.h5.part")), 0);
    must(capture(temp_path("gap"), DOCS, &info, NULL, 1, &err), &err);
    same_folders(temp_path("calm"), temp_path("gap"));
    /* a damaged part, and rests of an unfinished file */
    must(dc_remove_tree(temp_path("gap/train-00001.h5"), &err), &err);
    temp_write("gap/train-00001.h5.part", "damage", 6);
    temp_write("gap/train-00001.h5.part.tmp", "rest", 4);
    must(capture(temp_path("gap"), DOCS, &info, NULL, 1, &err), &err);
    same_folders(temp_path("calm"), temp_path("gap"));
}

static int64_t always(int64_t doc) { return doc > 0; }

/* Every call of a resumed capture that the disk may refuse: it is told, what was there before stays, and the next run completes it. */
static void a_refusing_disk_loses_nothing(void **state)
{
    (void)state;
    dc_error err = {0};
    const dc_store_info info = info_of(DC_TARGETS_SAMPLED, 50);
    const char *refused = "";
    long n = 0;
    must(capture(temp_path("whole"), 6, &info, NULL, 1, &err), &err);
    while (refused) {
        dc_store_writer *w = NULL;
        int64_t next = 0;
        dc_error told = {0};
        must(dc_remove_tree(temp_path("refused"), &err), &err);
        must(capture(temp_path("refused"), 4, &info, always, 0, &err), &err); /* keeps the first three */
        n++;
        fault_at(n, n % 2 ? EIO : EACCES);
        const int rc = capture(temp_path("refused"), 6, &info, always, 1, &told);
        refused = fault_end();
        must(dc_store_writer_new(&w, &next, temp_path("refused"), "train", &info, &err), &err);
        dc_store_writer_free(w);
        if (rc == DC_OK ? next != 6 || began != 3 : next < 3 || told.code != rc)
            fail_msg("call %ld (%s): %d, %lld documents, %s", n, refused, rc, (long long)next, told.message);
        must(capture(temp_path("refused"), 6, &info, NULL, 1, &err), &err);
        same_folders(temp_path("whole"), temp_path("refused"));
    }
    assert_true(n > 100);
}

/* ---- refusals ---- */

static void refuses(const dc_store_info *info, int open_too, const char *says)
{
    dc_error err = {0};
    dc_store_writer *w = NULL;
    dc_store *s = NULL;
    int64_t next = 0;
    assert_int_equal(dc_store_writer_new(&w, &next, temp_path("small"), "train", info, &err), DC_EMISMATCH);
    if (!strstr(err.message, says)) fail_msg("said '%s', not '%s'", err.message, says);
    err = (dc_error){0};
    const int rc = dc_store_open(&s, temp_path("small"), "train", info, &err);
    if (open_too ? rc != DC_EMISMATCH || !strstr(err.message, says) : rc != DC_OK) fail_msg("%d, %s", rc, err.message);
    dc_store_close(s);
}

static void another_capture_is_refused_by_name(void **state)
{
    (void)state;
    dc_error err = {0};
    const dc_store_info info = info_of(DC_TARGETS_SAMPLED, 50);
    dc_store_info x;
    must(capture(temp_path("small"), 20, &info, NULL, 1, &err), &err);
    x = info, x.teacher = dc_hash_bytes("u", 1), refuses(&x, 1, "was captured with another teacher");
    x = info, x.data = dc_hash_bytes("u", 1), refuses(&x, 1, "was captured with another data set");
    x = info, x.tokenizer = dc_hash_bytes("u", 1), refuses(&x, 1, "was captured with another tokenizer");
    x = info, x.temperature = 2, refuses(&x, 1, "its temperature is 1.5, this run's is 2");
    x = info, x.vocab_size = 5, refuses(&x, 1, "its vocab_size is 151936, this run's is 5");
    x = info, x.chat_template = dc_hash_bytes("u", 1), refuses(&x, 0, "another chat template (none; this run's is ");
    x = info, x.n_samples = 49, refuses(&x, 0, "its n_samples is 50, this run's is 49");
    x = info, x.seed = 3, refuses(&x, 0, "seed");
    x = info_of(DC_TARGETS_TOPK, 50), refuses(&x, 0, "its targets are sampled, this run's are topk");
    /* a reader that does not know the teacher takes any */
    dc_store *s = NULL;
    x = info, x.teacher = (dc_hash){{0}};
    must(dc_store_open(&s, temp_path("small"), "train", &x, &err), &err);
    assert_true(dc_store_bytes_per_row(s) > 0);
    assert_int_equal(dc_store_info_of(s)->seed, info.seed);
    dc_rows rows = {0};
    assert_int_equal(dc_store_read(s, &rows, 20, 0, &err), DC_EMISMATCH);
    assert_non_null(strstr(err.message, "has targets of 20 documents, not of document 20"));
    err = (dc_error){0};
    assert_int_equal(dc_store_read(s, &rows, 1, 77, &err), DC_EMISMATCH);
    assert_non_null(strstr(err.message, "the data has 77 loss positions"));
    dc_store_close(s);
    dc_rows_release(&rows);
    err = (dc_error){0};
    assert_int_equal(dc_store_open(&s, temp_path("nothing"), "train", NULL, &err), DC_EIO);
    assert_non_null(strstr(err.message, "`decant teach` makes them"));
}

/* Bytes of an unpacked document that are not what the writer makes. */
static void bad_bytes_are_refused(void **state)
{
    (void)state;
    dc_store_info info = info_of(DC_TARGETS_SAMPLED, 3);
    info.vocab_size = 300;
    uint8_t ids[] = {5, 0x80, 1}, counts[] = {0, 1}, n = 2;
    uint16_t half = 0;
    dc_store_doc d = {.M = 1, .ids = 3, .values = 2};
    d.data[DC_STORE_N] = &n, d.data[DC_STORE_ENTROPY] = &half, d.data[DC_STORE_CE] = &half;
    d.data[DC_STORE_IDS] = ids, d.data[DC_STORE_VALUES] = counts;
    dc_rows rows = {0};
    dc_error err = {0};
    must(dc_store_unpack(&rows, &d, NULL, &info, "good", &err), &err);
    assert_int_equal(rows.ids[1], 6 + 128);
    rows.M = 0;
    info.vocab_size = 134;
    assert_int_equal(dc_store_unpack(&rows, &d, NULL, &info, "id too large", NULL), DC_EFORMAT);
    info.vocab_size = 300;
    counts[1] = 0;
    assert_int_equal(dc_store_unpack(&rows, &d, NULL, &info, "too few draws", NULL), DC_EFORMAT);
    counts[1] = 2;
    assert_int_equal(dc_store_unpack(&rows, &d, NULL, &info, "too many draws", NULL), DC_EFORMAT);
    counts[1] = 1, n = 1;
    assert_int_equal(dc_store_unpack(&rows, &d, NULL, &info, "bytes left", NULL), DC_EFORMAT);
    n = 4;
    assert_int_equal(dc_store_unpack(&rows, &d, NULL, &info, "more than draws", NULL), DC_EFORMAT);
    n = 2, d.ids = 2;
    assert_int_equal(dc_store_unpack(&rows, &d, NULL, &info, "cut", NULL), DC_EFORMAT);
    dc_rows_release(&rows);
}

static void damage_is_found(void **state)
{
    (void)state;
    dc_error err = {0};
    char path[192];
    snprintf(path, sizeof path, "%s", temp_path("dmg/train-00000.h5"));
    const dc_store_info info = info_of(DC_TARGETS_TOPK, 9);
    must(capture(temp_path("dmg"), 40, &info, NULL, 1, &err), &err);
    const size_t bytes = (size_t)dc_file_size(path);
    for (size_t at = 0; at < bytes; at += 1 + at % 37) {
        damage_flip(path, at, 16);
        err = (dc_error){0};
        const int rc = check(temp_path("dmg"), 40, &info, &err);
        if (rc && (rc != DC_EFORMAT || strstr(err.message, "WRONG"))) fail_msg("byte %zu: %s", at, err.message);
        damage_flip(path, at, 16);
    }
    for (size_t n = bytes; n-- > 0; n -= n / 8) {
        damage_cut(path, n);
        err = (dc_error){0};
        assert_int_equal(check(temp_path("dmg"), 40, &info, &err), DC_EFORMAT);
    }
}

static void every_failing_allocation_is_reported(void **state)
{
    (void)state;
    const dc_store_info info = info_of(DC_TARGETS_TOPK, 9);
    dc_error err = {0};
    int rc = DC_ENOMEM;
    long n = 1;
    for (; rc != DC_OK && n < 1000; n++) {
        err = (dc_error){0};
        must(dc_remove_tree(temp_path("mem"), NULL), &err);
        dc_alloc_fail_at(n);
        rc = capture(temp_path("mem"), 20, &info, NULL, 1, &err);
        dc_alloc_fail_at(0);
        if (rc != DC_OK) assert_int_equal(rc, DC_ENOMEM);
    }
    assert_true(rc == DC_OK && n > 30);
    rc = DC_ENOMEM;
    for (n = 1; rc != DC_OK && n < 1000; n++) {
        err = (dc_error){0};
        dc_alloc_fail_at(n);
        rc = check(temp_path("mem"), 20, &info, &err);
        dc_alloc_fail_at(0);
        if (rc != DC_OK) assert_int_equal(rc, DC_ENOMEM);
    }
    assert_true(rc == DC_OK && n > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_come_back),
        cmocka_unit_test(all_mass_on_the_kept_ids_stays_below_one),
        cmocka_unit_test(a_flush_changes_no_byte),
        cmocka_unit_test(a_stop_keeps_the_documents_so_far),
        cmocka_unit_test(kills_change_no_byte),
        cmocka_unit_test(every_gap_of_publishing_is_closed),
        cmocka_unit_test(a_refusing_disk_loses_nothing),
        cmocka_unit_test(another_capture_is_refused_by_name),
        cmocka_unit_test(bad_bytes_are_refused),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(every_failing_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
