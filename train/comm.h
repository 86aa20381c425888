/* train/comm.h -- the ranks of a run: how many there are, which one this is, sums over all of them.
 *
 * One process is one rank, with one device. mpirun or srun starts them, MPI joins them; a process that neither started is a run of
 * one rank, which needs no MPI, and every call then does nothing. Data parallelism: each rank holds the whole model, takes every n-th micro-batch
 * (data/order.h) and adds its gradients to those of the others. The sum of two ranks has the bits of one rank that does both parts;
 * with more ranks the order is MPI's, the same in every run of that many.
 *
 * Collective calls are made by all ranks in the same order. A rank that fails ends the others too (dc_comm_close with `failed`): a collective
 * that waits for it would wait for ever. One thread makes the calls. */
#ifndef DC_TRAIN_COMM_H
#define DC_TRAIN_COMM_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "kernels/dev.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_comm dc_comm;

/* What joins ranks in this build, "Open MPI v4.1.4"; NULL: nothing does. */
const char *dc_comm_library(void);

/* Was this process started as one of several? Its number among those of this machine: which card it takes ("cuda" without a number). 0 alone. */
int dc_comm_local_rank(void);

/* Joins the other ranks. `dev` is this rank's, borrowed. DC_EUNKNOWN when a launcher started several ranks and this build cannot join them: each
 * would train alone on the same output. On failure *out may be set, too: dc_comm_close ends this process with the others, so say why before. */
int dc_comm_open(dc_comm **out, dc_dev *dev, dc_error *err);
/* `failed`: this rank cannot go on, and the others are ended with it, without a wait. NULL is fine. */
void dc_comm_close(dc_comm *c, int failed);

int64_t dc_comm_rank(const dc_comm *c); /* NULL: 0 */
int64_t dc_comm_size(const dc_comm *c); /* NULL: 1 */
/* "4 ranks, Open MPI 4.1.4" for the start-up line; "" alone. */
const char *dc_comm_describe(const dc_comm *c);

/* Every element of the device's float tensors becomes the sum over the ranks: gradients. */
int dc_comm_sum(dc_comm *c, const dc_floats *items, size_t n_items, dc_error *err);
/* The device's float tensors become those of rank 0: parameters, so that no difference between processors is trained on. */
int dc_comm_share(dc_comm *c, const dc_floats *items, size_t n_items, dc_error *err);
/* Numbers on the host become the sum, or the largest, over the ranks. */
int dc_comm_sum_doubles(dc_comm *c, double *x, size_t n, dc_error *err);
int dc_comm_max(dc_comm *c, int *x, dc_error *err);
/* What rank 0 has in `bytes` bytes of host memory, all have. */
int dc_comm_broadcast(dc_comm *c, void *bytes, size_t n, dc_error *err);
int dc_comm_barrier(dc_comm *c, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
