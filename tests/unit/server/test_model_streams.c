/* What model servers send, and what becomes of it, wherever the network cuts it into pieces. */
#include "stream_reader.h"
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#define CHUNK(delta) "data: {\"id\":\"x\",\"choices\":[{\"index\":0,\"delta\":" delta ",\"finish_reason\":null}]}\n\n"
#define FINISH(reason) "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" reason "\"}]}\n\n"
#define DONE "data: [DONE]\n\n"
#define ARGS(index, text) CHUNK("{\"tool_calls\":[{\"index\":" index ",\"function\":{\"arguments\":\"" text "\"}}]}")

static const char openai_stream[] = ": keep-alive\n\n" CHUNK("{\"role\":\"assistant\",\"content\":null}")
    CHUNK("{\"reasoning_content\":\"Hm \xc3\xa4\"}") CHUNK("{\"content\":\"Gr\xc3\xbc\xc3\x9f\"}")
	CHUNK("{\"content\":\" \xf0\x9f\x98\x80 \\ud83d\\ude00 a\\nb\"}") CHUNK(
	    "{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"read\","
	    "\"arguments\":\"\"}}]}") ARGS("0", "{\\\"p\\\":\\\"\xc3\xa4") ARGS("0", "\\\\\\\"\\\"}")
	    CHUNK("{\"tool_calls\":[{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"list\",\"arguments\":\"{}\"}}]}")
		FINISH("tool_calls") "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":7,"
				     "\"prompt_tokens_details\":{\"cached_tokens\":4}}}\r\n\r\n" DONE;

#define EVENT(type, rest) "event: " type "\ndata: {\"type\":\"" type "\"" rest "}\n\n"
#define DELTA(index, delta) EVENT("content_block_delta", ",\"index\":" index ",\"delta\":" delta)
#define BLOCK(index, block) EVENT("content_block_start", ",\"index\":" index ",\"content_block\":" block)
#define STOP(index) EVENT("content_block_stop", ",\"index\":" index)

static const char anthropic_stream[] = EVENT("message_start",
    ",\"message\":{\"usage\":{\"input_tokens\":8,\"cache_read_input_tokens\":4,"
    "\"cache_creation_input_tokens\":3,\"output_tokens\":1}}") EVENT("ping", "")
    BLOCK("0", "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}") DELTA(
	"0", "{\"type\":\"thinking_delta\",\"thinking\":\"Hm \xc3\xa4\"}")
	DELTA("0", "{\"type\":\"signature_delta\",\"signature\":\"c2ln\"}") STOP("0") BLOCK(
	    "1", "{\"type\":\"redacted_thinking\",\"data\":\"cmVk\"}") STOP("1") BLOCK("2",
	    "{\"type\":\"text\",\"text\":\"\"}") DELTA("2", "{\"type\":\"text_delta\",\"text\":\"Gr\xc3\xbc\xc3\x9f\"}")
	    DELTA("2", "{\"type\":\"text_delta\",\"text\":\" \xf0\x9f\x98\x80 \\ud83d\\ude00 a\\nb\"}") STOP("2")
		BLOCK("3", "{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"read\",\"input\":{}}")
		    DELTA("3", "{\"type\":\"input_json_delta\",\"partial_json\":\"\"}")
			DELTA("3", "{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"p\\\":\\\"\xc3\xa4\"}")
			    DELTA("3", "{\"type\":\"input_json_delta\",\"partial_json\":\"\\\\\\\"\\\"}\"}") STOP("3")
				BLOCK("4", "{\"type\":\"tool_use\",\"id\":\"t2\",\"name\":\"list\",\"input\":{}}")
				    STOP("4") EVENT("message_delta",
					",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":7}")
					EVENT("message_stop", "");

#define TEXT "Gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80 \xf0\x9f\x98\x80 a\nb"

static const char *call_member(const struct model_result *t, size_t i, const char *key)
{
	return json_string_value(json_object_get(json_array_get(t->calls, i), key));
}

static char *arguments(const struct model_result *t, size_t i)
{
	return json_text(json_object_get(json_array_get(t->calls, i), "arguments"));
}

