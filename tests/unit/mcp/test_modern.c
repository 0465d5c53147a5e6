/* The stateless revision: how it is found, what its requests say, what its answers may be. */
#include "mcp/eras.h"
#include "mcp/headers.h"
#include "mcp/tools.h"
#include "peer.h"

static const char *discovered =
    "{\"resultType\":\"complete\",\"supportedVersions\":[\"2026-07-28\",\"2027-01-01\"],\"capabilities\":{\"tools\":{"
    "\"listChanged\":true},\"logging\":{}},\"instructions\":\"Be modern.\",\"ttlMs\":0,\"cacheScope\":\"private\"}";

/* What each tool of a modern server answers. */
static void answer_modern_call(struct peer *p, int64_t id, const json_t *params)
{
	const char *tool = json_string_value(json_object_get(params, "name"));
	const json_t *given = json_object_get(params, "inputResponses");

	if (strcmp(tool, "plain") == 0)
		say_result(p, id, "{\"content\":[{\"type\":\"text\",\"text\":\"no type\"}]}");
	else if (strcmp(tool, "odd") == 0)
		say_result(p, id, "{\"resultType\":\"dream\",\"content\":[]}");
	else if (strcmp(tool, "model") == 0)
		say_result(p, id,
		    "{\"resultType\":\"input_required\",\"inputRequests\":{\"a\":{\"method\":\"sampling/"
		    "createMessage\"}}}");
	else if (strcmp(tool, "empty") == 0)
		say_result(p, id, "{\"resultType\":\"input_required\",\"inputRequests\":[7]}");
	else if (strcmp(tool, "asks") == 0 && given != NULL)
		say_result(
		    p, id, "{\"resultType\":\"complete\",\"content\":[{\"type\":\"text\",\"text\":\"well then\"}]}");
	else if (strcmp(tool, "asks") == 0 || strcmp(tool, "insists") == 0)
		say_result(p, id,
		    "{\"resultType\":\"input_required\",\"inputRequests\":{\"k\":{\"method\":\"elicitation/create\","
		    "\"params\":{}}},\"requestState\":\"s\\u00e9crit\"}");
}

/* Knows no initialize. */
static void answer_modern(struct peer *p, const char *method, int64_t id, const json_t *msg)
{
	const json_t *params = json_object_get(msg, "params"), *meta = json_object_get(params, "_meta");

	if (strcmp(method, "initialize") == 0) {
		say_error(p, id, "{\"code\":-32601,\"message\":\"no\"}");
		return;
	}
	if (id == 0)
		return;
	assert_string_equal(
	    json_string_value(json_object_get(meta, "io.modelcontextprotocol/protocolVersion")), "2026-07-28");
	assert_int_equal(json_object_size(json_object_get(meta, "io.modelcontextprotocol/clientCapabilities")), 0);
	assert_true(json_is_object(json_object_get(meta, "io.modelcontextprotocol/clientInfo")));
	if (strcmp(method, "server/discover") == 0)
		say_result(p, id, discovered);
	else if (strcmp(method, "tools/list") == 0)
		say_result(p, id,
		    "{\"resultType\":\"complete\",\"ttlMs\":90000,\"tools\":[{\"name\":\"plain\",\"inputSchema\":{"
		    "\"type\":\"object\"}}"
		    ","
		    "{\"name\":\"lost\",\"inputSchema\":{\"type\":\"object\",\"properties\":{\"o\":{\"type\":"
		    "\"object\","
		    "\"x-mcp-header\":\"O\"}}}}]}");
	else if (strcmp(method, "tools/call") == 0)
		answer_modern_call(p, id, params);
	else
		fail_msg("a modern server was sent %s", method);
}

static void http_begin(struct peer *p, void (*on)(struct peer *, const char *, int64_t, const json_t *))
{
	*p = (struct peer){.on = on};
	p->s = mcp_session_new(
	    &(struct mcp_transport){
		.send = peer_send, .tools_changed = peer_changed, .log = peer_log, .is_http = true, .ctx = p},
	    &TIMES);
}

