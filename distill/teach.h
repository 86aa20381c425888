/* distill/teach.h -- the capture: teacher forward over a set, its targets into a store. */
#ifndef DC_DISTILL_TEACH_H
#define DC_DISTILL_TEACH_H

#include "core/error.h"
#include "distill/store.h"
#include "model/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dc_teach_result {
    int64_t docs, rows;
    int64_t bytes; /* of the store */
    double seconds;
    double angle;       /* degrees between kept and full target distributions, stacked over all rows */
    double mass;        /* mean teacher mass that the stored ids cover */
    double teacher_nll; /* mean CE of the labels */
    int64_t kept;       /* documents that were there already */
} dc_teach_result;

/* Walks the set's documents in order, several a batch (the plan's bounds), resumes a killed capture, polls core/stop.h. `info` names what is
 * captured; draws of document d, row r are keyed by (info.seed, d, r), so they do not depend on batches. */
int dc_teach(dc_teach_result *out, dc_plan *teacher, int adapter, dc_set *set, const char *dir, const char *set_name,
             const dc_store_info *info, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
