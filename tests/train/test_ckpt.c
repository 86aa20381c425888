/* tests/train/test_ckpt.c -- checkpoints: what comes back, what is kept, damage, kills, stops, memory, other sets of parameters. */
#include "train/ckpt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/stop.h"
#include "core/str.h"
#include "tests/core/faults.h"
#include "tests/core/temp.h"
#include "train/ckpt_files.h"

enum { TENSORS = 3, NUMBERS = 40 + 7 + 300 };

/* Parameters and moments in plain memory; values are a function of the step. */
typedef struct fixture {
    dc_dev *dev;
    dc_params params;
    dc_train_state s;
    float values[3][NUMBERS]; /* parameters, m, v */
} fixture;

static fixture *f;
static const char *dir;

static float value(int64_t step, int part, int64_t i) { return (float)(step * 1000000 + part * 10000 + i) * 0.5f; }

static void fill(int64_t step)
{
    for (int part = 0; part < 3; part++)
        for (int64_t i = 0; i < NUMBERS; i++) f->values[part][i] = value(step, part, i);
    f->s.step = step, f->s.micro = step * 4, f->s.tokens = step * 100, f->s.trained_tokens = step * 70;
    f->s.position = (dc_position){.epoch = step / 3, .window = step, .bin = step * 2};
    f->s.metrics_lines = step * 200, f->s.evaluated = step - 1;
    f->s.loss = 0.1 * (double)step, f->s.eval_loss = 1.0 / (double)step, f->s.eval_kd = (double)NAN;
}

static int holds(int64_t step)
{
    for (int part = 0; part < 3; part++)
        for (int64_t i = 0; i < NUMBERS; i++)
            if (f->values[part][i] != value(step, part, i)) return 0;
    const dc_position at = f->s.position;
    return f->s.step == step && f->s.micro == step * 4 && f->s.tokens == step * 100 &&
           f->s.trained_tokens == step * 70 && at.epoch == step / 3 && at.window == step && at.bin == step * 2 &&
           f->s.metrics_lines == step * 200 && f->s.evaluated == step - 1 && f->s.loss == 0.1 * (double)step &&
           f->s.eval_loss == 1.0 / (double)step && isnan(f->s.eval_kd);
}

static int save(int64_t step, int64_t keep, dc_error *err)
{
    fill(step);
    return dc_ckpt_save(dir, &f->s, &f->params, NULL, keep, err);
}

static void save_ok(int64_t step, int64_t keep)
{
    dc_error err = {0};
    if (save(step, keep, &err) != DC_OK) fail_msg("step %lld: %s", (long long)step, err.message);
}

/* Loads over other values; returns the step found, -1 for none, -2 after an error. */
static int64_t load(dc_error *err)
{
    int found = 7;
    fill(999);
    if (dc_ckpt_load(dir, &found, &f->s, &f->params, NULL, NULL, err) != DC_OK) return -2;
    if (!found) return -1;
    assert_true(holds(f->s.step));
    return f->s.step;
}

/* The same with the warnings it printed. */
static int64_t load_listening(char *text, size_t room)
{
    const char *path = temp_path("stderr");
    fflush(stderr);
    const int kept = dup(STDERR_FILENO), fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(kept >= 0 && fd >= 0);
    dup2(fd, STDERR_FILENO);
    const int64_t step = load(NULL);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    const ssize_t n = pread(fd, text, room - 1, 0);
    text[n > 0 ? n : 0] = 0;
    close(fd), close(kept);
    return step;
}

static const char *file_of(int64_t step, const char *name)
{
    char text[96];
    snprintf(text, sizeof text, "run/checkpoint-%lld%s%s", (long long)step, *name ? "/" : "", name);
    return temp_path(text);
}

static size_t steps_there(const char *suffix, int64_t *first)
{
    int64_t *steps;
    size_t n;
    assert_int_equal(dc_ckpt_steps(&steps, &n, dir, suffix, NULL), DC_OK);
    *first = n ? steps[0] : -1;
    dc_free(steps);
    return n;
}