/* Over stdio: forward from initialize, a subscription, no ping, nothing answered. */
static void test_modern(void **state)
{
	struct peer p;
	struct why why = {""};
	AUTO_JSON tools = NULL;
	AUTO_JSON warnings = NULL;
	size_t n;

	peer_begin(&p, answer_modern);
	assert_int_equal(mcp_session_initialize(p.s, NULL, &why), OK);
	assert_true(mcp_session_is_modern(p.s));
	assert_string_equal(mcp_session_version(p.s), "2026-07-28");
	assert_string_equal(mcp_session_instructions(p.s), "Be modern.");
	assert_int_equal(p.n_sent, 3);
	assert_non_null(strstr(p.sent[1], "server/discover"));
	assert_null(strstr(p.sent[1], "logLevel"));
	assert_non_null(strstr(p.sent[2], "\"method\":\"subscriptions/listen\""));
	assert_non_null(strstr(p.sent[2], "\"notifications\":{\"toolsListChanged\":true}"));
	assert_int_equal(mcp_session_list(p.s, NULL, &tools, &warnings, NULL), OK);
	assert_non_null(strstr(last_sent(&p), "io.modelcontextprotocol/logLevel\":\"warning\""));
	assert_int_equal(json_array_size(tools), 2); /* over stdio there are no headers to be wrong */
	n = p.n_sent;
	assert_int_equal(mcp_session_ping(p.s, NULL, NULL), OK);
	mcp_session_roots_changed(p.s);
	say(&p, "{\"jsonrpc\":\"2.0\",\"id\":\"r\",\"method\":\"roots/list\"}");
	say(&p, "{\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}");
	assert_int_equal(p.n_sent, n);
	say(&p, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\",\"params\":{\"_meta\":{"
		"\"io.modelcontextprotocol/subscriptionId\":77}}}");
	assert_int_equal(p.changed, 0);
	say(&p, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\",\"params\":{\"_meta\":{"
		"\"io.modelcontextprotocol/subscriptionId\":3}}}");
	assert_int_equal(p.changed, 1);
	peer_end(&p);
}

static int call_modern(struct peer *p, const char *tool, struct mcp_answer *a, struct why *why)
{
	AUTO_JSON args = json_object();

	*why = (struct why){0};
	return mcp_session_call(p->s, &(struct mcp_call){.tool = tool, .arguments = args}, a, why);
}

static void test_modern_results(void **state)
{
	struct peer p;
	struct why why = {""};
	struct mcp_answer a = {0};
	size_t n;

	peer_begin(&p, answer_modern);
	assert_int_equal(mcp_session_initialize(p.s, NULL, NULL), OK);
	assert_int_equal(call_modern(&p, "plain", &a, &why), OK);
	mcp_answer_fini(&a);
	assert_int_equal(call_modern(&p, "odd", &a, &why), ERR_PROTOCOL);
	assert_non_null(strstr(why.text, "unknown type 'dream'"));
	n = p.n_sent;
	assert_int_equal(call_modern(&p, "asks", &a, &why), OK);
	assert_non_null(a.result);
	mcp_answer_fini(&a);
	assert_int_equal(p.n_sent, n + 2);
	assert_non_null(strstr(last_sent(&p), "\"inputResponses\":{\"k\":{\"action\":\"decline\"}}"));
	assert_non_null(strstr(last_sent(&p), "\"requestState\":\"sécrit\""));
	n = p.n_sent;
	assert_int_equal(call_modern(&p, "insists", &a, &why), ERR_PROTOCOL);
	assert_int_equal(p.n_sent, n + 2); /* once */
	assert_string_equal(why.text, "'insists' asks a person again, who is not there");
	n = p.n_sent;
	assert_int_equal(call_modern(&p, "model", &a, &why), ERR_PROTOCOL);
	assert_non_null(strstr(why.text, "sampling/createMessage"));
	assert_int_equal(call_modern(&p, "empty", &a, &why), ERR_PROTOCOL);
	assert_int_equal(p.n_sent, n + 2); /* neither was repeated */
	assert_null(a.result);
	/* Told over stdio; over HTTP the end of the request says it. */
	assert_int_equal(call_modern(&p, "never", &a, &why), ERR_TIMEOUT);
	assert_non_null(strstr(last_sent(&p), "notifications/cancelled"));
	peer_end(&p);
	http_begin(&p, answer_modern);
	mcp_session_prefer(p.s, MCP_MODERN, false);
	assert_int_equal(mcp_session_initialize(p.s, NULL, NULL), OK);
	assert_int_equal(p.n_sent, 1); /* no initialize, and the transport subscribes */
	assert_int_equal(call_modern(&p, "never", &a, &why), ERR_TIMEOUT);
	assert_non_null(strstr(last_sent(&p), "tools/call"));
	peer_end(&p);
}

