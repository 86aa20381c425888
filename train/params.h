/* train/params.h -- the trainable set: all that loop, optimizers and checkpoints know of what is trained.
 *
 * Named float tensors on the device with gradients, learning-rate multiplier and decay flag. lora/ fills it with A and B, full training
 * with a model's weights. Sharded by global index later: index = place in the list. */
#ifndef DC_TRAIN_PARAMS_H
#define DC_TRAIN_PARAMS_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "model/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_param {
    const char *name;   /* borrowed from the owner of the tensor */
    float *data, *grad; /* on the device, owned by whoever filled the set */
    int64_t n;
    int n_dims;
    int64_t shape[2];
    float lr_scale; /* multiplies the learning rate */
    int decay;      /* weight decay applies */
} dc_param;

typedef struct dc_params {
    dc_param *items;
    size_t n, room;
    dc_dev *dev;
    dc_floats flat_grads; /* one buffer that holds all gradients and else zeros, where there is one */
    /* private: what one call of the device sums, and where to */
    dc_floats *grads;
    double *sums;
    size_t grads_room, sums_room;
} dc_params;

int dc_params_add(dc_params *p, const dc_param *item, dc_error *err);
/* All weights of a trainable model; decay for everything but norms and biases (HF Trainer's rule). */
int dc_params_add_model(dc_params *p, dc_model *m, dc_error *err);
int64_t dc_params_count(const dc_params *p); /* numbers, not tensors */
void dc_params_zero_grad(const dc_params *p);
/* sqrt of the sum of squares of all gradients, in list order, in double. DC_ENUMERIC naming the first tensor with a non-finite
 * gradient. */
int dc_params_grad_norm(const dc_params *p, double *norm, dc_error *err);
void dc_params_release(dc_params *p); /* the list, not the tensors */

#ifdef __cplusplus
}
#endif
#endif