static void check_recorded(struct stream_reader *r)
{
	struct model_result turn = {0};
	AUTO_STR first = NULL;

	assert_true(r->answer.stopped);
	assert_true(r->answer.ended);
	answer_take(&r->answer, &turn);
	assert_string_equal(turn.text, TEXT);
	assert_string_equal(strbuf_str(&r->text), TEXT);
	assert_string_equal(strbuf_str(&r->thinking), "Hm \xc3\xa4");
	assert_int_equal(json_array_size(turn.calls), 2);
	assert_string_equal(call_member(&turn, 0, "name"), "read");
	assert_string_equal(call_member(&turn, 1, "name"), "list");
	first = arguments(&turn, 0);
	assert_string_equal(first, "{\"p\":\"\xc3\xa4\\\"\"}");
	assert_null(call_member(&turn, 0, "fault"));
	assert_int_equal(turn.stop, MODEL_STOP_DONE);
	assert_int_equal(turn.usage.input_tokens, 8);
	assert_int_equal(turn.usage.cache_read_tokens, 4);
	assert_int_equal(turn.usage.output_tokens, 7);
	model_result_fini(&turn);
}

static void whole_at_every_split(const struct wire *wire, const char *stream, size_t len)
{
	struct stream_reader r;

	for (size_t at = 0; at <= len; at++) {
		reader_init(&r, wire);
		assert_int_equal(reader_feed(&r, stream, at), OK);
		assert_int_equal(reader_feed(&r, stream + at, len - at), OK);
		check_recorded(&r);
		reader_fini(&r);
	}
	reader_init(&r, wire);
	for (size_t at = 0; at < len; at++)
		assert_int_equal(reader_feed(&r, stream + at, 1), OK);
	check_recorded(&r);
	reader_fini(&r);
}

static void test_openai_at_every_split(void **state)
{
	whole_at_every_split(&wire_openai, openai_stream, strlen(openai_stream));
}

static void test_anthropic_at_every_split(void **state)
{
	whole_at_every_split(&wire_anthropic, anthropic_stream, strlen(anthropic_stream));
}

/* Cut off anywhere, an answer is not taken for a whole one before its server said why it stopped. */
static void not_whole_before(const struct wire *wire, const char *stream, const char *reason)
{
	size_t len = strlen(stream), whole_from = (size_t)(strstr(stream, reason) - stream);

	for (size_t at = 0; at < len; at++) {
		struct stream_reader r;
		size_t said;

		reader_init(&r, wire);
		assert_int_equal(reader_feed(&r, stream, at), OK);
		if (at < whole_from)
			assert_false(r.answer.stopped || r.answer.ended);
		said = strlen(strbuf_str(&r.text));
		assert_true(said <= strlen(TEXT));
		assert_memory_equal(strbuf_str(&r.text), TEXT, said);
		/* A body that ends here, as a server without a length does it. */
		IGNORE(reader_feed(&r, "\n\n", 2));
		if (at < whole_from)
			assert_false(r.answer.stopped || r.answer.ended);
		reader_fini(&r);
	}
}

static void test_cut_at_every_byte(void **state)
{
	not_whole_before(&wire_openai, openai_stream, "\"finish_reason\":\"tool_calls\"");
	not_whole_before(&wire_anthropic, anthropic_stream, "\"stop_reason\":\"tool_use\"");
}

struct sample {
	const char *what, *stream;
	const char *text;
	const char *calls; /* "name arguments;name arguments" */
	enum model_stop stop;
};