static void answer_old_only(struct peer *p, const char *method, int64_t id, const json_t *msg)
{
	if (strcmp(method, "server/discover") == 0)
		say_error(p, id, "{\"code\":-32601,\"message\":\"what is that\"}");
	answer_hello(p, method, id, msg);
}

static void answer_other_error(struct peer *p, const char *method, int64_t id, const json_t *msg)
{
	say_error(p, id, "{\"code\":-32603,\"message\":\"broken\"}");
}

static void answer_no_to_all(struct peer *p, const char *method, int64_t id, const json_t *msg)
{
	say_error(p, id,
	    strcmp(method, "initialize") == 0 ? "{\"code\":-32601,\"message\":\"first\"}"
					      : "{\"code\":-32601,\"message\":\"second\"}");
}

static void answer_later_only(struct peer *p, const char *method, int64_t id, const json_t *msg)
{
	if (strcmp(method, "initialize") == 0)
		say_error(p, id, "{\"code\":-32022,\"message\":\"no\",\"data\":{\"supported\":[\"2027-01-01\"]}}");
	else
		say_result(p, id, "{\"supportedVersions\":[\"2027-01-01\"],\"capabilities\":{}}");
}

static int begin_as(struct peer *p, void (*on)(struct peer *, const char *, int64_t, const json_t *),
    enum mcp_protocol wish, bool was_modern, struct why *why)
{
	*why = (struct why){0};
	peer_begin(p, on);
	mcp_session_prefer(p->s, wish, was_modern);
	return mcp_session_initialize(p->s, NULL, why);
}

static void test_which_revision(void **state)
{
	struct peer p;
	struct why why;
	enum mcp_protocol read = MCP_LEGACY;

	/* What was modern once may be of an older revision now. */
	assert_int_equal(begin_as(&p, answer_old_only, MCP_AUTO, true, &why), OK);
	assert_false(mcp_session_is_modern(p.s));
	assert_string_equal(mcp_session_version(p.s), "2025-06-18");
	assert_non_null(strstr(p.sent[0], "server/discover"));
	assert_null(strstr(p.sent[1], "_meta"));
	peer_end(&p);
	assert_int_equal(begin_as(&p, answer_modern, MCP_AUTO, true, &why), OK);
	assert_non_null(strstr(p.sent[0], "server/discover"));
	peer_end(&p);
	assert_int_equal(begin_as(&p, answer_modern, MCP_LEGACY, true, &why), ERR_PROTOCOL);
	assert_int_equal(p.n_sent, 1);
	peer_end(&p);
	assert_int_equal(begin_as(&p, answer_old_only, MCP_MODERN, false, &why), ERR_PROTOCOL);
	assert_non_null(strstr(why.text, "what is that"));
	assert_int_equal(p.n_sent, 1);
	peer_end(&p);
	assert_int_equal(begin_as(&p, answer_other_error, MCP_AUTO, false, &why), ERR_PROTOCOL);
	assert_int_equal(p.n_sent, 1);
	peer_end(&p);
	assert_int_equal(begin_as(&p, answer_no_to_all, MCP_AUTO, false, &why), ERR_PROTOCOL);
	assert_int_equal(p.n_sent, 2);
	assert_non_null(strstr(why.text, "first"));
	peer_end(&p);
	assert_int_equal(begin_as(&p, answer_later_only, MCP_AUTO, false, &why), ERR_PROTOCOL);
	assert_false(mcp_session_is_modern(p.s));
	assert_string_equal(mcp_session_version(p.s), "");
	peer_end(&p);
	assert_true(mcp_protocol_read(NULL, &read) && read == MCP_AUTO);
	assert_true(mcp_protocol_read("modern", &read) && read == MCP_MODERN);
	assert_false(mcp_protocol_read("Modern", &read));
}

