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
	    cmocka_unit_test(test_tools_of_a_session_are_checked),
	    cmocka_unit_test(test_nonsense_instead_of_a_list_is_no_tool),
	    cmocka_unit_test(test_there_is_a_bound),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
