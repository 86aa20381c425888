/* tests/cuda/test_memory_train.c -- a whole training on a card, on labels and by distillation: its peak is the sum of what its parts said they
 * take, to the byte. */
#include "tests/train/train_kit.h"

#include "emu.h"
#include "distill/kd.h"
#include "distill/teach.h"
#include "kernels/cuda_dev.h"

enum { DOCUMENTS = 6, RANK = 4, ENTRIES = 6, STEPS = 2 };

typedef enum kind { LABELS, SAMPLED, TOPK, ONLINE } kind;

/* What a training of `kind` holds on the card. */
typedef struct parts {
    dc_dev *dev;
    dc_model *student, *teacher;
    dc_lora *lora;
    dc_params params;
    dc_plan *plan, *teacher_plan;
    dc_set *set, *eval_set;
    dc_loader *loader, *eval_loader;
    dc_store *store, *eval_store;
    dc_objective *objective, *eval_objective;
    size_t planned;
} parts;

static dc_dev *open_dev(const char *name)
{
    dc_dev *dev = NULL;
    dc_error err = {0};
    dc_dev_options o = dc_dev_defaults();
    o.name = name;
    kit_check(dc_dev_open(&dev, &o, &err), &err);
    return dev;
}

static dc_model *frozen(dc_dev *dev, tiny_kind k)
{
    dc_model *whole = tiny_model(dev, k, 0), *m = NULL;
    dc_error err = {0};
    const dc_model_options o = dc_model_defaults();
    kit_check(dc_model_copy(&m, whole, &o, &err), &err);
    dc_model_free(whole);
    return m;
}

/* The next part has taken what it says. */
static void took(parts *p, size_t bytes, const char *what)
{
    p->planned += bytes;
    const size_t now = dc_cuda_handed_out(p->dev, NULL);
    if (now != p->planned) fail_msg("behind %s %zu bytes are handed out, %zu were planned", what, now, p->planned);
}

/* Small tables of a model stand beside its weights. */
static dc_model *frozen_on_card(parts *p, tiny_kind k, const char *what)
{
    dc_model *m = frozen(p->dev, k);
    const size_t held = dc_cuda_handed_out(p->dev, NULL) - p->planned, said = (size_t)dc_model_bytes(m);
    assert_true(held >= said && held <= said + 4096);
    took(p, held, what);
    return m;
}

static void open_lora(parts *p, double dropout)
{
    dc_error err = {0};
    dc_lora_config c = dc_lora_defaults();
    c.r = RANK, c.lora_dropout = dropout;
    kit_check(dc_lora_new(&p->lora, p->student, 0, &c, 4, 1, &err), &err);
    p->params.dev = p->dev;
    for (size_t i = 0; i < dc_lora_n(p->lora); i++) {
        const dc_lora_tensor *t = dc_lora_at(p->lora, i);
        const dc_param q = {.name = t->name,
                            .data = t->data,
                            .grad = t->grad,
                            .n = t->shape[0] * t->shape[1],
                            .n_dims = 2,
                            .shape = {t->shape[0], t->shape[1]},
                            .lr_scale = 1};
        kit_check(dc_params_add(&p->params, &q, &err), &err);
    }
    took(p, dc_lora_bytes(p->lora), "the adapter");
}

static dc_loader *open_loader(dc_set **set, const char *name)
{
    dc_loader *l = NULL;
    dc_error err = {0};
    const dc_loader_options o = {.seed = 5, .shuffle = 1, .max_length = 24, .batch_size = 3};
    kit_check(dc_set_open(set, temp_dir, name, &err), &err);
    kit_check(dc_loader_new(&l, *set, &o, &err), &err);
    return l;
}

static dc_store_info info_of(kind k, const dc_set *set, int64_t V)
{
    return (dc_store_info){.kind = k == SAMPLED ? DC_TARGETS_SAMPLED : DC_TARGETS_TOPK,
                           .n_samples = k == SAMPLED ? ENTRIES : 0,
                           .topk = k == SAMPLED ? 0 : ENTRIES,
                           .temperature = 1,
                           .vocab_size = V,
                           .seed = 3,
                           .teacher = dc_hash_bytes("t", 1),
                           .data = dc_set_hash(set),
                           .tokenizer = dc_hash_bytes("k", 1)};
}

/* The teacher's targets are made beside the card, on the CPU: what this measures is training. */
static dc_store *open_store(kind k, dc_set *set, const char *name, const dc_plan_options *bounds)
{
    dc_error err = {0};
    dc_dev *cpu = open_dev("cpu");
    dc_model *teacher = frozen(cpu, QWEN2);
    dc_plan *plan = NULL;
    dc_store *store = NULL;
    dc_teach_result r;
    const char *dir = temp_path(k == SAMPLED ? "sampled" : "topk");
    const dc_store_info info = info_of(k, set, teacher->config.V);
    kit_check(dc_plan_new(&plan, teacher, bounds, &err), &err);
    kit_check(dc_mkdirs(dir, &err), &err);
    kit_check(dc_teach(&r, plan, -1, set, dir, name, &info, &err), &err);
    kit_check(dc_store_open(&store, dir, name, &info, &err), &err);
    dc_plan_free(plan), dc_model_free(teacher), dc_dev_close(cpu);
    return store;
}

