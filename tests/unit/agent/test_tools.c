/* The file and search tools, through the catalogue. */
#include "workbench.h"
#include "agent/tools/schema.h"
#include "agent/session/glob.h"

static void test_catalogue(void **state)
{
	static const char *const names[] = {"delete_file", "edit_file", "fetch_rule", "file_search", "grep_search",
	    "list_dir", "read_file", "run_terminal_cmd", "write_file"};
	AUTO_STR text = tools_describe(NULL);
	AUTO_JSON list = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

	assert_int_equal(json_array_size(list), ARRAY_LEN(names));
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		json_t *t = json_array_get(list, i);

		assert_string_equal(json_string_value(json_object_get(t, "name")), names[i]);
		assert_true(strlen(json_string_value(json_object_get(t, "description"))) > 20);
		assert_string_equal(
		    json_string_value(json_object_get(json_object_get(t, "parameters"), "type")), "object");
		assert_non_null(json_object_get(t, "class"));
		assert_non_null(json_object_get(t, "sdkType"));
	}
	assert_ptr_equal(tool_find("search_replace"), tool_find("edit_file"));
	assert_ptr_equal(tool_find("StrReplace"), tool_find("edit_file"));
	assert_ptr_equal(tool_find("LS"), tool_find("list_dir"));
	assert_null(tool_find("nothing"));
}

static void say_context(struct tool_call *call)
{
	tool_succeed(call, json_object(), NULL, call->tool->ctx);
}

static void test_a_session_adds_tools_and_takes_them_away(void **state)
{
	struct bench *b = *state;
	int owner, other;
	const struct tool greet = {.name = "mcp_greet",
	    .aliases = {"greeting"},
	    .description = "d",
	    .parameters = "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"]}",
	    .class = TOOL_MUTATING,
	    .sdk_type = "mcp",
	    .run = say_context,
	    .ctx = "hello from outside"};
	AUTO_STR own = tools_describe(NULL);
	AUTO_STR described = NULL;
	AUTO_STR again = NULL;
	struct why why = {""};
	struct tool_call c;

	assert_int_equal(tool_add(&greet, &owner, &why), OK);
	c = call(b, "greeting", "{\"n\":1}");
	assert_string_equal(c.model_text, "hello from outside");
	expect_success(c);
	expect_error(call(b, "mcp_greet", "{}"), "invalid_arguments");
	/* The worker's Hello stays the same, the session's own description has the tool. */
	described = tools_describe(&owner);
	again = tools_describe(NULL);
	assert_string_equal(own, again);
	assert_non_null(strstr(described, "\"mcp_greet\""));
	assert_null(strstr(described, "read_file"));
	/* Names are unique: in any case, as an alias, whoever has them. */
	static const char *const taken[] = {"mcp_greet", "MCP_GREET", "greeting", "read_file", "StrReplace"};
	for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
		struct tool twin = greet;

		twin.name = taken[i];
		twin.aliases[0] = NULL;
		assert_int_equal(tool_add(&twin, &other, &why), ERR_CONFLICT);
	}
	struct tool bad = greet;

	bad.name = "bad name";
	assert_int_equal(tool_add(&bad, &other, &why), ERR_INVALID);
	bad.name = "";
	assert_int_equal(tool_add(&bad, &other, &why), ERR_INVALID);
	bad.name = "fine";
	bad.parameters = "[]";
	assert_int_equal(tool_add(&bad, &other, &why), ERR_INVALID);
	tools_remove(&other);
	assert_non_null(tool_find("mcp_greet"));
	tools_remove(&owner);
	assert_null(tool_find("mcp_greet"));
	expect_error(call(b, "mcp_greet", "{\"n\":1}"), "unknown_tool");
	assert_non_null(tool_find("read_file"));
}

static void test_the_catalogue_has_an_end(void **state)
{
	static char names[TOOLS_MAX + 1][16];
	static struct tool many[TOOLS_MAX + 1];
	struct why why = {""};
	size_t n = 0;
	int owner;

	for (; n < ARRAY_LEN(many); n++) {
		snprintf(names[n], sizeof names[n], "extra_%zu", n);
		many[n] = (struct tool){
		    .name = names[n], .description = "", .parameters = "{}", .sdk_type = "", .run = say_context};
		if (tool_add(&many[n], &owner, &why) != OK)
			break;
	}
	assert_int_equal(n, TOOLS_MAX - 9);
	assert_int_equal(tool_add(&many[n], &owner, &why), ERR_FULL);
	tools_remove(&owner);
}

struct watch {
	const char *forbidden;
	struct strbuf log;
};

static bool watch_before(void *ctx, struct tool_call *call)
{
	struct watch *w = ctx;

	strbuf_addf(&w->log, "before %s %s;", call->tool->name, json_string_value(json_object_get(call->args, "path")));
	if (w->forbidden == NULL || strcmp(call->tool->name, w->forbidden) != 0)
		return true;
	tool_reject(call, "forbidden", "%s is not for this agent", call->tool->name);
	return false;
}

static void watch_after(void *ctx, struct tool_call *call)
{
	struct watch *w = ctx;

	strbuf_addf(&w->log, "after %d;", (int)call->outcome);
}

static struct tool_call call_hooked(struct bench *b, const struct tool_hooks *hooks, const char *tool, const char *args)
{
	struct tool_call c;

	call_init(b, &c);
	c.hooks = hooks;
	tool_run(&c, tool, args);
	return c;
}

