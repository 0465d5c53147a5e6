/* Rules and nested AGENTS.md: what comes with a file, once; and what is fetched by name. */
#include "workbench.h"
#include "agent/session/rule_file.h"
#include "agent/session/rules.h"

#define expect_part(c, part)                                                                                           \
	do {                                                                                                           \
		if (strstr((c)->model_text, part) == NULL)                                                             \
			fail_msg("no '%s' in: %s", part, (c)->model_text);                                             \
	} while (0)
#define expect_no_part(c, part)                                                                                        \
	do {                                                                                                           \
		if (strstr((c)->model_text, part) != NULL)                                                             \
			fail_msg("'%s' in: %s", part, (c)->model_text);                                                \
	} while (0)

static void put_rule(struct bench *b, const char *path, const char *meta, const char *body)
{
	AUTO_STR text = str_printf("---\n%s\n---\n%s", meta, body);

	put_text(b, path, text);
}

static struct tool_call reading(struct bench *b, const char *path)
{
	struct tool_call c = call(b, "read_file", "{\"path\":\"%s\"}", path);

	assert_outcome(&c, TOOL_SUCCESS);
	return c;
}

static void test_globs_come_once(void **state)
{
	struct bench *b = *state;
	struct tool_call c;
	json_t *list;

	SH(b, "mkdir -p work/.cursor/rules/sub work/src/deep && echo x > work/src/a.c && echo x > work/src/deep/b.c && "
	      "echo x > work/c.py");
	put_rule(b, ".cursor/rules/sub/c.mdc", "globs: *.c", "Tabs in C.");
	put_rule(b, ".cursor/rules/src.mdc", "globs: [\"src/*.c\"]\ndescription: both", "Src text.");
	put_rule(b, ".cursor/rules/always.mdc", "alwaysApply: true\nglobs: *", "Always text.");
	put_rule(b, ".cursor/rules/asked.mdc", "description: when asked", "Asked text.");
	put_text(b, ".cursor/rules/plain.md", "---\nglobs: *\n---\nPlain text.");
	put_text(b, ".cursor/rules/broken.mdc", "---\nglobs: {{\n  x\nBroken text.");
	c = reading(b, "c.py");
	assert_string_equal(c.model_text, "     1\tx\n");
	assert_null(json_object_get(c.result, "relatedCursorRules"));
	tool_call_fini(&c);
	c = reading(b, "src/deep/b.c");
	expect_part(&c, "     1\tx\n\n# Project rules");
	expect_part(&c, "\n## .cursor/rules/sub/c.mdc\nTabs in C.\n");
	expect_no_part(&c, "Src text");
	expect_no_part(&c, "Always text");
	expect_no_part(&c, "asked");
	expect_no_part(&c, "Plain");
	expect_no_part(&c, "Broken");
	list = json_object_get(c.result, "relatedCursorRules");
	assert_int_equal(json_array_size(list), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "content")), "Tabs in C.");
	AUTO_STR full = str_printf("%s/.cursor/rules/sub/c.mdc", b->root);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "fullPath")), full);
	assert_string_equal(
	    json_string_value(json_array_get(json_object_get(c.result, "relatedCursorRulePaths"), 0)), full);
	assert_null(json_object_get(c.sdk_result, "relatedCursorRules"));
	tool_call_fini(&c);
	c = reading(b, "src/a.c");
	expect_part(&c, "Src text.");
	expect_no_part(&c, "Tabs");
	tool_call_fini(&c);
	c = reading(b, "src/a.c");
	assert_string_equal(c.model_text, "     1\tx\n");
	tool_call_fini(&c);
	/* A rule that the agent wrote itself counts at once. A follow-up of the same agent is the same conversation. */
	bench_agent(b, "bc-test");
	put_rule(b, ".cursor/rules/new.mdc", "globs: src/", "New text.");
	c = reading(b, "src/a.c");
	expect_part(&c, "New text.");
	expect_no_part(&c, "Src text.");
	tool_call_fini(&c);
	/* Another agent has seen nothing yet. */
	bench_next_agent(b, "bc-other");
	c = reading(b, "src/a.c");
	expect_part(&c, "Src text.");
	expect_part(&c, "Tabs in C.");
	tool_call_fini(&c);
}