static int setup(void **state)
{
    (void)state;
    static const char *const names[TENSORS] = {"layers.0.lora_A.weight", "norm.weight", "layers.1.lora_B.weight"};
    static const int64_t shapes[TENSORS][2] = {{4, 10}, {7, 0}, {30, 10}};
    static char run[96];
    f = calloc(1, sizeof *f);
    if (!f || dc_dev_open(&f->dev, NULL, NULL)) return -1;
    f->params.dev = f->dev;
    for (int i = 0, at = 0; i < TENSORS; i++) {
        dc_param p = {.name = names[i],
                      .data = f->values[0] + at,
                      .n_dims = shapes[i][1] ? 2 : 1,
                      .shape = {shapes[i][0], shapes[i][1]}};
        p.n = shapes[i][0] * (shapes[i][1] ? shapes[i][1] : 1);
        at += (int)p.n;
        if (dc_params_add(&f->params, &p, NULL)) return -1;
    }
    f->s.m = f->values[1], f->s.v = f->values[2];
    snprintf(run, sizeof run, "%s/run", temp_dir);
    dir = run;
    return dc_remove_tree(dir, NULL) || dc_mkdirs(dir, NULL);
}

static int teardown(void **state)
{
    (void)state;
    dc_params_release(&f->params);
    dc_dev_close(f->dev);
    free(f);
    return 0;
}

static void test_round_trip(void **state)
{
    (void)state;
    int64_t bytes = 0;
    assert_int_equal(load(NULL), -1);
    save_ok(5, 2);
    assert_int_equal(load(NULL), 5);
    for (int i = 0; i < 3; i++) {
        static const char *const files[] = {DC_CKPT_TENSORS, DC_CKPT_STATE, DC_CKPT_MANIFEST};
        bytes += dc_file_size(file_of(5, files[i]));
    }
    assert_true(bytes <= dc_ckpt_bytes(&f->params)); /* the forecast suffices */
    /* A folder that is not there holds none. */
    int found = 7;
    assert_int_equal(dc_ckpt_load(temp_path("nowhere"), &found, &f->s, &f->params, NULL, NULL, NULL), DC_OK);
    assert_int_equal(found, 0);
}

/* At least two are kept, whatever is asked; other names are left alone. */
static void test_rotation(void **state)
{
    (void)state;
    int64_t newest;
    const char *other = temp_path("run/checkpoint-best");
    assert_int_equal(dc_mkdirs(other, NULL), DC_OK);
    assert_int_equal(dc_mkdirs(file_of(4, ""), NULL), DC_OK); /* empty: a kill while it was being removed */
    assert_int_equal(dc_mkdirs(temp_path("run/checkpoint-3.tmp"), NULL), DC_OK); /* a kill while it was written */
    for (int64_t step = 10; step <= 50; step += 10) {
        save_ok(step, 1);
        assert_int_equal(steps_there("", &newest), 2);
        assert_int_equal(newest, step);
        assert_int_equal(steps_there(".tmp", &newest), 0);
    }
    assert_true(dc_path_is_dir(other));
    for (int64_t step = 100; step <= 300; step += 100) save_ok(step, 3);
    assert_int_equal(steps_there("", &newest), 3);
    assert_int_equal(dc_mkdirs(temp_path("run/checkpoint-7.tmp"), NULL), DC_OK);
    temp_write("run/metrics.jsonl", "{}\n", 3);
    assert_int_equal(dc_ckpt_clear(dir, NULL), DC_OK);
    assert_int_equal(steps_there("", &newest), 0);
    assert_int_equal(steps_there(".tmp", &newest), 0);
    assert_false(dc_path_exists(temp_path("run/metrics.jsonl")));
    assert_true(dc_path_is_dir(other));
}

