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

#ifdef __cplusplus
}
#endif
#endif
