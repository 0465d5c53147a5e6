/* Slack's text: its markup read, ours escaped, the sentences that are commands, and plain words that choose. */
#include "base/mem.h"
#include "base/text.h"
#include "server/triggers/slack_priv.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

static char *name_of(void *ctx, const char *user)
{
	return strcmp(user, "U1") == 0 ? str_dup("ann") : NULL;
}

static void test_decode(void **state)
{
	static const struct {
		const char *text, *want;
		bool mentioned;
	} rows[] = {{"<@UBOT> fix it", " fix it", true},
	    {"hey <@UBOT>, ask <@UBOT> and <@U1>", "hey , ask @UBOT and @ann", true},
	    {"a &lt;b&gt; &amp;amp; &quot;", "a <b> &amp; &quot;", false},
	    {"<#C1|builds> <#C2> <!here> <!channel|channel> <!subteam^S1|@ops> <!subteam^S1>",
		"#builds #C2 @here @channel @ops @S1", false},
	    {"repo=<http://github.com/acme/api|github.com/acme/api> go", "repo=github.com/acme/api go", false},
	    {"repo=<https://github.com/acme/api> go", "repo=https://github.com/acme/api go", false},
	    {"repo=\"<https://git.example/a/b|the repo>\" go", "repo=\"https://git.example/a/b\" go", false},
	    {"see <https://x.example/a?b=1&amp;c|the log>", "see the log (https://x.example/a?b=1&c)", false},
	    {"channel=<#C1|builds> go to <#C1|builds>", "channel=C1 go to #builds", false},
	    {"mail <mailto:a@b.example|a@b.example>", "mail a@b.example", false},
	    {"<!date^1392734382^Posted {date}|once>", "@once", false}, {"1 < 2 <", "1 < 2 <", false},
	    {"<<@U1>>", "<@ann>", false}, {"<>", "<>", false}, {"<@>", "@", false}, {"", "", false},
	    {"&lt;@UBOT&gt;", "<@UBOT>", false}, {"<@U2|zoe> <@U3>", "@zoe @U3", false}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		bool mentioned = !rows[i].mentioned;
		AUTO_STR got = slack_decode(rows[i].text, "UBOT", name_of, NULL, &mentioned);

		assert_string_equal(got, rows[i].want);
		assert_int_equal(mentioned, rows[i].mentioned);
	}
}

static void test_escape(void **state)
{
	AUTO_STR plain = slack_escape("<!channel> & <@U1> `code`", 1000);
	AUTO_STR cut = slack_escape("&&&&&&&&&&&&&&&&&&&&", 24);
	AUTO_STR wide = slack_escape("ääääääääääää", 16);
	AUTO_STR bad = slack_escape("a\xff"
				    "b",
	    100);
	AUTO_STR fits = slack_escape("1234567890123456", 16);

	assert_string_equal(plain, "&lt;!channel&gt; &amp; &lt;@U1&gt; `code`");
	assert_string_equal(cut, "&amp;&amp;&amp; […]");
	assert_true(text_is_utf8(wide, strlen(wide)) && strlen(wide) <= 16);
	assert_string_equal(bad, "a?b");
	assert_string_equal(fits, "1234567890123456");
}

static void test_forced(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {{"agent fix it", "fix it"}, {" AGENT: fix", "fix"}, {"start a new agent to fix it", "fix it"},
	    {"create new agent fix", "fix"}, {"launch a new agent, fix", "fix"}, {"new agent please fix", "fix"},
	    {"agents are broken", NULL}, {"start the server", NULL}, {"new agent", NULL}, {"fix the agent", NULL},
	    {"agent", ""}, {"", NULL}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *got = slack_forced(rows[i].text);

		if (rows[i].want == NULL)
			assert_null(got);
		else
			assert_string_equal(got, rows[i].want);
	}
}

static void test_commands(void **state)
{
	static const struct {
		const char *text;
		enum slack_command_kind kind;
		const char *pool;
		bool for_channel;
	} rows[] = {{"list my agents", SLACK_LIST, "", false}, {"  Help\n", SLACK_HELP, "", false},
	    {"settings", SLACK_SETTINGS, "", false}, {"pool", SLACK_POOL, "", false},
	    {"pool set gpu", SLACK_POOL_SET, "gpu", false}, {"POOL SET gpu CHANNEL", SLACK_POOL_SET, "gpu", true},
	    {"pool unset", SLACK_POOL_UNSET, "", false}, {"pool unset channel", SLACK_POOL_UNSET, "", true},
	    {"pool set up CI", SLACK_NONE, "", false}, {"pool set", SLACK_NONE, "", false},
	    {"pool set -x", SLACK_NONE, "", false}, {"pool set a/b", SLACK_NONE, "", false},
	    {"help me", SLACK_NONE, "", false}, {"settings of nginx are wrong", SLACK_NONE, "", false},
	    {"pool=gpu", SLACK_NONE, "", false}, {"", SLACK_NONE, "", false}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slack_command c = slack_command_of(rows[i].text);

		assert_int_equal(c.kind, rows[i].kind);
		assert_int_equal(c.for_channel, rows[i].for_channel);
		assert_string_equal(c.pool, rows[i].pool);
	}
}

