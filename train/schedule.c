/* train/schedule.c */
#include "train/schedule.h"

#include <math.h>

double dc_schedule_rate(const dc_schedule *s, int64_t step)
{
    const int64_t warmup = s->type == DC_SCHEDULE_CONSTANT ? 0 : s->warmup_steps;
    if (step < warmup) return s->learning_rate * (double)step / (double)(warmup > 1 ? warmup : 1);
    if (s->type == DC_SCHEDULE_CONSTANT || s->type == DC_SCHEDULE_CONSTANT_WITH_WARMUP) return s->learning_rate;
    const int64_t decay = s->total_steps - warmup > 1 ? s->total_steps - warmup : 1;
    if (s->type == DC_SCHEDULE_LINEAR) {
        const double left = (double)(s->total_steps - step) / (double)decay;
        return s->learning_rate * (left > 0 ? left : 0);
    }
    const double progress = (double)(step - warmup) / (double)decay;
    const double factor = 0.5 * (1.0 + cos(3.14159265358979323846 * progress)); /* half a wave: num_cycles 0.5 */
    return s->learning_rate * (factor > 0 ? factor : 0);
}
