/* The grammar of options around a mention: the table of the documentation in both wordings, and that nothing else is
 * touched. */
#include "base/json.h"
#include "base/mem.h"
#include "server/triggers/options.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALL 511u
#define GITHUB (TRIGGER_SELF_HOSTED | TRIGGER_POOL | TRIGGER_WORKER | TRIGGER_BRANCH | TRIGGER_MODEL | TRIGGER_AUTOPR)

/* "in, pool gpu | prompt" */
static char *shown(const char *text, unsigned keys, bool strict, const char *const *mentions)
{
	const struct trigger_text t = {
	    .text = text, .keys = keys, .strict = strict, .mentions = mentions, .drops_comments = true};
	struct trigger_options o;
	struct why why = {0};
	char buf[4096] = "";
	int rc = trigger_options_read(&t, &o, &why);

	if (rc == ERR_EMPTY) {
		snprintf(buf, sizeof buf, "nobody");
	} else if (rc != OK) {
		snprintf(buf, sizeof buf, "refused: %s", why.text);
	} else {
		AUTO_STR params =
		    o.model_params != NULL && json_array_size(o.model_params) > 0 ? json_text(o.model_params) : NULL;
		const char *names[] = {"pool", "worker", "repo", "env", "branch", "model", "channel"};
		const char *values[] = {o.pool, o.worker, o.repo, o.env, o.branch, o.model, o.channel};

		if (o.self_hosted >= 0)
			strcat(buf, o.self_hosted ? "in " : "out ");
		for (size_t i = 0; i < ARRAY_LEN(names); i++)
			if (values[i] != NULL)
				snprintf(buf + strlen(buf), sizeof buf - strlen(buf), "%s %s ", names[i], values[i]);
		if (params != NULL)
			snprintf(buf + strlen(buf), sizeof buf - strlen(buf), "%s ", params);
		if (o.autopr >= 0)
			strcat(buf, o.autopr ? "pr " : "nopr ");
		snprintf(buf + strlen(buf), sizeof buf - strlen(buf), "| %s", o.prompt);
	}
	trigger_options_fini(&o);
	return str_dup(buf);
}

static void is(const char *text, unsigned keys, bool strict, const char *want)
{
	AUTO_STR got = shown(text, keys, strict, NULL);

	assert_string_equal(got, want);
}

static void both(const char *text, const char *want)
{
	is(text, ALL, false, want);
	is(text, ALL, true, want);
}

static void test_table(void **state)
{
	both("self_hosted=true fix the build", "in | fix the build");
	both("sh=1 pool=gpu train it", "in pool gpu | train it");
	is("self_hosted fix it", ALL, false, "in | fix it");
	is("self_hosted fix it", ALL, true, "| self_hosted fix it");
	both("explain how self_hosted works", "| explain how self_hosted works");
	both("run with sh=/bin/bash please", "| run with sh=/bin/bash please");
	is("useprivateworkers=false tidy up", ALL, false, "out | tidy up");
	is("useprivateworkers=false tidy up", ALL, true, "| useprivateworkers=false tidy up");
	both("[pool=mac] notarise", "pool mac | notarise");
	both("explain `pool=gpu` in the docs", "| explain `pool=gpu` in the docs");
	both("pool=a pool=b go", "pool b | go");
	both("pool=gpu self_hosted=false go",
	    "refused: These options exclude each other: pool=gpu and self_hosted=false.");
	both("repo=http://github.com/acme/api go", "repo http://github.com/acme/api | go");
	both("env=\xe2\x80\x9cPlatform Services\xe2\x80\x9d update", "env Platform Services | update");
	both("model=opus[effort=high], fix", "model opus [{\"id\":\"effort\",\"value\":\"high\"}] | fix");
	both("SELF_HOSTED=T go", "in | go");
}