static const struct sample openai_samples[] = {
    {"no [DONE], no role, null members",
	"data: {\"choices\":[{\"delta\":{\"content\":\"a\",\"tool_calls\":null},"
	"\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
	"a", "", MODEL_STOP_DONE},
    {"no delta at all", "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n", "", "", MODEL_STOP_DONE},
    {"CRLF and no space", "data:{\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\r\n\r\n",
	"a", "", MODEL_STOP_DONE},
    {"content in pieces",
	CHUNK("{\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"thinking\",\"thinking\":[{"
	      "\"type\":\"text\",\"text\":\"t\"}]},{\"text\":\"b\"}]}") FINISH("stop"),
	"ab", "", MODEL_STOP_DONE},
    {"length", CHUNK("{\"content\":\"a\"}") FINISH("length"), "a", "", MODEL_STOP_LENGTH},
    {"filter", CHUNK("{\"content\":\"a\"}") FINISH("content_filter"), "a", "", MODEL_STOP_REFUSAL},
    {"refusal", CHUNK("{\"refusal\":\"I \"}") CHUNK("{\"refusal\":\"won't\"}") FINISH("stop"), "I won't", "",
	MODEL_STOP_REFUSAL},
    {"a reason of its own", CHUNK("{\"content\":\"a\"}") FINISH("eos"), "a", "", MODEL_STOP_DONE},
    {"whole calls without index",
	CHUNK("{\"tool_calls\":[{\"id\":\"1\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},"
	      "{\"id\":\"2\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}}]}") FINISH("stop"),
	"", "f {};f {\"a\":1}", MODEL_STOP_DONE},
    {"all calls at index 0",
	CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"1\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}")
	    CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"2\",\"function\":{\"name\":\"g\",\"arguments\":\"{\"}}]}")
		ARGS("0", "}") FINISH("stop"),
	"", "f {};g {}", MODEL_STOP_DONE},
    {"neither index nor id",
	CHUNK("{\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\"\"}}]}")
	    CHUNK("{\"tool_calls\":[{\"function\":{\"arguments\":\":1}\"}}]}")
		CHUNK("{\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}")
		    CHUNK("{\"tool_calls\":[{\"function\":{\"name\":\"g\",\"arguments\":\"\"}}]}") FINISH("stop"),
	"", "f {\"a\":1};f {};g {}", MODEL_STOP_DONE},
    {"calls without arguments, no index, no id",
	CHUNK("{\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]}")
	    CHUNK("{\"tool_calls\":[{\"function\":{\"name\":\"g\",\"arguments\":null}}]}") FINISH("stop"),
	"", "f {};g {}", MODEL_STOP_DONE},
    {"the name with each delta",
	CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"1\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]}")
	    CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"1\",\"function\":{\"name\":\"f\",\"arguments\":\"}\"}}]}")
		FINISH("stop"),
	"", "f {}", MODEL_STOP_DONE},
    {"a new id with each delta",
	CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"1\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}")
	    CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"2\",\"function\":{\"name\":null,\"arguments\":\"{}\"}}]}")
		FINISH("stop"),
	"", "f {}", MODEL_STOP_DONE},
    {"the name in pieces",
	CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"1\",\"function\":{\"name\":\"read_\"}}]}") CHUNK(
	    "{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"file\",\"arguments\":\"{}\"}}]}") FINISH("stop"),
	"", "read_file {}", MODEL_STOP_DONE},
    {"interleaved by index",
	CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"1\",\"function\":{\"name\":\"f\"}},{\"index\":1,\"id\":\"2\","
	      "\"function\":{\"name\":\"g\"}}]}") ARGS("1", "{\\\"b\\\":") ARGS("0", "{}") ARGS("1", "2}")
	    FINISH("stop"),
	"", "f {};g {\"b\":2}", MODEL_STOP_DONE},
    {"arguments as an object",
	CHUNK("{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":{\"a\":[1]}}}]}")
	    FINISH("stop"),
	"", "f {\"a\":[1]}", MODEL_STOP_DONE},
    {"half a surrogate pair", CHUNK("{\"content\":\"a\\ud83d\"}") CHUNK("{\"content\":\"\\\\ud83d\"}") FINISH("stop"),
	"a\xef\xbf\xbd\\ud83d", "", MODEL_STOP_DONE},
    {"bytes that are not UTF-8, and a NUL", CHUNK("{\"content\":\"a\xff\\u0000\"}") FINISH("stop"),
	"a\xef\xbf\xbd\xef\xbf\xbd", "", MODEL_STOP_DONE},
    {"after [DONE] nothing counts", CHUNK("{\"content\":\"a\"}") FINISH("stop") DONE "data: rubbish\n\n", "a", "",
	MODEL_STOP_DONE},
};

