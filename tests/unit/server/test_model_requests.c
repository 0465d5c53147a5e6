/* What goes to a model server, to the byte, and what its refusals are taken for. */
#include "base/mem.h"
#include "server/models/wire_priv.h"
#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

static json_t *parse(const char *text)
{
	json_t *j = NULL;
	struct why why = {0};

	if (json_parse(text, strlen(text), &j, &why) != OK)
		fail_msg("%s: %s", text, why.text);
	return j;
}

static void configure(const char *type, const char *model_extra)
{
	AUTO_STR text =
	    str_printf("{\"providers\":[{\"name\":\"p\",\"type\":\"%s\",\"base_url\":\"http://h/v1\",\"headers\":"
		       "{\"x-secret\":\"hunter2000\",\"x-auth\":\"Token "
		       "swordfish\"},\"models\":[{\"id\":\"m\",\"upstream\":\"up\"%s}]}]}",
		type, model_extra);
	AUTO_JSON table = parse(text);
	struct why why = {0};

	if (models_configure(table, &why) != OK)
		fail_msg("%s", why.text);
}

static const struct remote *provider(void)
{
	return (const struct remote *)model_find("m")->provider;
}

static char *body_of(const char *system, const char *conversation, const char *tools, const char *params)
{
	AUTO_JSON c = parse(conversation);
	AUTO_JSON t = parse(tools);
	AUTO_JSON p = parse(params);
	struct strbuf b = STRBUF(1000000);
	const struct model_request req = {
	    .model = model_find("m"), .params = p, .system = system, .conversation = c, .tools = t};

	assert_int_equal(provider()->wire->write_request(provider(), &req, &b), OK);
	json_decref(parse(b.data));
	return strbuf_take(&b);
}

static void body_is(const char *system, const char *conversation, const char *tools, const char *want)
{
	AUTO_STR got = body_of(system, conversation, tools, "[]");

	assert_string_equal(got, want);
}

#define CONVERSATION                                                                                                   \
	"[{\"role\":\"user\",\"text\":\"Hi \\\"you\\\"\\n\\t\\u0001\xc3\xa4\"},"                                       \
	"{\"role\":\"assistant\",\"text\":\"\",\"toolCalls\":[{\"id\":\"call-1\",\"name\":\"f\",\"arguments\":{\"a\":" \
	"\"\\\"\"}},"                                                                                                  \
	"{\"id\":\"call-2\",\"name\":\"g\",\"arguments\":{}}]},"                                                       \
	"{\"role\":\"tool\",\"callId\":\"call-1\",\"name\":\"f\",\"outcome\":\"success\",\"text\":\"ok\"},"            \
	"{\"role\":\"tool\",\"callId\":\"call-2\",\"name\":\"g\",\"outcome\":\"failure\",\"text\":\"\"},"              \
	"{\"role\":\"assistant\",\"text\":\"Next\",\"toolCalls\":[{\"id\":\"call-3\",\"name\":\"f\",\"arguments\":{}}" \
	"]},"                                                                                                          \
	"{\"role\":\"tool\",\"callId\":\"call-3\",\"name\":\"f\",\"outcome\":\"rejected\",\"text\":\"no\"},"           \
	"{\"role\":\"user\",\"text\":\"Go on\"}]"
#define TOOLS                                                                                                          \
	"[{\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":\"object\"},\"class\":\"read\"},{\"name\":"   \
	"\"g\",\"description\":\"\"}]"

