/* A client's session against a server that is a list of rules: what it answers to which method. */
#include "mcp/result.h"
#include "mcp/tools.h"
#include "peer.h"

static void test_initialize(void **state)
{
	struct peer p;
	struct why why = {""};

	peer_begin(&p, answer_hello);
	assert_int_equal(mcp_session_initialize(p.s, NULL, &why), OK);
	assert_string_equal(mcp_session_version(p.s), "2025-06-18");
	assert_string_equal(mcp_session_instructions(p.s), "Be kind.");
	assert_true(mcp_session_tells_changes(p.s));
	assert_int_equal(p.n_sent, 2);
	assert_non_null(strstr(p.sent[0], "\"protocolVersion\":\"2025-11-25\""));
	assert_non_null(strstr(p.sent[0], "\"roots\":{\"listChanged\":true}"));
	assert_non_null(strstr(p.sent[1], "notifications/initialized"));
	mcp_session_roots_changed(p.s);
	assert_int_equal(p.n_sent, 3);
	assert_non_null(strstr(p.sent[2], "notifications/roots/list_changed"));
	peer_end(&p);
}

static void answer_strange_version(struct peer *p, const char *method, int64_t id, const json_t *msg)
{
	say_result(p, id, "{\"protocolVersion\":\"1999-01-01\",\"capabilities\":{}}");
}

static void answer_supported(struct peer *p, const char *method, int64_t id, const json_t *msg)
{
	const char *v = json_string_value(json_object_get(json_object_get(msg, "params"), "protocolVersion"));

	if (strcmp(method, "initialize") != 0)
		return;
	if (strcmp(v, "2025-03-26") != 0)
		say_error(p, id,
		    "{\"code\":-32602,\"message\":\"no\",\"data\":{\"supported\":[\"2024-11-05\",\"2025-03-26\"]}}");
	else
		say_result(p, id, "{\"protocolVersion\":\"2025-03-26\",\"capabilities\":{}}");
}

static void answer_nothing(struct peer *p, const char *method, int64_t id, const json_t *msg)
{
}

static void test_versions(void **state)
{
	struct peer p;
	struct why why = {""};

	peer_begin(&p, answer_strange_version);
	assert_int_equal(mcp_session_initialize(p.s, NULL, &why), ERR_PROTOCOL);
	assert_string_equal(why.text, "unsupported protocol version 1999-01-01");
	peer_end(&p);
	peer_begin(&p, answer_supported);
	assert_int_equal(mcp_session_initialize(p.s, NULL, &why), OK);
	assert_string_equal(mcp_session_version(p.s), "2025-03-26");
	peer_end(&p);
	peer_begin(&p, answer_nothing);
	assert_int_equal(mcp_session_initialize(p.s, NULL, &why), ERR_TIMEOUT);
	assert_null(strstr(last_sent(&p), "cancelled")); /* never for initialize */
	peer_end(&p);
}

/* Batches are of two versions only. */
static void test_batch(void **state)
{
	struct peer p;
	const char *batch = "[{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"ping\"},"
			    "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"roots/list\"}]";

	peer_begin(&p, answer_supported);
	assert_int_equal(mcp_session_initialize(p.s, NULL, NULL), OK);
	assert_int_equal(say(&p, batch), OK);
	assert_string_equal(p.sent[p.n_sent - 2], "{\"id\":\"a\",\"result\":{},\"jsonrpc\":\"2.0\"}");
	assert_non_null(strstr(last_sent(&p), "file:///w/app"));
	peer_end(&p);
	peer_begin(&p, answer_hello);
	assert_int_equal(mcp_session_initialize(p.s, NULL, NULL), OK);
	assert_int_equal(say(&p, batch), ERR_PROTOCOL);
	assert_int_equal(p.n_sent, 2);
	peer_end(&p);
}

