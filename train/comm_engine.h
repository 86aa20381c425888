/* train/comm_engine.h -- what joins ranks behind train/comm.h; private to comm*.c. */
#ifndef DC_TRAIN_COMM_ENGINE_H
#define DC_TRAIN_COMM_ENGINE_H

#include "train/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dc_comm_op { DC_COMM_SUM_FLOAT, DC_COMM_SUM_DOUBLE, DC_COMM_MAX_INT } dc_comm_op;

/* Host memory; counts fit an int (comm.c cuts longer ones). DC_OK or DC_EIO with the library's words. */
typedef struct dc_comm_engine {
    const char *(*library)(void); /* may be asked without an open */
    int (*open)(int64_t *rank, int64_t *size, char *describe, size_t room, dc_error *err);
    void (*close)(int failed);
    int (*reduce)(void *x, int n, dc_comm_op op, dc_error *err); /* in place, over all ranks */
    int (*broadcast)(void *bytes, int n, dc_error *err);         /* from rank 0 */
    int (*barrier)(dc_error *err);
} dc_comm_engine;

extern const dc_comm_engine dc_comm_mpi;

enum { DC_COMM_ID = 128 };

/* How a device's tensors go from rank to rank without the host. Every rank opens with the id that rank 0 made and with a device of its own. DC_EIO
 * with the call's name and the library's words. */
typedef struct dc_comm_link {
    const char *(*library)(void);
    int (*make_id)(unsigned char id[DC_COMM_ID], dc_error *err);
    int (*open)(void **state, dc_dev *dev, const unsigned char id[DC_COMM_ID], int64_t rank, int64_t size,
                dc_error *err);
    void (*close)(void *state, int failed);
    int (*sum)(void *state, const dc_floats *items, size_t n_items, dc_error *err);
    int (*share)(void *state, const dc_floats *items, size_t n_items, dc_error *err);
} dc_comm_link;

/* For devices with a stream (kernels/dev.h); NULL: their tensors go through the host. It comes with the device that a program is linked with
 * (dc_use_device in cmake/decant.cmake). */
const dc_comm_link *dc_comm_stream_link(void);

#ifdef __cplusplus
}
#endif
#endif
