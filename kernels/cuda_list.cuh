/* kernels/cuda_list.cuh -- one launch for a list of tensors: a staged table with a row a tensor, and for each block its row.
 *
 * Tensors are cut into spans, which are numbered through the list, a block each; a row begins with the number of its tensor's first span. */
#ifndef DC_KERNELS_CUDA_LIST_CUH
#define DC_KERNELS_CUDA_LIST_CUH

#include "kernels/cuda.cuh"

/* Rows of a table, which the host builds on its stack: longer lists take more launches. */
enum { DC_LIST = 1024 };

/* The last of n rows of `bytes` bytes, each beginning with its `first`, that begins at or before `span`; none is empty. Ten steps
 * at most, on a table that the first-level cache holds. */
DC_DEVICE int dc_list_find(const int64_t *first, size_t bytes, int n, int64_t span)
{
    const size_t stride = bytes / sizeof *first;
    int low = 0;
    while (n > 1) {
        const int middle = n / 2;
        if (first[static_cast<size_t>(low + middle) * stride] <= span) low += middle, n -= middle;
        else n = middle;
    }
    return low;
}

#endif