static void test_nonsense(void **state)
{
	static const char *const bad[] = {"{", "[]", "7", "{\"jsonrpc\":\"1.0\",\"method\":\"ping\",\"id\":1}",
	    "{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"id\":null}",
	    "{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"id\":1.5}", "\xff"};
	static const char *const harmless[] = {"{\"jsonrpc\":\"2.0\",\"id\":99,\"result\":{}}",
	    "{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":{}}", "{\"jsonrpc\":\"2.0\"}",
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":[]}",
	    "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/what\"}"};
	struct peer p;

	peer_begin(&p, answer_hello);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_not_equal(say(&p, bad[i]), OK);
	for (size_t i = 0; i < ARRAY_LEN(harmless); i++)
		assert_int_equal(say(&p, harmless[i]), OK);
	assert_int_equal(p.n_sent, 0);
	assert_int_equal(say(&p, "{\"jsonrpc\":\"2.0\",\"method\":\"sampling/createMessage\",\"id\":1}"), OK);
	assert_non_null(strstr(last_sent(&p), "-32601"));
	assert_int_equal(mcp_session_initialize(p.s, NULL, NULL), OK);
	assert_int_equal(say(&p, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}"), OK);
	assert_int_equal(p.changed, 1);
	peer_end(&p);
}

static void answer_pages(struct peer *p, const char *method, int64_t id, const json_t *msg)
{
	const char *cursor = json_string_value(json_object_get(json_object_get(msg, "params"), "cursor"));

	answer_hello(p, method, id, msg);
	if (strcmp(method, "tools/list") != 0)
		return;
	if (cursor == NULL)
		say_result(
		    p, id, "{\"tools\":[{\"name\":\"b\",\"inputSchema\":{\"type\":\"object\"}}],\"nextCursor\":\"x\"}");
	else
		say_result(p, id,
		    "{\"tools\":[{\"name\":\"a\",\"inputSchema\":{\"$schema\":\"s\",\"type\":\"object\"},\"title\":"
		    "\"A\"},"
		    "{\"name\":\"a\",\"inputSchema\":{\"type\":\"object\"}},{\"name\":\"c\"},"
		    "{\"name\":\"d\",\"inputSchema\":{\"type\":\"object\",\"properties\":{\"x\":{\"$ref\":\"http://e/"
		    "\"}}}},"
		    "{\"name\":\"e\",\"inputSchema\":{\"type\":\"object\"},\"execution\":{\"taskSupport\":\"required\"}"
		    "},5],"
		    "\"nextCursor\":\"x\"}");
}

static void test_list(void **state)
{
	struct peer p;
	AUTO_JSON tools = NULL;
	AUTO_JSON warnings = NULL;
	AUTO_STR text = NULL;

	peer_begin(&p, answer_pages);
	assert_int_equal(mcp_session_initialize(p.s, NULL, NULL), OK);
	assert_int_equal(mcp_session_list(p.s, NULL, &tools, &warnings, NULL), OK);
	text = json_text(tools);
	assert_string_equal(text, "[{\"name\":\"a\",\"title\":\"A\",\"inputSchema\":{\"type\":\"object\"}},"
				  "{\"name\":\"b\",\"inputSchema\":{\"type\":\"object\"}}]");
	assert_int_equal(json_array_size(warnings), 6);
	peer_end(&p);
}

/* The first call is answered well, "slow" with progress and then, "never" not at all. */
static void answer_calls(struct peer *p, const char *method, int64_t id, const json_t *msg)
{
	const char *tool = json_string_value(json_object_get(json_object_get(msg, "params"), "name"));

	answer_hello(p, method, id, msg);
	if (tool == NULL)
		return;
	if (strcmp(tool, "good") == 0)
		say_result(p, id, "{\"content\":[{\"type\":\"text\",\"text\":\"fine\"}]}");
	if (strcmp(tool, "error") == 0)
		say_error(p, id, "{\"code\":-32602,\"message\":\"no\\nsuch tool\"}");
	if (strcmp(tool, "nul") == 0)
		say_result(p, id, "{\"content\":[{\"type\":\"text\",\"text\":\"a\\u0000b\\\\u0000\"}]}");
	if (strcmp(tool, "both") == 0) {
		AUTO_STR text =
		    str_printf("{\"jsonrpc\":\"2.0\",\"id\":%lld,\"result\":{},\"error\":{}}", (long long)id);
		assert_int_equal(say(p, text), OK);
	}
	if (strcmp(tool, "twice") == 0) {
		say_result(p, id, "{\"content\":[]}");
		say_result(p, id, "{\"content\":[],\"isError\":true}");
	}
	if (strcmp(tool, "progress") == 0) {
		static const double steps[] = {1, 1, 0.5, 2};
		for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
			AUTO_STR text =
			    str_printf("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{"
				       "\"progressToken\":%lld,\"progress\":%f,\"message\":\"m%zu\"}}",
				(long long)id, steps[i], i);
			int64_t until;

			assert_int_equal(say(p, text), OK);
			assert_true(mcp_session_waits(p->s, id, &until));
		}
		say_result(p, id, "{\"content\":[]}");
	}
	if (strcmp(tool, "stop") == 0)
		atomic_store(&p->stop, true);
}