static void test_edit_and_write_bring_rules(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	SH(b, "mkdir -p work/.cursor/rules && echo one > work/a.c");
	put_rule(b, ".cursor/rules/c.mdc", "globs: *.c", "Tabs in C.");
	put_rule(b, ".cursor/rules/py.mdc", "globs: '**/*.{py,pyi}'", "Blanks in Python.");
	c = call(b, "edit_file", "{\"path\":\"a.c\",\"oldText\":\"none\",\"newText\":\"x\"}");
	expect_no_part(&c, "Tabs in C.");
	expect_error(c, "no_match");
	c = call(b, "edit_file", "{\"path\":\"a.c\",\"oldText\":\"one\",\"newText\":\"two\"}");
	assert_outcome(&c, TOOL_SUCCESS);
	expect_part(&c, "+two\n\n# Project rules");
	expect_part(&c, "Tabs in C.");
	tool_call_fini(&c);
	c = call(b, "write_file", "{\"path\":\"new/b.py\",\"fileText\":\"x\"}");
	expect_part(&c, "Blanks in Python.");
	tool_call_fini(&c);
}

static void test_nested(void **state)
{
	struct bench *b = *state;
	struct tool_call c;
	const char *outer, *inner, *rule;

	SH(b, "cd work && mkdir -p pkg/a/.cursor/rules pkg/b pkg/a/src && echo root > AGENTS.md && echo 'Pkg notes.' > "
	      "pkg/AGENTS.md && echo 'Not read.' > pkg/CLAUDE.md && echo 'A notes.' > pkg/a/CLAUDE.md && echo x > "
	      "pkg/a/src/x.ts "
	      "&& echo x > pkg/b/y && echo x > z && echo x > pkg/a/top.ts");
	put_rule(b, "pkg/a/.cursor/rules/always.mdc", "alwaysApply: true", "In A always.");
	put_rule(b, "pkg/a/.cursor/rules/ts.mdc", "globs: src/*.ts", "TS in A.");
	put_rule(b, "pkg/a/.cursor/rules/ask.mdc", "description: how to release", "Release.");
	put_rule(b, "pkg/a/.cursor/rules/named.mdc", "x: y", "Named only.");
	c = reading(b, "z");
	assert_string_equal(c.model_text, "     1\tx\n");
	tool_call_fini(&c);
	c = reading(b, "pkg/a/src/x.ts");
	outer = strstr(c.model_text, "\n## pkg/AGENTS.md (for files in pkg)\nPkg notes.\n");
	rule = strstr(c.model_text, "\n## pkg/a/.cursor/rules/always.mdc (for files in pkg/a)\nIn A always.\n");
	inner = strstr(c.model_text, "\n## pkg/a/CLAUDE.md (for files in pkg/a)\nA notes.\n");
	assert_true(outer != NULL && rule > outer && inner > rule);
	expect_part(&c, "TS in A.");
	expect_part(&c, "rule pkg/a/.cursor/rules/ask.mdc (how to release); fetch_rule shows it");
	expect_no_part(&c, "Release.");
	expect_no_part(&c, "Named only");
	expect_no_part(&c, "Not read");
	expect_no_part(&c, "root");
	assert_int_equal(json_array_size(json_object_get(c.result, "relatedCursorRulePaths")), 4);
	tool_call_fini(&c);
	c = reading(b, "pkg/a/top.ts");
	assert_string_equal(c.model_text, "     1\tx\n");
	tool_call_fini(&c);
	c = reading(b, "pkg/b/y");
	assert_string_equal(c.model_text, "     1\tx\n");
	tool_call_fini(&c);
	/* Reading the file itself is giving it. */
	bench_next_agent(b, "bc-other");
	c = reading(b, "pkg/AGENTS.md");
	assert_string_equal(c.model_text, "     1\tPkg notes.\n");
	tool_call_fini(&c);
	c = reading(b, "pkg/b/y");
	assert_string_equal(c.model_text, "     1\tx\n");
	tool_call_fini(&c);
}

