/* train/comm.c -- which engine joins the ranks, if any; tensors of the device by its own link, or in pieces through the host. */
#include "train/comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "train/comm_engine.h"

/* 1 MiB of floats a piece: a CPU's tensors need none, a card's pass through it. */
enum { PIECE = 1 << 18 };

struct dc_comm {
    const dc_comm_engine *engine; /* NULL: alone */
    const dc_comm_link *link;     /* NULL: through the host */
    void *link_state;
    dc_dev *dev;
    int64_t rank, size;
    float *piece;
    char describe[128];
};

/* A number that a launcher left in the environment, or -1. */
static long told(const char *const *names)
{
    for (; *names; names++) {
        const char *text = getenv(*names);
        char *end;
        if (!text || !*text) continue;
        const long n = strtol(text, &end, 10);
        if (!*end && n >= 0) return n;
    }
    return -1;
}

/* How many processes the launcher started. srun tells of its tasks in a batch script's own shell as well, which is no task: SLURM_PROCID
 * stands there too, but SLURM_STEP_NUM_TASKS is 1. */
static long started(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", NULL};
    return told(names);
}

int dc_comm_local_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID", NULL};
    const long n = started() > 1 ? told(names) : -1;
    return n > 0 ? (int)n : 0;
}

#ifdef DC_HAVE_MPI
const char *dc_comm_library(void)
{
    static char name[96];
    const dc_comm_link *link = dc_comm_stream_link();
    snprintf(name, sizeof name, "%s%s%s", dc_comm_mpi.library(), link ? ", " : "", link ? link->library() : "");
    return name;
}

/* Do the ranks' devices have streams? All or none: a rank would else wait in a library that others never call. */
static int have_streams(const dc_comm *c, int *all, dc_error *err)
{
    const int mine = dc_dev_stream(c->dev) != NULL;
    int some[] = {mine, !mine}; /* ranks with a stream, ranks without */
    const int rc = c->engine->reduce(some, 2, DC_COMM_MAX_INT, err);
    *all = some[0] && !some[1];
    if (rc != DC_OK || !some[0] || !some[1]) return rc;
    return dc_fail(err, DC_EUNKNOWN,
                   "the ranks have devices of different kinds, this one %s: name one kind in 'device'",
                   dc_dev_describe(c->dev));
}

static int join_devices(dc_comm *c, dc_error *err)
{
    unsigned char id[DC_COMM_ID] = {0};
    const dc_comm_link *link = dc_comm_stream_link();
    const size_t n = strlen(c->describe);
    int streams;
    int rc = have_streams(c, &streams, err);
    if (rc != DC_OK || !streams || !link) return rc;
    rc = c->rank ? DC_OK : link->make_id(id, err);
    if (rc == DC_OK) rc = c->engine->broadcast(id, sizeof id, err);
    if (rc == DC_OK) rc = link->open(&c->link_state, c->dev, id, c->rank, c->size, err);
    if (rc != DC_OK) return rc;
    c->link = link;
    snprintf(c->describe + n, sizeof c->describe - n, ", %s", link->library());
    return DC_OK;
}

static int join(dc_comm *c, dc_error *err)
{
    int rc = dc_comm_mpi.open(&c->rank, &c->size, c->describe, sizeof c->describe, err);
    if (rc != DC_OK) return rc;
    c->engine = &dc_comm_mpi;
    rc = join_devices(c, err);
    if (rc != DC_OK || c->link) return rc;
    c->piece = dc_malloc(PIECE * sizeof *c->piece);
    return c->piece ? DC_OK : dc_fail_memory(err, PIECE * sizeof *c->piece, "the ranks of a run");
}
#else
const char *dc_comm_library(void) { return NULL; }

static int join(dc_comm *c, dc_error *err)
{
    (void)c;
    return dc_fail(
        err, DC_EUNKNOWN,
        "a launcher started %ld processes, and this build cannot join them: it was made without MPI (install "
        "libopenmpi-dev and build again), or start one process",
        started());
}
#endif

int dc_comm_open(dc_comm **out, dc_dev *dev, dc_error *err)
{
    dc_comm *c = dc_calloc(1, sizeof *c);
    if (!c) return dc_fail_memory(err, sizeof *c, "the ranks of a run");
    c->dev = dev, c->size = 1;
    *out = c;
    return started() > 1 ? join(c, err) : DC_OK;
}

void dc_comm_close(dc_comm *c, int failed)
{
    if (!c) return;
    if (c->link) c->link->close(c->link_state, failed);
    if (c->engine) c->engine->close(failed);
    dc_free(c->piece);
    dc_free(c);
}

int64_t dc_comm_rank(const dc_comm *c) { return c ? c->rank : 0; }
int64_t dc_comm_size(const dc_comm *c) { return c ? c->size : 1; }
const char *dc_comm_describe(const dc_comm *c) { return c ? c->describe : ""; }

static int alone(const dc_comm *c) { return !c || !c->engine; }

typedef int piece_fn(const dc_comm *c, int n, dc_error *err);

static int sum_piece(const dc_comm *c, int n, dc_error *err)
{
    return c->engine->reduce(c->piece, n, DC_COMM_SUM_FLOAT, err);
}

static int share_piece(const dc_comm *c, int n, dc_error *err)
{
    return c->engine->broadcast(c->piece, n * (int)sizeof *c->piece, err);
}

/* The tensors go to the host piece by piece, through `fn`, and back. */
static int by_pieces(dc_comm *c, const dc_floats *items, size_t n_items, piece_fn *fn, dc_error *err)
{
    if (alone(c)) return DC_OK;
    for (size_t i = 0; i < n_items; i++)
        for (int64_t at = 0; at < items[i].n; at += PIECE) {
            const int64_t n = items[i].n - at < PIECE ? items[i].n - at : PIECE;
            float *x = (float *)(uintptr_t)(items[i].data + at);
            dc_dev_download(c->dev, c->piece, x, (size_t)n * sizeof *x);
            int rc = dc_dev_sync(c->dev, err);
            if (rc == DC_OK) rc = fn(c, (int)n, err);
            if (rc != DC_OK) return rc;
            dc_dev_upload(c->dev, x, c->piece, (size_t)n * sizeof *x);
        }
    return dc_dev_sync(c->dev, err);
}

int dc_comm_sum(dc_comm *c, const dc_floats *items, size_t n_items, dc_error *err)
{
    if (c && c->link) return c->link->sum(c->link_state, items, n_items, err);
    return by_pieces(c, items, n_items, sum_piece, err);
}

int dc_comm_share(dc_comm *c, const dc_floats *items, size_t n_items, dc_error *err)
{
    if (c && c->link) return c->link->share(c->link_state, items, n_items, err);
    return by_pieces(c, items, n_items, share_piece, err);
}

int dc_comm_sum_doubles(dc_comm *c, double *x, size_t n, dc_error *err)
{
    DC_ASSERT(n <= INT32_MAX);
    return alone(c) ? DC_OK : c->engine->reduce(x, (int)n, DC_COMM_SUM_DOUBLE, err);
}

int dc_comm_max(dc_comm *c, int *x, dc_error *err)
{
    return alone(c) ? DC_OK : c->engine->reduce(x, 1, DC_COMM_MAX_INT, err);
}

int dc_comm_broadcast(dc_comm *c, void *bytes, size_t n, dc_error *err)
{
    DC_ASSERT(n <= INT32_MAX);
    return alone(c) ? DC_OK : c->engine->broadcast(bytes, (int)n, err);
}

int dc_comm_barrier(dc_comm *c, dc_error *err) { return alone(c) ? DC_OK : c->engine->barrier(err); }
