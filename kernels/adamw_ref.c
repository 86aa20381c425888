/* kernels/adamw_ref.c -- AdamW, the float fallback. */
#include "kernels/real_float.h"
#include "kernels/table.h"

#include "kernels/adamw_tmpl.c"

void dc_adamw_ref(dc_dev *dev, const dc_adamw_item *items, size_t n_items, const dc_adamw *a)
{
    (void)dev;
    for (size_t i = 0; i < n_items; i++) {
        const dc_adamw one = dc_adamw_of(a, &items[i]);
        adamw_float(items[i].p, items[i].m, items[i].v, items[i].g, items[i].n, &one);
    }
}
