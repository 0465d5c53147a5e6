/* Skills, commands and subagents of files: which are found, and what is said about them. */
#include "workbench.h"
#include "agent/session/context_file.h"
#include "agent/session/context_inventory.h"
#include "agent/session/rules.h"

static bool note(void *ctx, const struct context_file *f)
{
	struct strbuf *b = ctx;

	strbuf_addf(b, "%s=%s%s ", f->name, f->path, f->unusable ? "!" : "");
	return true;
}

static char *found(struct bench *b, const char *base, enum context_kind kind)
{
	struct strbuf out = STRBUF(1024 * 1024);

	context_files_visit(b->root, base, kind, &(struct context_visit){.each = note, .ctx = &out});
	return strbuf_take(&out);
}

#define assert_found(b, base, kind, want)                                                                              \
	do {                                                                                                           \
		AUTO_STR got_ = found(b, base, kind);                                                                  \
		assert_string_equal(got_, want);                                                                       \
	} while (0)

static void put_skill(struct bench *b, const char *dir, const char *head)
{
	SH(b, "mkdir -p 'work/%s' && printf -- '---\\n%s\\n---\\nBody.\\n' > 'work/%s/SKILL.md'", dir, head, dir);
}

static void test_where_skills_are_found(void **state)
{
	struct bench *b = *state;

	put_skill(b, ".codex/skills/x", "name: x");
	put_skill(b, ".agents/skills/x", "name: x");
	put_skill(b, ".cursor/skills/deep/er/x", "name: x");
	put_skill(b, ".cursor/skills/x", "name: x");
	put_skill(b, ".cursor/skills/x/references/y", "name: y");
	put_skill(b, ".cursor/skills/.hidden/z", "name: z");
	put_skill(b, "pkg/.claude/skills/p", "name: p");
	SH(b, "echo > work/.cursor/skills/SKILL.md; echo > work/.cursor/skills/readme.md");
	assert_found(b, "", CONTEXT_SKILL,
	    "x=.cursor/skills/deep/er/x/SKILL.md x=.cursor/skills/x/SKILL.md x=.agents/skills/x/SKILL.md "
	    "x=.codex/skills/x/SKILL.md ");
	assert_found(b, "pkg", CONTEXT_SKILL, "p=pkg/.claude/skills/p/SKILL.md ");
	assert_found(b, "none", CONTEXT_SKILL, "");
}

static void test_links_stay_inside(void **state)
{
	struct bench *b = *state;

	put_skill(b, "common/tool", "name: tool");
	SH(b,
	    "mkdir -p outside/evil work/.cursor/skills/file && echo secret > outside/evil/SKILL.md && cd "
	    "work/.cursor/skills"
	    " && ln -s ../../common/tool tool && ln -s ../../../outside/evil evil && ln -s '%s/outside/evil' far"
	    " && ln -s . round && ln -s .. up && ln -s ../../../../outside/evil/SKILL.md file/SKILL.md",
	    b->dir);
	assert_found(b, "", CONTEXT_SKILL, "tool=.cursor/skills/tool/SKILL.md ");
	SH(b,
	    "cd work && mkdir .claude && ln -s ../.cursor/skills .claude/skills && mkfifo .cursor/skills/pipe && mkdir "
	    ".cursor/skills/fifo && mkfifo .cursor/skills/fifo/SKILL.md");
	assert_found(b, "", CONTEXT_SKILL, "tool=.cursor/skills/tool/SKILL.md tool=.claude/skills/tool/SKILL.md ");
}

static void test_there_is_a_bound(void **state)
{
	struct bench *b = *state;
	AUTO_JSON info = json_object();
	AUTO_JSON warnings = json_array();
	const char *const roots[] = {b->root};

	SH(b,
	    "mkdir -p work/.cursor/commands work/.cursor/agents && cd work/.cursor && for i in $(seq 600); do echo x > "
	    "commands/c$i.md; done && for i in 1 2 3 4 5 6; do (printf -- '---\\ndescription: d\\n---\\n'; head -c "
	    "60000 "
	    "/dev/zero | tr '\\0' x) > agents/a$i.md; done; for i in $(seq 9 20); do mkdir -p commands/$i; done");
	context_inventory(&(struct context_places){.roots = roots, .n_roots = 1}, info, warnings);
	assert_int_equal(json_array_size(json_object_get(info, "commands")), CONTEXT_FILES_MAX);
	assert_int_equal(json_array_size(json_object_get(info, "agents")), 0);
	SH(b, "rm -r work/.cursor/commands");
	context_inventory(&(struct context_places){.roots = roots, .n_roots = 1}, info, warnings);
	assert_int_equal(json_array_size(json_object_get(info, "agents")), 4);
	assert_non_null(
	    strstr(json_string_value(json_array_get(warnings, json_array_size(warnings) - 1)), "longer than 256 KiB"));
}

