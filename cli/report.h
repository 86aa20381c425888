/* cli/report.h -- report.html of a run: one file, nothing loaded from elsewhere. */
#ifndef DC_CLI_REPORT_H
#define DC_CLI_REPORT_H

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads what the stages left in `run_dir` (summary.json, times.json, metrics.jsonl, *.parity.json; any of them may be missing) and writes curves of
 * loss, KL, learning rate and throughput as SVG, the control beside the distilled run, the table, memory, parity of each export, and the
 * resolved recipe. */
int dc_report_write(const char *path, const char *run_dir, dc_error *err);

#ifdef __cplusplus
}
#endif
#endif