static void flip(const char *path, int64_t at)
{
    uint8_t byte;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 0x20;
    assert_true(pwrite(fd, &byte, 1, at) == 1);
    close(fd);
}

static void test_damage(void **state)
{
    (void)state;
    static const char *const files[] = {DC_CKPT_TENSORS, DC_CKPT_STATE, DC_CKPT_MANIFEST};
    char said[4096];
    for (size_t i = 0; i < 3; i++) {
        for (int way = 0; way < 3; way++) { /* a bit, a cut, no file */
            assert_int_equal(dc_ckpt_clear(dir, NULL), DC_OK);
            save_ok(10, 2);
            save_ok(20, 2);
            const char *path = file_of(20, files[i]);
            const int64_t size = dc_file_size(path);
            if (way == 0) flip(path, size / 2);
            if (way == 1) assert_int_equal(truncate(path, size - 3), 0);
            if (way == 2) assert_int_equal(unlink(path), 0);
            assert_int_equal(load_listening(said, sizeof said), 10);
            if (!strstr(said, "checkpoint-20")) fail_msg("the damaged one is not named: %s", said);
        }
    }
    /* A damaged one is none of the two that are kept, and its step may be saved again. */
    int64_t newest;
    save_ok(12, 2);
    save_ok(14, 2);
    assert_int_equal(load(NULL), 14);
    flip(file_of(14, DC_CKPT_TENSORS), 900);
    assert_int_equal(load(NULL), 12);
    save_ok(20, 2);
    assert_int_equal(load(NULL), 20);
    assert_int_equal(steps_there("", &newest), 2);
    for (int64_t cut = 0; cut < dc_file_size(file_of(20, DC_CKPT_STATE)); cut += 40) {
        save_ok(20, 2);
        assert_int_equal(truncate(file_of(20, DC_CKPT_STATE), cut), 0);
        assert_true(load(NULL) < 20);
    }
    save_ok(20, 2);
    for (int64_t cut = 0; cut < dc_file_size(file_of(20, DC_CKPT_MANIFEST)); cut += 10) {
        save_ok(20, 2);
        assert_int_equal(truncate(file_of(20, DC_CKPT_MANIFEST), cut), 0);
        assert_true(load(NULL) < 20);
    }
}

/* Changes a member of state.json and mends the manifest: damage that no hash shows. */
static void forge(int64_t step, const char *key, json_t *member)
{
    json_t *json = NULL;
    dc_hash hash;
    assert_int_equal(dc_json_load(&json, file_of(step, DC_CKPT_STATE), NULL), DC_OK);
    json_object_set_new(json, key, member);
    assert_int_equal(dc_json_save(json, file_of(step, DC_CKPT_STATE), NULL), DC_OK);
    json_decref(json);
    assert_int_equal(dc_ckpt_hash(&hash, file_of(step, DC_CKPT_STATE), NULL), DC_OK);
    assert_int_equal(dc_json_load(&json, file_of(step, DC_CKPT_MANIFEST), NULL), DC_OK);
    json_t *entry = json_object_get(json, DC_CKPT_STATE);
    json_object_set_new(entry, "bytes", json_integer(dc_file_size(file_of(step, DC_CKPT_STATE))));
    json_object_set_new(entry, "xxh3", json_string(hash.hex));
    assert_int_equal(dc_json_save(json, file_of(step, DC_CKPT_MANIFEST), NULL), DC_OK);
    json_decref(json);
}

static void refused(int code, const char *text)
{
    dc_error err = {0};
    assert_int_equal(load(&err), -2);
    if ((int)err.code != code || !strstr(err.message, text))
        fail_msg("expected %d '%s', found %d: %s", code, text, (int)err.code, err.message);
}