static void test_hostile(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	SH(b, "cd work && mkdir -p d/.cursor/rules e/.cursor && ln -s /etc/passwd d/AGENTS.md && ln -s /etc "
	      "e/.cursor/rules && "
	      "ln -s /etc/passwd d/.cursor/rules/p.mdc && mkfifo d/.cursor/rules/fifo.mdc && printf -- '---\\nglobs: "
	      "*\\n---\\n"
	      "caf\\351' > d/.cursor/rules/latin.mdc && echo x > d/f && echo x > e/f && seq 1 20000 > many");
	c = reading(b, "d/f");
	expect_no_part(&c, "root:");
	expect_part(&c, "caf\xef\xbf\xbd");
	tool_call_fini(&c);
	c = reading(b, "e/f");
	assert_string_equal(c.model_text, "     1\tx\n");
	tool_call_fini(&c);
	/* Too much for one result: what is read is cut in its middle, the rules stay; what does not fit is named. */
	SH(b, "cd work && mkdir -p .cursor/rules && for i in 1 2 3; do (printf -- '---\\nglobs: many\\n---\\nrule'$i; "
	      "head -c "
	      "10000 /dev/zero | tr '\\0' y) > .cursor/rules/$i.mdc; done");
	c = call(b, "read_file", "{\"path\":\"many\",\"limit\":20000}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_true(strlen(c.model_text) <= 32 * 1024);
	expect_part(&c, "left out");
	expect_part(&c, " 20000\t20000\n");
	expect_part(&c, "rule1yyy");
	expect_part(&c, "rule2yyy");
	expect_part(&c, "(cut here; fetch_rule shows all of .cursor/rules/2.mdc)");
	expect_part(&c, "Too long to show here: rule .cursor/rules/3.mdc; fetch_rule shows it");
	assert_int_equal(json_array_size(json_object_get(c.result, "relatedCursorRules")), 3);
	tool_call_fini(&c);
}

static void *read_in_thread(void *ctx)
{
	struct bench *b = ctx;
	struct tool_call c = call(b, "read_file", "{\"path\":\"d/f\"}");
	bool *given = NEW(bool);

	*given = strstr(c.model_text, "Only once.") != NULL;
	tool_call_fini(&c);
	return given;
}

static void test_calls_side_by_side(void **state)
{
	struct bench *b = *state;
	pthread_t threads[8];
	int n = 0;

	SH(b, "cd work && mkdir d && echo 'Only once.' > d/AGENTS.md && echo x > d/f");
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_in_thread, b), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		void *given;

		pthread_join(threads[i], &given);
		n += *(bool *)given;
		free(given);
	}
	assert_int_equal(n, 1);
}

static void test_named_files_are_pulled_in(void **state)
{
	struct bench *b = *state;
	struct rule r;
	AUTO_STR text = NULL;
	bool cut;

	SH(b,
	    "cd work && mkdir -p pkg/.cursor/rules docs && echo 'Doc, see @docs/other.md' > docs/a.md && echo other > "
	    "docs/other.md && echo near > pkg/near.md && echo key > a.key && echo '*.key' > .cursorignore && ln -s "
	    "/etc/passwd "
	    "evil && echo mail > b.c && head -c 70000 /dev/zero | tr '\\0' z > long");
	put_rule(b, "pkg/.cursor/rules/r.mdc", "alwaysApply: true",
	    "Read @docs/a.md, (@near.md). Not a@b.c @none @a.key @evil @../out @docs @/etc/passwd @docs/a.md\n");
	assert_int_equal(rule_read(b->root, "pkg/.cursor/rules/r.mdc", &r), OK);
	assert_string_equal(r.base, "pkg");
	text = rule_text(b->root, &r, &cut);
	assert_false(cut);
	rule_fini(&r);
	assert_non_null(strstr(text, "\n--- docs/a.md, named above:\nDoc, see @docs/other.md\n"));
	assert_non_null(strstr(text, "\n--- pkg/near.md, named above:\nnear\n"));
	assert_null(strstr(text, "other\n"));
	assert_null(strstr(text, "key\n"));
	assert_null(strstr(text, "mail"));
	assert_null(strstr(text, "root:"));
	assert_null(strstr(strstr(text, "--- docs/a.md") + 1, "--- docs/a.md"));
	put_rule(b, "pkg/.cursor/rules/r.mdc", "alwaysApply: true", "@long @docs/a.md");
	assert_int_equal(rule_read(b->root, "pkg/.cursor/rules/r.mdc", &r), OK);
	str_free(&text);
	text = rule_text(b->root, &r, &cut);
	assert_true(cut);
	assert_true(strlen(text) < 66 * 1024);
	rule_fini(&r);
	assert_int_equal(rule_read(b->root, "pkg/none.mdc", &r), ERR_NOT_FOUND);
	/* Rules of the SessionInfo have them too. */
	SH(b, "cd work && mkdir -p .cursor/rules");
	put_rule(b, ".cursor/rules/r.mdc", "alwaysApply: true", "@docs/a.md");
	json_t *info;
	struct session_failure fail = {0};
	struct session_open want = {.agent_id = "bc-test", .repo_url = "", .starting_ref = "", .branch = ""};
	assert_int_equal(session_open(b->session, &want, -1, INT64_MAX, &info, &fail), OK);
	assert_non_null(strstr(
	    json_string_value(json_object_get(json_array_get(json_object_get(info, "rules"), 0), "text")), "Doc, see"));
	json_decref(info);
}

