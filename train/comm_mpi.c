/* train/comm_mpi.c -- ranks by MPI. */
#include "train/comm_engine.h"

#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int failure(int code, const char *what, dc_error *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    MPI_Error_string(code, text, &n);
    return dc_fail(err, DC_EIO, "MPI could not %s: %s", what, text);
}

/* "Open MPI v4.1.4, package: ..." up to the first comma. */
static const char *mpi_library(void)
{
    static char name[48];
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int n = 0;
    MPI_Get_library_version(text, &n);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(text, ",\n"), text);
    return name;
}

static int mpi_open(int64_t *rank, int64_t *size, char *describe, size_t room, dc_error *err)
{
    int provided, r = 0, n = 1;
    int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
    if (code != MPI_SUCCESS) return failure(code, "start", err);
    /* Errors come back; the default ends every process without a word of ours. */
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    code = MPI_Comm_rank(MPI_COMM_WORLD, &r);
    if (code == MPI_SUCCESS) code = MPI_Comm_size(MPI_COMM_WORLD, &n);
    if (code != MPI_SUCCESS) return failure(code, "count its ranks", err);
    *rank = r, *size = n;
    snprintf(describe, room, "%d ranks, %s", n, mpi_library());
    return DC_OK;
}

static void mpi_close(int failed)
{
    int up = 0;
    if (MPI_Initialized(&up) != MPI_SUCCESS || !up) return;
    if (failed) MPI_Abort(MPI_COMM_WORLD, 1);
    else MPI_Finalize();
}

static int mpi_reduce(void *x, int n, dc_comm_op op, dc_error *err)
{
    static const struct {
        MPI_Datatype type;
        MPI_Op op;
        const char *what;
    } how[] = {[DC_COMM_SUM_FLOAT] = {MPI_FLOAT, MPI_SUM, "add up gradients"},
               [DC_COMM_SUM_DOUBLE] = {MPI_DOUBLE, MPI_SUM, "add up losses"},
               [DC_COMM_MAX_INT] = {MPI_INT, MPI_MAX, "agree"}};
    const int code = MPI_Allreduce(MPI_IN_PLACE, x, n, how[op].type, how[op].op, MPI_COMM_WORLD);
    return code == MPI_SUCCESS ? DC_OK : failure(code, how[op].what, err);
}

/* Asleep but for a look each millisecond: the others may be minutes away, and MPI's own waiting takes a whole core. */
static int wait_for(int code, MPI_Request *request, const char *what, dc_error *err)
{
    const struct timespec nap = {.tv_nsec = 1000000};
    for (int done = 0; code == MPI_SUCCESS && !done;) {
        code = MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (code == MPI_SUCCESS && !done) nanosleep(&nap, NULL);
    }
    return code == MPI_SUCCESS ? DC_OK : failure(code, what, err);
}

static int mpi_broadcast(void *bytes, int n, dc_error *err)
{
    MPI_Request request;
    return wait_for(MPI_Ibcast(bytes, n, MPI_BYTE, 0, MPI_COMM_WORLD, &request), &request, "broadcast", err);
}

static int mpi_barrier(dc_error *err)
{
    MPI_Request request;
    return wait_for(MPI_Ibarrier(MPI_COMM_WORLD, &request), &request, "wait for the other ranks", err);
}

const dc_comm_engine dc_comm_mpi = {mpi_library, mpi_open, mpi_close, mpi_reduce, mpi_broadcast, mpi_barrier};