static void test_openai(void **state)
{
	configure("openai", ",\"max_output_tokens\":100,\"parameters\":{\"temperature\":0.5}");
	body_is("Sys", CONVERSATION, TOOLS,
	    "{\"model\":\"up\",\"temperature\":0.5,\"max_tokens\":100,\"messages\":["
	    "{\"role\":\"system\",\"content\":\"Sys\"},"
	    "{\"role\":\"user\",\"content\":\"Hi \\\"you\\\"\\n\\t\\u0001\xc3\xa4\"},"
	    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
	    "{\"id\":\"c00000000\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":"
	    "\\\"\\\\\\\"\\\"}\"}},"
	    "{\"id\":\"c00000001\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}]},"
	    "{\"role\":\"tool\",\"tool_call_id\":\"c00000000\",\"content\":\"ok\"},"
	    "{\"role\":\"tool\",\"tool_call_id\":\"c00000001\",\"content\":\"failure\"},"
	    "{\"role\":\"assistant\",\"content\":\"Next\",\"tool_calls\":["
	    "{\"id\":\"c00000002\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
	    "{\"role\":\"tool\",\"tool_call_id\":\"c00000002\",\"content\":\"no\"},"
	    "{\"role\":\"user\",\"content\":\"Go on\"}],"
	    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\",\"parameters\":{"
	    "\"type\":\"object\"}}},"
	    "{\"type\":\"function\",\"function\":{\"name\":\"g\",\"description\":\"\",\"parameters\":{\"type\":"
	    "\"object\",\"properties\":{}}}}],"
	    "\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
	body_is("", "[{\"role\":\"user\",\"text\":\"x\"}]", "[]",
	    "{\"model\":\"up\",\"temperature\":0.5,\"max_tokens\":100,\"messages\":[{\"role\":\"user\",\"content\":"
	    "\"x\"}],"
	    "\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
	models_free();
}

#define EPHEMERAL ",\"cache_control\":{\"type\":\"ephemeral\"}"

static void test_anthropic(void **state)
{
	configure("anthropic", "");
	body_is("Sys", CONVERSATION, TOOLS,
	    "{\"model\":\"up\",\"max_tokens\":8192,\"stream\":true,"
	    "\"tools\":[{\"name\":\"f\",\"description\":\"d\",\"input_schema\":{\"type\":\"object\"}},"
	    "{\"name\":\"g\",\"description\":\"\",\"input_schema\":{\"type\":\"object\",\"properties\":{}}" EPHEMERAL
	    "}],"
	    "\"system\":[{\"type\":\"text\",\"text\":\"Sys\"" EPHEMERAL "}],\"messages\":["
	    "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hi \\\"you\\\"\\n\\t\\u0001\xc3\xa4\"}]},"
	    "{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"c00000000\",\"name\":\"f\",\"input\":"
	    "{\"a\":\"\\\"\"}},"
	    "{\"type\":\"tool_use\",\"id\":\"c00000001\",\"name\":\"g\",\"input\":{}}]},"
	    "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"c00000000\",\"content\":"
	    "\"ok\"},"
	    "{\"type\":\"tool_result\",\"tool_use_id\":\"c00000001\",\"content\":\"failure\",\"is_error\":true}]},"
	    "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"Next\"},"
	    "{\"type\":\"tool_use\",\"id\":\"c00000002\",\"name\":\"f\",\"input\":{}}]},"
	    "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"c00000002\",\"content\":"
	    "\"no\",\"is_error\":true},"
	    "{\"type\":\"text\",\"text\":\"Go on\"" EPHEMERAL "}]}]}");
	body_is(" ",
	    "[{\"role\":\"user\",\"text\":\" \\n\"},{\"role\":\"assistant\",\"text\":\"\\n\",\"toolCalls\":[]},"
	    "{\"role\":\"user\",\"text\":\"b\"}]",
	    "[]",
	    "{\"model\":\"up\",\"max_tokens\":8192,\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":["
	    "{\"type\":\"text\",\"text\":\"(no text)\"},{\"type\":\"text\",\"text\":\"b\"" EPHEMERAL "}]}]}");
	models_free();
}

static void test_text_that_is_not_utf8_is_mended(void **state)
{
	AUTO_STR a = NULL;
	AUTO_STR b = NULL;

	configure("openai", "");
	a = body_of("S\xff", "[]", "[]", "[]");
	assert_non_null(strstr(a, "\"S\xef\xbf\xbd\""));
	configure("anthropic", "");
	b = body_of("S\xff", "[]", "[]", "[]");
	assert_non_null(strstr(b, "\"S\xef\xbf\xbd\""));
	models_free();
}

static void test_images(void **state)
{
	static const char image[] =
	    "[{\"role\":\"user\",\"text\":\"x\",\"images\":[{\"mimeType\":\"image/png\",\"data\":\"aGk=\"}]}]";
	AUTO_STR a = NULL;
	AUTO_STR b = NULL;
	AUTO_STR c = NULL;

	configure("openai", ",\"images\":true");
	a = body_of("", image, "[]", "[]");
	assert_non_null(strstr(a, "[{\"type\":\"text\",\"text\":\"x\"},{\"type\":\"image_url\",\"image_url\":{\"url\":"
				  "\"data:image/png;base64,aGk=\"}}]"));
	configure("openai", "");
	b = body_of("", image, "[]", "[]");
	assert_null(strstr(b, "aGk="));
	assert_non_null(strstr(b, "an image was left out"));
	configure("anthropic", ",\"images\":true");
	c = body_of("", image, "[]", "[]");
	assert_non_null(strstr(c,
	    "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"image/png\",\"data\":\"aGk=\"}},"
	    "{\"type\":\"text\",\"text\":\"x\""));
	models_free();
}

static void test_images_of_results(void **state)
{
	static const char talk[] =
	    "[{\"role\":\"user\",\"text\":\"x\"},{\"role\":\"assistant\",\"text\":\"\",\"toolCalls\":["
	    "{\"id\":\"a\",\"name\":\"look\",\"arguments\":{}},{\"id\":\"b\",\"name\":\"run\",\"arguments\":{}}]},"
	    "{\"role\":\"tool\",\"callId\":\"a\",\"name\":\"look\",\"outcome\":\"success\",\"text\":\"an image\","
	    "\"images\":[{\"mimeType\":\"image/png\",\"data\":\"aGk=\"}]},"
	    "{\"role\":\"tool\",\"callId\":\"b\",\"name\":\"run\",\"outcome\":\"success\",\"text\":\"ran\"}]";
	AUTO_STR a = NULL;
	AUTO_STR b = NULL;
	AUTO_STR c = NULL;

	configure("openai", ",\"images\":true");
	a = body_of("", talk, "[]", "[]");
	/* Behind both results: nothing may stand between them. */
	assert_non_null(strstr(a, "\"ran\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
				  "\"[images of the result of look]\"},{\"type\":\"image_url\",\"image_url\":{\"url\":"
				  "\"data:image/png;base64,aGk=\"}}]}]"));
	configure("openai", "");
	b = body_of("", talk, "[]", "[]");
	assert_null(strstr(b, "aGk="));
	configure("anthropic", ",\"images\":true");
	c = body_of("", talk, "[]", "[]");
	assert_non_null(strstr(c, "\"content\":[{\"type\":\"text\",\"text\":\"an "
				  "image\"},{\"type\":\"image\",\"source\":{\"type\":\"base64\","
				  "\"media_type\":\"image/png\",\"data\":\"aGk=\"}}]"));
	models_free();
}

static void test_reasoning_goes_back_under_its_name(void **state)
{
	static const char thought[] =
	    "[{\"role\":\"user\",\"text\":\"x\"},{\"role\":\"assistant\",\"text\":\"T\",\"toolCalls\":[%s],"
	    "\"native\":{\"provider\":\"%s\",\"%s\":\"Hm \\\"so\\\"\"}}]";
	static const char call[] = "{\"id\":\"1\",\"name\":\"f\",\"arguments\":{}}";
	static const struct {
		const char *call, *provider, *field, *expected;
	} cases[] = {{call, "p", "reasoning_content", ",\"reasoning_content\":\"Hm \\\"so\\\"\",\"tool_calls\""},
	    {call, "p", "reasoning", ",\"reasoning\":\"Hm \\\"so\\\"\",\"tool_calls\""},
	    {call, "other", "reasoning", NULL}, {call, "p", "content", NULL}, {"", "p", "reasoning", NULL}};

	configure("openai", "");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO_STR conversation = str_printf(thought, cases[i].call, cases[i].provider, cases[i].field);
		AUTO_STR body = body_of("", conversation, "[]", "[]");

		if (cases[i].expected != NULL)
			assert_non_null(strstr(body, cases[i].expected));
		else
			assert_null(strstr(body, "Hm"));
	}
	models_free();
}

static void test_thinking_is_given_back(void **state)
{
	static const char thought[] = "[{\"role\":\"user\",\"text\":\"x\"},{\"role\":\"assistant\",\"text\":\"T\","
				      "\"toolCalls\":[{\"id\":\"1\",\"name\":\"f\","
				      "\"arguments\":{}}],\"native\":{\"provider\":\"%s\",\"blocks\":[{\"type\":"
				      "\"thinking\",\"thinking\":\"Hm\",\"signature\":\"s\"},"
				      "{\"type\":\"redacted_thinking\",\"data\":\"r\"},{\"type\":\"text\",\"text\":"
				      "\"T\"},{\"type\":\"tool_use\"}%s]}},"
				      "{\"role\":\"tool\",\"callId\":\"1\",\"outcome\":\"success\",\"text\":\"ok\"}]";
	static const char blocks[] =
	    "[{\"type\":\"thinking\",\"thinking\":\"Hm\",\"signature\":\"s\"},"
	    "{\"type\":\"redacted_thinking\",\"data\":\"r\"},{\"type\":\"text\",\"text\":\"T\"},{\"type\":\"tool_use\"";
	AUTO_STR own = str_printf(thought, "p", "");
	AUTO_STR other = str_printf(thought, "somebody", "");
	AUTO_STR odd = str_printf(thought, "p", ",{\"type\":\"tool_use\"}");
	static const struct {
		const char *extra;
		int conversation;
		bool given;
	} cases[] = {{",\"thinking_budget\":2000", 0, true}, {"", 0, false}, {",\"thinking_budget\":2000", 1, false},
	    {",\"thinking_budget\":2000", 2, false},
	    {",\"parameters\":{\"thinking\":{\"type\":\"adaptive\"}}", 0, true},
	    {",\"parameters\":{\"thinking\":{\"type\":\"disabled\"}}", 0, false}};
	const char *conversations[] = {own, other, odd};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO_STR body = NULL;

		configure("anthropic", cases[i].extra);
		body = body_of("", conversations[cases[i].conversation], "[]", "[]");
		assert_int_equal(strstr(body, blocks) != NULL, cases[i].given);
		assert_int_equal(strstr(body, "signature") != NULL, cases[i].given);
		if (strstr(cases[i].extra, "budget") != NULL)
			assert_non_null(strstr(
			    body, "\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":2000},\"max_tokens\":10192"));
	}
	models_free();
}