static void test_hooks_stand_before_and_behind_every_tool(void **state)
{
	struct bench *b = *state;
	struct watch first = {.log = STRBUF(4096)}, second = {.log = STRBUF(4096), .forbidden = "delete_file"};
	const struct tool_hook list[] = {{watch_before, watch_after, NULL, &first}, {watch_before, NULL, NULL, &second},
	    {NULL, watch_after, NULL, &second}};
	const struct tool_hooks hooks = {list, ARRAY_LEN(list)};
	struct tool_call c;

	put_text(b, "h.txt", "content\n");
	c = call_hooked(b, &hooks, "read", "{\"path\":\"h.txt\"}");
	expect_success(c);
	assert_string_equal(strbuf_str(&first.log), "before read_file h.txt;after 1;");
	assert_string_equal(strbuf_str(&second.log), "before read_file h.txt;after 1;");
	/* A refusal: the tool does not run, whoever was asked is told. */
	strbuf_clear(&first.log);
	strbuf_clear(&second.log);
	c = call_hooked(b, &hooks, "delete_file", "{\"path\":\"h.txt\"}");
	assert_int_equal(c.outcome, TOOL_REJECTED);
	assert_string_equal(field(&c, "code"), "forbidden");
	assert_non_null(strstr(c.model_text, "is not for this agent"));
	tool_call_fini(&c);
	assert_string_equal(strbuf_str(&first.log), "before delete_file h.txt;after 4;");
	assert_string_equal(strbuf_str(&second.log), "before delete_file h.txt;");
	expect_success(call(b, "read_file", "{\"path\":\"h.txt\"}"));
	/* What fails before it could run is no tool. */
	strbuf_clear(&first.log);
	expect_error(call_hooked(b, &hooks, "read_file", "{}"), "invalid_arguments");
	expect_error(call_hooked(b, &hooks, "nothing", "{}"), "unknown_tool");
	assert_string_equal(strbuf_str(&first.log), "");
	strbuf_fini(&first.log);
	strbuf_fini(&second.log);
}

static void test_unknown_tool(void **state)
{
	struct tool_call c = call(*state, "raed_file", "{}");

	assert_non_null(strstr(c.model_text, "read_file"));
	assert_null(strstr(c.model_text, "grep_search"));
	expect_error(c, "unknown_tool");
	c = call(*state, "zzzzzzzzzzzzzzzz", "{}");
	assert_non_null(strstr(c.model_text, "grep_search"));
	expect_error(c, "unknown_tool");
	expect_error(call(*state, "", "{}"), "unknown_tool");
	AUTO_STR longest = mem_zalloc(100001);
	memset(longest, 'x', 100000);
	expect_error(call(*state, longest, "{}"), "unknown_tool");
	expect_error(call(*state, "\xff\xfe", "{}"), "unknown_tool");
}

static void expect_sentence(struct tool_call c, const char *part)
{
	if (strstr(c.model_text, part) == NULL)
		fail_msg("no '%s' in: %s", part, c.model_text);
	expect_error(c, "invalid_arguments");
}

static void test_arguments_are_checked(void **state)
{
	struct bench *b = *state;

	expect_sentence(call(b, "read_file", "{}"), "'path' is required");
	expect_sentence(call(b, "read_file", "{\"path\":5}"), "'path' must be a string");
	expect_sentence(call(b, "read_file", "{\"path\":\"\"}"), "'path' must not be empty");
	expect_sentence(call(b, "read_file", "{\"path\":\"a\\u0000b\"}"), "U+0000: field 'path'");
	expect_sentence(call(b, "read_file", "{\"path\":\"a\",\"offest\":1}"), "'offest' is not an argument");
	expect_sentence(call(b, "read_file", "{\"path\":\"a\",\"limit\":0}"), "'limit' must be at least 1");
	expect_sentence(call(b, "read_file", "{\"path\":\"a\",\"limit\":1.5}"), "'limit' must be an integer");
	expect_sentence(call(b, "read_file", "{\"path\":\"a\",\"file_path\":\"a\"}"), "mean the same");
	expect_sentence(call(b, "read_file", "[]"), "must be an object");
	expect_sentence(call(b, "read_file", "{\"path\":"), "malformed JSON");
	expect_sentence(call(b, "list_dir", "{\"ignore\":[1]}"), "'ignore[0]' must be a string");
	expect_sentence(call(b, "list_dir", "{\"ignore\":\"x\"}"), "'ignore' must be an array");
	expect_sentence(call(b, "edit_file", "{\"path\":\"a\",\"strReplace\":{\"oldText\":\"x\"}}"),
	    "'strReplace.newText' is required");
	expect_sentence(call(b, "edit_file",
			    "{\"path\":\"a\",\"multiStrReplace\":{\"edits\":[{\"oldText\":\"x\",\"newText\":1}]}}"),
	    "'multiStrReplace.edits[0].newText' must be a string");
	expect_sentence(call(b, "grep_search", "{\"pattern\":\"x\",\"outputMode\":\"all\"}"),
	    "'outputMode' must be one of 'content', 'files_with_matches', 'count'");
	expect_sentence(
	    call(b, "grep_search", "{\"pattern\":\"x\",\"multiline\":1}"), "'multiline' must be true or false");
	/* What models write and mean well. */
	put_text(b, "a", "x\n");
	expect_success(call(b, "read_file", "{\"path\":\"a\",\"limit\":1.0,\"offset\":null}"));
	expect_success(call(b, "list_dir", "%s", ""));
	expect_success(call(b, "list_dir", " {} "));
}