static void open_objectives(parts *p, kind k, const dc_plan_options *bounds, int64_t chunk)
{
    dc_error err = {0};
    dc_kd_options o = dc_kd_defaults();
    o.chunk_bytes = chunk;
    if (k == LABELS) {
        kit_check(dc_objective_cross_entropy(&p->objective, p->student, chunk, &err), &err);
    } else if (k == ONLINE) {
        p->teacher = frozen_on_card(p, QWEN2, "the teacher");
        kit_check(dc_plan_new(&p->teacher_plan, p->teacher, bounds, &err), &err);
        took(p, dc_plan_bytes(p->teacher_plan), "the teacher's plan");
        kit_check(dc_objective_kd_online(&p->objective, p->student, p->teacher_plan, -1, &o, &err), &err);
    } else {
        p->store = open_store(k, p->set, "train", bounds), p->eval_store = open_store(k, p->eval_set, "eval", bounds);
        kit_check(dc_objective_kd_store(&p->objective, p->student, p->store, &o, &err), &err);
        took(p, p->objective->bytes(p->objective), "the objective");
        kit_check(dc_objective_kd_store(&p->eval_objective, p->student, p->eval_store, &o, &err), &err);
        took(p, p->eval_objective->bytes(p->eval_objective), "the objective of evaluations");
        return;
    }
    took(p, p->objective->bytes(p->objective), "the objective");
}

static void open_parts(parts *p, kind k, int checkpoint)
{
    dc_error err = {0};
    int64_t T, B, M, eT, eB, eM;
    *p = (parts){.dev = open_dev("cuda")};
    p->loader = open_loader(&p->set, "train"), p->eval_loader = open_loader(&p->eval_set, "eval");
    dc_loader_bounds(p->loader, &T, &B, &M);
    dc_loader_bounds(p->eval_loader, &eT, &eB, &eM);
    dc_plan_options o = {.max_tokens = T > eT ? T : eT,
                         .max_docs = B > eB ? B : eB,
                         .max_rows = M > eM ? M : eM,
                         .adapter = 0,
                         .backward = 1,
                         .checkpoint = checkpoint};
    p->student = frozen_on_card(p, LLAMA, "the student");
    open_lora(p, checkpoint ? 0.1 : 0);
    kit_check(dc_plan_new(&p->plan, p->student, &o, &err), &err);
    took(p, dc_plan_bytes(p->plan), "the plan");
    const dc_plan_options forward = {
        .max_tokens = o.max_tokens, .max_docs = DOCUMENTS, .max_rows = o.max_rows, .adapter = -1};
    open_objectives(p, k, &forward, checkpoint ? 2048 : 1 << 20);
}

static void close_parts(parts *p)
{
    p->objective->free(p->objective);
    if (p->eval_objective) p->eval_objective->free(p->eval_objective);
    dc_plan_free(p->plan), dc_plan_free(p->teacher_plan);
    dc_store_close(p->store), dc_store_close(p->eval_store);
    dc_loader_free(p->loader), dc_loader_free(p->eval_loader);
    dc_set_close(p->set), dc_set_close(p->eval_set);
    dc_params_release(&p->params);
    dc_lora_free(p->lora);
    dc_model_free(p->student), dc_model_free(p->teacher);
    assert_int_equal(dc_cuda_handed_out(p->dev, NULL), 0);
    dc_dev_close(p->dev);
}

/* Steps, accumulation, clipping, evaluations and checkpoints: AdamW's two moments are all that comes on top. */
static void train(parts *p, const char *dir)
{
    dc_error err = {0};
    dc_train_result result;
    size_t peak;
    const dc_trainer t = {.plan = p->plan,
                          .params = &p->params,
                          .objective = p->objective,
                          .loader = p->loader,
                          .eval_loader = p->eval_loader,
                          .eval_objective = p->eval_objective,
                          .dir = dir,
                          .stage = "train",
                          .options = {.max_steps = STEPS,
                                      .gradient_accumulation_steps = 2,
                                      .max_grad_norm = 1,
                                      .save_steps = 1,
                                      .save_total_limit = 2,
                                      .eval_on_start = 1,
                                      .seed = 9,
                                      .adamw = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8},
                                      .schedule = {.type = DC_SCHEDULE_CONSTANT, .learning_rate = 1e-2}}};
    const size_t moments = 2 * (size_t)dc_params_count(&p->params) * sizeof(float);
    dc_cuda_handed_out(p->dev, &peak);
    kit_check(dc_train(&t, &result, &err), &err);
    assert_int_equal(result.steps, STEPS);
    took(p, 0, "training");
    const size_t before = peak;
    dc_cuda_handed_out(p->dev, &peak);
    assert_true(peak > before); /* the moments made it: no part was larger while it was made */
    if (peak != p->planned + moments)
        fail_msg("%zu bytes were handed out, %zu and %zu of moments were planned", peak, p->planned, moments);
}

static void trained(kind k)
{
    for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
        parts p;
        char dir[32];
        dc_emu_reset();
        snprintf(dir, sizeof dir, "run-%d-%d", (int)k, checkpoint);
        open_parts(&p, k, checkpoint);
        train(&p, temp_path(dir));
        close_parts(&p);
        assert_int_equal(dc_emu_reset(), 0);
    }
}

static int setup(void **state)
{
    if (temp_setup(state)) return -1;
    dc_dev *cpu = open_dev("cpu");
    dc_model *m = tiny_model(cpu, LLAMA, 0);
    kit_documents("train", DOCUMENTS, m->config.V);
    kit_documents("eval", 3, m->config.V);
    dc_model_free(m), dc_dev_close(cpu);
    return 0;
}

static void on_labels(void **state) { (void)state, trained(LABELS); }
static void from_samples(void **state) { (void)state, trained(SAMPLED); }
static void from_topk(void **state) { (void)state, trained(TOPK); }
static void beside_the_teacher(void **state) { (void)state, trained(ONLINE); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(on_labels), cmocka_unit_test(from_samples),
                                       cmocka_unit_test(from_topk), cmocka_unit_test(beside_the_teacher)};
    return cmocka_run_group_tests(tests, setup, temp_teardown);
}
