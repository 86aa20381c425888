/* data/jinja_tests.c -- what stands behind `is`. */
#include "data/jinja.h"

#include <math.h>

#define TEST(name) static int name(jrun *r, jval v, jval arg)
#define UNUSED     (void)r, (void)v, (void)arg
/* A test that is one expression. */
#define IS(name, condition) \
    TEST(name) \
    { \
        UNUSED; \
        return condition; \
    }

IS(t_defined, v.type != J_UNDEF)
IS(t_undefined, v.type == J_UNDEF)
IS(t_none, v.type == J_NONE)
IS(t_boolean, v.type == J_BOOL)
IS(t_true, v.type == J_BOOL && v.as.i)
IS(t_false, v.type == J_BOOL && !v.as.i)
IS(t_integer, v.type == J_INT)
IS(t_float, v.type == J_REAL)
IS(t_number, v.type == J_INT || v.type == J_REAL || v.type == J_BOOL)
IS(t_string, v.type == J_STR)
IS(t_mapping, v.type == J_DICT)
IS(t_callable, v.type == J_MACRO || v.type == J_FUNC || v.type == J_METHOD || v.type == J_LOOP || v.type == J_UNDEF)
IS(t_escaped, v.type == J_STR && v.as.s->safe)
IS(t_in, dc_jj_contains(r, v, arg))
IS(t_eq, dc_jj_equal(r, v, arg))
IS(t_ne, !dc_jj_equal(r, v, arg))
IS(t_lt, dc_jj_order(r, v, arg, "<") == -1)
IS(t_gt, dc_jj_order(r, v, arg, ">") == 1)

TEST(t_le)
{
    UNUSED;
    const int c = dc_jj_order(r, v, arg, "<=");
    return c == -1 || c == 0;
}

TEST(t_ge)
{
    UNUSED;
    const int c = dc_jj_order(r, v, arg, ">=");
    return c == 1 || c == 0;
}

/* What has a length and elements: views of a dict have no elements by number. */
IS(t_sequence, v.type == J_STR || v.type == J_LIST || v.type == J_TUPLE || v.type == J_RANGE || v.type == J_DICT ||
                   v.type == J_UNDEF)

IS(t_iterable, v.type == J_STR || dc_jj_is_seq(v) || v.type == J_DICT || v.type == J_UNDEF || v.type == J_LOOP)

static int is_case(jrun *r, jval v, int upper)
{
    const jval s = dc_jj_string(r, v);
    return r->rc ? 0 : dc_jj_str_is_case(s.as.s, upper);
}

IS(t_lower, is_case(r, v, 0))
IS(t_upper, is_case(r, v, 1))

/* v % n == rest, as Python: the remainder has the divisor's sign. */
static int divides(jrun *r, jval v, jval n, int64_t rest)
{
    const int64_t by = dc_jj_want_int(r, n, 1, "the divisor");
    if (v.type == J_REAL && by) return fmod(v.as.f, (double)by) == (double)rest;
    const int64_t i = dc_jj_want_int(r, v, 0, "a number");
    if (v.type == J_NONE) dc_jj_fail(r, DC_EFORMAT, "unsupported operand type(s) for %%: 'NoneType' and 'int'");
    if (by == 0) dc_jj_fail(r, DC_EFORMAT, "integer modulo by zero");
    if (r->rc || by == -1) return !r->rc;
    const int64_t remainder = i % by;
    return (remainder && (remainder < 0) != (by < 0) ? remainder + by : remainder) == rest;
}

IS(t_odd, divides(r, v, dc_jj_int(2), 1))
IS(t_even, divides(r, v, dc_jj_int(2), 0))
IS(t_divisibleby, divides(r, v, arg, 0))

TEST(t_sameas)
{
    UNUSED;
    if (v.type != arg.type) return 0;
    if (v.type == J_NONE) return 1;
    if (v.type == J_BOOL || v.type == J_INT) return v.as.i == arg.as.i;
    if (v.type == J_REAL) return v.as.f == arg.as.f;
    return v.as.seq == arg.as.seq;
}

IS(t_filter, v.type == J_STR && dc_jj_filter(v.as.s) != NULL)
IS(t_test, v.type == J_STR && dc_jj_test(v.as.s) != NULL)

const jtest *dc_jj_test(const jstr *name)
{
    static const jtest table[] = {{"defined", 0, t_defined},
                                  {"undefined", 0, t_undefined},
                                  {"none", 0, t_none},
                                  {"boolean", 0, t_boolean},
                                  {"true", 0, t_true},
                                  {"false", 0, t_false},
                                  {"integer", 0, t_integer},
                                  {"float", 0, t_float},
                                  {"number", 0, t_number},
                                  {"string", 0, t_string},
                                  {"mapping", 0, t_mapping},
                                  {"sequence", 0, t_sequence},
                                  {"iterable", 0, t_iterable},
                                  {"callable", 0, t_callable},
                                  {"escaped", 0, t_escaped},
                                  {"lower", 0, t_lower},
                                  {"upper", 0, t_upper},
                                  {"odd", 0, t_odd},
                                  {"even", 0, t_even},
                                  {"divisibleby", 1, t_divisibleby},
                                  {"sameas", 1, t_sameas},
                                  {"in", 1, t_in},
                                  {"filter", 0, t_filter},
                                  {"test", 0, t_test},
                                  {"eq", 1, t_eq},
                                  {"equalto", 1, t_eq},
                                  {"==", 1, t_eq},
                                  {"ne", 1, t_ne},
                                  {"!=", 1, t_ne},
                                  {"lt", 1, t_lt},
                                  {"lessthan", 1, t_lt},
                                  {"<", 1, t_lt},
                                  {"gt", 1, t_gt},
                                  {"greaterthan", 1, t_gt},
                                  {">", 1, t_gt},
                                  {"le", 1, t_le},
                                  {"<=", 1, t_le},
                                  {"ge", 1, t_ge},
                                  {">=", 1, t_ge}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (dc_jj_is(name, table[i].name)) return &table[i];
    return NULL;
}