static void note_progress(void *ctx, double done, double total, const char *message)
{
	struct strbuf *b = ctx;

	assert_true(total < 0);
	strbuf_addf(b, "%g %s,", done, message);
}

static int call(struct peer *p, const char *tool, struct mcp_answer *a, struct strbuf *progress, struct why *why)
{
	AUTO_JSON args = json_object();

	return mcp_session_call(p->s,
	    &(struct mcp_call){.tool = tool,
		.arguments = args,
		.stop = &p->stop,
		.progress = progress != NULL ? note_progress : NULL,
		.ctx = progress},
	    a, why);
}

static void test_calls(void **state)
{
	struct peer p;
	struct mcp_answer a = {0};
	struct why why = {""};
	AUTO_FINI(strbuf) progress = STRBUF(1000);

	peer_begin(&p, answer_calls);
	assert_int_equal(mcp_session_initialize(p.s, NULL, NULL), OK);
	assert_int_equal(call(&p, "good", &a, NULL, &why), OK);
	assert_non_null(a.result);
	mcp_answer_fini(&a);
	assert_int_equal(call(&p, "error", &a, NULL, &why), OK);
	AUTO_STR said = mcp_error_text(a.error);
	assert_string_equal(said, "The MCP server answered with an error: no such tool (-32602)");
	mcp_answer_fini(&a);
	assert_int_equal(call(&p, "nul", &a, NULL, &why), OK);
	AUTO_STR text = json_text(a.result);
	assert_non_null(strstr(text, "a\xef\xbf\xbd"
				     "b\\\\u0000"));
	mcp_answer_fini(&a);
	assert_int_equal(call(&p, "both", &a, NULL, &why), ERR_PROTOCOL);
	assert_int_equal(call(&p, "twice", &a, NULL, &why), OK);
	assert_null(json_object_get(a.result, "isError"));
	mcp_answer_fini(&a);
	assert_int_equal(call(&p, "progress", &a, &progress, &why), OK);
	assert_string_equal(strbuf_str(&progress), "1 m0,2 m3,");
	mcp_answer_fini(&a);
	assert_int_equal(call(&p, "never", &a, NULL, &why), ERR_TIMEOUT);
	assert_non_null(strstr(last_sent(&p), "notifications/cancelled"));
	assert_int_equal(call(&p, "stop", &a, NULL, &why), ERR_CANCELLED);
	assert_non_null(strstr(last_sent(&p), "notifications/cancelled"));
	atomic_store(&p.stop, false);
	p.deaf = true;
	assert_int_equal(call(&p, "good", &a, NULL, &why), ERR_FULL);
	p.deaf = false;
	mcp_session_close(p.s, "the server has ended");
	assert_int_equal(call(&p, "good", &a, NULL, &why), ERR_CLOSED);
	assert_string_equal(why.text, "the server has ended");
	peer_end(&p);
}

static void outcome(const char *text, const char *tool, struct mcp_outcome *o)
{
	AUTO_JSON r = NULL;
	AUTO_JSON t = NULL;

	assert_int_equal(json_parse(text, strlen(text), &r, NULL), OK);
	if (tool != NULL)
		assert_int_equal(json_parse(tool, strlen(tool), &t, NULL), OK);
	mcp_outcome_from(r, t, 1000, NULL, o);
}