static const char *refusal;
static bool refusal_taken;

/* As a transport over HTTP does with a status and a body. */
static void refuse_in_words(struct peer *p, const char *method, int64_t id, const json_t *msg)
{
	if (strcmp(method, "initialize") != 0) {
		answer_modern(p, method, id, msg);
		return;
	}
	refusal_taken = mcp_session_refuse(p->s, id, refusal, strlen(refusal));
	if (!refusal_taken)
		mcp_session_close(p->s, "status 400");
}

static void expect_refusal(const char *body, bool taken)
{
	struct peer p;

	refusal = body;
	http_begin(&p, refuse_in_words);
	assert_int_equal(mcp_session_initialize(p.s, NULL, NULL), taken ? OK : ERR_CLOSED);
	assert_int_equal(refusal_taken, taken);
	peer_end(&p);
}

static void test_refusals(void **state)
{
	expect_refusal("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32020,\"message\":\"m\"}}", true);
	expect_refusal("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32022,\"message\":\"m\"}}", true);
	expect_refusal("{\"error\":{\"code\":-32602}}", true);
	expect_refusal("{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":-32020}}", false);
	expect_refusal("{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"error\":{\"code\":-32020}}", false);
	expect_refusal("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32000}}", false);
	expect_refusal("{\"error\":{\"code\":\"-32020\"}}", false);
	expect_refusal("[{\"error\":{\"code\":-32020}}]", false);
	expect_refusal("<html>", false);
	expect_refusal("", false);
}

static void expect_encoded(const char *text, const char *value)
{
	AUTO_STR got = mcp_header_value(text);

	assert_string_equal(got, value);
}

static json_t *parsed(const char *text)
{
	json_t *j = NULL;

	assert_int_equal(json_parse(text, strlen(text), &j, NULL), OK);
	return j;
}

static void expect_param_fault(const char *properties, const char *fault)
{
	AUTO_STR text = str_printf("{\"type\":\"object\",%s}", properties);
	AUTO_JSON schema = parsed(text);
	const char *got = mcp_param_headers_fault(schema);

	if (fault == NULL)
		assert_null(got);
	else
		assert_true(got != NULL && strstr(got, fault) != NULL);
}

#define OF(type, header) "{\"type\":\"" type "\",\"x-mcp-header\":\"" header "\"}"

