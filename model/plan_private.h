/* model/plan_private.h -- what the files plan*.c and kv.c share: steps, buffers, the program.
 *
 * plan_build.c lists the forward steps, plan_mirror.c appends the backward ones, plan_memory.c finds each buffer's life and its
 * place in the arena, plan_run.c runs steps, plan_work.c counts what they cost, plan_print.c shows them. Nothing outside model/ and its tests includes this. */
#ifndef DC_MODEL_PLAN_PRIVATE_H
#define DC_MODEL_PLAN_PRIVATE_H

#include "model/kv.h"
#include "model/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Operands by op; out[] and in[] hold numbers of buffers, -1 where an operand is not there. A _bwd follows its forward. */
#define DC_STEPS(X) \
    X(EMBED, "embed")           /* y <- ids */ \
    X(EMBED_BWD, "embed_bwd")   /* <- dy, ids */ \
    X(NORM, "norm")             /* y, rstd <- x */ \
    X(NORM_BWD, "norm_bwd")     /* dx <- dy, x, rstd */ \
    X(JOINT, "joint")           /* u <- x: for linears that read the same x */ \
    X(JOINT_BWD, "joint_bwd")   /* dx <- du, x */ \
    X(LINEAR, "linear")         /* y, u, scratch <- x, residual, u: a joint's u is read, not written */ \
    X(LINEAR_BWD, "linear_bwd") /* dx, du, scratch <- dy, x, u: a joint's du is written in part */ \
    X(ROPE, "rope")             /* x <- x, pos: in place */ \
    X(ROPE_BWD, "rope_bwd")     /* dx <- dx, pos: in place */ \
    X(ATTN, "attn")             /* o, lse <- q, k, v */ \
    X(ATTN_BWD, "attn_bwd")     /* dq, dk, dv <- do, o, lse, q, k, v */ \
    X(GLU, "glu")               /* y <- gate, up */ \
    X(GLU_BWD, "glu_bwd")       /* dgate, dup <- dy, gate, up: dgate is gate's buffer, dup up's */ \
    X(GATHER, "gather")         /* y [M, C] <- x [T, C], rows */ \
    X(GATHER_BWD, "gather_bwd") /* dx <- dy, rows: dx is set, 0 where no row is */ \
    X(OBJECTIVE, "objective")   /* dhidden <- hidden: done by the caller, between forward and backward */

typedef enum dc_step_op {
#define DC_STEP_ENUM(name, text) DC_STEP_##name,
    DC_STEPS(DC_STEP_ENUM)
#undef DC_STEP_ENUM
        DC_STEP_OPS
} dc_step_op;

const char *dc_step_name(dc_step_op op);

enum { DC_STEP_OUT = 3, DC_STEP_IN = 6 };

typedef struct dc_step {
    dc_step_op op;
    int layer;      /* -1: of no layer */
    int again;      /* a forward step repeated in the backward */
    int accumulate; /* LINEAR_BWD, JOINT_BWD, NORM_BWD: dx is added to */
    int out[DC_STEP_OUT], in[DC_STEP_IN];
    int64_t heads;           /* NORM, ROPE: parts of a row, each treated by itself */
    const dc_linear *linear; /* LINEAR; JOINT: one of them */
    const dc_weight *weight; /* NORM, EMBED */
} dc_step;

typedef enum dc_symbol { DC_SYMBOL_T, DC_SYMBOL_M, DC_SYMBOL_B1 /* B + 1 */, DC_SYMBOL_ONE } dc_symbol;

typedef enum dc_buffer_kind {
    DC_BUFFER_VALUE, /* of the forward */
    DC_BUFFER_AGAIN, /* a value made again in the backward */
    DC_BUFFER_GRADIENT,
    DC_BUFFER_SCRATCH, /* lives within one step */
    DC_BUFFER_TABLE    /* int32 of the batch: lives throughout */
} dc_buffer_kind;

/* [T or M, width] of activations, or of statistics (F32) and tables (I32). */
typedef struct dc_buffer {
    const char *name; /* "gate"; the layer stands beside it */
    int layer;
    dc_buffer_kind kind;
    dc_dtype type;
    dc_symbol rows;
    int64_t width;
    int keep;             /* a value that the backward finds as the forward left it */
    int wanted;           /* a value whose gradient is wanted */
    int first, last;      /* steps of its life, both included */
    size_t bytes, offset; /* at the bound; a multiple of 64 */
} dc_buffer;

