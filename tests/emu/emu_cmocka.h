/* tests/emu/emu_cmocka.h -- cmocka in C++: its header and what that header needs before it. */
#ifndef DC_EMU_CMOCKA_H
#define DC_EMU_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

extern "C" {
#include <cmocka.h>
}

#endif