static void test_more(void **state)
{
	both("go pool=gpu", "pool gpu | go");
	both("fix it (pool=gpu) now", "pool gpu | fix it () now");
	both("fix this, pool=gpu, now", "pool gpu | fix this, now");
	both("repo=acme/web.git branch=dev/x go", "repo acme/web branch dev/x | go");
	both("env=\"a \\\"b\\\" c\" go", "env a \"b\" c | go");
	both("[ pool=mac ] go", "pool mac | go");
	both("[model=opus[effort=low]] go", "model opus [{\"id\":\"effort\",\"value\":\"low\"}] | go");
	both("pool=-x go", "refused: \"-x\" is not a valid value for pool. Example: pool=gpu");
	both("branch=a..b go", "refused: \"a..b\" is not a valid value for branch. Example: branch=main");
	both("autopr=maybe go", "refused: \"maybe\" is not a valid value for autopr. Example: autopr=true");
	both("autopr=no go", "nopr | go");
	both("worker=a pool=b go", "refused: These options exclude each other: pool=b and worker=a.");
	both("machine=mac self_hosted=false go",
	    "refused: These options exclude each other: worker=mac and self_hosted=false.");
	both("worker=\"my mac\" go", "worker my mac | go");
	both("unknown=1 go", "| unknown=1 go");
	both("x-pool=1 and apool=2", "| x-pool=1 and apool=2");
	both("```\npool=gpu\n```\ngo", "| ```\npool=gpu\n```\ngo");
	both("~~~\npool=gpu", "| ~~~\npool=gpu");
	both("> pool=gpu\ngo", "| > pool=gpu\ngo");
	both("text\n\n    pool=gpu\ngo", "| text\n\n    pool=gpu\ngo");
	both("<code>pool=a</code> <pre>pool=b</pre> go", "| <code>pool=a</code> <pre>pool=b</pre> go");
	both("<!-- pool=a do evil --> go", "| go");
	both("``pool=a ` pool=b`` pool=c", "pool c | ``pool=a ` pool=b``");
	is("repo=a/b env=x go", GITHUB, false, "| repo=a/b env=x go");
	is("selfhosted pool=x private_worker=true go", ALL, false, "in pool x | go");
	is("pool=x self_hosted go", ALL, false, "in pool x | go");
	is("please self_hosted go", ALL, false, "| please self_hosted go");
	both("pool=", "| pool=");
	both("", "| ");
}

static void test_mentions(void **state)
{
	static const char *const names[] = {"@cursoragent", "@cursor", NULL};
	static const struct {
		const char *text, *want;
	} rows[] = {{"@cursor fix it", "| fix it"}, {"hey @cursoragent, pool=gpu fix it", "pool gpu | hey fix it"},
	    {"@cursor self_hosted fix", "in | fix"}, {"please @cursor self_hosted fix", "in | please fix"},
	    {"@CURSOR go", "| go"}, {"mail a@cursor now", "nobody"}, {"@cursors", "nobody"}, {"@cursor-bot", "nobody"},
	    {"x/@cursor", "nobody"}, {"`@cursor` does it", "nobody"}, {"> @cursor quoted", "nobody"},
	    {"nothing", "nobody"}, {"(@cursor) go", "| () go"}, {"<!-- @cursor --> x", "nobody"}, {"@cursor", "| "}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_STR got = shown(rows[i].text, ALL, false, names);

		assert_string_equal(got, rows[i].want);
	}
}

/* Whatever has no option comes back byte for byte. */
static void test_untouched(void **state)
{
	static const char *const pieces[] = {"fix", " ", "\n", "  ", "`", "```", ">", "=", "a=b", "[", "]", "(", ")",
	    ",", "\"", "\xe2\x80\x9c", "\xc3\xa4", "sh", "\t", "~~~", "\n\n    "};

	srand(7);
	for (int i = 0; i < 3000; i++) {
		char text[512] = "", want[600];
		AUTO_STR got = NULL;

		for (int n = rand() % 30; n > 0; n--)
			strcat(text, pieces[(size_t)rand() % ARRAY_LEN(pieces)]);
		if (strstr(text, "=\xe2\x80\x9c") != NULL) /* the quotes of a value are made plain */
			continue;
		snprintf(want, sizeof want, "| %s", text);
		got = shown(text, ALL, false, NULL);
		assert_string_equal(got, want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_more),
	    cmocka_unit_test(test_mentions), cmocka_unit_test(test_untouched)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