static const struct sample anthropic_samples[] = {
    {"input in the first event",
	BLOCK("0", "{\"type\":\"tool_use\",\"name\":\"f\",\"input\":{\"a\":1}}")
	    EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"tool_use\"}"),
	"", "f {\"a\":1}", MODEL_STOP_DONE},
    {"limit of output",
	BLOCK("0", "{\"type\":\"text\",\"text\":\"a\"}")
	    EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"max_tokens\"}"),
	"a", "", MODEL_STOP_LENGTH},
    {"end of the window",
	BLOCK("0", "{\"type\":\"text\",\"text\":\"a\"}")
	    EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"model_context_window_exceeded\"}"),
	"a", "", MODEL_STOP_LENGTH},
    {"refusal", EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"refusal\"}"), "", "", MODEL_STOP_REFUSAL},
    {"pause",
	BLOCK("0", "{\"type\":\"text\",\"text\":\"a\"}")
	    EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"pause_turn\"}"),
	"a", "", MODEL_STOP_DONE},
    {"unknown blocks, deltas and events",
	BLOCK("0", "{\"type\":\"server_tool_use\"}") DELTA("0", "{\"type\":\"x\"}")
	    DELTA("9", "{\"type\":\"text_delta\",\"text\":\"lost\"}") EVENT("new_thing", "")
		EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"stop_sequence\"}"),
	"", "", MODEL_STOP_DONE},
};

static void check_samples(const struct wire *wire, const struct sample *samples, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct sample *s = &samples[i];
		struct strbuf calls = STRBUF(1000);
		struct model_result turn = {0};
		struct stream_reader r;

		reader_init(&r, wire);
		if (reader_feed(&r, s->stream, strlen(s->stream)) != OK || !r.answer.stopped)
			fail_msg("%s: %s", s->what, r.answer.failure.what);
		answer_take(&r.answer, &turn);
		for (size_t c = 0; c < json_array_size(turn.calls); c++) {
			AUTO_STR args = arguments(&turn, c);

			strbuf_addf(&calls, "%s%s %s", c > 0 ? ";" : "", call_member(&turn, c, "name"), args);
		}
		if (strcmp(turn.text, s->text) != 0 || strcmp(strbuf_str(&calls), s->calls) != 0 ||
		    turn.stop != s->stop)
			fail_msg("%s: text '%s' calls '%s' stop %d", s->what, turn.text, strbuf_str(&calls), turn.stop);
		assert_string_equal(strbuf_str(&r.text), s->text);
		model_result_fini(&turn);
		strbuf_fini(&calls);
		reader_fini(&r);
	}
}

static void test_what_servers_do(void **state)
{
	check_samples(&wire_openai, openai_samples, ARRAY_LEN(openai_samples));
	check_samples(&wire_anthropic, anthropic_samples, ARRAY_LEN(anthropic_samples));
}

static void test_errors_in_the_stream(void **state)
{
	static const struct {
		const struct wire *wire;
		const char *stream, *what;
		enum failure_kind kind;
	} cases[] = {
	    {&wire_openai, "data: {\"error\":{\"message\":\"boom\",\"code\":500}}\n\n", "boom", FAILURE_RETRY},
	    {&wire_openai, "data: {\"error\":\"CUDA out of memory\"}\n\n", "CUDA", FAILURE_RETRY},
	    {&wire_openai, "data: {\"error\":{\"message\":\"no\",\"code\":401}}\n\n", "no", FAILURE_FINAL},
	    {&wire_openai, "data: {\"error\":{\"message\":\"m\",\"type\":\"exceed_context_size_error\"}}\n\n", "m",
		FAILURE_CONTEXT},
	    {&wire_openai, "data: {\"detail\":\"gone\"}\n\n", "gone", FAILURE_RETRY},
	    {&wire_openai, "data: <html>\n\n", "not JSON", FAILURE_RETRY},
	    {&wire_openai, "data: [1]\n\n", "no object", FAILURE_RETRY},
	    {&wire_openai, FINISH("error"), "gave up", FAILURE_RETRY},
	    {&wire_anthropic,
		"event: error\ndata: "
		"{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
		"overloaded_error: Overloaded", FAILURE_RETRY},
	    {&wire_anthropic,
		"data: {\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"bad\"}}\n\n",
		"bad", FAILURE_FINAL},
	    {&wire_anthropic,
		"data: {\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"prompt is too "
		"long: 9 > 8\"}}\n\n",
		"too long", FAILURE_CONTEXT},
	    {&wire_anthropic, "data: nothing\n\n", "not JSON", FAILURE_RETRY},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct stream_reader r;

		reader_init(&r, cases[i].wire);
		assert_int_not_equal(reader_feed(&r, cases[i].stream, strlen(cases[i].stream)), OK);
		if (r.answer.failure.kind != cases[i].kind || strstr(r.answer.failure.what, cases[i].what) == NULL)
			fail_msg("%s: kind %d, %s", cases[i].stream, r.answer.failure.kind, r.answer.failure.what);
		reader_fini(&r);
	}
}

