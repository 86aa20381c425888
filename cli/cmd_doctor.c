/* cli/cmd_doctor.c -- what this machine has for decant: processor, memory, libraries, limits. */
#include <hdf5.h>
#include <jansson.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <utf8proc.h>
#include <xxhash.h>
#include <yaml.h>
#include <zlib.h>
#include <zstd.h>

#include "cli/open.h"
#include "kernels/peak.h"
#include "core/file.h"
#include "core/pool.h"
#include "kernels/cpu.h"
#include "kernels/dev.h"
#include "train/comm.h"

static json_t *features_json(unsigned features)
{
    char text[256];
    json_t *list = json_array();
    dc_cpu_describe(text, sizeof text, features);
    char *rest = text;
    for (char *name = strsep(&rest, ","); features && name; name = strsep(&rest, ","))
        json_array_append_new(list, json_string(name + (*name == ' ')));
    return list;
}

static json_t *processor_json(dc_error *err)
{
    char brand[64];
    unsigned allowed = 0;
    dc_peak peak;
    if (dc_cpu_allowed(&allowed, err) != DC_OK) return NULL;
    dc_cpu_brand(brand);
    dc_peak_measure(&peak, 0.2, 1);
    return json_pack("{s:s, s:i, s:I, s:o, s:o, s:f, s:s, s:f}", "brand", brand, "threads", dc_pool_threads(),
                     "cores_online", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "found", features_json(dc_cpu_found()),
                     "used", features_json(allowed), "fp32_flops", peak.flops, "fp32_registers", peak.registers,
                     "read_bytes_per_second", peak.read_bytes);
}

/* The cgroup's limit, where there is one below the machine's memory: a container is killed there. */
static double cgroup_limit(void)
{
    static const char *const files[] = {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    double limit = 0;
    for (size_t i = 0; i < 2 && limit <= 0; i++) {
        dc_str text = {0};
        if (dc_path_exists(files[i]) && dc_file_read(&text, files[i], 256, NULL) == DC_OK)
            limit = strtod(dc_str_text(&text), NULL);
        dc_str_release(&text);
    }
    return limit < 0x1p60 ? limit : 0;
}

static double available_memory(void)
{
    double kib = 0;
    dc_str text = {0};
    if (dc_file_read(&text, "/proc/meminfo", 1 << 16, NULL) == DC_OK) {
        const char *at = strstr(dc_str_text(&text), "MemAvailable:");
        if (at) kib = strtod(at + strlen("MemAvailable:"), NULL);
    }
    dc_str_release(&text);
    return kib * 1024;
}

static json_t *memory_json(void)
{
    struct statvfs fs;
    const char *tmp = getenv("TMPDIR");
    if (!tmp || !*tmp) tmp = "/tmp";
    json_t *out = json_pack("{s:f, s:f, s:s}", "total", (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE),
                            "available", available_memory(), "temporary_folder", tmp);
    const double limit = cgroup_limit();
    if (out && limit > 0) json_object_set_new(out, "cgroup_limit", json_real(limit));
    if (out && !statvfs(tmp, &fs))
        json_object_set_new(out, "temporary_free", json_real((double)fs.f_bavail * (double)fs.f_frsize));
    return out;
}

static json_t *gemm_json(void)
{
    json_t *out = json_array();
    for (int b = DC_GEMM_BACKENDS - 1; b >= 0; b--)
        if (dc_gemm_has((dc_gemm_backend)b))
            json_array_append_new(out, json_string(dc_gemm_describe((dc_gemm_backend)b)));
    return out;
}

/* Every card, or why there is none. */
static json_t *cards_json(void)
{
    char text[320];
    dc_error why = {0};
    json_t *cards = json_array();
    for (int n = 0; dc_dev_card(text, sizeof text, n, &why) == DC_OK; n++)
        json_array_append_new(cards, json_string(text));
    const int none = json_array_size(cards) == 0;
    return json_pack("{s:o, s:s?}", "cards", cards, "why_none", none ? why.message : NULL);
}

static json_t *libraries_json(void)
{
    char hdf5[32], xxhash[32], pcre2[64] = "";
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    snprintf(hdf5, sizeof hdf5, "%u.%u.%u", major, minor, release);
    const unsigned x = XXH_versionNumber();
    snprintf(xxhash, sizeof xxhash, "%u.%u.%u", x / 10000, x / 100 % 100, x % 100);
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) < (int)sizeof pcre2) pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    pcre2[strcspn(pcre2, " ")] = 0;
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "HDF5", hdf5, "zstd", ZSTD_versionString(), "zlib",
                     zlibVersion(), "PCRE2", pcre2, "jansson", jansson_version_str(), "libyaml",
                     yaml_get_version_string(), "xxHash", xxhash, "utf8proc", utf8proc_version());
}

static json_t *limit_json(unsigned resource)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) || limit.rlim_cur == RLIM_INFINITY) return json_null();
    return json_integer((json_int_t)limit.rlim_cur);
}