static void test_defaults(void **state)
{
	enum { NONE, CHANNEL, ME, SHARED };
	static const struct {
		const char *text;
		enum slack_command_kind kind;
		const char *value;
		int of;
	} rows[] = {{"repo", SLACK_REPO, "", NONE}, {"repo set acme/web", SLACK_REPO_SET, "acme/web", NONE},
	    {" Repo SET acme/web  Channel", SLACK_REPO_SET, "acme/web", CHANNEL},
	    {"repo set https://github.com/acme/web me", SLACK_REPO_SET, "https://github.com/acme/web", ME},
	    {"repo unset", SLACK_REPO_SET, "", NONE}, {"repo unset me", SLACK_REPO_SET, "", ME},
	    {"repo unset channel", SLACK_REPO_SET, "", CHANNEL}, {"repo set web", SLACK_NONE, "", NONE},
	    {"repo set", SLACK_NONE, "", NONE}, {"repo set acme/web please", SLACK_NONE, "", NONE},
	    {"repo set acme/web channel now", SLACK_NONE, "", NONE}, {"repo set acme/web\nme", SLACK_NONE, "", NONE},
	    {"machine", SLACK_MACHINE, "", NONE}, {"machine set box", SLACK_MACHINE_SET, "box", ME},
	    {"machine set \"my box\"", SLACK_MACHINE_SET, "my box", ME}, {"machine set my box", SLACK_NONE, "", NONE},
	    {"machine set \"my box", SLACK_NONE, "", NONE}, {"machine set \"\"", SLACK_NONE, "", NONE},
	    {"machine unset", SLACK_MACHINE_SET, "", ME}, {"summaries", SLACK_SUMMARIES, "", NONE},
	    {"summaries OFF", SLACK_SUMMARIES_SET, "off", NONE},
	    {"summaries on channel", SLACK_SUMMARIES_SET, "on", CHANNEL},
	    {"summaries on shared", SLACK_SUMMARIES_SET, "on", SHARED}, {"summaries maybe", SLACK_NONE, "", NONE},
	    {"summaries unset channel", SLACK_SUMMARIES_SET, "", CHANNEL}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slack_command c = slack_command_of(rows[i].text);

		assert_int_equal(c.kind, rows[i].kind);
		assert_string_equal(c.kind == SLACK_NONE ? "" : c.text, rows[i].value);
		if (c.kind == SLACK_NONE)
			continue;
		assert_int_equal(c.for_channel, rows[i].of == CHANNEL);
		assert_int_equal(c.for_me, rows[i].of == ME);
		assert_int_equal(c.for_shared, rows[i].of == SHARED);
	}
}

static bool is_model(const char *name)
{
	return strcmp(name, "opus") == 0;
}

static void test_phrases(void **state)
{
	static const struct {
		const char *text, *repo, *branch, *model;
	} rows[] = {{"fix it in acme/backend, please", "acme/backend", NULL, NULL},
	    {"work from the dev branch and fix it with opus.", NULL, "dev", "opus"},
	    {"fix it with care, with opus", NULL, NULL, "opus"}, {"in a/b/c", NULL, NULL, NULL},
	    {"in `in acme/x` code", NULL, NULL, NULL}, {"within acme/x", NULL, NULL, NULL},
	    {"work from the -x branch", NULL, NULL, NULL}, {"work from the office", NULL, NULL, NULL},
	    {"with pool=gpu", NULL, NULL, NULL}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct slack_phrases p = {0};

		slack_phrases_of(rows[i].text, is_model, &p);
		assert_string_equal(p.repo != NULL ? p.repo : "-", rows[i].repo != NULL ? rows[i].repo : "-");
		assert_string_equal(p.branch != NULL ? p.branch : "-", rows[i].branch != NULL ? rows[i].branch : "-");
		assert_string_equal(p.model != NULL ? p.model : "-", rows[i].model != NULL ? rows[i].model : "-");
		slack_phrases_fini(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_decode), cmocka_unit_test(test_escape),
	    cmocka_unit_test(test_forced), cmocka_unit_test(test_commands), cmocka_unit_test(test_defaults),
	    cmocka_unit_test(test_phrases)};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