/* An array of profile figures, one a kind of step. */
typedef struct dc_step_time {
    double seconds, flops, bytes;
    int64_t calls;
} dc_step_time;

/* Steps whose operands have T rows, or no rows of the batch at all: at the same T they are the same ops on the same memory. */
typedef struct dc_stretch {
    int first, end;
} dc_stretch;

/* What such a stretch was recorded for, and its recordings: of the forward, of the backward. */
enum { DC_PASSES = 2, DC_SHAPES = 8 };

typedef struct dc_shape {
    int64_t T, B;
    int adapter, training;
    uint64_t seed, operands; /* operands: of all pointers and factors that the model hands to ops */
    int64_t used;            /* number of the forward that was its last; 0: free */
    dc_recording *recording[DC_PASSES];
    int ran[DC_PASSES]; /* step by step */
} dc_shape;

struct dc_plan {
    dc_model *m;
    dc_dev *dev;
    dc_plan_options o;

    dc_buffer *buffers;
    dc_step *steps;
    int n_buffers, buffer_room, n_steps, step_room;
    int objective;                  /* number of the OBJECTIVE step: forward before, backward behind it */
    int ids, pos, rows, cu, step;   /* tables */
    int hidden, hidden_grad;        /* -1: none */
    size_t arena_bytes, live_bytes; /* of the arena; of the most that lives at once */
    char *arena;                    /* NULL in a forecast */

    int32_t *cu_seqlens; /* [max_docs + 1] of the last batch, on the host */
    int64_t T, B, M;     /* of the last batch */
    dc_kv *kv;
    dc_run run;
    int ran; /* a forward lies behind, its buffers are there */

    /* on a device that records */
    int records;
    dc_stretch stretch[DC_PASSES];
    dc_shape shapes[DC_SHAPES], *shape; /* of the last forward, NULL: it is not recorded */
    int64_t forwards;

    int profile;
    dc_step_time times[DC_STEP_OPS];
};

/* plan_build.c: the forward steps and the OBJECTIVE. The arrays have room for all that plan_mirror.c may append. */
int dc_plan_build(dc_plan *p, dc_error *err);
/* Tables are I32, everything else is of the device's activations; who wants statistics sets the type. */
int dc_plan_add_buffer(dc_plan *p, const char *name, int layer, dc_buffer_kind kind, dc_symbol rows, int64_t width);
dc_step *dc_plan_add_step(dc_plan *p, dc_step_op op, int layer); /* all operands -1 */
/* The active delta of a plan's linear, or NULL. */
const dc_delta *dc_plan_delta(const dc_plan *p, const dc_linear *l);

/* plan_mirror.c: appends the backward. */
int dc_plan_mirror(dc_plan *p, dc_error *err);

/* plan_memory.c: lives, offsets, arena_bytes. */
int dc_plan_layout(dc_plan *p, dc_error *err);

/* plan_run.c: one step, on the last batch. */
void dc_plan_step(dc_plan *p, const dc_step *s);

/* plan_work.c: what a step of the last batch costs: operations, a multiply-add being two; bytes that cross memory when no cache helps. */
double dc_plan_flops(const dc_plan *p, const dc_step *s);
double dc_plan_traffic(const dc_plan *p, const dc_step *s);

/* plan_record.c: which stretches can be recorded; whether this device records. */
void dc_plan_record_init(dc_plan *p);
void dc_plan_record_release(dc_plan *p);
/* The batch was taken: finds its shape, and rounds B up with empty documents at the end, so that few shapes serve all batches. */
void dc_plan_record_batch(dc_plan *p);
/* The pass (0: forward, 1: backward) of the last batch: replayed, recorded when its shape comes a second time, or step by step. */
void dc_plan_record_run(dc_plan *p, int pass, int first, int end);

/* plan_print.c: "model.layers.11.mlp.down_proj", "model.layers.3 attention". */
void dc_step_place(const dc_plan *p, const dc_step *s, dc_str *out);

/* kv.c: writes keys and values [T, K, D] of a layer's new tokens to their pages, and attends. */
void dc_kv_attend(dc_kv *kv, int64_t layer, dc_view o, dc_cview q, dc_cview k, dc_cview v);

#ifdef __cplusplus
}
#endif
#endif
