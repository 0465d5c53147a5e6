/* What is asked for, as a command and an environment. */
#include "agent/mcp/definition.h"
#include "base/mem.h"
#include "base/text.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void read_one(const char *text, bool of_file, struct mcp_definition *d)
{
	AUTO_JSON entry = NULL;
	AUTO_JSON variables = json_pack("{s:s}", "TOKEN", "t0ken");

	assert_int_equal(json_parse(text, strlen(text), &entry, NULL), OK);
	mcp_definition_read(entry, of_file ? "named" : NULL, of_file,
	    &(struct mcp_scene){.workspace = "/w/app", .variables = variables}, d);
}

static bool has_env(const struct mcp_definition *d, const char *entry)
{
	for (size_t i = 0; d->env[i] != NULL; i++)
		if (strcmp(d->env[i], entry) == 0)
			return true;
	return false;
}

static bool names_env(const struct mcp_definition *d, const char *prefix)
{
	for (size_t i = 0; d->env[i] != NULL; i++)
		if (text_has_prefix(d->env[i], prefix))
			return true;
	return false;
}

static void texts_are_filled_in(void **state)
{
	struct mcp_definition d;

	setenv("PLAIN_OF_WORKER", "w", 1);
	setenv("CURSOR_API_KEY", "key", 1);
	read_one(
	    "{\"name\":\"a\",\"command\":\"${workspaceFolder}/x\",\"args\":[\"${workspaceFolderBasename}${/"
	    "}y\",\"$HOME "
	    "${what} ${env:NONE}\",\"${env:\"],\"env\":{\"A\":\"${env:TOKEN}\",\"B\":\"${env:PLAIN_OF_WORKER}\",\"C\":"
	    "\"${env:CURSOR_API_KEY}\",\"CURSOR_API_KEY\":\"mine\",\"PATH\":\"/only\"}}",
	    false, &d);
	assert_null(d.fault);
	assert_string_equal(d.argv[0], "/w/app/x");
	assert_string_equal(d.argv[1], "app/y");
	assert_string_equal(d.argv[2], "$HOME ${what} ");
	assert_string_equal(d.argv[3], "${env:");
	assert_null(d.argv[4]);
	assert_true(has_env(&d, "A=t0ken") && has_env(&d, "B=w") && has_env(&d, "C=") && has_env(&d, "PATH=/only"));
	assert_false(names_env(&d, "CURSOR_API_KEY"));
	assert_false(names_env(&d, "PLAIN_OF_WORKER"));
	assert_false(names_env(&d, "TOKEN"));
	mcp_definition_fini(&d);
}

static void the_same_is_the_same(void **state)
{
	struct mcp_definition a, b, c;

	read_one("{\"name\":\"a\",\"command\":\"x\",\"env\":{\"A\":\"1\"}}", false, &a);
	read_one("{\"env\":{\"A\":\"1\"},\"name\":\"a\",\"command\":\"x\",\"args\":[]}", false, &b);
	read_one("{\"name\":\"a\",\"command\":\"x\",\"env\":{\"A\":\"2\"}}", false, &c);
	assert_string_equal(a.identity, b.identity);
	assert_string_not_equal(a.identity, c.identity);
	mcp_definition_fini(&a);
	mcp_definition_fini(&b);
	mcp_definition_fini(&c);
}

static void expect_fault(const char *text, bool of_file, const char *word)
{
	struct mcp_definition d;

	read_one(text, of_file, &d);
	if (word[0] == '\0') {
		assert_null(d.fault);
	} else {
		assert_non_null(d.fault);
		assert_non_null(strstr(d.fault, word));
	}
	mcp_definition_fini(&d);
}

static void faults_are_named(void **state)
{
	expect_fault("{}", true, "'command'");
	expect_fault("{\"command\":\"x\",\"args\":\"y\"}", true, "'args'");
	expect_fault("{\"command\":\"x\",\"args\":[1]}", true, "'args'");
	expect_fault("{\"command\":\"x\",\"env\":{\"A\":1}}", true, "A must be a text");
	expect_fault("{\"command\":\"x\",\"env\":{\"LD_PRELOAD\":\"/x\"}}", true, "LD_PRELOAD");
	expect_fault("{\"command\":\"x\",\"env\":{\"DYLD_X\":\"/x\"}}", false, "DYLD_X");
	expect_fault("{\"command\":\"x\",\"env\":{\"A=B\":\"/x\"}}", false, "no name of a variable");
	expect_fault("{\"command\":\"x\",\"envFile\":\"/nowhere/.env\"}", true, "/nowhere/.env");
	/* Only files know one. */
	expect_fault("{\"command\":\"x\",\"envFile\":\"/nowhere/.env\"}", false, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(texts_are_filled_in),
	    cmocka_unit_test(the_same_is_the_same),
	    cmocka_unit_test(faults_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
