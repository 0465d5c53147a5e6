/* The conversation of an agent, rebuilt from the store or grown step by step: the same messages either way, because
 * their positions are what a compaction refers to. */
#include "server/runs/conversation.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/runs/mcp_tools.h"
#include "server/runs/named.h"
#include "server/runs/hooks.h"
#include "server/runs/result_images.h"
#include "store/store.h"
#include <string.h>

#define DETAIL_MAX 500
#define IMAGES_MAX ((size_t)32 * 1024 * 1024) /* of base64 in one conversation */
#define NO_RESULT "interrupted: the run ended before this call had a result; whether it took effect is unknown"
#define CUT_OFF "Your answer was cut off by the limit of its length. Go on exactly where it ended; repeat nothing."
#define UNPARSED                                                                                                       \
	"Your answer holds a tool call written as text. Nobody performed it: tool calls must come as the structured "  \
	"tool calls of this interface, not as text. Make the call again that way."

json_t *conversation_begin_step(const char *text, const json_t *native)
{
	json_t *step = json_object();

	json_put(step, "role", "assistant");
	json_put(step, "text", text);
	json_put_new(step, "toolCalls", json_array());
	if (native != NULL)
		json_object_set(step, "native", (json_t *)native);
	return step;
}

void conversation_add_call(json_t *step, const char *id, const char *name, const json_t *args)
{
	json_t *call = json_object();

	json_put(call, "id", id);
	json_put(call, "name", name);
	json_put_new(call, "arguments", args != NULL ? json_incref((json_t *)args) : json_object());
	json_array_append_new(json_object_get(step, "toolCalls"), call);
}

static void conversation_add_user(json_t *conversation, const char *text)
{
	json_t *user = json_object();

	json_put(user, "role", "user");
	json_put(user, "text", text);
	json_array_append_new(conversation, user);
}

/* What the model is told when it stopped too early; NULL: it did not. */
static const char *reminder_of(const char *stop, size_t n_calls)
{
	if (n_calls > 0)
		return NULL;
	if (strcmp(stop, "length") == 0)
		return CUT_OFF;
	return strcmp(stop, "unparsed") == 0 ? UNPARSED : NULL;
}

bool step_goes_on(const char *stop, size_t n_calls)
{
	return reminder_of(stop, n_calls) != NULL;
}

void conversation_end_step(json_t *conversation, json_t *step, const char *stop)
{
	const char *reminder = reminder_of(stop, json_array_size(json_object_get(step, "toolCalls")));

	json_array_append_new(conversation, step);
	if (reminder != NULL) {
		conversation_add_user(conversation, reminder);
		json_put_bool(json_array_get(conversation, json_array_size(conversation) - 1), "reminder", true);
	}
}

void conversation_add_result(
    json_t *conversation, const char *id, const char *name, const char *outcome, const char *text, const json_t *detail)
{
	json_t *result = json_object();

	json_put(result, "role", "tool");
	json_put(result, "callId", id);
	json_put(result, "name", name);
	json_put(result, "outcome", outcome);
	json_put(result, "text", text);
	json_put_new(result, "detail", detail != NULL ? json_incref((json_t *)detail) : json_object());
	json_array_append_new(conversation, result);
}

json_t *conversation_detail(const json_t *result)
{
	json_t *detail = json_object();
	json_t *exit_code = json_object_get(result, "exitCode");
	const char *message = json_string_value(json_object_get(result, "message"));

	if (json_is_integer(exit_code))
		json_object_set(detail, "exitCode", exit_code);
	if (message != NULL)
		json_put_new(
		    detail, "message", json_lossy(message, text_utf8_cut(message, strlen(message), DETAIL_MAX)));
	return detail;
}

/* What has images, and where its message is: the prompt of a loop, or a call (its result). */
struct image_place {
	char *loop_id, *call_id; /* one of them is NULL */
	size_t position;
};

struct image_places {
	struct image_place *v;
	size_t n, cap;
	size_t from; /* of messages before this position they are not asked for */
};

