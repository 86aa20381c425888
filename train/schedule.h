/* train/schedule.h -- learning rate by step, as HF's Trainer has it (transformers/optimization.py). */
#ifndef DC_TRAIN_SCHEDULE_H
#define DC_TRAIN_SCHEDULE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dc_schedule_type {
    DC_SCHEDULE_CONSTANT,
    DC_SCHEDULE_CONSTANT_WITH_WARMUP,
    DC_SCHEDULE_LINEAR,
    DC_SCHEDULE_COSINE
} dc_schedule_type;

typedef struct dc_schedule {
    dc_schedule_type type;
    double learning_rate; /* peak */
    int64_t warmup_steps, total_steps;
} dc_schedule;

/* The rate of optimizer step `step` (from 0): the first warm-up step has rate 0. */
double dc_schedule_rate(const dc_schedule *s, int64_t step);

#ifdef __cplusplus
}
#endif
#endif
