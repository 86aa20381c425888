/* cli/cmd_run.c -- the whole recipe, and each of its stages alone. */
#include <stdio.h>
#include <string.h>

#include "cli/report.h"
#include "cli/session.h"
#include "core/arena.h"
#include "core/log.h"

typedef int stage_fn(const dc_session *s, dc_error *err);

typedef struct stage_row {
    const char *name;
    stage_fn *run;
    int together; /* all ranks run it; else rank 0 alone, and the others wait */
} stage_row;

static const stage_row stages[] = {{"prepare", dc_stage_prepare, 0},
                                   {"teach", dc_stage_teach, 0},
                                   {"train", dc_stage_train, 1},
                                   {"merge", dc_stage_merge, 0},
                                   {"export", dc_stage_export, 0}};

static int run_one(const dc_session *s, stage_fn *run, int together, dc_error *err)
{
    return together ? run(s, err) : dc_session_agree(s, dc_session_first(s) ? run(s, err) : DC_OK, err);
}

static int write_report(const dc_session *s, dc_error *err)
{
    char *report = dc_session_path(s, "report.html", err);
    const int rc = report ? dc_report_write(report, s->dir, err) : DC_ENOMEM;
    if (rc == DC_OK && s->quiet) printf("{\"output_dir\": \"%s\", \"report\": \"%s\"}\n", s->dir, report);
    else if (rc == DC_OK) printf("report   %s\n", report);
    dc_free(report);
    return rc;
}

/* Does the recipe ask for the stage: by `stages`, else by the sections it has? */
static int wanted(const dc_recipe *r, const char *stage)
{
    const size_t n = dc_recipe_count(r, "stages");
    for (size_t i = 0; i < n; i++)
        if (!strcmp(dc_recipe_str_at(r, "stages", i), stage)) return 1;
    if (n) return 0;
    if (!strcmp(stage, "prepare")) return dc_recipe_has(r, "data");
    if (!strcmp(stage, "teach"))
        return dc_recipe_has(r, "teacher.init") || (dc_recipe_has(r, "teacher") && dc_recipe_has(r, "distill"));
    if (!strcmp(stage, "train")) return dc_recipe_has(r, "student");
    if (!strcmp(stage, "merge")) return dc_recipe_has(r, "student") && dc_recipe_has(r, "lora");
    return dc_recipe_count(r, "export") > 0;
}

static int run_all(dc_cli *cli, dc_error *err)
{
    int rc = DC_OK;
    int n_wanted = 0;
    dc_session s;
    DC_TRY(dc_session_open(&s, cli, err));
    s.restart = dc_cli_get(cli, "--restart") != NULL;
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        if (!wanted(s.recipe, stages[i].name)) continue;
        n_wanted++;
        DC_TRY(run_one(&s, stages[i].run, stages[i].together, err));
    }
    if (!n_wanted) {
        rc =
            dc_fail(err, DC_EUSAGE,
                    "%s asks for no stage: it has none of the sections data, teacher, student and export", cli->recipe);
        goto done;
    }
    if (wanted(s.recipe, "train")) DC_TRY(run_one(&s, dc_stage_eval, 0, err));
    DC_TRY(run_one(&s, write_report, 0, err));
done:
    dc_session_close(&s, rc, err);
    return rc;
}

static int run_stage(dc_cli *cli, stage_fn *run, int together, dc_error *err)
{
    dc_session s;
    int rc = dc_session_open(&s, cli, err);
    if (rc != DC_OK) return rc;
    s.restart = dc_cli_get(cli, "--restart") != NULL;
    rc = run_one(&s, run, together, err);
    dc_session_close(&s, rc, err);
    return rc;
}

static int run_prepare(dc_cli *cli, dc_error *err) { return run_stage(cli, dc_stage_prepare, 0, err); }
static int run_teach(dc_cli *cli, dc_error *err) { return run_stage(cli, dc_stage_teach, 0, err); }
static int run_train(dc_cli *cli, dc_error *err) { return run_stage(cli, dc_stage_train, 1, err); }

static const dc_flag flags[] = {{"--restart", NULL, "begin anew: remove what earlier runs of the stage left"},
                                {NULL, NULL, NULL}};

const dc_command dc_cmd_run = {
    .name = "run",
    .group = "run everything",
    .summary = "runs a recipe's stages; skips those that are up to date, goes on where a kill left it",
    .takes = DC_TAKES_RECIPE,
    .flags = flags,
    .sections = "output_dir seed device stages",
    .examples =
        "  decant run configs/quickstart.yaml\n  decant run my.yaml train.learning_rate=1e-4 output_dir=runs/lr1e-4\n",
    .run = run_all};

const dc_command dc_cmd_prepare = {
    .name = "prepare",
    .group = "make data",
    .summary = "rows to token shards: tokenizer, chat template, loss masks, rejects with reasons",
    .takes = DC_TAKES_RECIPE,
    .flags = flags,
    .sections = "tokenizer data",
    .examples = "  decant prepare my.yaml\n  decant prepare my.yaml data.max_length=2048\n",
    .run = run_prepare};

const dc_command dc_cmd_teach = {
    .name = "teach",
    .group = "teach and train",
    .summary = "runs the teacher over the data and keeps its targets",
    .takes = DC_TAKES_RECIPE,
    .flags = flags,
    .sections = "teacher distill",
    .examples = "  decant teach my.yaml\n  decant teach my.yaml distill.targets=topk distill.topk=64\n",
    .run = run_teach};

const dc_command dc_cmd_train = {.name = "train",
                                 .group = "teach and train",
                                 .summary = "trains the student: LoRA or all weights, on targets, labels or both",
                                 .takes = DC_TAKES_RECIPE,
                                 .flags = flags,
                                 .sections = "student distill lora train",
                                 .examples =
                                     "  decant train my.yaml\n  decant train my.yaml train.max_steps=100 lora.r=32\n",
                                 .run = run_train};