/* Such a checkpoint is whole: to go back to an older one in silence would be wrong. */
static void test_refusals(void **state)
{
    (void)state;
    save_ok(10, 2);
    save_ok(20, 2);
    forge(20, "version", json_integer(DC_CKPT_VERSION + 1));
    refused(DC_EFORMAT, "newer decant");
    refused(DC_EFORMAT, "checkpoint-20/state.json has format version 3; this decant reads version 2");
    forge(20, "version", json_integer(1)); /* it counted bytes of metrics.jsonl */
    refused(DC_EFORMAT,
            "checkpoint-20/state.json has format version 1; this decant reads version 2: end the run with an older");
    refused(DC_EFORMAT, "--restart");
    forge(20, "version", json_integer(DC_CKPT_VERSION));
    forge(20, "step", json_string("x"));
    refused(DC_EFORMAT, "step");
    forge(20, "step", json_integer(20));
    assert_int_equal(load(NULL), 20);
    forge(20, "device", json_string("another")); /* is said, not refused */
    char said[4096];
    assert_int_equal(load_listening(said, sizeof said), 20);
    assert_non_null(strstr(said, "another"));
}

static void test_other_parameters(void **state)
{
    (void)state;
    dc_param *items = f->params.items;
    save_ok(10, 2);
    items[1].n = items[1].shape[0] = 6;
    refused(DC_EMISMATCH, "346");
    items[1].n = items[1].shape[0] = 7;
    items[0].shape[0] = 10, items[0].shape[1] = 4; /* the same bytes, another meaning */
    refused(DC_EMISMATCH, "layers.0.lora_A.weight has another shape");
    items[0].shape[0] = 4, items[0].shape[1] = 10;
    const char *name = items[2].name;
    items[2].name = "layers.2.lora_B.weight";
    refused(DC_EMISMATCH, "layers.2.lora_B.weight is missing");
    items[2].name = name;
    assert_int_equal(load(NULL), 10);
}

static void test_recipe(void **state)
{
    (void)state;
    static const char text[] =
        "output_dir: out\nseed: 3\nstudent: {model: m}\ndata: {train: a.jsonl}\ntrain: {learning_rate: 1e-3}\n";
    dc_recipe *r = NULL;
    dc_error err = {0};
    int found;
    if (dc_recipe_parse(&r, text, "r.yaml", NULL, 0, &err)) fail_msg("%s", err.message);
    fill(10);
    assert_int_equal(dc_ckpt_save(dir, &f->s, &f->params, r, 2, NULL), DC_OK);
    assert_int_equal(dc_ckpt_load(dir, &found, &f->s, &f->params, r, "T", NULL), DC_OK);
    assert_true(found && holds(10));
    assert_int_equal(dc_recipe_set(r, "train.learning_rate", "2e-3", NULL), DC_OK);
    assert_int_equal(dc_ckpt_load(dir, &found, &f->s, &f->params, r, "T", &err), DC_EMISMATCH);
    assert_non_null(strstr(err.message, "train.learning_rate is 0.002"));
    assert_non_null(strstr(err.message, "0.001"));
    assert_int_equal(found, 0);
    /* Another stage's checkpoint does not mind. */
    assert_int_equal(dc_ckpt_load(dir, &found, &f->s, &f->params, r, "s", NULL), DC_OK);
    assert_true(found && holds(10));
    dc_recipe_free(r);
}

/* The checkpoint of a stop is made while a stop is asked for. */
static void test_stop(void **state)
{
    (void)state;
    save_ok(10, 2);
    dc_stop_request(SIGTERM);
    dc_error err = {0};
    const int rc = save(20, 2, &err);
    dc_stop_request(0);
    if (rc != DC_OK) fail_msg("%s", err.message);
    assert_int_equal(load(NULL), 20);
}

