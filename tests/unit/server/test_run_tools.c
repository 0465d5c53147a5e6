/* The tools of a run: the worker's, those of its session, the control plane's. */
#include "base/mem.h"
#include "server/runs/control_tool.h"
#include "server/runs/run.h"
#include "server/runs/tools.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static json_t *parse(const char *text)
{
	json_t *j = NULL;
	struct why why = {0};

	if (json_parse(text, strlen(text), &j, &why) != OK)
		fail_msg("%s", why.text);
	return j;
}

static void join_names(json_t *tools, bool with_own, char **names)
{
	json_t *tool;
	size_t i;

	*names = str_dup("");
	json_array_foreach(tools, i, tool)
	{
		const char *name = json_word(tool, "name");
		char *longer = str_printf("%s%s%s", *names, (*names)[0] != '\0' ? " " : "", name);

		if (!with_own && control_tool_find(name) != NULL) {
			free(longer);
			continue;
		}
		free(*names);
		*names = longer;
	}
}

/* But for those of the control plane itself. */
static void expect_names(json_t *tools, const char *expected)
{
	AUTO_STR names = NULL;

	join_names(tools, false, &names);
	assert_string_equal(names, expected);
}

static void test_names_as_models_write_them(void **state)
{
	AUTO_JSON tools = parse("[{\"name\":\"read_file\",\"aliases\":[\"cat\"]},{\"name\":\"grep_search\"}]");
	static const struct {
		const char *written, *meant;
	} names[] = {{"read_file", "read_file"}, {"CAT", "read_file"}, {"functions.read_file", "read_file"},
	    {"read_file<|channel|>commentary", "read_file"}, {"functions.grep_search<|channel|>json", "grep_search"},
	    {"functions.read_file:0", "read_file"}, {" read_file\n", "read_file"}, {"read_file()", "read_file"},
	    {"tools.cat", "read_file"}, {"functions.", NULL}, {"read_files", NULL}, {"my.read_file", NULL}, {"", NULL},
	    {"<|channel|>read_file", NULL}};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const json_t *tool = tool_meant(tools, names[i].written);

		assert_string_equal(json_word(tool, "name"), names[i].meant != NULL ? names[i].meant : "");
	}
}

static void test_calls_in_a_text(void **state)
{
	AUTO_JSON tools = parse("[{\"name\":\"read_file\",\"aliases\":[\"cat\"]}]");
	static const char *const calls[] = {"<tool_call>\n{\"name\": \"read_file\", \"arguments\": {}}\n</tool_call>",
	    "I look.\n<tool_call>{\"name\":\"cat\"", "<function=read_file>\n<parameter=path>a</parameter>",
	    "[TOOL_CALLS][{\"name\": \"read_file\"}]", "[TOOL_CALLS]read_file[ARGS]{}",
	    "<|tool_calls_section_begin|><|tool_call_begin|>functions.read_file:0<|tool_call_argument_begin|>{}",
	    "```sh\nls\n```\n<tool_call>read_file", "<tool_call>\n<function=read_file>",
	    "<function_calls>\n<invoke name=\"read_file\">",
	    "<tool_call>{\"arguments\": {\"path\": \"a\"}, \"name\": \"read_file\"}",
	    "<\xef\xbd\x9ctool\xe2\x96\x81"
	    "call\xe2\x96\x81"
	    "begin\xef\xbd\x9c>function<\xef\xbd\x9ctool\xe2\x96\x81sep\xef\xbd\x9c>read_file"};
	static const char *const texts[] = {"", "Done.", "read_file", "<tool_call> is the mark of Hermes.",
	    "I taught read_file to print <tool_call> marks; cat and read_file share it.",
	    "The mark [TOOL_CALLS] comes before read_file.", "<tool_call>", "<function=", "<function=name",
	    "Write `<tool_call>{\"name\":\"read_file\"}</tool_call>` into it.",
	    "```xml\n<tool_call>{\"name\":\"read_file\"}</tool_call>\n```",
	    "<tool_call>{\"name\":\"nothing_of_ours\"}</tool_call>"};

	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		if (!tools_called_in_text(tools, calls[i]))
			fail_msg("not seen: %s", calls[i]);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (tools_called_in_text(tools, texts[i]))
			fail_msg("taken for a call: %s", texts[i]);
	assert_false(tools_called_in_text(NULL, calls[0]));
}