/* A server would refuse the conversation, now and in every later turn. */
static void test_names_of_calls_are_such_that_servers_take_them(void **state)
{
	static const char *const types[] = {"openai", "anthropic"};
	static const struct {
		const char *name, *want;
	} cases[] = {{"read_file", "\"name\":\"read_file\""}, {"", "\"name\":\"unnamed\""},
	    {"functions.read file\\n", "\"name\":\"functions_read_file_\""}, {"l\xc3\xa4s", "\"name\":\"l__s\""},
	    {"0123456789012345678901234567890123456789012345678901234567890123456789",
		"\"name\":\"0123456789012345678901234567890123456789012345678901234567890123\""}};

	for (size_t i = 0; i < ARRAY_LEN(types) * ARRAY_LEN(cases); i++) {
		size_t k = i / ARRAY_LEN(types);
		AUTO_STR conversation =
		    str_printf("[{\"role\":\"user\",\"text\":\"x\"},{\"role\":\"assistant\",\"text\":"
			       "\"\",\"toolCalls\":[{\"id\":\"1\",\"name\":\"%s\","
			       "\"arguments\":{}}]}]",
			cases[k].name);
		AUTO_STR body = NULL;

		configure(types[i % ARRAY_LEN(types)], "");
		body = body_of("", conversation, "[]", "[]");
		assert_non_null(strstr(body, cases[k].want));
	}
	models_free();
}

