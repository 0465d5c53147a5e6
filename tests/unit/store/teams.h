/* Teams are what these tests write: a table with few columns. */
#pragma once
#include "store/store.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static int64_t count_teams(struct store *st)
{
	AUTO(tx) tx = NULL;
	int64_t n = -1;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(tx_query_int(tx, &n, "SELECT COUNT(*) FROM teams", ""), OK);
	return n;
}