static void test_results(void **state)
{
	struct mcp_outcome o;

	outcome("{\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
		"{\"type\":\"text\",\"text\":\"hidden\",\"annotations\":{\"audience\":[\"user\"]}},"
		"{\"type\":\"image\",\"data\":\"aGk=\",\"mimeType\":\"image/png\"},"
		"{\"type\":\"audio\",\"data\":\"aGk=\",\"mimeType\":\"audio/wav\"},"
		"{\"type\":\"resource_link\",\"uri\":\"file:///x\",\"name\":\"x\"},"
		"{\"type\":\"resource\",\"resource\":{\"uri\":\"u:1\",\"text\":\"body\"}},"
		"{\"type\":\"resource\",\"resource\":{\"uri\":\"u:2\",\"blob\":\"aGk=\"}},{\"type\":\"new\"},7],"
		"\"isError\":true}",
	    NULL, &o);
	assert_true(o.failed);
	assert_int_equal(json_array_size(json_object_get(o.result, MCP_SEEN_IMAGES)), 1);
	assert_int_equal(json_integer_value(json_array_get(json_object_get(o.result, MCP_SEEN_IMAGES), 0)), 2);
	assert_null(strstr(o.text, "hidden"));
	assert_int_equal(strncmp(o.text, "a\n[an image of type image/png", 29), 0);
	assert_non_null(strstr(o.text, "[link to x: file:///x]"));
	assert_non_null(strstr(o.text, "[resource u:1]\nbody"));
	assert_non_null(strstr(o.text, "unknown type 'new'"));
	assert_int_equal(json_array_size(json_object_get(o.result, "content")), 9);
	mcp_outcome_fini(&o);
	outcome("{\"structuredContent\":{\"n\":1}}",
	    "{\"outputSchema\":{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"string\"}}}}", &o);
	assert_string_equal(o.text, "{\"n\":1}");
	assert_non_null(strstr(o.warning, "'n' must be of type"));
	mcp_outcome_fini(&o);
	/* Nothing at all is a result, too. */
	outcome("{}", NULL, &o);
	assert_string_equal(o.text, "");
	mcp_outcome_fini(&o);
}

static void test_large_results(void **state)
{
	AUTO_STR many = mem_alloc(MCP_RESULT_MAX + 100);
	AUTO_JSON r = NULL;
	struct mcp_outcome o;

	memset(many, 'x', MCP_RESULT_MAX + 99);
	many[MCP_RESULT_MAX + 99] = '\0';
	r = json_pack("{s:[{s:s, s:s}]}", "content", "type", "text", "text", many);
	mcp_outcome_from(r, NULL, 1000, NULL, &o);
	assert_true(o.failed);
	assert_true(strlen(o.text) < 200);
	mcp_outcome_fini(&o);
	many[100000] = '\0';
	json_decref(r);
	r = json_pack("{s:[{s:s, s:s}, {s:s, s:s, s:s}]}", "content", "type", "text", "text", many, "type", "image",
	    "data", many, "mimeType", "image/png");
	mcp_outcome_from(r, NULL, 1000, NULL, &o);
	assert_false(o.failed);
	assert_true(strlen(o.text) <= MCP_TEXT_MAX);
	assert_null(json_object_get(o.result, MCP_SEEN_IMAGES));
	mcp_outcome_fini(&o);
}

static void expect_fault(const char *schema, const char *args, const char *fault)
{
	AUTO_JSON s = NULL;
	AUTO_JSON a = NULL;
	struct why why = {""};

	assert_int_equal(json_parse(schema, strlen(schema), &s, NULL), OK);
	assert_int_equal(json_parse(args, strlen(args), &a, NULL), OK);
	assert_int_equal(mcp_arguments_check(s, a, &why), fault[0] != '\0' ? ERR_INVALID : OK);
	assert_string_equal(why.text, fault);
}

static void test_arguments(void **state)
{
	const char *schema =
	    "{\"type\":\"object\",\"required\":[\"m\"],\"additionalProperties\":false,\"properties\":{"
	    "\"m\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"},\"e\":{\"enum\":[\"x\",1]},"
	    "\"l\":{\"type\":\"array\",\"items\":{\"type\":[\"string\",\"null\"]}},\"f\":{\"type\":\"rare\"}}}";

	expect_fault(schema, "{\"m\":\"a\",\"n\":2,\"e\":1,\"l\":[\"x\",null],\"f\":3}", "");
	expect_fault(schema, "{}", "'m' is required");
	expect_fault(schema, "{\"m\":1}", "'m' must be of type \"string\"");
	expect_fault(schema, "{\"m\":\"\",\"n\":1.5}", "'n' must be of type \"integer\"");
	expect_fault(schema, "{\"m\":\"\",\"z\":1}", "'z' is not an argument of this tool");
	expect_fault(schema, "{\"m\":\"\",\"e\":2}", "'e' must be one of [\"x\",1]");
	expect_fault(schema, "{\"m\":\"\",\"l\":[\"a\",5]}", "'l[1]' must be of type [\"string\",\"null\"]");
	expect_fault("{}", "{\"a\":1}", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_initialize),
	    cmocka_unit_test(test_versions),
	    cmocka_unit_test(test_batch),
	    cmocka_unit_test(test_nonsense),
	    cmocka_unit_test(test_list),
	    cmocka_unit_test(test_calls),
	    cmocka_unit_test(test_results),
	    cmocka_unit_test(test_large_results),
	    cmocka_unit_test(test_arguments),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
