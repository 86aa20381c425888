/* data/pretok_names.c -- the pre-tokenizers that GGUF files name in tokenizer.ggml.pre.
 *
 * Source: src/llama-vocab.cpp of llama.cpp (names, what they imply, patterns) and src/unicode.cpp (Unicode 15.1). Its case-ignoring
 * contractions spelt out as [sS] are written (?i:...) here; the scanners know that they are ASCII there. */
#include <string.h>

#include "core/str.h"
#include "data/pretok.h"

/* A rule is a list of passes, NULL-ended: "#" splits off single digits, "1" to "4" are scanners, the rest are patterns. */
typedef struct rule {
    const char *passes[8];
} rule;

#define GPT2   "1"
#define LLAMA3 "2"
#define QWEN2  "3"
#define QWEN35 "4"

#define TAIL        "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CASED_UPPER "[^\\r\\n\\p{L}\\p{N}]?((?=[\\p{L}])([^a-z]))*((?=[\\p{L}])([^A-Z]))+"
#define CASED_LOWER "[^\\r\\n\\p{L}\\p{N}]?((?=[\\p{L}])([^a-z]))+((?=[\\p{L}])([^A-Z]))*"
#define CONTRACTED  "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?"

static const rule rule_gpt2 = {{GPT2}};
static const rule rule_smollm = {{"#", GPT2}};
static const rule rule_llama3 = {{LLAMA3}};
static const rule rule_qwen2 = {{QWEN2}};
static const rule rule_qwen35 = {{QWEN35}};
static const rule rule_default = {{"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}};
static const rule rule_falcon = {{"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}};
/* As published: line ends and the ranges of Han, Hiragana and Katakana stand for themselves. */
static const rule rule_deepseek_v3 = {
    {"\\p{N}{1,3}", "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+",
     "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
     "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"}};
/* \S: where a pattern names no property, llama.cpp hides white space beyond ASCII from it. */
static const rule rule_deepseek_coder = {{"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+",
                                          "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}&&\\S]+", "#"}};
static const rule rule_gpt4o = {{CASED_UPPER CONTRACTED "|" CASED_LOWER CONTRACTED TAIL}};
static const rule rule_tekken = {
    {CASED_UPPER "|" CASED_LOWER "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}};

/* The first name of a rule and its ignore_merges is the one that decant writes. */
static const struct name {
    const char *name;
    const rule *rule;
    int ignore_merges, add_bos;
} names[] = {
    {"gpt-2", &rule_gpt2, 0, 0},
    {"smollm", &rule_smollm, 0, 0},
    {"llama-bpe", &rule_llama3, 1, 1},
    {"smaug-bpe", &rule_llama3, 0, 0},
    {"qwen2", &rule_qwen2, 0, 0},
    {"qwen35", &rule_qwen35, 0, 0},
    {"default", &rule_default, 0, 0},
    {"falcon", &rule_falcon, 0, 0},
    {"deepseek-v3", &rule_deepseek_v3, 0, 0},
    {"deepseek-coder", &rule_deepseek_coder, 0, 0},
    {"gpt-4o", &rule_gpt4o, 0, 0},
    {"tekken", &rule_tekken, 1, 1},
    {"a.x-4.0", &rule_gpt2, 0, 0},
    {"exaone4", &rule_gpt2, 0, 0},
    {"gigachat", &rule_gpt2, 0, 0},
    {"granite-docling", &rule_gpt2, 0, 0},
    {"jais", &rule_gpt2, 0, 0},
    {"jina-de", &rule_gpt2, 0, 0},
    {"jina-es", &rule_gpt2, 0, 0},
    {"mellum", &rule_gpt2, 0, 0},
    {"modern-bert", &rule_gpt2, 0, 0},
    {"mpt", &rule_gpt2, 0, 0},
    {"olmo", &rule_gpt2, 0, 0},
    {"phi-2", &rule_gpt2, 0, 0},
    {"trillion", &rule_gpt2, 0, 0},
    {"codeshell", &rule_smollm, 0, 0},
    {"command-r", &rule_smollm, 0, 0},
    {"exaone", &rule_smollm, 0, 0},
    {"mellum2", &rule_smollm, 0, 0},
    {"minerva-7b", &rule_smollm, 0, 0},
    {"refact", &rule_smollm, 0, 0},
    {"starcoder", &rule_smollm, 0, 0},
    {"falcon-h1", &rule_llama3, 1, 1},
    {"falcon3", &rule_llama3, 1, 1},
    {"lfm2", &rule_llama3, 1, 1},
    {"llama-v3", &rule_llama3, 1, 1},
    {"llama3", &rule_llama3, 1, 1},
    {"midm-2.0", &rule_llama3, 1, 1},
    {"pixtral", &rule_llama3, 1, 1},
    {"dbrx", &rule_llama3, 0, 0},
    {"glm4", &rule_llama3, 1, 0},
    {"chatglm-bpe", &rule_llama3, 0, 0},
    {"deepseek-r1-qwen", &rule_qwen2, 0, 0},
    {"f2llmv2", &rule_qwen2, 0, 0},
    {"grok-2", &rule_qwen2, 0, 0},
    {"hunyuan", &rule_qwen2, 0, 0},
    {"kormo", &rule_qwen2, 0, 0},
    {"megrez", &rule_qwen2, 0, 0},
    {"solar-open", &rule_qwen2, 0, 0},
    {"stablelm2", &rule_qwen2, 0, 0},
    {"hunyuan-dense", &rule_deepseek_v3, 0, 0},
    {"joyai-llm", &rule_deepseek_v3, 0, 0},
    {"hy_v4", &rule_deepseek_v3, 0, 0},
    {"llama4", &rule_gpt4o, 0, 0},
    {"kanana2", &rule_gpt4o, 0, 0},
    {"minimax-m2", &rule_gpt4o, 0, 0},
};

static int add_pass(dc_pretok *p, const char *pass, dc_error *err)
{
    if (!strcmp(pass, "#")) return dc_pretok_digits(p, 1, err);
    if (pass[0] >= '1' && pass[0] <= '4' && !pass[1]) return dc_pretok_scan(p, (dc_scan)(pass[0] - '0'), err);
    return dc_pretok_regex(p, pass, DC_SPLIT_ISOLATED, 0, err);
}

int dc_pretok_named(dc_pretok *p, const char *pre, int *ignore_merges, int *add_bos, dc_error *err)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i].name, pre) != 0) continue;
        p->old = 1;
        for (const char *const *pass = names[i].rule->passes; *pass; pass++) {
            const int rc = add_pass(p, *pass, err);
            if (rc != DC_OK) return rc;
        }
        *ignore_merges = names[i].ignore_merges;
        *add_bos = names[i].add_bos;
        return DC_OK;
    }
    return dc_fail(
        err, DC_EUNKNOWN,
        "the pre-tokenizer '%s' is not supported; supported are gpt-2, smollm, llama-bpe, smaug-bpe, qwen2, qwen35, "
        "default, falcon, deepseek-v3, deepseek-coder, gpt-4o, tekken and names of the same rules",
        pre);
}

static int same_rule(const dc_pretok *p, const rule *r)
{
    size_t n = 0;
    for (; r->passes[n]; n++) {
        if (n >= p->n) return 0;
        const dc_stage *s = &p->stages[n];
        const char *pass = r->passes[n];
        if (!strcmp(pass, "#")) {
            if (s->kind != DC_STAGE_DIGITS || s->behavior != DC_SPLIT_ISOLATED) return 0;
        } else if (pass[0] >= '1' && pass[0] <= '4' && !pass[1]) {
            if (s->kind != DC_STAGE_SCAN || (int)s->scan != pass[0] - '0') return 0;
        } else if (s->kind != DC_STAGE_REGEX || s->behavior != DC_SPLIT_ISOLATED || s->invert ||
                   strcmp(s->pattern, pass) != 0) {
            return 0;
        }
    }
    return n == p->n;
}

/* The published patterns of gpt-4o and its kin, and of tekken, which llama.cpp spells in its own way. */
static const struct published {
    const char *pattern;
    const char *name;
    int ignore_merges;
} published[] = {
#define WORDS(contracted) \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" contracted \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" contracted
    {WORDS("(?i:'s|'t|'re|'ve|'m|'ll|'d)?") TAIL, "gpt-4o", 0},
    {WORDS("") "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", "tekken", 1},
};

const char *dc_pretok_name(const dc_pretok *p, int ignore_merges)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].ignore_merges == ignore_merges && same_rule(p, names[i].rule)) return names[i].name;
    if (p->n == 1 && p->stages[0].kind == DC_STAGE_REGEX && p->stages[0].behavior == DC_SPLIT_ISOLATED &&
        !p->stages[0].invert)
        for (size_t i = 0; i < sizeof published / sizeof *published; i++)
            if (published[i].ignore_merges == ignore_merges && !strcmp(p->stages[0].pattern, published[i].pattern))
                return published[i].name;
    return NULL;
}
