/* Streams before they are authenticated: bounded in all and for each peer. */
#include "base/mem.h"
#include "server/fleet/gate.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static int enter(struct gate *g, const char *peer, char key[GATE_KEY_LEN])
{
	struct why why = {""};
	int rc = gate_enter(g, peer, key, &why);

	assert_true(rc == OK || (rc == ERR_FULL && why.text[0] != '\0'));
	return rc;
}

static void one_peer_has_a_limit_of_its_own(void **state)
{
	struct gate *g = gate_new(4, 2);
	char a[2][GATE_KEY_LEN] = {"", ""}, b[2][GATE_KEY_LEN] = {"", ""}, other[GATE_KEY_LEN] = "";

	assert_int_equal(enter(g, "10.0.0.1:1", a[0]), OK);
	assert_int_equal(enter(g, "10.0.0.1:2", a[1]), OK);
	assert_int_equal(enter(g, "10.0.0.1:3", other), ERR_FULL);
	/* All ports of one /64 are one peer. */
	assert_int_equal(enter(g, "[2001:db8::1]:1", b[0]), OK);
	assert_int_equal(enter(g, "[2001:db8::ffff:1:2]:1", b[1]), OK);
	assert_string_equal(b[0], b[1]);
	assert_int_equal(enter(g, "[2001:db8::2]:9", other), ERR_FULL);
	/* In all. */
	assert_int_equal(enter(g, "10.0.0.2:1", other), ERR_FULL);
	assert_string_equal(other, "");
	gate_leave(g, a[0]);
	assert_string_equal(a[0], "");
	gate_leave(g, a[0]);
	assert_int_equal(enter(g, "10.0.0.2:1", other), OK);
	gate_leave(g, other);
	assert_int_equal(enter(g, "10.0.0.1:9", a[0]), OK);
	gate_leave(g, a[0]);
	gate_leave(g, a[1]);
	gate_leave(g, b[0]);
	gate_leave(g, b[1]);
	gate_free(&g);
}

static void no_limit_is_none(void **state)
{
	struct gate *g = gate_new(0, 0);
	char keys[1000][GATE_KEY_LEN];

	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		assert_int_equal(enter(g, "unknown", keys[i]), OK);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		gate_leave(g, keys[i]);
	gate_free(&g);
}

static void credentials_have_a_form(void **state)
{
	AUTO_STR huge = mem_zalloc(3000);

	memset(huge, 'x', 2999);
	memcpy(huge, "Bearer ", 7);
	assert_true(gate_is_credential("Bearer crsr_abc"));
	assert_true(gate_is_credential("bearer  crsr_abc"));
	assert_true(gate_is_credential("Basic YTo="));
	assert_false(gate_is_credential(NULL));
	assert_false(gate_is_credential(""));
	assert_false(gate_is_credential("Bearer "));
	assert_false(gate_is_credential("Bearer a b"));
	assert_false(gate_is_credential("Bearer \xc3\xa4"));
	assert_false(gate_is_credential("crsr_abc"));
	assert_false(gate_is_credential(huge));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(one_peer_has_a_limit_of_its_own),
	    cmocka_unit_test(no_limit_is_none),
	    cmocka_unit_test(credentials_have_a_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
