/* distill/kd.h -- the distillation objective: L = (1 - kd_ratio) CE + kd_ratio KD, from a store or from a teacher online.
 *
 * KD is forward KL(teacher || student) at `temperature`, times temperature^2 when t2_scale (Hinton et al. 2015, arXiv 1503.02531, and the
 * sources of kernels/ops.h, dc_loss). Implements train/objective.h. */
#ifndef DC_DISTILL_KD_H
#define DC_DISTILL_KD_H

#include "core/error.h"
#include "distill/store.h"
#include "train/objective.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_kd_options {
    double kd_ratio, temperature;
    int t2_scale;
    int64_t chunk_bytes; /* of logits, 0: as suits the device */
} dc_kd_options;

dc_kd_options dc_kd_defaults(void); /* 0.5, 1, scaled */

/* From a store, which stays the caller's and open. */
int dc_objective_kd_store(dc_objective **out, dc_model *student, dc_store *store, const dc_kd_options *o,
                          dc_error *err);
/* From a teacher that runs beside the student: a plan without backward, made by the caller for the same bounds. Its adapter (-1: none) makes
 * self-distillation possible: teacher and student may share one base. */
int dc_objective_kd_online(dc_objective **out, dc_model *student, dc_plan *teacher, int teacher_adapter,
                           const dc_kd_options *o, dc_error *err);

/* Teacher and student must share a vocabulary: compares logits' widths; for tokenizers see data/tokenizer.h. */
int dc_kd_check(const dc_model *teacher, const dc_model *student, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