static void fault_is(const char *arguments_json, const char *reason, const char *want)
{
	AUTO_STR stream = str_printf(
	    CHUNK("{\"content\":\"x\"}") "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{"
					 "\"name\":\"f\",\"arguments\":\"%s\"}}]},\"finish_reason\":\"%s\"}]}\n\n",
	    arguments_json, reason);
	struct model_result turn = {0};
	struct stream_reader r;
	AUTO_STR args = NULL;

	reader_init(&r, &wire_openai);
	assert_int_equal(reader_feed(&r, stream, strlen(stream)), OK);
	answer_take(&r.answer, &turn);
	args = arguments(&turn, 0);
	if (want == NULL) {
		assert_null(call_member(&turn, 0, "fault"));
	} else {
		assert_non_null(call_member(&turn, 0, "fault"));
		if (strstr(call_member(&turn, 0, "fault"), want) == NULL)
			fail_msg("%s", call_member(&turn, 0, "fault"));
		assert_string_equal(args, "{}");
	}
	model_result_fini(&turn);
	reader_fini(&r);
}

static void test_faults_of_arguments(void **state)
{
	fault_is("", "tool_calls", NULL);
	fault_is("  ", "tool_calls", NULL);
	fault_is("{\\\"a\\\":1", "tool_calls", "arguments of f are not valid JSON: malformed JSON at line 1 column");
	fault_is("{\\\"a\\\":1", "length", "limit of output within the arguments of f, after 6 bytes");
	fault_is("{\\\"a\\\":1}", "length", NULL);
	fault_is("", "length", "limit of output");
	fault_is("[1]", "tool_calls", "must be one JSON object");
	fault_is("\\\"{\\\\\\\"a\\\\\\\":1}\\\"", "tool_calls", NULL);
	fault_is("\\\"text\\\"", "tool_calls", "must be one JSON object");
	fault_is("{} trailing", "tool_calls", "not valid JSON");
	fault_is("{\\\"a\\\":\\\"\\\\u0000\\\"}", "tool_calls", "not valid JSON");
}

static void test_no_answer_is_endless(void **state)
{
	struct stream_reader r;
	int rc = OK;
	AUTO_STR big = mem_zalloc(100001);
	AUTO_STR event = NULL;

	memset(big, 'a', 100000);
	event = str_printf("data: {\"choices\":[{\"delta\":{\"content\":\"%s\"}}]}\n\n", big);
	reader_init(&r, &wire_openai);
	for (size_t i = 0; rc == OK && i < 1000; i++)
		rc = reader_feed(&r, event, strlen(event));
	assert_int_equal(rc, ERR_PROTOCOL);
	assert_int_equal(r.answer.failure.kind, FAILURE_FINAL);
	assert_true(r.text.len <= ANSWER_BYTES_MAX);
	reader_fini(&r);
	reader_init(&r, &wire_openai);
	rc = OK;
	for (int i = 0; rc == OK && i < 2000; i++) {
		AUTO_STR call = str_printf(
		    "data: "
		    "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":%d,\"function\":{\"name\":\"f\"}}]}}]}\n\n",
		    i);

		rc = reader_feed(&r, call, strlen(call));
	}
	assert_int_equal(rc, ERR_PROTOCOL);
	reader_fini(&r);
}

/* Run threads have small stacks. */
static void test_deep_nesting_is_refused(void **state)
{
	static const char open[] =
	    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":";
	struct strbuf b = STRBUF(100000);
	struct stream_reader r;

	strbuf_adds(&b, open);
	for (int i = 0; i < 1900; i++)
		strbuf_adds(&b, "{\"a\":");
	strbuf_addc(&b, '1');
	for (int i = 0; i < 1900; i++)
		strbuf_addc(&b, '}');
	strbuf_adds(&b, "}}]}}]}\n\n");
	reader_init(&r, &wire_openai);
	assert_int_equal(reader_feed(&r, b.data, b.len), ERR_PROTOCOL);
	assert_string_equal(r.answer.failure.what, "sent a chunk that is not JSON");
	reader_fini(&r);
	strbuf_fini(&b);
}

