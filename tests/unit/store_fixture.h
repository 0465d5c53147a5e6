/* tests/unit/store_fixture.h: a store of its own for each test, in a folder that goes with it.
 * `state` of a test is the struct store; store_dir is its folder. */
#pragma once
#include "base/mem.h"
#include "store/store.h"
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char store_dir[64];

static int store_remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int store_setup(void **state)
{
	struct store *st = NULL;

	snprintf(store_dir, sizeof store_dir, "/tmp/bullpen-store-XXXXXX");
	assert_non_null(mkdtemp(store_dir));
	assert_int_equal(store_open(store_dir, &st, NULL), OK);
	*state = st;
	return 0;
}

static int store_teardown(void **state)
{
	struct store *st = *state;

	store_close(&st);
	nftw(store_dir, store_remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return 0;
}