static void test_matching(void **state)
{
	static const struct {
		const char *base, *globs, *file;
		bool want;
	} cases[] = {{"", "*.c", "a/b/x.c", true}, {"", "*.c", "x.h", false}, {"", "a/*.c", "a/b/x.c", false},
	    {"", "a/**/*.c", "a/b/d/x.c", true}, {"", "a/**/*.c", "a/x.c", true}, {"", "/x.c", "x.c", true},
	    {"", "/x.c", "a/x.c", false}, {"", "./a/x.c", "a/x.c", true}, {"", "a/", "a/b/x.c", true},
	    {"", "a", "a/x", false}, {"", "*.{c,h}", "a/x.h", true}, {"", "x, *.h", "a/x.h", true},
	    {"", "X.c", "x.c", false}, {"", "[xy]?.c", "yy.c", true}, {"p", "*.c", "p/a/x.c", true},
	    {"p", "*.c", "q/x.c", false}, {"p", "a/*.c", "p/a/x.c", true}, {"p", "p/a/*.c", "p/a/x.c", false},
	    {"p", "*", "pq/x", false}};
	struct bench *b = *state;

	SH(b, "mkdir -p work/.cursor/rules work/p/.cursor/rules");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO_STR path =
		    str_printf("%s%s.cursor/rules/r.mdc", cases[i].base, cases[i].base[0] != '\0' ? "/" : "");
		AUTO_STR meta = str_printf("globs: %s", cases[i].globs);
		struct rule r;

		/* YAML would take a leading '[' for a list. */
		if (cases[i].globs[0] == '[') {
			free(meta);
			meta = str_printf("globs: \"%s\"", cases[i].globs);
		}
		put_rule(b, path, meta, "x");
		assert_int_equal(rule_read(b->root, path, &r), OK);
		if (rule_matches(&r, cases[i].file) != cases[i].want)
			fail_msg("'%s' of '%s' against '%s'", cases[i].globs, cases[i].base, cases[i].file);
		rule_fini(&r);
	}
}

static void test_fetch(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	expect_error(call(b, "fetch_rule", "{\"name\":\"x\"}"), "not_found");
	SH(b, "cd work && mkdir -p .cursor/rules/sub pkg/.cursor/rules && echo x > a.c");
	put_rule(b, ".cursor/rules/style.mdc", "globs: *.c", "Style text.");
	put_rule(b, ".cursor/rules/sub/two.mdc", "description: d", "Two.");
	put_rule(b, ".cursor/rules/two.mdc", "description: d", "Other two.");
	put_rule(b, "pkg/.cursor/rules/in.mdc", "description: d", "Nested.");
	c = call(b, "fetch_rule", "{\"name\":\"style\"}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_string_equal(field(&c, "name"), "style");
	assert_string_equal(field(&c, "path"), ".cursor/rules/style.mdc");
	assert_string_equal(field(&c, "content"), "Style text.");
	assert_string_equal(c.model_text, "Style text.");
	tool_call_fini(&c);
	/* It counts as given. */
	c = reading(b, "a.c");
	assert_string_equal(c.model_text, "     1\tx\n");
	tool_call_fini(&c);
	expect_success(call(b, "fetch_rule", "{\"name\":\"@style.mdc\"}"));
	expect_success(call(b, "fetch_rule", "{\"rule\":\".cursor/rules/style.mdc\"}"));
	c = call(b, "fetch_rule", "{\"name\":\"two\"}");
	expect_part(&c, "give the path: .cursor/rules/sub/two.mdc, .cursor/rules/two.mdc");
	expect_error(c, "not_unique");
	c = call(b, "fetch_rule", "{\"name\":\"sub/two\"}");
	assert_string_equal(field(&c, "content"), "Two.");
	tool_call_fini(&c);
	c = call(b, "fetch_rule", "{\"name\":\"pkg/.cursor/rules/in.mdc\"}");
	assert_string_equal(field(&c, "content"), "Nested.");
	tool_call_fini(&c);
	c = call(b, "fetch_rule", "{\"name\":\"tyle\"}");
	expect_part(&c, "there are: .cursor/rules/style.mdc, .cursor/rules/sub/two.mdc");
	expect_error(c, "not_found");
	expect_error(call(b, "fetch_rule", "{\"name\":\"../x/.cursor/rules/y.mdc\"}"), "not_found");
	expect_error(call(b, "fetch_rule", "{\"name\":\"a.c\"}"), "not_found");
	expect_error(call(b, "fetch_rule", "{}"), "invalid_arguments");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_bench, teardown_bench)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_globs_come_once), T(test_edit_and_write_bring_rules), T(test_nested),
	    T(test_hostile), T(test_calls_side_by_side), T(test_named_files_are_pulled_in), T(test_matching),
	    T(test_fetch)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
