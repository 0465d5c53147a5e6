/* Links and tokens of artifacts: what is signed is believed, nothing else is; ranges, names of files, and how old an
 * agent may be for the older API. */
#include "base/id.h"
#include "base/mem.h"
#include "server/api/artifact_names.h"
#include "server/api/artifacts_v0.h"
#include "server/artifacts/artifacts.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define GENERATION "11111111-2222-4333-8444-555555555555"
static const unsigned char KEY[ARTIFACT_KEY_LEN] = "0123456789abcdef0123456789abcde";
static const unsigned char OTHER[ARTIFACT_KEY_LEN] = "1123456789abcdef0123456789abcde";

static void a_link_is_good_until_its_end(void **state)
{
	AUTO_STR s = artifact_link_sign(KEY, GENERATION, 5000);

	assert_true(artifact_link_verify(KEY, GENERATION, "5000", s, 0));
	assert_true(artifact_link_verify(KEY, GENERATION, "5000", s, 4999));
	assert_false(artifact_link_verify(KEY, GENERATION, "5000", s, 5000));
	assert_false(artifact_link_verify(KEY, GENERATION, "5001", s, 0));
	assert_false(artifact_link_verify(KEY, GENERATION, "", s, 0));
	assert_false(artifact_link_verify(KEY, GENERATION, "-1", s, 0));
	assert_false(artifact_link_verify(KEY, GENERATION, "5000", "", 0));
	assert_false(artifact_link_verify(OTHER, GENERATION, "5000", s, 0));
	assert_false(artifact_link_verify(KEY, "21111111-2222-4333-8444-555555555555", "5000", s, 0));
	for (size_t i = 0; s[i] != '\0'; i++) {
		char was = s[i];

		s[i] = was == 'A' ? 'B' : 'A';
		assert_false(artifact_link_verify(KEY, GENERATION, "5000", s, 0));
		s[i] = was;
	}
}

static void refuse_token(const unsigned char *key, const char *token, int64_t now)
{
	char *agent = NULL, *claim = NULL;

	assert_int_equal(artifact_token_read(key, token, now, &agent, &claim), ERR_UNAUTHORIZED);
	assert_null(agent);
	assert_null(claim);
}

static void a_token_is_for_one_claim(void **state)
{
	static const char *const bad[] = {
	    "", ".", "....", ".....", "bau1", "bau1.a.b.9999", "bau1.a.b.9999.", "bau1.a.b.x.y.z"};
	AUTO_STR token = artifact_token_make(KEY, "bc-1", "claim-1", 5000);
	AUTO_STR agent = NULL;
	AUTO_STR claim = NULL;
	AUTO_STR longer = str_printf("%s.x", token);

	assert_int_equal(artifact_token_read(KEY, token, 4999, &agent, &claim), OK);
	assert_string_equal(agent, "bc-1");
	assert_string_equal(claim, "claim-1");
	refuse_token(KEY, token, 5000);
	refuse_token(OTHER, token, 0);
	refuse_token(KEY, longer, 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		refuse_token(KEY, bad[i], 0);
	for (size_t i = 0; token[i] != '\0'; i++) {
		char was = token[i];

		token[i] = was == 'x' ? 'y' : 'x';
		refuse_token(KEY, token, 0);
		token[i] = was;
	}
}

static void one_is_not_the_other(void **state)
{
	/* A link's signature over a text that reads like a token's. */
	AUTO_STR s = artifact_link_sign(KEY, "bc-1.claim-1", 5000);
	AUTO_STR token = str_printf("bau1.bc-1.claim-1.5000.%s", s);

	refuse_token(KEY, token, 0);
}

static void ranges(void **state)
{
	static const struct {
		const char *text;
		int64_t size;
		int rc;
		bool partial;
		int64_t first, end;
	} of[] = {{"bytes=0-0", 10, OK, true, 0, 1}, {"bytes=0-9", 10, OK, true, 0, 10},
	    {"bytes=0-10", 10, OK, true, 0, 10}, {"bytes=9-", 10, OK, true, 9, 10},
	    {"bytes=10-", 10, ERR_INVALID, false, 0, 0}, {"bytes=-1", 10, OK, true, 9, 10},
	    {"bytes=-99", 10, OK, true, 0, 10}, {"bytes=-0", 10, ERR_INVALID, false, 0, 0},
	    {"bytes=0-", 0, ERR_INVALID, false, 0, 0}, {"bytes=-1", 0, ERR_INVALID, false, 0, 0},
	    {"bytes=5-4", 10, OK, false, 0, 0}, {"bytes=0-1,3-4", 10, OK, false, 0, 0}, {"bytes=", 10, OK, false, 0, 0},
	    {"bytes=-", 10, OK, false, 0, 0}, {"bytes=a-b", 10, OK, false, 0, 0}, {"items=0-1", 10, OK, false, 0, 0},
	    {"bytes=--1", 10, OK, false, 0, 0}, {"bytes=+1-2", 10, OK, false, 0, 0},
	    {"bytes=99999999999999999999-", 10, OK, false, 0, 0}, {"bytes=0-9223372036854775807", 10, OK, true, 0, 10},
	    {"bytes=-9223372036854775807", 10, OK, true, 0, 10}};

	for (size_t i = 0; i < ARRAY_LEN(of); i++) {
		int64_t first = -1, end = -1;
		bool partial = true;

		assert_int_equal(artifact_range(of[i].text, of[i].size, &first, &end, &partial), of[i].rc);
		assert_int_equal(partial, of[i].partial);
		if (partial)
			assert_true(first == of[i].first && end == of[i].end);
	}
}

static void names(void **state)
{
	AUTO_STR plain = artifact_disposition("artifacts/d/shot-1.png");
	AUTO_STR hostile = artifact_disposition("artifacts/a\"; filename=\"b\r\n\xc5\xbc");

	assert_string_equal(plain, "attachment; filename=\"shot-1.png\"; filename*=UTF-8''shot-1.png");
	assert_string_equal(hostile,
	    "attachment; filename=\"a__ filename=_b____\"; filename*=UTF-8''a%22%3B%20filename%3D%22b%0D%0A%C5%BC");
}

static void six_months(void **state)
{
	const int64_t day = (int64_t)24 * 60 * 60 * 1000;
	const int64_t january_15 = 1768435200000; /* 2026-01-15T00:00:00Z; July 15 is 181 days later */

	assert_false(v0_artifacts_are_over(january_15, january_15));
	assert_false(v0_artifacts_are_over(january_15, january_15 + 181 * day));
	assert_true(v0_artifacts_are_over(january_15, january_15 + 181 * day + 1));
}

static void older_paths(void **state)
{
	AUTO_STR there = v0_artifact_path("artifacts/a/b");
	AUTO_STR back = v0_artifact_rel("/opt/cursor/artifacts/a/b");

	assert_string_equal(there, "/opt/cursor/artifacts/a/b");
	assert_string_equal(back, "artifacts/a/b");
	assert_null(v0_artifact_rel("artifacts/a"));
	assert_null(v0_artifact_rel("/opt/cursor/artifacts"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_link_is_good_until_its_end),
	    cmocka_unit_test(a_token_is_for_one_claim), cmocka_unit_test(one_is_not_the_other),
	    cmocka_unit_test(ranges), cmocka_unit_test(names), cmocka_unit_test(six_months),
	    cmocka_unit_test(older_paths)};

	id_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