/* A child saves one checkpoint behind another until it is killed. Whatever was saved before the kill is there. */
static void test_kill(void **state)
{
    (void)state;
    unsigned seed = 12345;
    int64_t last = 1, newest;
    save_ok(last, 2);
    /* On a busy machine a child may be killed before its first save: then more rounds. */
    for (int round = 0; round < 25 || (last <= 25 && round < 2500); round++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            for (int64_t step = last + 1;; step++)
                if (save(step, 2, NULL) != DC_OK) _exit(1);
        }
        usleep((useconds_t)(rand_r(&seed) % 4000));
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        assert_true(load(NULL) >= last); /* asserts that all values are those of one step */
        last = f->s.step;
        assert_true(steps_there(".tmp", &newest) <= 1);
    }
    save_ok(last + 1, 2);
    assert_int_equal(steps_there(".tmp", &newest), 0);
    assert_int_equal(load(NULL), last + 1);
    assert_true(last > 25); /* the kills did not all come before the first save */
}

static void test_memory(void **state)
{
    (void)state;
    int64_t newest;
    int rc = DC_ENOMEM;
    save_ok(10, 2);
    for (long n = 1; rc != DC_OK; n++) {
        dc_alloc_fail_at(n);
        rc = save(20, 2, NULL);
        dc_alloc_fail_at(0);
        assert_true(rc == DC_OK ? n > 10 : rc == DC_ENOMEM);
        const int64_t step = load(NULL); /* a save that failed in its rotation is there */
        assert_true(rc == DC_OK ? step == 20 : step == 10 || step == 20);
        assert_int_equal(steps_there(".tmp", &newest), 0);
        if (rc != DC_OK && step == 20) assert_int_equal(dc_remove_tree(file_of(20, ""), NULL), DC_OK);
    }
    /* No memory is no damage: never the older one. */
    int64_t step = -2;
    for (long n = 1; step == -2; n++) {
        dc_error err = {0};
        dc_alloc_fail_at(n);
        step = load(&err);
        dc_alloc_fail_at(0);
        if (step == 20 ? n <= 5 : step != -2 || err.code != DC_ENOMEM)
            fail_msg("allocation %ld: step %lld, %s", n, (long long)step, err.message);
    }
    for (long n = 1, done = 0; !done; n++) {
        dc_alloc_fail_at(n);
        done = dc_ckpt_clear(dir, NULL) == DC_OK;
        dc_alloc_fail_at(0);
    }
    assert_int_equal(load(NULL), -1);
}

/* A call that the disk refuses: the checkpoint before or the new one is there, whole, and a refusal is told. */
static void test_refused_save(void **state)
{
    (void)state;
    static const int codes[] = {EIO, EACCES, ENOSPC};
    for (size_t c = 0; c < sizeof codes / sizeof *codes; c++) {
        const char *refused = "";
        long n = 0;
        while (refused) {
            dc_error err = {0};
            assert_int_equal(dc_remove_tree(dir, NULL), DC_OK);
            assert_int_equal(dc_mkdirs(dir, NULL), DC_OK);
            save_ok(10, 2);
            fault_at(++n, codes[c]);
            const int rc = save(20, 2, &err);
            refused = fault_end();
            const int64_t step = load(NULL);
            if (rc == DC_OK ? step != 20 : (step != 10 && step != 20) || rc != DC_EIO || err.code != DC_EIO)
                fail_msg("call %ld (%s): %d, step %lld, %s", n, refused, rc, (long long)step, err.message);
            save_ok(20, 2);
            assert_int_equal(load(NULL), 20);
        }
        assert_true(n > 40);
    }
}

/* What cannot be looked at is neither absent nor damaged: no older checkpoint is taken, and no run begins anew. */
static void test_refused_load(void **state)
{
    (void)state;
    const char *refused = "";
    long n = 0;
    save_ok(10, 2);
    save_ok(20, 2);
    while (refused) {
        dc_error err = {0};
        n++;
        fault_at(n, n % 2 ? EIO : EACCES);
        const int64_t step = load(&err);
        refused = fault_end();
        if (step != 20 && (!refused || step != -2 || err.code != DC_EIO))
            fail_msg("call %ld (%s): step %lld, %s", n, refused, (long long)step, err.message);
    }
    assert_true(n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_parameters, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recipe, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_save, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_load, setup, teardown),
    };
    return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