static void test_arguments_written_as_texts(void **state)
{
	struct bench *b = *state;

	put_text(b, "a", "one\ntwo\nthree\n");
	expect_success(call(b, "read_file", "{\"path\":\"a\",\"offset\":\"2\",\"limit\":\"1\"}"));
	expect_sentence(call(b, "read_file", "{\"path\":\"a\",\"limit\":\"ten\"}"), "'limit' must be an integer");
	expect_sentence(call(b, "read_file", "{\"path\":\"a\",\"limit\":\"\"}"), "'limit' must be an integer");
	expect_sentence(call(b, "read_file", "{\"path\":\"a\",\"limit\":\"1.5\"}"), "'limit' must be an integer");
	expect_sentence(call(b, "read_file", "{\"path\":\"a\",\"limit\":\"0\"}"), "'limit' must be at least 1");
	expect_sentence(
	    call(b, "read_file", "{\"path\":\"a\",\"limit\":\"99999999999999999999\"}"), "must be an integer");
	expect_success(call(b, "grep_search", "{\"pattern\":\"two\",\"multiline\":\"False\"}"));
	expect_sentence(
	    call(b, "grep_search", "{\"pattern\":\"x\",\"multiline\":\"yes\"}"), "'multiline' must be true or false");
	expect_success(call(b, "list_dir", "{\"ignore\":\"[\\\"*.o\\\"]\"}"));
	expect_sentence(call(b, "list_dir", "{\"ignore\":\"[1]\"}"), "'ignore[0]' must be a string");
	expect_sentence(call(b, "list_dir", "{\"ignore\":\"{}\"}"), "'ignore' must be an array");
	expect_success(call(b, "edit_file",
	    "{\"path\":\"a\",\"strReplace\":\"{\\\"oldText\\\":\\\"one\\\",\\\"newText\\\":\\\"1\\\","
	    "\\\"replaceAll\\\":"
	    "\\\"true\\\"}\"}"));
	assert_file(b, "a", "1\ntwo\nthree\n");
	/* A text stays a text, whatever it looks like. */
	expect_success(call(b, "write_file", "{\"path\":\"n\",\"fileText\":\"10\"}"));
	assert_file(b, "n", "10");
	expect_success(call(b, "write_file", "{\"path\":\"n\",\"fileText\":\"{}\"}"));
	assert_file(b, "n", "{}");
}

static void test_home_is_no_folder(void **state)
{
	struct bench *b = *state;
	AUTO_STR home = str_dup(getenv("HOME"));
	struct tool_call c;

	setenv("HOME", "/nowhere/at/all", 1);
	c = call(b, "write_file", "{\"path\":\"~/x\",\"fileText\":\"1\"}");
	assert_non_null(strstr(c.model_text, "home folder of the worker's user, which is outside the workspace"));
	expect_error(c, "path_outside_workspace");
	expect_error(call(b, "list_dir", "{\"path\":\"~\"}"), "path_outside_workspace");
	unsetenv("HOME");
	expect_error(call(b, "read_file", "{\"path\":\"~/x\"}"), "path_outside_workspace");
	setenv("HOME", session_primary_root(b->session), 1);
	expect_success(call(b, "write_file", "{\"path\":\"~/x\",\"fileText\":\"2\"}"));
	assert_file(b, "x", "2");
	expect_error(call(b, "read_file", "{\"path\":\"~/../../etc/passwd\"}"), "path_outside_workspace");
	expect_success(call(b, "write_file", "{\"path\":\"./~/x\",\"fileText\":\"3\"}"));
	assert_file(b, "~/x", "3");
	expect_success(call(b, "write_file", "{\"path\":\"~x\",\"fileText\":\"4\"}"));
	assert_file(b, "~x", "4");
	if (home != NULL)
		setenv("HOME", home, 1);
}

