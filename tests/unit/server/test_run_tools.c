/* The tools of a run: the worker's, those of its session, the control plane's. */
#include "base/mem.h"
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

static void expect_names(json_t *tools, const char *expected)
{
	AUTO_STR names = str_dup("");
	json_t *tool;
	size_t i;

	json_array_foreach(tools, i, tool)
	{
		char *longer = str_printf("%s%s%s", names, i > 0 ? " " : "", tool_word(tool, "name"));

		free(names);
		names = longer;
	}
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

		assert_string_equal(tool_word(tool, "name"), names[i].meant != NULL ? names[i].meant : "");
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
	assert_string_equal(tool_word(tool_described(all, "CAT"), "name"), "read_file");
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

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test(test_names_as_models_write_them),
	    cmocka_unit_test(test_calls_in_a_text),
	    cmocka_unit_test(test_tools_of_a_session_are_checked),
	    cmocka_unit_test(test_nonsense_instead_of_a_list_is_no_tool),
	    cmocka_unit_test(test_there_is_a_bound),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
