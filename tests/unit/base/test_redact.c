/* Secrets in text, whole, in the usual forms, and cut anywhere. */
#include "base/redact.h"
#include "base/mem.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define TOKEN "s3cr3t/tok+en\"42"

static struct redactor *with(const char *value)
{
	AUTO_JSON values = json_pack("{s:s}", "A", value);

	return redactor_new(values);
}

static void expect(const struct redactor *r, const char *text, const char *want)
{
	AUTO_STR got = redact_text(r, text);

	if (want == NULL)
		assert_null(got);
	else
		assert_string_equal(got, want);
}

static void whole_and_in_its_forms(void **state)
{
	struct redactor *r = with(TOKEN);

	expect(r, "nothing here", NULL);
	expect(r, TOKEN, REDACT_MARK);
	expect(r, "a " TOKEN TOKEN " b", "a " REDACT_MARK REDACT_MARK " b");
	expect(r, "s3cr3t/tok+en\"4", NULL);
	expect(r, "7333637233742f746f6b2b656e223432", REDACT_MARK);
	expect(r, "7333637233742F746F6B2B656E223432", REDACT_MARK);
	expect(r, "?x=s3cr3t%2Ftok%2Ben%2242&", "?x=" REDACT_MARK "&");
	expect(r, "{\"a\":\"s3cr3t/tok+en\\\"42\"}", "{\"a\":\"" REDACT_MARK "\"}");
	redactor_free(&r);
}

/* As `printf 'user:TOKEN:' | base64` and its like print it: what stands before moves the groups. */
static void base64_at_every_place(void **state)
{
	/* x, xy, xyz, each followed by the token and "!". */
	static const char *const texts[] = {
	    "eHMzY3IzdC90b2srZW4iNDIh", "eHlzM2NyM3QvdG9rK2VuIjQyIQ==", "eHl6czNjcjN0L3RvaytlbiI0MiE="};
	struct redactor *r = with(TOKEN);

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		AUTO_STR got = redact_text(r, texts[i]);

		assert_non_null(got);
		assert_non_null(strstr(got, REDACT_MARK));
		/* Of the token's characters at most one at each end stays. */
		assert_true(strlen(got) - strlen(REDACT_MARK) <= 10);
	}
	redactor_free(&r);
}

static void lines_of_a_key(void **state)
{
	struct redactor *r = with("-----BEGIN KEY-----\nabcdefghijkl\nshort\n");

	expect(r, "> abcdefghijkl", "> " REDACT_MARK);
	expect(r, "> short", NULL);
	redactor_free(&r);
}

static void short_values_stay(void **state)
{
	AUTO_JSON none = json_object();
	struct redactor *r = with("12345");

	assert_null(r);
	assert_null(redactor_new(none));
	assert_null(redactor_new(NULL));
	expect(NULL, "12345", NULL);
}

static void the_longest_one_counts(void **state)
{
	AUTO_JSON values = json_pack("{s:s, s:s}", "A", "abcdef", "B", "abcdefghij");
	struct redactor *r = redactor_new(values);

	expect(r, "abcdefghij abcdefgh", REDACT_MARK " " REDACT_MARK "gh");
	redactor_free(&r);
}

static void every_string_of_json(void **state)
{
	struct redactor *r = with("topsecret");
	json_t *j = json_pack(
	    "{s:s, s:[s, i, {s:s}], s:s}", "a", "x topsecret", "b", "topsecret", 7, "c", "fine", "topsecret=", "v");
	AUTO_STR text = NULL;

	redact_json(r, &j);
	text = json_text(j);
	assert_null(strstr(text, "topsecret"));
	assert_string_equal(json_string_value(json_object_get(j, "a")), "x " REDACT_MARK);
	assert_string_equal(json_string_value(json_object_get(j, REDACT_MARK "=")), "v");
	json_decref(j);
	redactor_free(&r);
}

/* Whatever the cuts: the same as in one piece. */
static void in_pieces(void **state)
{
	static const char text[] = "a topsecret b topsecre topsecret!topsecrettopsecret top";
	struct redactor *r = with("topsecret");
	AUTO_STR want = redact_text(r, text);
	size_t len = strlen(text);

	for (size_t i = 0; i <= len; i++)
		for (size_t k = i; k <= len; k++) {
			struct strbuf out = STRBUF(1000);
			struct redact_stream s = {.held = STRBUF(1000)};

			redact_piece(r, &s, text, i, &out);
			redact_piece(r, &s, text + i, k - i, &out);
			redact_piece(r, &s, text + k, len - k, &out);
			redact_end(r, &s, &out);
			assert_string_equal(strbuf_str(&out), want);
			strbuf_fini(&out);
		}
	redactor_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(whole_and_in_its_forms),
	    cmocka_unit_test(base64_at_every_place),
	    cmocka_unit_test(lines_of_a_key),
	    cmocka_unit_test(short_values_stay),
	    cmocka_unit_test(the_longest_one_counts),
	    cmocka_unit_test(every_string_of_json),
	    cmocka_unit_test(in_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