static void test_options_reach_the_wire(void **state)
{
	AUTO_STR plain = NULL;
	AUTO_STR chosen = NULL;
	AUTO_STR unknown = NULL;

	configure("openai",
	    ",\"parameters\":{\"a\":{\"x\":1}},\"options\":[{\"id\":\"effort\",\"values\":[\"low\",\"high\"],\"field\":"
	    "\"reasoning_effort\"},{\"id\":\"n\",\"values\":[1,2.5,true],\"default\":2.5,\"field\":\"a.b.c\"}]");
	plain = body_of("", "[]", "[]", "[]");
	assert_non_null(strstr(plain, "\"a\":{\"x\":1,\"b\":{\"c\":2.5}},\"reasoning_effort\":\"low\""));
	chosen = body_of("", "[]", "[]", "[{\"id\":\"n\",\"value\":\"true\"},{\"id\":\"effort\",\"value\":\"high\"}]");
	assert_non_null(strstr(chosen, "\"a\":{\"x\":1,\"b\":{\"c\":true}},\"reasoning_effort\":\"high\""));
	unknown = body_of("", "[]", "[]", "[{\"id\":\"effort\",\"value\":\"gone\"}]");
	assert_non_null(strstr(unknown, "\"reasoning_effort\":\"low\""));
	models_free();
}