static void image_places_fini(struct image_places *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].loop_id);
		free(l->v[i].call_id);
	}
	free(l->v);
}

static void image_places_add(struct image_places *l, const char *loop_id, const char *call_id, size_t position)
{
	if (position < l->from)
		return;
	l->v = mem_grow(l->v, &l->cap, l->n + 1, sizeof *l->v);
	l->v[l->n++] = (struct image_place){str_dup(loop_id), str_dup(call_id), position};
}

/* NULL for text that is none: what we wrote is JSON, but a store may come from anywhere. */
static json_t *parse(const char *text)
{
	json_t *j = NULL;

	if (text != NULL)
		IGNORE(json_parse(text, strlen(text), &j, NULL));
	return j;
}

/* A call without a result gets one in words: models are told the outcome of every call, and positions must not change
 * when a result is settled later. */
static void add_stored_result(json_t *results, struct query *q, const char *name)
{
	AUTO_JSON detail = parse(query_text(q, 5));

	if (query_is_null(q, 3))
		conversation_add_result(results, query_str(q, 0), name, "error", NO_RESULT, NULL);
	else
		conversation_add_result(results, query_str(q, 0), name, query_str(q, 3), query_str(q, 4), detail);
}

static void note_images(struct image_places *images, const json_t *results, size_t first)
{
	size_t i;
	json_t *m;

	json_array_foreach((json_t *)results, i, m)
	{
		if (json_object_get(json_object_get(m, "detail"), "images") != NULL)
			image_places_add(images, NULL, json_string_value(json_object_get(m, "callId")), first + i);
	}
}

static int append_step(
    struct tx *tx, const char *loop_id, struct query *row, json_t *conversation, struct image_places *images)
{
	AUTO(query) q = NULL;
	AUTO_JSON results = json_array();
	AUTO_JSON native = parse(query_text(row, 3));
	AUTO_JSON assistant = conversation_begin_step(query_str(row, 1), native);
	int rc = tx_query(tx, &q,
	    "SELECT id, name, args, outcome, model_text, detail FROM tool_calls"
	    " WHERE loop_id = $1 AND step = $2 AND kind = 'tool' ORDER BY idx",
	    "si", loop_id, query_int(row, 0));

	while (rc == OK && (rc = query_next(q)) == OK) {
		AUTO_JSON args = parse(query_text(q, 2));

		conversation_add_call(assistant, query_str(q, 0), mcp_shown_name(query_str(q, 1), args),
		    mcp_shown_args(query_str(q, 1), args));
		add_stored_result(results, q, mcp_shown_name(query_str(q, 1), args));
	}
	conversation_end_step(conversation, TAKE(assistant), query_str(row, 2));
	note_images(images, results, json_array_size(conversation));
	json_array_extend(conversation, results);
	return rc == ERR_EMPTY ? OK : rc;
}

/* Those that stand before that step. */
static void add_hook_messages(json_t *conversation, const json_t *hooks, size_t *told, int64_t step)
{
	for (; *told < json_array_size(hooks); (*told)++) {
		const json_t *m = json_array_get(hooks, *told);

		if (json_integer_value(json_object_get(m, "step")) > step)
			return;
		conversation_add_user(conversation, json_string_value(json_object_get(m, "text")));
	}
}

static int append_steps(struct tx *tx, const char *loop_id, json_t *conversation, struct image_places *images)
{
	AUTO(query) q = NULL;
	AUTO_JSON hooks = NULL;
	size_t told = 0;
	int rc = hook_messages_load(tx, loop_id, &hooks);

	if (rc == OK)
		rc = tx_query(tx, &q, "SELECT step, text, stop, native FROM steps WHERE loop_id = $1 ORDER BY step",
		    "s", loop_id);
	while (rc == OK && (rc = query_next(q)) == OK) {
		add_hook_messages(conversation, hooks, &told, query_int(q, 0));
		rc = append_step(tx, loop_id, q, conversation, images);
	}
	if (rc != ERR_EMPTY)
		return rc;
	add_hook_messages(conversation, hooks, &told, INT64_MAX);
	return OK;
}