static json_t *limits_json(void)
{
    return json_pack("{s:o, s:o, s:o}", "open_files", limit_json(RLIMIT_NOFILE), "address_space", limit_json(RLIMIT_AS),
                     "file_size", limit_json(RLIMIT_FSIZE));
}

/* ---- for a person ---- */

static void put_list(const char *name, const json_t *list)
{
    size_t i;
    json_t *item;
    printf("%-12s ", name);
    json_array_foreach(list, i, item) printf("%s%s", i ? ", " : "", json_string_value(item));
    puts(json_array_size(list) ? "" : "none");
}

static double real(const json_t *object, const char *key) { return json_number_value(json_object_get(object, key)); }

static void print_processor(const json_t *p, const char *device)
{
    const char *brand = json_string_value(json_object_get(p, "brand"));
    printf("processor    %s\n", *brand ? brand : "unknown");
    printf("threads      %.0f of %.0f cores online\n", real(p, "threads"), real(p, "cores_online"));
    put_list("instructions", json_object_get(p, "found"));
    if (!json_equal(json_object_get(p, "found"), json_object_get(p, "used")))
        put_list("  DC_CPU", json_object_get(p, "used"));
    printf("peak fp32    %.0f GFLOP/s measured on %s registers\n", real(p, "fp32_flops") / 1e9,
           json_string_value(json_object_get(p, "fp32_registers")));
    printf("memory rate  %.1f GB/s read\n", real(p, "read_bytes_per_second") / 1e9);
    printf("used as      %s\n", device);
}

static void print_memory(const json_t *m)
{
    char a[32], b[32];
    printf("memory       %s, %s available", dc_human_bytes(a, sizeof a, real(m, "total")),
           dc_human_bytes(b, sizeof b, real(m, "available")));
    if (real(m, "cgroup_limit") > 0)
        printf(", the container's limit is %s", dc_human_bytes(a, sizeof a, real(m, "cgroup_limit")));
    printf("\ntemporary    %s, %s free\n", json_string_value(json_object_get(m, "temporary_folder")),
           dc_human_bytes(a, sizeof a, real(m, "temporary_free")));
}

static void print_cards(const json_t *cuda)
{
    size_t i;
    json_t *card;
    const char *why = json_string_value(json_object_get(cuda, "why_none"));
    if (why) printf("GPU          none: %s\n", why);
    json_array_foreach(json_object_get(cuda, "cards"), i, card)
        printf("%-12s cuda:%zu, %s\n", i ? "" : "GPU", i, json_string_value(card));
}

static void print_rest(const json_t *all)
{
    const char *key;
    json_t *value;
    int n = 0;
    const char *ranks = json_string_value(json_object_get(all, "ranks"));
    print_cards(json_object_get(all, "cuda"));
    put_list("GEMM", json_object_get(all, "gemm"));
    printf("ranks        %s\n", ranks ? ranks : "one: no MPI in this build");
    printf("libraries    ");
    json_object_foreach(json_object_get(all, "libraries"), key, value)
        printf("%s%s %s", n++ ? ", " : "", key, json_string_value(value));
    printf("\nlimits       ");
    n = 0;
    json_object_foreach(json_object_get(all, "limits"), key, value)
    {
        printf("%s", n++ ? ", " : "");
        for (const char *c = key; *c; c++) putchar(*c == '_' ? ' ' : *c);
        if (json_is_null(value)) printf(" unlimited");
        else printf(" %lld", (long long)json_integer_value(value));
    }
    putchar('\n');
}

static int run(dc_cli *cli, dc_error *err)
{
    int rc = DC_OK;
    dc_dev *dev = NULL;
    const dc_dev_options options = dc_dev_defaults();
    json_t *processor = NULL, *all = NULL;
    DC_TRY(dc_dev_open(&dev, &options, err));
    processor = processor_json(err);
    all = processor ? json_pack("{s:s, s:O, s:o, s:o, s:o, s:o, s:s, s:o, s:s?}", "version", DC_VERSION, "processor",
                                processor, "memory", memory_json(), "gemm", gemm_json(), "libraries", libraries_json(),
                                "limits", limits_json(), "device", dc_dev_describe(dev), "cuda", cards_json(), "ranks",
                                dc_comm_library())
                    : NULL;
    if (!all) {
        rc = dc_fail_memory(err, 0, "a description of this machine");
        goto done;
    }
    if (cli->json) {
        DC_TRY(dc_print_json(json_incref(all), err));
    } else {
        printf("decant       %s\n", DC_VERSION);
        print_processor(processor, dc_dev_describe(dev));
        print_memory(json_object_get(all, "memory"));
        print_rest(all);
    }
done:
    json_decref(processor);
    json_decref(all);
    dc_dev_close(dev);
    return rc;
}

const dc_command dc_cmd_doctor = {
    .name = "doctor",
    .group = "look",
    .summary = "what this machine has: cores, instruction sets, memory, libraries, measured ceilings",
    .takes = DC_TAKES_NONE,
    .examples = "  decant doctor\n  decant doctor --json\n",
    .run = run};