static void test_a_thinking_budget_may_be_written_as_text(void **state)
{
	AUTO_STR none = NULL;
	AUTO_STR some = NULL;

	configure(
	    "anthropic", ",\"options\":[{\"id\":\"t\",\"values\":[\"0\",\"4000\"],\"field\":\"thinking_budget\"}]");
	none = body_of("", "[]", "[]", "[]");
	assert_null(strstr(none, "thinking"));
	some = body_of("", "[]", "[]", "[{\"id\":\"t\",\"value\":\"4000\"}]");
	assert_non_null(strstr(some, "\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":4000}"));
	models_free();
}

/* A run that failed leaves no answer between two prompts. */
static void test_prompts_in_a_row_are_one_message(void **state)
{
	configure("openai", ",\"images\":true");
	body_is("",
	    "[{\"role\":\"user\",\"text\":\"a\"},{\"role\":\"user\",\"text\":\"\"},{\"role\":\"tool\",\"callId\":"
	    "\"gone\",\"text\":\"x\"},"
	    "{\"role\":\"user\",\"text\":\"b\"},{\"role\":\"assistant\",\"text\":\"c\"},{\"role\":\"user\",\"text\":"
	    "\"d\"}]",
	    "[]",
	    "{\"model\":\"up\",\"messages\":[{\"role\":\"user\",\"content\":\"a\\n\\nb\"},"
	    "{\"role\":\"assistant\",\"content\":\"c\"},{\"role\":\"user\",\"content\":\"d\"}],"
	    "\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
	body_is("",
	    "[{\"role\":\"user\",\"text\":\"a\",\"images\":[{\"mimeType\":\"image/png\",\"data\":\"aGk=\"}]},"
	    "{\"role\":\"user\",\"text\":\"b\"}]",
	    "[]",
	    "{\"model\":\"up\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
	    "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,aGk=\"}},"
	    "{\"type\":\"text\",\"text\":\"b\"}]}],"
	    "\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
	models_free();
}

/* What was said stays, to the byte, when more is said: caches of prompts live on that. */
static void test_the_beginning_is_stable(void **state)
{
	AUTO_JSON conversation = parse(CONVERSATION);

	configure("openai", "");
	for (size_t n = 1; n < json_array_size(conversation); n++) {
		AUTO_JSON shorter = json_copy(conversation);
		AUTO_STR longer_text = json_text(conversation);
		AUTO_STR shorter_text = NULL;
		AUTO_STR a = NULL;
		AUTO_STR b = body_of("Sys", longer_text, TOOLS, "[]");
		char *end;

		while (json_array_size(shorter) > n)
			json_array_remove(shorter, n);
		shorter_text = json_text(shorter);
		a = body_of("Sys", shorter_text, TOOLS, "[]");
		end = strstr(a, "],\"tools\":");
		assert_non_null(end);
		assert_memory_equal(a, b, end - a);
	}
	models_free();
}

static void test_a_conversation_may_be_too_long(void **state)
{
	struct strbuf b = STRBUF(200);
	AUTO_JSON c = parse(CONVERSATION);
	AUTO_JSON t = parse(TOOLS);
	static const char *const types[] = {"openai", "anthropic"};

	for (size_t i = 0; i < 2; i++) {
		configure(types[i], "");
		const struct model_request req = {
		    .model = model_find("m"), .system = "Sys", .conversation = c, .tools = t};

		for (b.max = 0; b.max < 400; b.max++) {
			assert_int_equal(provider()->wire->write_request(provider(), &req, &b), ERR_TOO_LARGE);
			strbuf_clear(&b);
		}
	}
	strbuf_fini(&b);
	models_free();
}

/* Errors are cut to a length, and a secret may stand where the cut is. */
static void test_a_secret_is_blotted_out_wherever_the_text_is_cut(void **state)
{
	static const char text[] = "You sent hunter2000";

	configure("openai", "");
	for (size_t n = strlen("You sent hunter"); n <= strlen(text); n++) {
		AUTO_STR clean = remote_clean(provider(), text, n, 100);

		assert_null(strstr(clean, "hunter"));
		assert_int_equal(strlen(clean), n);
	}
	for (size_t len = 100; len < 300; len++) {
		struct answer a;
		const struct model_sink sink = {0};
		const struct model_request req = {.model = model_find("m")};
		struct why why = {0};
		AUTO_STR filler = mem_zalloc(len + 1);
		AUTO_JSON error = NULL;

		memset(filler, 'x', len);
		error = json_pack("{s:s++}", "message", filler, "hunter2000", " is wrong");
		answer_init(&a, &sink);
		failure_of_error(&a, error);
		failure_explain(provider(), &req, &a.failure, 1, 0, &why);
		assert_null(strstr(why.text, "hunter"));
		answer_fini(&a);
	}
	models_free();
}

static void test_retry_after(void **state)
{
	static const int64_t now = 1445412480000; /* Wed, 21 Oct 2015 07:28:00 GMT */
	static const struct {
		const char *value;
		int64_t want;
	} cases[] = {{NULL, -1}, {"", -1}, {"0", 0}, {"7", 7000}, {"100000", RETRY_AFTER_MAX_MS}, {"-1", -1},
	    {"1.5", -1}, {"soon", -1}, {"Wed, 21 Oct 2015 07:28:30 GMT", 30000}, {"Wed, 21 Oct 2015 07:00:00 GMT", 0},
	    {"Wed, 21 Oct 2099 07:00:00 GMT", RETRY_AFTER_MAX_MS}, {"99999999999999999999", -1}, {"12:00", -1}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (failure_retry_after(cases[i].value, now) != cases[i].want)
			fail_msg("%s: %lld", cases[i].value, (long long)failure_retry_after(cases[i].value, now));
}

static void test_statuses(void **state)
{
	static const struct {
		int status;
		const char *type, *body;
		enum failure_kind kind;
		const char *sentence; /* of the whole explanation */
	} cases[] = {
	    {401, NULL, "{\"error\":{\"message\":\"Incorrect key\",\"code\":\"invalid_api_key\"}}", FAILURE_FINAL,
		"http://h/v1 answered 401: Incorrect key: check api_key_file of provider 'p'"},
	    {404, NULL, "{\"error\":{\"message\":\"no model\"}}", FAILURE_FINAL,
		"http://h/v1 answered 404: no model: check base_url of provider 'p' and that it has a model 'up'"},
	    {400, NULL, "{\"error\":{\"message\":\"Unknown parameter: 'stream_options'\"}}", FAILURE_FINAL,
		"http://h/v1 answered 400: Unknown parameter: 'stream_options': set stream_usage = false for provider "
		"'p'"},
	    {400, NULL, "{\"error\":{\"message\":\"Use 'max_completion_tokens' instead\"}}", FAILURE_FINAL,
		"http://h/v1 answered 400: Use 'max_completion_tokens' instead: check max_tokens_field of provider 'p' "
		"and "
		"max_output_tokens of the model"},
	    {422, NULL, "{\"detail\":\"x\"}", FAILURE_FINAL,
		"http://h/v1 answered 422: x: check the parameters and options of model 'm'"},
	    {302, NULL, "", FAILURE_FINAL,
		"http://h/v1 answered 302: it redirects, which is not followed: correct base_url of provider 'p'"},
	    {429, NULL, "{\"error\":{\"message\":\"slow\",\"code\":\"insufficient_quota\"}}", FAILURE_FINAL,
		"http://h/v1 answered 429: slow: the account of provider 'p' has no credit left"},
	    {429, NULL, "{\"error\":{\"message\":\"context length of others\"}}", FAILURE_RETRY,
		"http://h/v1 answered 429: context length of others: wait, or ask for a higher limit"},
	    {529, NULL, "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}",
		FAILURE_RETRY, "http://h/v1 answered 529: Overloaded: look at that server, then start the run again"},
	    {502, "text/html", "<html>\n<h1>Bad gateway</h1>", FAILURE_RETRY,
		"http://h/v1 answered 502: an HTML page: look at that server, then start the run again"},
	    {500, NULL, "no swordfish here", FAILURE_RETRY,
		"http://h/v1 answered 500: no ********* here: look at that server, then start the run again"},
	    {500, NULL, "a\r\n\x1b[31mb hunter2000 \x7f c\xff", FAILURE_RETRY,
		"http://h/v1 answered 500: a [31mb ********** c\xef\xbf\xbd: look at that server, then start the run "
		"again"},
	    {413, NULL, "", FAILURE_CONTEXT, "http://h/v1 answered 413"},
	    {400, NULL, "{\"error\":{\"message\":\"m\",\"code\":\"context_length_exceeded\"}}", FAILURE_CONTEXT,
		"http://h/v1 answered 400: m"},
	    {400, NULL,
		"{\"object\":\"error\",\"message\":\"This model's maximum context length is 4096 "
		"tokens.\",\"code\":400}",
		FAILURE_CONTEXT, "http://h/v1 answered 400: This model's maximum context length is 4096 tokens."},
	    {400, NULL,
		"{\"error\":{\"code\":400,\"message\":\"the request exceeds the available context "
		"size\",\"type\":\"exceed_context_size_error\"}}",
		FAILURE_CONTEXT, "http://h/v1 answered 400: the request exceeds the available context size"},
	    {400, NULL,
		"{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"prompt is too long: 9 "
		"tokens\"}}",
		FAILURE_CONTEXT, "http://h/v1 answered 400: prompt is too long: 9 tokens"},
	    {500, NULL, "{\"error\":\"the input length exceeds the context length\"}", FAILURE_CONTEXT,
		"http://h/v1 answered 500: the input length exceeds the context length"},
	};

	configure("openai", "");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct model_request req = {.model = model_find("m")};
		struct failure f;
		struct why why = {0};

		failure_of_status(
		    provider(), cases[i].status, NULL, cases[i].type, cases[i].body, strlen(cases[i].body), &f);
		assert_int_equal(f.kind, cases[i].kind);
		failure_explain(provider(), &req, &f, 1, 0, &why);
		assert_string_equal(why.text, cases[i].sentence);
	}
	models_free();
}

static void test_a_long_message_is_cut(void **state)
{
	const struct model_request req = {.model = (configure("openai", ""), model_find("m"))};
	AUTO_STR body = mem_zalloc(100001);
	struct failure f;
	struct why why = {0};

	for (size_t i = 0; i < 100000; i += 2)
		memcpy(body + i, "\xc3\xa4", 2);
	failure_of_status(provider(), 500, "3", "text/plain", body, 100000, &f);
	failure_explain(provider(), &req, &f, 6, 12000, &why);
	assert_int_equal(f.wait_ms, 3000);
	assert_true(strlen(why.text) < 450);
	assert_non_null(strstr(why.text, "(asked 6 times in 12 s): look at that server"));
	models_free();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_openai),
	    cmocka_unit_test(test_anthropic),
	    cmocka_unit_test(test_text_that_is_not_utf8_is_mended),
	    cmocka_unit_test(test_images),
	    cmocka_unit_test(test_images_of_results),
	    cmocka_unit_test(test_a_thinking_budget_may_be_written_as_text),
	    cmocka_unit_test(test_prompts_in_a_row_are_one_message),
	    cmocka_unit_test(test_reasoning_goes_back_under_its_name),
	    cmocka_unit_test(test_thinking_is_given_back),
	    cmocka_unit_test(test_names_of_calls_are_such_that_servers_take_them),
	    cmocka_unit_test(test_options_reach_the_wire),
	    cmocka_unit_test(test_the_beginning_is_stable),
	    cmocka_unit_test(test_a_conversation_may_be_too_long),
	    cmocka_unit_test(test_a_secret_is_blotted_out_wherever_the_text_is_cut),
	    cmocka_unit_test(test_retry_after),
	    cmocka_unit_test(test_statuses),
	    cmocka_unit_test(test_a_long_message_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
