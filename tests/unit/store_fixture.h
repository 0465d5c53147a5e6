/* tests/unit/store_fixture.h: a store of its own for each test, in a folder that goes with it; with STORE_URL, the URL
 * of a PostgreSQL with NAME for the name of a database, a database there. `state` of a test is the struct store;
 * store_dir is its folder. */
#pragma once
#include "base/mem.h"
#include "store/store.h"
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char store_dir[64];

static int store_remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

/* verb: CREATE or DROP. */
static void store_database(const char *verb)
{
	const char *url = getenv("STORE_URL"), *name = url != NULL ? strstr(url, "NAME") : NULL;
	char command[1024];

	if (name == NULL)
		return;
	snprintf(command, sizeof command, "psql -q '%.*spostgres%s' -c '%s DATABASE \"%s\"%s' >&2", (int)(name - url),
	    url, name + 4, verb, store_dir + 5, strcmp(verb, "DROP") == 0 ? " WITH (FORCE)" : "");
	assert_int_equal(system(command), 0);
	if (strcmp(verb, "DROP") == 0)
		return;
	snprintf(command, sizeof command, "%.*s%s%s", (int)(name - url), url, store_dir + 5, name + 4);
	assert_int_equal(store_settle_place(store_dir, command, NULL, NULL), OK);
}

static int store_setup(void **state)
{
	struct store *st = NULL;

	snprintf(store_dir, sizeof store_dir, "/tmp/bullpen-store-XXXXXX");
	assert_non_null(mkdtemp(store_dir));
	store_database("CREATE");
	assert_int_equal(store_open(store_dir, &st, NULL), OK);
	*state = st;
	return 0;
}

static int store_teardown(void **state)
{
	struct store *st = *state;

	store_close(&st);
	store_database("DROP");
	nftw(store_dir, store_remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return 0;
}
