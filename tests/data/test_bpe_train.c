/* tests/data/test_bpe_train.c -- learning a vocabulary: small examples worked by hand, ids afterwards, refusals, memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "core/arena.h"
#include "data/tokenizer_impl.h"

typedef struct source {
    const char *const *texts; /* NULL-ended */
    size_t at;
} source;

static int next(void *context, const char **text, size_t *n, dc_error *err)
{
    source *s = context;
    (void)err;
    *text = s->texts[s->at];
    *n = *text ? strlen(s->texts[s->at++]) : 0;
    return DC_OK;
}

static const char *const specials[] = {"<s>", "</s>", NULL};

static int train(dc_tokenizer **t, const char *const *texts, int64_t size, const char *pre, dc_error *err)
{
    source s = {texts, 0};
    const dc_bpe_options o = {.vocab_size = size, .specials = specials, .bos = "<s>", .eos = "</s>", .pre = pre};
    return dc_bpe_train(t, next, &s, &o, err);
}

static void learned(const char *const *texts, int64_t size, const char *expected)
{
    dc_tokenizer *t = NULL;
    dc_error err = {0};
    dc_str got = {0};
    if (train(&t, texts, size, "gpt2", &err)) fail_msg("%s", err.message);
    for (size_t i = 0; i < t->bpe.n_merges; i++) {
        const dc_merge *m = &t->bpe.merges[i];
        dc_str_putf(&got, "%s%s+%s=%d", i ? " " : "", t->tokens[m->left].text, t->tokens[m->right].text, (int)m->made);
    }
    assert_string_equal(dc_str_text(&got), expected);
    dc_str_release(&got);
    dc_tokenizer_free(t);
}

static void the_most_frequent_pair_first(void **unused)
{
    (void)unused;
    /* Words: hug x10, pug x5, pun x12, bun x4, hugs x5 (the example of the BPE chapter that many know): ug 20, un 16, hug 15. */
    static const char *const texts[] = {"hug", "hug",  "hug",  "hug",  "hug",  "hug",  "hug", "hug", "hug", "hug",
                                        "pug", "pug",  "pug",  "pug",  "pug",  "pun",  "pun", "pun", "pun", "pun",
                                        "pun", "pun",  "pun",  "pun",  "pun",  "pun",  "pun", "bun", "bun", "bun",
                                        "bun", "hugs", "hugs", "hugs", "hugs", "hugs", NULL};
    learned(texts, 258 + 3, "u+g=258 u+n=259 h+ug=260");
    learned(texts, 258 + 4, "u+g=258 u+n=259 h+ug=260 p+un=261");
}

static void ties_go_to_lower_ids_and_the_end_is_early(void **unused)
{
    (void)unused;
    learned((const char *const[]){"dc ba", NULL}, 300, "b+a=258 d+c=259 \xC4\xA0+ba=260");
    learned((const char *const[]){"aaaa", NULL}, 300, "a+a=258 aa+aa=259");
    learned((const char *const[]){NULL}, 300, "");
}

static void the_new_tokenizer_works(void **unused)
{
    (void)unused;
    static const char *const pres[] = {"gpt2", "smollm", "llama-bpe", "qwen2"};
    for (size_t i = 0; i < 4; i++) {
        dc_tokenizer *t = NULL;
        dc_ids ids = {0};
        dc_str back = {0};
        dc_error err = {0};
        const char *const texts[] = {"the cat and the other cats, 1234 of them", "the end", NULL};
        const char *text = "<s>the cat\xE2\x80\xA6 12</s>";
        if (train(&t, texts, 275, pres[i], &err)) fail_msg("%s", err.message);
        assert_int_equal(dc_tokenizer_bos(t), 0);
        assert_int_equal(dc_tokenizer_eos(t), 1);
        assert_int_equal(dc_tokenizer_size(t), 275);
        assert_int_equal(dc_encode(t, &ids, text, strlen(text), 0, NULL), DC_OK);
        assert_int_equal(ids.data[0], 0);
        assert_int_equal(ids.data[ids.n - 1], 1);
        assert_true(ids.n < strlen(text) - 7);
        assert_int_equal(dc_decode(t, &back, ids.data, ids.n, 0, NULL), DC_OK);
        assert_string_equal(back.data, text);
        dc_ids_release(&ids);
        dc_str_release(&back);
        dc_tokenizer_free(t);
    }
}

static void options_are_checked(void **unused)
{
    (void)unused;
    dc_tokenizer *t = NULL;
    dc_error err = {0};
    const char *const none[] = {NULL}, *const bad[] = {"ok", "\xFF", NULL};
    assert_int_equal(train(&t, none, 257, "gpt2", &err), DC_EUSAGE);
    err = (dc_error){0};
    assert_int_equal(train(&t, none, 300, "bert", &err), DC_EUNKNOWN);
    assert_non_null(strstr(err.message, "'bert'"));
    assert_int_equal(train(&t, bad, 300, "gpt2", NULL), DC_EFORMAT);
    source s = {none, 0};
    assert_int_equal(
        dc_bpe_train(&t, next, &s, &(dc_bpe_options){.vocab_size = 300, .eos = "<e>", .pre = "gpt2"}, NULL), DC_EUSAGE);
    assert_null(t);
}

static void every_failing_allocation_is_told(void **unused)
{
    (void)unused;
    for (long k = 1;; k++) {
        dc_tokenizer *t = NULL;
        dc_error err = {0};
        dc_alloc_fail_at(k);
        const int rc = train(&t, (const char *const[]){"abcabcabd aaaa ab abc", "bcd", NULL}, 268, "smollm", &err);
        dc_alloc_fail_at(0);
        dc_tokenizer_free(t);
        if (rc == DC_OK) break;
        assert_int_equal(err.code, DC_ENOMEM);
        assert_true(k < 3000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_frequent_pair_first),     cmocka_unit_test(ties_go_to_lower_ids_and_the_end_is_early),
        cmocka_unit_test(the_new_tokenizer_works),          cmocka_unit_test(options_are_checked),
        cmocka_unit_test(every_failing_allocation_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