static void test_headers(void **state)
{
	AUTO_JSON schema = parsed("{\"type\":\"object\",\"properties\":{\"r\":" OF("string", "Region") ",\"n\":" OF(
	    "integer", "N") ",\"f\":" OF("integer", "F") ",\"b\":" OF("boolean", "B") ",\"z\":" OF("string",
	    "Z") ",\"gone\":" OF("string", "Gone") ",\"o\":{\"type\":\"object\",\"properties\":{\"i\":" OF("string",
	    "In") "}},\"x-mcp-header\":{\"type\":\"string\"}}}");
	AUTO_JSON args = parsed("{\"r\":\" eu\",\"n\":-7,\"f\":5.0,\"b\":false,\"z\":null,\"o\":{\"i\":\"\"},"
				"\"x-mcp-header\":\"q\"}");
	AUTO_JSON got = NULL;
	AUTO_JSON want =
	    parsed("{\"Mcp-Param-Region\":\"=?base64?IGV1?=\",\"Mcp-Param-N\":\"-7\",\"Mcp-Param-F\":\"5\","
		   "\"Mcp-Param-B\":\"false\",\"Mcp-Param-In\":\"\"}");
	AUTO_STR text = NULL;
	struct why why = {""};
	char *big = mem_zalloc(MCP_HEADER_VALUE_MAX + 2);

	expect_encoded("us-west 1", "us-west 1");
	expect_encoded("", "");
	expect_encoded("ü", "=?base64?w7w=?=");
	expect_encoded("a\r\nHost: evil", "=?base64?YQ0KSG9zdDogZXZpbA==?=");
	expect_encoded("a\tb", "=?base64?YQli?=");
	expect_encoded("a ", "=?base64?YSA=?=");
	expect_encoded("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?=");
	expect_encoded("=?other?=", "=?other?=");
	assert_int_equal(mcp_param_headers(schema, args, &got, &why), OK);
	text = json_text(got);
	if (!json_equal(got, want))
		fail_msg("%s", text);
	memset(big, 'x', MCP_HEADER_VALUE_MAX + 1);
	json_put(args, "r", big);
	free(big);
	json_drop(&got);
	assert_int_equal(mcp_param_headers(schema, args, &got, &why), ERR_TOO_LARGE);
	assert_non_null(strstr(why.text, "'r'"));
	expect_param_fault("\"properties\":{\"a\":{\"type\":\"string\",\"default\":{\"x-mcp-header\":7}}}", NULL);
	expect_param_fault("\"properties\":{\"a\":" OF("string", "A") ",\"b\":" OF("string", "a") "}", "twice");
	expect_param_fault("\"properties\":{\"a\":" OF("number", "A") "}", "somewhere else");
	expect_param_fault("\"properties\":{\"a\":" OF("string", "A: b") "}", "no name");
	expect_param_fault("\"properties\":{\"a\":" OF("string", "") "}", "no name");
	expect_param_fault("\"properties\":{\"a\":{\"type\":\"string\",\"x-mcp-header\":true}}", "no name");
	expect_param_fault("\"properties\":{\"a\":{\"type\":\"array\",\"items\":" OF("string", "A") "}}", "somewhere");
	expect_param_fault("\"$defs\":{\"a\":" OF("string", "A") "}", "somewhere");
	expect_param_fault("\"anyOf\":[{\"properties\":{\"a\":" OF("string", "A") "}}]", "somewhere");
	expect_param_fault("\"x-mcp-header\":\"A\"", "somewhere");
}

/* A tool of a modern server over HTTP whose headers would be wrong is left out. */
static void test_modern_list(void **state)
{
	struct peer p;
	AUTO_JSON tools = NULL;
	AUTO_JSON warnings = NULL;

	http_begin(&p, answer_modern);
	assert_int_equal(mcp_session_initialize(p.s, NULL, NULL), OK);
	assert_int_equal(mcp_session_list_ttl_ms(p.s), -1);
	assert_int_equal(mcp_session_list(p.s, NULL, &tools, &warnings, NULL), OK);
	assert_int_equal(json_array_size(tools), 1);
	assert_int_equal(mcp_session_list_ttl_ms(p.s), 90000);
	assert_non_null(strstr(json_string_value(json_array_get(warnings, 0)), "x-mcp-header"));
	peer_end(&p);
}

static void test_eras(void **state)
{
	struct mcp_eras e = MCP_ERAS_INIT;

	assert_false(mcp_eras_is_modern(&e, "a"));
	mcp_eras_note(&e, "a", true);
	mcp_eras_note(&e, "a", true);
	mcp_eras_note(&e, "b", true);
	assert_true(mcp_eras_is_modern(&e, "a"));
	mcp_eras_note(&e, "a", false);
	assert_false(mcp_eras_is_modern(&e, "a"));
	assert_true(mcp_eras_is_modern(&e, "b"));
	for (int i = 0; i < MCP_ERAS_MAX; i++) {
		AUTO_STR name = str_printf("n%d", i);

		mcp_eras_note(&e, name, true);
	}
	assert_false(mcp_eras_is_modern(&e, "b"));
	assert_true(mcp_eras_is_modern(&e, "n0"));
	assert_true(mcp_eras_is_modern(&e, "n255"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_modern),
	    cmocka_unit_test(test_modern_results),
	    cmocka_unit_test(test_modern_list),
	    cmocka_unit_test(test_which_revision),
	    cmocka_unit_test(test_refusals),
	    cmocka_unit_test(test_headers),
	    cmocka_unit_test(test_eras),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