static void test_read(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	put_text(b, "a.txt", "one\ntwo\nthree");
	c = call(b, "read_file", "{\"target_file\":\"a.txt\"}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_string_equal(field(&c, "content"), "one\ntwo\nthree");
	assert_int_equal(number(&c, "totalLines"), 3);
	assert_int_equal(number(&c, "fileSize"), 13);
	assert_string_equal(c.model_text, "     1\tone\n     2\ttwo\n     3\tthree\n");
	assert_int_equal(json_object_size(c.sdk_result), 3);
	tool_call_fini(&c);
	c = call(b, "read_file", "{\"path\":\"%s/a.txt\",\"offset\":2,\"limit\":1}", b->root);
	assert_string_equal(field(&c, "content"), "two\n");
	assert_non_null(json_object_get(c.result, "readRange"));
	assert_non_null(strstr(c.model_text, "lines 2 to 2 of 3"));
	assert_true(json_is_false(json_object_get(c.result, "exceededLimit")));
	tool_call_fini(&c);
	c = call(b, "read_file", "{\"path\":\"./x/../a.txt\",\"offset\":-2}");
	assert_string_equal(field(&c, "content"), "two\nthree");
	tool_call_fini(&c);
	c = call(b, "read_file", "{\"path\":\"a.txt\",\"offset\":9}");
	assert_string_equal(field(&c, "content"), "");
	assert_non_null(strstr(c.model_text, "only 3 lines"));
	tool_call_fini(&c);
	c = call(b, "read_file", "{\"path\":\"a.txt\",\"offset\":-9223372036854775808,\"limit\":9223372036854775807}");
	assert_string_equal(field(&c, "content"), "one\ntwo\nthree");
	tool_call_fini(&c);
	put_text(b, "empty", "");
	c = call(b, "read_file", "{\"path\":\"empty\"}");
	assert_true(json_is_true(json_object_get(c.result, "isEmpty")));
	assert_int_equal(number(&c, "totalLines"), 0);
	tool_call_fini(&c);
	put_file(b, "latin", "caf\xe9\n", 5);
	c = call(b, "read_file", "{\"path\":\"latin\"}");
	assert_string_equal(field(&c, "content"), "caf\xef\xbf\xbd\n");
	tool_call_fini(&c);
	expect_error(call(b, "read_file", "{\"path\":\"none\"}"), "not_found");
	expect_error(call(b, "read_file", "{\"path\":\".\"}"), "is_directory");
	expect_error(call(b, "read_file", "{\"path\":\"a.txt/b\"}"), "not_found");
}

static void put_large_picture(struct bench *b)
{
	size_t len = 1536 * 1024 + 1;
	AUTO_STR bytes = mem_alloc(len);

	memset(bytes, 0, len);
	memcpy(bytes, "\x89PNG\r\n\x1a\n", 8);
	put_file(b, "large.png", bytes, len);
}

static void test_read_limits(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	SH(b, "seq 1 5000 > work/many; head -c 5000 /dev/zero | tr '\\0' x > work/long; head -c 11000000 /dev/zero | "
	      "tr '\\0' "
	      "x > work/huge; seq 1 1000000 > work/wide");
	c = call(b, "read_file", "{\"path\":\"many\"}");
	assert_int_equal(number(&c, "totalLines"), 5000);
	assert_true(json_is_true(json_object_get(c.result, "exceededLimit")));
	assert_true(text_has_suffix(field(&c, "content"), "\n2000\n"));
	assert_true(strlen(c.model_text) <= 32 * 1024);
	tool_call_fini(&c);
	c = call(b, "read_file", "{\"path\":\"long\"}");
	assert_int_equal(strlen(field(&c, "content")), 2003);
	tool_call_fini(&c);
	c = call(b, "read_file", "{\"path\":\"wide\",\"limit\":1000000}");
	assert_true(strlen(field(&c, "content")) <= 1024 * 1024);
	assert_true(json_is_true(json_object_get(c.result, "exceededLimit")));
	tool_call_fini(&c);
	expect_error(call(b, "read_file", "{\"path\":\"huge\"}"), "too_large");
	put_file(b, "pic", "\x89PNG\r\n\x1a\n\0\0", 10);
	c = call(b, "read_file", "{\"path\":\"pic\"}");
	assert_int_equal(c.outcome, TOOL_SUCCESS);
	assert_string_equal(c.model_text, "[an image of type image/png and 10 bytes]");
	assert_int_equal(json_integer_value(json_array_get(json_object_get(c.result, "seenImages"), 0)), 0);
	tool_call_fini(&c);
	put_large_picture(b);
	c = call(b, "read_file", "{\"path\":\"large.png\"}");
	assert_non_null(strstr(c.model_text, "image/png, 1572865 bytes"));
	expect_error(c, "binary_file");
	put_file(b, "bin", "a\0b", 3);
	expect_error(call(b, "read_file", "{\"path\":\"bin\"}"), "binary_file");
}

static void test_write(void **state)
{
	struct bench *b = *state;
	struct tool_call c = call(b, "write_file", "{\"path\":\"x/y/z.txt\",\"contents\":\"a\\nb\"}");
	struct stat st;

	assert_outcome(&c, TOOL_SUCCESS);
	assert_int_equal(number(&c, "linesCreated"), 2);
	assert_int_equal(number(&c, "fileSize"), 3);
	assert_int_equal(json_object_size(c.result), 3);
	AUTO_STR want = str_printf("%s/x/y/z.txt", b->root);

	assert_string_equal(field(&c, "path"), want);
	assert_file(b, "x/y/z.txt", "a\nb");
	tool_call_fini(&c);
	SH(b, "chmod 751 work/x/y/z.txt");
	expect_success(call(b, "write_file", "{\"path\":\"x/y/z.txt\",\"fileText\":\"new\"}"));
	assert_file(b, "x/y/z.txt", "new");
	AUTO_STR path = str_printf("%s/x/y/z.txt", b->root);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0751);
	expect_error(call(b, "write_file", "{\"path\":\"x/y\",\"fileText\":\"\"}"), "is_directory");
	expect_error(call(b, "write_file", "{\"path\":\".\",\"fileText\":\"\"}"), "is_directory");
	expect_error(call(b, "write_file", "{\"path\":\"x/y/z.txt/w\",\"fileText\":\"\"}"), "not_found");
	/* No temporary file stays. */
	SH(b, "test \"$(ls -A work/x/y)\" = z.txt");
	AUTO_STR big = mem_zalloc(5 * 1024 * 1024 + 2);
	memset(big, 'x', 5 * 1024 * 1024 + 1);
	expect_error(call(b, "write_file", "{\"path\":\"big\",\"fileText\":\"%s\"}", big), "too_large");
	expect_success(
	    call(b, "write_file", "{\"path\":\"%s/note\",\"fileText\":\"x\"}", session_scratch_dir(b->session)));
}

