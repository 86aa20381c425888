/* cli/session.h -- what every stage of a recipe shares: the recipe, the device, the locked output folder, and which stages are up to date.
 *
 * A stage owns one folder under output_dir and ends by writing DIR/summary.json there: its key (a hash of everything its output depends on: recipe
 * keys and the logical content of its inputs), a hash of its output, and its figures. times.json beside it holds what differs from run to
 * run. A stage whose key is the same is kept. .stages/DIR.json tells what the files in DIR were begun with. */
#ifndef DC_CLI_SESSION_H
#define DC_CLI_SESSION_H

#include <jansson.h>
#include <stdint.h>

#include "cli/command.h"
#include "core/hash.h"
#include "core/recipe.h"
#include "data/order.h"
#include "data/tokenizer.h"
#include "kernels/dev.h"
#include "distill/store.h"
#include "model/model.h"
#include "train/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_session {
    dc_recipe *recipe;
    dc_dev *dev;
    const char *dir; /* output_dir, borrowed from the recipe */
    int lock;        /* -1: none */
    int restart;     /* --restart: nothing is kept */
    int quiet;       /* --json: no tables on stdout */
    dc_comm *comm;   /* the ranks that mpirun or srun started: they train together, all else rank 0 does alone */
} dc_session;

/* Loads the recipe of the command line, opens the device, joins the ranks, creates and locks output_dir, prints the first line of a run. */
int dc_session_open(dc_session *s, const dc_cli *cli, dc_error *err);
/* Twice is safe. `rc` with `err` is how the command ended: with several ranks a failure is told here, and ends the others. */
void dc_session_close(dc_session *s, int rc, const dc_error *err);

/* Is this rank 0, which writes the files and speaks? */
int dc_session_first(const dc_session *s);
/* All ranks go on with what rank 0 came to: its rc, or DC_OK. Collective. */
int dc_session_agree(const dc_session *s, int rc, dc_error *err);

/* output_dir/a, output_dir/a/b: the caller's. NULL when memory is out, with err filled. */
char *dc_session_path(const dc_session *s, const char *below, dc_error *err);

/* The tokenizer of the recipe: tokenizer.path, the trained one, else the student's, else the teacher's model. */
int dc_session_tokenizer(dc_tokenizer **out, const dc_session *s, dc_error *err);
/* Where the teacher stands: teacher.model, or the one made from scratch; NULL when the recipe has none. The caller's. */
char *dc_session_teacher(const dc_session *s, dc_error *err);
/* A loader over a set with the settings of `prefix` ("train", "teacher.train"); in_order: for evaluation; `repeat` shifts the seed; the part of this
 * rank of `comm`, or with NULL all. */
int dc_session_loader(dc_loader **out, const dc_session *s, dc_set *set, const char *prefix, int in_order,
                      int64_t repeat, const dc_comm *comm, dc_error *err);
/* The student before training: student.model, layers of the teacher, or from scratch. trainable: all weights, else frozen. */
int dc_session_student(dc_model **out, const dc_session *s, int trainable, dc_error *err);

/* A model from scratch as "teacher.init.config" or "student.init.config" says, with the recipe's tokenizer. */
int dc_session_scratch(dc_model **out, const dc_session *s, const char *section, dc_error *err);

/* A hash of what a model path holds: its weights, config and tokenizer files. */
int dc_session_hash_model(dc_hash *out, const char *path, dc_error *err);

/* What the store of a set must say of itself under this recipe. */
int dc_session_store_info(dc_store_info *info, const dc_session *s, const dc_set *set, int64_t vocabulary,
                          dc_error *err);

/* ---- stages ---- */
typedef struct dc_stage {
    const char *name;   /* "prepare" */
    const char *folder; /* "data" */
    dc_hash key;
    json_t *summary; /* the figures, to be filled by the stage */
    json_t *times;
    double began;
} dc_stage;

/* *kept 1: the stage's summary.json has this key already, and `summary` holds it. Else the folder is emptied, or, for a stage that goes
 * on from what a kill left, kept when it was begun with the same key; with another one that is DC_EMISMATCH naming what has changed,
 * and --restart begins anew. A folder with files that no run wrote is refused. `resumes`: NULL, or letters (core/recipe.h) of the stage that
 * goes on and of those before it, whose keys decide its input. */
int dc_stage_begin(dc_stage *stage, int *kept, const dc_session *s, const char *name, const char *folder,
                   const char *resumes, dc_hash key, dc_error *err);
/* Writes summary.json and times.json. `output`: a hash of what the stage made. */
int dc_stage_end(dc_stage *stage, const dc_session *s, dc_hash output, dc_error *err);
void dc_stage_release(dc_stage *stage);
/* The output hash of a finished stage; DC_EMISMATCH saying which command makes it when there is none. */
int dc_stage_output(dc_hash *out, const dc_session *s, const char *name, const char *folder, dc_error *err);

/* Trains the tokenizer of tokenizer.train into output_dir/tokenizer. */
int dc_make_tokenizer(const dc_session *s, dc_error *err);

int dc_stage_prepare(const dc_session *s, dc_error *err);
int dc_stage_teach(const dc_session *s, dc_error *err);
int dc_stage_train(const dc_session *s, dc_error *err);
int dc_stage_merge(const dc_session *s, dc_error *err);
int dc_stage_export(const dc_session *s, dc_error *err);
/* Measures teacher, students and files, and prints the table. */
int dc_stage_eval(const dc_session *s, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