static void test_the_sink_may_end_it(void **state)
{
	struct stream_reader r;

	reader_init(&r, &wire_openai);
	r.sink_rc = ERR_LOST;
	assert_int_equal(reader_feed(&r, openai_stream, strlen(openai_stream)), ERR_LOST);
	assert_int_equal(r.answer.sink_rc, ERR_LOST);
	assert_int_equal(r.answer.failure.kind, FAILURE_NONE);
	reader_fini(&r);
}

static void test_thinking_is_kept_for_the_next_turn(void **state)
{
	struct stream_reader r;
	AUTO_JSON native = NULL;
	AUTO_STR text = NULL;

	reader_init(&r, &wire_anthropic);
	assert_int_equal(reader_feed(&r, anthropic_stream, strlen(anthropic_stream)), OK);
	native = wire_anthropic.native(&r.answer);
	text = json_text(native);
	assert_string_equal(text, "{\"blocks\":[{\"type\":\"thinking\",\"thinking\":\"Hm "
				  "\xc3\xa4\",\"signature\":\"c2ln\"},"
				  "{\"type\":\"redacted_thinking\",\"data\":\"cmVk\"},{\"type\":\"text\",\"text\":"
				  "\"Gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80 "
				  "\xf0\x9f\x98\x80 a\\nb\"},{\"type\":\"tool_use\"},{\"type\":\"tool_use\"}]}");
	reader_fini(&r);
	reader_init(&r, &wire_anthropic);
	assert_null(wire_anthropic.native(&r.answer));
	reader_fini(&r);
}

static void test_an_answer_in_one_piece(void **state)
{
	static const char openai[] =
	    "{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\","
	    "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}"
	    ","
	    "\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":3}}";
	static const char anthropic[] =
	    "{\"content\":[{\"type\":\"text\",\"text\":\"x\"},{\"type\":\"tool_use\",\"name\":\"f\",\"input\":{}},"
	    "{\"type\":\"tool_use\",\"name\":\"f\",\"input\":{}}],\"stop_reason\":\"tool_use\",\"usage\":{\"input_"
	    "tokens\":3}}";
	const struct {
		const struct wire *wire;
		const char *body;
	} cases[] = {{&wire_openai, openai}, {&wire_anthropic, anthropic}};

	for (size_t i = 0; i < 2; i++) {
		AUTO_JSON body = answer_json(cases[i].body, strlen(cases[i].body));
		AUTO_JSON nothing = json_object();
		struct model_result turn = {0};
		struct stream_reader r;

		reader_init(&r, cases[i].wire);
		assert_int_equal(cases[i].wire->on_whole(&r.answer, body), OK);
		assert_true(r.answer.stopped);
		answer_take(&r.answer, &turn);
		assert_int_equal(json_array_size(turn.calls), 2);
		assert_int_equal(turn.usage.input_tokens, 3);
		model_result_fini(&turn);
		reader_fini(&r);
		reader_init(&r, cases[i].wire);
		assert_int_equal(cases[i].wire->on_whole(&r.answer, nothing), ERR_PROTOCOL);
		assert_int_equal(r.answer.failure.kind, FAILURE_RETRY);
		reader_fini(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_openai_at_every_split),
	    cmocka_unit_test(test_anthropic_at_every_split),
	    cmocka_unit_test(test_cut_at_every_byte),
	    cmocka_unit_test(test_what_servers_do),
	    cmocka_unit_test(test_errors_in_the_stream),
	    cmocka_unit_test(test_faults_of_arguments),
	    cmocka_unit_test(test_no_answer_is_endless),
	    cmocka_unit_test(test_deep_nesting_is_refused),
	    cmocka_unit_test(test_the_sink_may_end_it),
	    cmocka_unit_test(test_thinking_is_kept_for_the_next_turn),
	    cmocka_unit_test(test_an_answer_in_one_piece),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