static void test_tools_of_a_session_are_checked(void **state)
{
	AUTO_JSON own = parse("[{\"name\":\"read_file\",\"aliases\":[\"cat\"],\"class\":\"read\"}]");
	AUTO_JSON session =
	    parse("[{\"name\":\"mcp_search\",\"class\":\"read\",\"parameters\":{}},"
		  " {\"name\":\"READ_FILE\",\"class\":\"read\"}," /* taken */
		  " {\"name\":\"other\",\"aliases\":[\"Cat\"],\"class\":\"read\"}," /* its alias is taken */
		  " {\"name\":\"mcp_search\",\"class\":\"mutating\"}," /* twice */
		  " {\"name\":\"bad name\",\"class\":\"read\"},"
		  " {\"name\":\"no_class\"},"
		  " {\"name\":\"bad_class\",\"class\":\"root\"},"
		  " {\"name\":\"bad_parameters\",\"class\":\"read\",\"parameters\":[]},"
		  " 7, null, \"tool\","
		  " {\"name\":\"mcp_write\",\"class\":\"mutating\"}]");
	struct tool_set worker = {.list = own};
	AUTO_JSON all = tools_of_run(&worker, session);

	expect_names(all, "read_file mcp_search mcp_write");
	assert_string_equal(json_word(tool_described(all, "CAT"), "name"), "read_file");
}

static void test_nonsense_instead_of_a_list_is_no_tool(void **state)
{
	static const char *const texts[] = {"{}", "7", "\"x\"", "null", "[]"};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		AUTO_JSON session = parse(texts[i]);
		AUTO_JSON all = tools_of_run(NULL, session);

		expect_names(all, "");
	}
}

static void test_there_is_a_bound(void **state)
{
	AUTO_JSON session = json_array();

	for (int i = 0; i < TOOLS_MAX + 10; i++) {
		AUTO_STR name = str_printf("tool_%d", i);

		json_array_append_new(session, json_pack("{s:s, s:s}", "name", name, "class", "read"));
	}
	AUTO_JSON all = tools_of_run(NULL, session);

	assert_int_equal(json_array_size(all), TOOLS_MAX);
}

static bool offers_reads(const json_t *tool)
{
	return strcmp(json_word(tool, "class"), "read") == 0;
}

static void test_what_a_loop_is_offered(void **state)
{
	static const struct {
		struct tool_offer offer;
		const char *names;
	} cases[] = {{{0}, "r w s task"}, {{.depth = 1}, "r w s task"}, {{.depth = LOOP_DEPTH_MAX}, "r w s"},
	    {{.plan = true}, "r s task create_plan"}, {{.plan = true, .depth = 1}, "r s task"},
	    {{.depth = 1, .offers = offers_reads}, "r"}, {{.plan = true, .offers = offers_reads}, "r"}};
	AUTO_JSON tools =
	    parse("[{\"name\":\"r\",\"class\":\"read\"},{\"name\":\"w\",\"class\":\"mutating\"},"
		  "{\"name\":\"s\",\"class\":\"state\"},{\"name\":\"x\"},{\"name\":\"task\",\"class\":\"state\"},"
		  "{\"name\":\"create_plan\",\"class\":\"state\"}]");

	json_array_remove(tools, 3); /* a tool has a class */
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO_JSON offered = tools_offered(tools, &cases[i].offer);
		AUTO_STR names = NULL;

		join_names(offered, true, &names);
		assert_string_equal(names, cases[i].names);
	}
}

/* Nobody outside may say that a tool of his is harmless. */
static void test_state_is_no_class_of_others(void **state)
{
	AUTO_JSON session = parse("[{\"name\":\"mcp_x\",\"class\":\"state\"}]");
	AUTO_JSON all = tools_of_run(NULL, session);

	expect_names(all, "");
	assert_false(tool_is_harmless(NULL));
}

static void expect_sdk_args(const json_t *tools, const char *name, const char *args, const char *expected)
{
	AUTO_JSON given = parse(args);
	AUTO_STR text = tool_sdk_args(tool_described(tools, name), given, 1000);

	assert_string_equal(text, expected);
}

static void test_arguments_as_the_client_library_takes_them(void **state)
{
	AUTO_JSON all = tools_of_run(NULL, NULL);

	expect_sdk_args(all, "task", "{\"description\":\"d\",\"prompt\":\"p\",\"subagent_type\":\"EXPLORE\"}",
	    "{\"description\":\"d\",\"prompt\":\"p\",\"subagentType\":{\"kind\":\"explore\"}}");
	expect_sdk_args(all, "task",
	    "{\"description\":\"d\",\"prompt\":\"p\",\"subagent_type\":\"rev\",\"model\":\"m\"}",
	    "{\"description\":\"d\",\"prompt\":\"p\",\"model\":\"m\",\"subagentType\":{\"kind\":\"custom\",\"name\":"
	    "\"rev\"}}");
	expect_sdk_args(all, "task", "{\"prompt\":7,\"model\":{}}", "{\"prompt\":\"\",\"description\":\"\"}");
	expect_sdk_args(all, "create_plan", "{}", "{\"plan\":\"\"}");
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test(test_names_as_models_write_them),
	    cmocka_unit_test(test_calls_in_a_text),
	    cmocka_unit_test(test_tools_of_a_session_are_checked),
	    cmocka_unit_test(test_nonsense_instead_of_a_list_is_no_tool),
	    cmocka_unit_test(test_there_is_a_bound),
	    cmocka_unit_test(test_what_a_loop_is_offered),
	    cmocka_unit_test(test_state_is_no_class_of_others),
	    cmocka_unit_test(test_arguments_as_the_client_library_takes_them),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