static void expect_fault(struct bench *b, enum context_kind kind, const char *path, int line, const char *part)
{
	struct context_file f;
	AUTO_STR all = NULL;
	bool seen = false;

	assert_int_equal(context_file_read(b->root, path, kind, &f), OK);
	all = json_text(f.faults);
	for (size_t i = 0; i < json_array_size(f.faults); i++) {
		json_t *fault = json_array_get(f.faults, i);

		seen |= json_integer_value(json_object_get(fault, "line")) == line &&
			strstr(json_string_value(json_object_get(fault, "text")), part) != NULL;
	}
	if (!seen)
		fail_msg("no '%s' at line %d in %s", part, line, all);
	context_file_fini(&f);
}

static void test_faults_have_lines(void **state)
{
	struct bench *b = *state;

	put_skill(b, ".cursor/skills/a", "name: b\\ndescription: [x]\\ndisable-model-invocation: maybe");
	expect_fault(b, CONTEXT_SKILL, ".cursor/skills/a/SKILL.md", 2, "is not that of its folder");
	expect_fault(b, CONTEXT_SKILL, ".cursor/skills/a/SKILL.md", 3, "'description' must be a text");
	expect_fault(b, CONTEXT_SKILL, ".cursor/skills/a/SKILL.md", 4, "must be true or false");
	SH(b, "mkdir -p work/.cursor/agents && printf -- '---\\nmodel: m\\nname: -x\\nreadonly: 1\\n---\\n \\n' > "
	      "work/.cursor/agents/q.md");
	expect_fault(b, CONTEXT_AGENT, ".cursor/agents/q.md", 3, "no name for a subagent");
	expect_fault(b, CONTEXT_AGENT, ".cursor/agents/q.md", 4, "'readonly' must be true or false");
	expect_fault(b, CONTEXT_AGENT, ".cursor/agents/q.md", 1, "no prompt");
	SH(b, "printf '\\377\\376\\0 x' > work/.cursor/agents/bin.md; head -c 2000000 /dev/zero > "
	      "work/.cursor/agents/big.md");
	expect_fault(b, CONTEXT_AGENT, ".cursor/agents/big.md", 1, "longer than 64 KiB");
	assert_found(
	    b, "", CONTEXT_AGENT, "big=.cursor/agents/big.md bin=.cursor/agents/bin.md -x=.cursor/agents/q.md! ");
}

static void test_names_of_prompts(void **state)
{
	struct bench *b = *state;
	const char *const roots[] = {b->root};
	const struct context_places places = {.roots = roots, .n_roots = 1};
	struct rules *rules = rules_new();
	AUTO_JSON warnings = json_array();
	AUTO_JSON names = json_pack("[s, s, s, s, i, s]", "/a", "@style", "/none", "/", 7, "@");
	AUTO_JSON list = NULL;
	AUTO_STR text = NULL;

	put_skill(b, ".cursor/skills/a", "name: a");
	SH(b, "mkdir -p work/.cursor/rules && echo Style. > work/.cursor/rules/style.mdc");
	list = context_named(&places, rules, names, warnings);
	text = json_text(list);
	assert_string_equal(text,
	    "[{\"name\":\"/a\",\"kind\":\"skill\",\"path\":\".cursor/skills/a/SKILL.md\",\"text\":\"Body.\\n\"},"
	    "{\"name\":\"@style\",\"kind\":\"rule\",\"path\":\".cursor/rules/style.mdc\",\"text\":\"Style.\\n\"}]");
	rules_free(&rules);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_bench, teardown_bench)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_where_skills_are_found), T(test_links_stay_inside),
	    T(test_there_is_a_bound), T(test_faults_have_lines), T(test_names_of_prompts)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