static void test_delete(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	put_text(b, "gone", "1234");
	c = call(b, "delete_file", "{\"target_file\":\"gone\"}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_int_equal(json_integer_value(json_object_get(c.sdk_result, "fileSize")), 4);
	assert_true(text_has_suffix(field(&c, "deletedFile"), "/gone"));
	tool_call_fini(&c);
	expect_error(call(b, "delete_file", "{\"path\":\"gone\"}"), "not_found");
	SH(b, "mkdir work/dir; echo kept > out; ln -s ../out work/link");
	expect_error(call(b, "delete_file", "{\"path\":\"dir\"}"), "is_directory");
	expect_success(call(b, "delete_file", "{\"path\":\"link\"}"));
	SH(b, "test -e out -a ! -L work/link");
}

static void test_list(void **state)
{
	struct bench *b = *state;
	struct tool_call c;
	json_t *root;

	SH(b, "cd work; mkdir sub; touch sub/1 sub/2; echo hi > b.txt; ln -s b.txt l; touch node.o");
	c = call(b, "list_dir", "{\"target_directory\":\".\",\"ignore\":[\"*.o\"]}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_int_equal(json_array_size(json_object_get(c.result, "entries")), 3);
	assert_string_equal(c.model_text, "b.txt (3 bytes)\nl (link)\nsub/ (2 entries)\n");
	root = json_object_get(c.sdk_result, "directoryTreeRoot");
	assert_string_equal(json_string_value(json_object_get(root, "absPath")), b->root);
	assert_int_equal(json_integer_value(json_object_get(root, "numFiles")), 2);
	assert_int_equal(
	    json_integer_value(json_object_get(json_object_get(root, "fullSubtreeExtensionCounts"), ".txt")), 1);
	assert_int_equal(json_array_size(json_object_get(root, "childrenDirs")), 1);
	tool_call_fini(&c);
	SH(b, "cd work/sub; seq 1 1200 | xargs touch");
	c = call(b, "list_dir", "{\"path\":\"sub\"}");
	assert_int_equal(json_array_size(json_object_get(c.result, "entries")), 1000);
	assert_true(json_is_true(json_object_get(c.result, "truncated")));
	tool_call_fini(&c);
	expect_error(call(b, "list_dir", "{\"path\":\"b.txt\"}"), "not_found");
	expect_error(call(b, "list_dir", "{\"path\":\"none\"}"), "not_found");
}

static void test_hostile_names(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	SH(b, "cd work; printf x > \"$(printf 'bad\\377name')\"; printf needle > '-rf'; printf needle > \"$(printf "
	      "'new\\nline')\"; "
	      "printf needle > '$(touch pwned)'");
	c = call(b, "list_dir", "{}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_true(text_is_utf8(c.model_text, strlen(c.model_text)));
	tool_call_fini(&c);
	c = call(b, "grep_search", "{\"pattern\":\"needle\"}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_non_null(strstr(c.model_text, "-rf:1:needle"));
	assert_non_null(strstr(c.model_text, "$(touch pwned):1:needle"));
	assert_non_null(strstr(c.model_text, "new\nline:1:needle"));
	tool_call_fini(&c);
	c = call(b, "file_search", "{\"globPattern\":\"*line\"}");
	assert_int_equal(number(&c, "totalFiles"), 1);
	tool_call_fini(&c);
	expect_success(call(b, "read_file", "{\"path\":\"-rf\"}"));
	SH(b, "test ! -e work/pwned");
}

static void test_paths_cannot_escape(void **state)
{
	struct bench *b = *state;
	static const char *const paths[] = {"../secret", "x/../../secret", "%s/../secret", "%s/secret", "link/secret",
	    "abs-link", "rel-link", "updir/secret", "/etc/passwd", "/proc/self/root/etc/passwd"};

	SH(b,
	    "echo TOP > secret; cd -P work; echo TOP > ../secret; mkdir x; ln -s .. link; ln -s '%s/secret' abs-link; "
	    "ln -s ../secret rel-link; "
	    "ln -s "
	    "x/../.. updir",
	    b->dir);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		AUTO_STR path = str_printf(paths[i], i == 2 ? b->root : b->dir);

		expect_error(call(b, "read_file", "{\"path\":\"%s\"}", path), "path_outside_workspace");
		expect_error(
		    call(b, "write_file", "{\"path\":\"%s\",\"fileText\":\"x\"}", path), "path_outside_workspace");
		expect_error(
		    call(b, "edit_file", "{\"path\":\"%s\",\"old_string\":\"TOP\",\"new_string\":\"x\"}", path),
		    "path_outside_workspace");
		expect_error(
		    call(b, "grep_search", "{\"path\":\"%s\",\"pattern\":\"TOP\"}", path), "path_outside_workspace");
	}
	expect_error(call(b, "delete_file", "{\"path\":\"link/secret\"}"), "path_outside_workspace");
	expect_error(call(b, "delete_file", "{\"path\":\"../secret\"}"), "path_outside_workspace");
	expect_error(call(b, "list_dir", "{\"path\":\"..\"}"), "path_outside_workspace");
	expect_error(call(b, "list_dir", "{\"path\":\"link\"}"), "path_outside_workspace");
	expect_error(call(b, "file_search", "{\"path\":\"link\",\"globPattern\":\"*\"}"), "path_outside_workspace");
	expect_error(
	    call(b, "write_file", "{\"path\":\"link/new/file\",\"fileText\":\"x\"}"), "path_outside_workspace");
	SH(b, "test \"$(cat secret)\" = TOP && cd -P work && test \"$(cat ../secret)\" = TOP && test ! -e ../new && "
	      "test -L abs-link -a -L rel-link");
}

static void test_links_inside_work(void **state)
{
	struct bench *b = *state;

	SH(b,
	    "cd work; mkdir real; echo text > real/f; ln -s real rel; ln -s '%s/real' abs; ln -s real/f file-rel; ln "
	    "-s "
	    "'%s/real/f' file-abs; ln -s new-target dangling; mkdir deep; ln -s ../real/f deep/up; ln -s loop loop",
	    b->root, b->root);
	expect_success(call(b, "read_file", "{\"path\":\"rel/f\"}"));
	expect_success(call(b, "read_file", "{\"path\":\"abs/f\"}"));
	expect_success(call(b, "read_file", "{\"path\":\"file-rel\"}"));
	expect_success(call(b, "read_file", "{\"path\":\"file-abs\"}"));
	expect_success(call(b, "read_file", "{\"path\":\"deep/up\"}"));
	expect_success(call(b, "list_dir", "{\"path\":\"abs\"}"));
	expect_success(call(b, "write_file", "{\"path\":\"file-abs\",\"fileText\":\"1\"}"));
	assert_file(b, "real/f", "1");
	expect_success(call(b, "write_file", "{\"path\":\"deep/up\",\"fileText\":\"2\"}"));
	assert_file(b, "real/f", "2");
	expect_success(call(b, "write_file", "{\"path\":\"abs/sub/g\",\"fileText\":\"3\"}"));
	assert_file(b, "real/sub/g", "3");
	expect_success(call(b, "write_file", "{\"path\":\"dangling\",\"fileText\":\"4\"}"));
	assert_file(b, "new-target", "4");
	SH(b, "cd work; test -L file-abs -a -L deep/up -a -L dangling");
	expect_error(call(b, "read_file", "{\"path\":\"loop\"}"), "path_outside_workspace");
	expect_error(call(b, "write_file", "{\"path\":\"loop\",\"fileText\":\"\"}"), "path_outside_workspace");
}

struct swapper {
	struct bench *b;
	bool stop;
};

/* Lets `spot` be a folder inside and a link to the outside in turn, as fast as it goes. */
static void *swap(void *arg)
{
	struct swapper *s = arg;
	AUTO_STR spot = str_printf("%s/spot", s->b->root);
	AUTO_STR link = str_printf("%s/link", s->b->root);

	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED))
		assert_int_equal(renameat2(AT_FDCWD, spot, AT_FDCWD, link, RENAME_EXCHANGE), 0);
	return NULL;
}

static void test_link_swapped_during_the_call(void **state)
{
	struct bench *b = *state;
	struct swapper s = {.b = b};
	pthread_t t;
	int inside = 0, refused = 0;

	SH(b, "mkdir outside work/spot; echo SECRET > outside/f; echo fine > work/spot/f; ln -s '%s/outside' work/link",
	    b->dir);
	assert_int_equal(pthread_create(&t, NULL, swap, &s), 0);
	for (int64_t end = clock_mono_ms() + 1500; clock_mono_ms() < end;) {
		struct tool_call c = call(b, "read_file", "{\"path\":\"spot/f\"}");

		assert_null(strstr(c.model_text, "SECRET"));
		inside += c.outcome == TOOL_SUCCESS;
		refused += c.outcome == TOOL_ERROR;
		tool_call_fini(&c);
		c = call(b, "write_file", "{\"path\":\"spot/f\",\"fileText\":\"fine\\n\"}");
		tool_call_fini(&c);
		c = call(b, "delete_file", "{\"path\":\"spot/other\"}");
		assert_outcome(&c, TOOL_ERROR);
		tool_call_fini(&c);
		if ((inside + refused) % 16 != 0)
			continue;
		c = call(b, "grep_search", "{\"path\":\"spot/f\",\"pattern\":\"SECRET\"}");
		assert_true(c.outcome == TOOL_ERROR || strstr(c.model_text, "No matches") != NULL);
		tool_call_fini(&c);
	}
	__atomic_store_n(&s.stop, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	assert_true(inside > 0 && refused > 0);
	SH(b, "test \"$(cat outside/f)\" = SECRET -a \"$(ls -A outside)\" = f");
}

static void test_fifo_and_socket_do_not_block(void **state)
{
	struct bench *b = *state;

	SH(b, "mkfifo work/fifo; ln -s /dev/zero work/dev");
	expect_error(call(b, "read_file", "{\"path\":\"fifo\"}"), "not_a_file");
	expect_error(call(b, "write_file", "{\"path\":\"fifo\",\"fileText\":\"x\"}"), "not_a_file");
	expect_error(
	    call(b, "edit_file", "{\"path\":\"fifo\",\"old_string\":\"a\",\"new_string\":\"b\"}"), "not_a_file");
	expect_error(call(b, "grep_search", "{\"path\":\"fifo\",\"pattern\":\"x\"}"), "not_a_file");
	expect_error(call(b, "read_file", "{\"path\":\"dev\"}"), "path_outside_workspace");
	expect_success(call(b, "grep_search", "{\"pattern\":\"x\"}"));
	expect_success(call(b, "delete_file", "{\"path\":\"fifo\"}"));
}

static void test_file_search(void **state)
{
	struct bench *b = *state;
	struct tool_call c;
	json_t *files;

	SH(b, "cd work; mkdir -p src/deep build .git .github; touch -d 2020-01-01 src/old.c; touch -d 2021-01-01 "
	      "src/deep/new.c; touch "
	      "build/x.c src/a.h .git/y.c .github/z.c; touch -d 2019-01-01 .github/z.c; echo build > .gitignore; echo "
	      "'*.h' >> "
	      ".gitignore");
	c = call(b, "glob", "{\"glob_pattern\":\"*.c\"}");
	assert_outcome(&c, TOOL_SUCCESS);
	files = json_object_get(c.result, "files");
	assert_int_equal(json_array_size(files), 3);
	assert_string_equal(json_string_value(json_array_get(files, 0)), "src/deep/new.c");
	assert_string_equal(json_string_value(json_array_get(files, 1)), "src/old.c");
	assert_string_equal(json_string_value(json_array_get(files, 2)), ".github/z.c");
	assert_int_equal(json_object_size(c.sdk_result), 4);
	tool_call_fini(&c);
	c = call(b, "file_search", "{\"globPattern\":\"deep/*\",\"targetDirectory\":\"src\"}");
	assert_string_equal(c.model_text, "src/deep/new.c\n");
	tool_call_fini(&c);
	c = call(b, "file_search", "{\"globPattern\":\"*.h\"}");
	assert_string_equal(c.model_text, "No files found.\n");
	assert_int_equal(number(&c, "totalFiles"), 0);
	tool_call_fini(&c);
	SH(b, "cd work; mkdir lots; cd lots; seq -f %%g.q 1 700 | xargs touch");
	c = call(b, "file_search", "{\"globPattern\":\"**/*.q\"}");
	assert_int_equal(json_array_size(json_object_get(c.result, "files")), 500);
	assert_int_equal(number(&c, "totalFiles"), 700);
	assert_true(json_is_true(json_object_get(c.result, "clientTruncated")));
	tool_call_fini(&c);
	expect_error(call(b, "file_search", "{\"globPattern\":\"*\",\"path\":\"src/old.c\"}"), "not_found");
}

static json_t *in_root(const json_t *result, struct bench *b, const char *key)
{
	json_t *r = json_object_get(json_object_get(json_object_get(result, "workspaceResults"), b->root), key);

	assert_non_null(r);
	return r;
}

static void test_grep(void **state)
{
	struct bench *b = *state;
	struct tool_call c;
	json_t *content, *file, *sdk;

	SH(b, "cd work; mkdir d; printf 'one\\nfoo two\\nthree\\n' > d/a.c; printf 'Foo\\nfoo\\nfoo\\n' > b.txt; echo "
	      "foo > ignored; echo "
	      "ignored > .gitignore; printf 'foo\\0' > bin");
	c = call(b, "grep", "{\"pattern\":\"foo\",\"-C\":1,\"path\":\"d\"}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_string_equal(c.model_text, "d/a.c-1-one\nd/a.c:2:foo two\nd/a.c-3-three\n");
	content = in_root(c.result, b, "content");
	assert_int_equal(json_integer_value(json_object_get(content, "totalLines")), 3);
	assert_int_equal(json_integer_value(json_object_get(content, "totalMatchedLines")), 1);
	file = json_array_get(json_object_get(content, "matches"), 0);
	assert_string_equal(json_string_value(json_object_get(file, "file")), "d/a.c");
	sdk = json_array_get(json_object_get(in_root(c.sdk_result, b, "output"), "matches"), 0);
	assert_string_equal(json_string_value(json_object_get(sdk, "line")), "foo two");
	assert_string_equal(json_string_value(json_array_get(json_object_get(sdk, "beforeContext"), 0)), "one");
	assert_string_equal(json_string_value(json_array_get(json_object_get(sdk, "afterContext"), 0)), "three");
	tool_call_fini(&c);
	c = call(b, "grep_search", "{\"pattern\":\"foo\",\"output_mode\":\"files_with_matches\",\"-i\":true}");
	assert_string_equal(c.model_text, "b.txt\nd/a.c\n");
	assert_int_equal(json_integer_value(json_object_get(in_root(c.result, b, "files"), "totalFiles")), 2);
	tool_call_fini(&c);
	c = call(b, "grep_search", "{\"pattern\":\"foo\",\"outputMode\":\"count\"}");
	assert_string_equal(c.model_text, "b.txt: 2\nd/a.c: 1\n");
	assert_int_equal(json_integer_value(json_object_get(in_root(c.sdk_result, b, "output"), "total")), 3);
	tool_call_fini(&c);
	c = call(b, "grep_search", "{\"pattern\":\"foo\",\"path\":\"b.txt\",\"outputMode\":\"count\"}");
	assert_string_equal(c.model_text, "b.txt: 2\n");
	tool_call_fini(&c);
	c = call(b, "grep_search", "{\"pattern\":\"foo\",\"path\":\"b.txt\",\"outputMode\":\"files_with_matches\"}");
	assert_string_equal(c.model_text, "b.txt\n");
	tool_call_fini(&c);
	c = call(b, "grep_search", "{\"pattern\":\"^foo\",\"path\":\"%s/b.txt\"}", b->root);
	assert_string_equal(c.model_text, "b.txt:2:foo\nb.txt:3:foo\n");
	tool_call_fini(&c);
	c = call(b, "grep_search", "{\"pattern\":\"one.foo\",\"multiline\":true,\"glob\":\"*.c\"}");
	assert_string_equal(c.model_text, "d/a.c:1:one\nd/a.c:2:foo two\n");
	tool_call_fini(&c);
	c = call(b, "grep_search", "{\"pattern\":\"--pre=touch\"}");
	assert_string_equal(c.model_text, "No matches found.\n");
	tool_call_fini(&c);
	expect_error(call(b, "grep_search", "{\"pattern\":\"(\"}"), "invalid_pattern");
	expect_error(call(b, "grep_search", "{\"pattern\":\"x\",\"type\":\"nonsense\"}"), "invalid_pattern");
}

static void test_grep_limits(void **state)
{
	struct bench *b = *state;
	struct tool_call c;

	SH(b, "seq 1 100000 > work/many; (head -c 600 /dev/zero | tr '\\0' y; echo) > work/long; printf 'caf\\351 "
	      "y\\n' > work/latin");
	c = call(b, "grep_search", "{\"pattern\":\"[0-9]\",\"glob\":\"many\"}");
	assert_outcome(&c, TOOL_SUCCESS);
	assert_int_equal(
	    json_integer_value(json_object_get(in_root(c.result, b, "content"), "totalMatchedLines")), 300);
	assert_true(json_is_true(json_object_get(in_root(c.result, b, "content"), "truncated")));
	tool_call_fini(&c);
	c = call(b, "grep_search", "{\"pattern\":\"[0-9]\",\"head_limit\":2}");
	assert_non_null(strstr(c.model_text, "many:1:1\nmany:2:2\n(there are more"));
	tool_call_fini(&c);
	c = call(b, "grep_search", "{\"pattern\":\"y+\",\"path\":\"long\"}");
	assert_true(strlen(c.model_text) < 520);
	tool_call_fini(&c);
	c = call(b, "grep_search", "{\"pattern\":\"caf\",\"path\":\"latin\"}");
	assert_string_equal(c.model_text, "latin:1:caf\xef\xbf\xbd y\n");
	tool_call_fini(&c);
}

static void check_glob(const char *pattern, const char *path, bool want)
{
	if (glob_matches(pattern, path) != want)
		fail_msg("%s and %s", pattern, path);
}

/* Patterns of a repository that cost much to say no: the budget is spent soon after, and stays spent. */
static void test_wild_globs(void **state)
{
	static const char *const heads[] = {"*{", "*[", "{*,", "**/{"}, *const path =
									    "aaaaaaaaaa/aaaaaaaaaa/aaaaaaaaaa";
	char pattern[100 * 1024];
	int budget = 1000;

	assert_false(glob_matches_within("*a*a*a*a*a*a*a*a*a*b", path + 22, &budget));
	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		memset(pattern, i == 2 ? ',' : '{', sizeof pattern);
		memcpy(pattern, heads[i], strlen(heads[i]));
		pattern[sizeof pattern - 1] = '\0';
		if (i == 2)
			memcpy(pattern + sizeof pattern - 3, "}x", 3);
		budget = 5000;
		assert_false(glob_matches_within(pattern, path, &budget));
		assert_true(budget <= 0 && budget > -10000);
	}
	budget = 100;
	/* A 'b' is there, or it would be no work to see that there is none. */
	assert_false(glob_matches_within("*a*a*a*a*a*a*b", "baaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &budget));
	assert_true(budget <= 0 && budget > -100);
}

static void test_globs(void **state)
{
	check_glob("*.c", "a.c", true);
	check_glob("*.c", "d/a.c", false);
	check_glob("**/*.c", "a.c", true);
	check_glob("**/*.c", "d/e/a.c", true);
	check_glob("src/**", "src/a/b", true);
	check_glob("src/**/b", "src/b", true);
	check_glob("src/**/b", "src/x/y/b", true);
	check_glob("src/**/b", "srcx/b", false);
	check_glob("**/{a,b*}.{c,h}", "x/bcd.h", true);
	check_glob("**/{a,b*}.{c,h}", "x/c.h", false);
	check_glob("{a,{b,c}}", "c", true);
	check_glob("a?c", "abc", true);
	check_glob("a?c", "a/c", false);
	check_glob("[a-c]x", "bx", true);
	check_glob("[!a-c]x", "bx", false);
	check_glob("[]]x", "]x", true);
	check_glob("[a", "[a", true);
	check_glob("{a", "{a", true);
	check_glob("\\*", "*", true);
	check_glob("\\*", "x", false);
	check_glob("", "", true);
	check_glob("**", "a/b", true);
	/* Does not take for ever. */
	check_glob("*a*a*a*a*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false);
	check_glob("{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{", "x", false);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_bench, teardown_bench)

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_catalogue),
	    T(test_a_session_adds_tools_and_takes_them_away), cmocka_unit_test(test_the_catalogue_has_an_end),
	    T(test_hooks_stand_before_and_behind_every_tool), T(test_unknown_tool), T(test_arguments_are_checked),
	    T(test_arguments_written_as_texts), T(test_home_is_no_folder), T(test_read), T(test_read_limits),
	    T(test_write), T(test_delete), T(test_list), T(test_hostile_names), T(test_paths_cannot_escape),
	    T(test_links_inside_work), T(test_link_swapped_during_the_call), T(test_fifo_and_socket_do_not_block),
	    T(test_file_search), T(test_grep), T(test_grep_limits), cmocka_unit_test(test_globs),
	    cmocka_unit_test(test_wild_globs)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