static int load_images(struct tx *tx, const char *loop_id, size_t *budget, json_t *message)
{
	AUTO(query) q = NULL;
	AUTO_JSON images = json_array();
	size_t left_out = 0;
	int rc =
	    tx_query(tx, &q, "SELECT mime_type, data FROM prompt_images WHERE loop_id = $1 ORDER BY idx", "s", loop_id);

	while (rc == OK && (rc = query_next(q)) == OK) {
		size_t len = strlen(query_str(q, 1));

		/* Of an image that was forgotten (retention.h) the row is left, without its data. */
		if (len == 0 || len > *budget) {
			left_out++;
			continue;
		}
		*budget -= len;
		json_array_append_new(
		    images, json_pack("{s:s, s:s}", "mimeType", query_str(q, 0), "data", query_str(q, 1)));
	}
	if (json_array_size(images) > 0)
		json_object_set(message, "images", images);
	if (left_out > 0) {
		AUTO_STR noted = str_printf("%s\n\n[%zu images left out: they are too many or too old]",
		    json_string_value(json_object_get(message, "text")), left_out);

		json_put(message, "text", noted);
	}
	return rc == ERR_EMPTY ? OK : rc;
}

/* A result may be gone (retention.h): its text still says that there was an image. */
static int load_result_images(struct tx *tx, const char *call_id, json_t *message)
{
	AUTO_STR text = NULL;
	AUTO_JSON result = NULL;
	int rc = tx_query_text(tx, &text, "SELECT result FROM tool_calls WHERE id = $1", "s", call_id);

	if (rc == OK && (result = parse(text)) != NULL)
		result_images_show(message, result, json_object_get(message, "detail"));
	return rc == ERR_EMPTY ? OK : rc;
}

/* The newest come first: there is a bound to what is sent with each request. */
static int add_images(struct tx *tx, const struct image_places *l, json_t *conversation)
{
	size_t budget = IMAGES_MAX, results = 0;
	int rc = OK;

	for (size_t i = l->n; rc == OK && i > 0; i--) {
		const struct image_place *p = &l->v[i - 1];
		json_t *message = json_array_get(conversation, p->position);

		if (p->loop_id != NULL)
			rc = load_images(tx, p->loop_id, &budget, message);
		else if (results++ < RESULT_IMAGES_MAX)
			rc = load_result_images(tx, p->call_id, message);
	}
	result_images_bound(conversation);
	return rc;
}

int conversation_load(struct tx *tx, const char *conversation_id, size_t images_from, json_t **ret)
{
	__attribute__((cleanup(image_places_fini))) struct image_places places = {.from = images_from};
	AUTO_JSON conversation = json_array();
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT l.id, t.prompt, x.named FROM loops l JOIN loop_texts t ON t.loop_id = l.id"
	    " LEFT JOIN run_sessions x ON x.run_id = l.id WHERE l.conversation_id = $1 ORDER BY l.seq",
	    "s", conversation_id);

	while (rc == OK && (rc = query_next(q)) == OK) {
		AUTO_STR prompt = named_append(query_str(q, 1), query_text(q, 2));

		image_places_add(&places, query_str(q, 0), NULL, json_array_size(conversation));
		conversation_add_user(conversation, prompt);
		rc = append_steps(tx, query_str(q, 0), conversation, &places);
	}
	if (rc == ERR_EMPTY)
		rc = add_images(tx, &places, conversation);
	if (rc == OK)
		*ret = TAKE(conversation);
	return rc;
}

void conversation_drop_images(json_t *conversation)
{
	size_t i;
	json_t *m;

	json_array_foreach(conversation, i, m)
	{
		const char *text = json_string_value(json_object_get(m, "text"));

		if (json_object_get(m, "images") == NULL)
			continue;
		AUTO_STR noted = str_printf("%s\n\n[images left out: this model takes none]", text);

		json_object_del(m, "images");
		json_put(m, "text", noted);
	}
}
