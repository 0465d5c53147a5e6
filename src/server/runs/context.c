#include "server/runs/context.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "store/store.h"
#include <string.h>

#define IMAGE_TOKENS 1600
#define MESSAGE_TOKENS 8
#define TRANSCRIPT_RESULT_MAX 1000
#define TRANSCRIPT_ARGS_MAX 500
#define REQUEST_MAX (8 * 1024)

static bool has_role(const json_t *message, const char *role)
{
	return strcmp(json_word(message, "role"), role) == 0;
}

void compaction_fini(struct compaction *c)
{
	free(c->loop_id);
	free(c->summary);
	*c = (struct compaction){0};
}

void context_fini(struct context *c)
{
	json_decref(c->messages);
	compaction_fini(&c->compaction);
	*c = (struct context){0};
}

/* Where a shown message is in the whole conversation: a summary stands for all that it replaced. */
static size_t position(const struct context *c, size_t shown)
{
	return c->compaction.summarised > 0 ? shown + c->compaction.summarised - 1 : shown;
}

size_t context_length(const struct context *c)
{
	return position(c, json_array_size(c->messages));
}

static bool is_longer(const json_t *message, size_t max)
{
	return has_role(message, "tool") &&
	       (strlen(json_word(message, "text")) > max || json_object_get(message, "images") != NULL);
}

static void shorten(json_t *message, size_t max)
{
	const char *text = json_word(message, "text");
	AUTO_STR cut = NULL;

	if (!is_longer(message, max))
		return;
	cut = text_cut_middle(text, strlen(text), max, NULL);
	if (json_object_del(message, "images") == 0) {
		AUTO_STR noted = str_printf("%s\n[its images are left out: they are too old]", cut);

		json_put(message, "text", noted);
	} else {
		json_put(message, "text", cut);
	}
}

void context_init(struct context *c, json_t *whole, struct compaction *compaction)
{
	const struct compaction *k = compaction;
	json_t *shown = json_array();

	if (k->summarised > 0)
		json_array_append_new(shown, json_pack("{s:s, s:s}", "role", "user", "text", k->summary));
	for (size_t i = k->summarised; i < json_array_size(whole); i++) {
		json_t *message = json_array_get(whole, i);

		if (i < k->shortened)
			shorten(message, k->result_max);
		json_array_append(shown, message);
	}
	json_decref(whole);
	*c = (struct context){.messages = shown, .compaction = *compaction};
	*compaction = (struct compaction){0};
}

/* Three and a half bytes a token: prose has more, code and logs have less. */
static int64_t tokens_of_bytes(size_t bytes)
{
	return (int64_t)(bytes * 2 / 7);
}

static int64_t tokens_of(const json_t *message)
{
	size_t bytes = strlen(json_word(message, "text")), i;
	json_t *call;

	json_array_foreach(json_object_get(message, "toolCalls"), i, call)
	{
		bytes += json_dumpb(json_object_get(call, "arguments"), NULL, 0, JSON_COMPACT);
		bytes += strlen(json_word(call, "name"));
	}
	if (json_object_get(message, "native") != NULL)
		bytes += json_dumpb(json_object_get(message, "native"), NULL, 0, JSON_COMPACT);
	return MESSAGE_TOKENS + tokens_of_bytes(bytes) +
	       IMAGE_TOKENS * (int64_t)json_array_size(json_object_get(message, "images"));
}

static int64_t tokens_from(const struct context *c, size_t from)
{
	int64_t sum = 0;

	for (size_t i = from; i < json_array_size(c->messages); i++)
		sum += tokens_of(json_array_get(c->messages, i));
	return sum;
}

int64_t context_tokens(const struct context *c, size_t fixed_bytes)
{
	int64_t guess = tokens_of_bytes(fixed_bytes) + tokens_from(c, 0);

	/* Some servers count only what was not in their cache. */
	if (c->counted_tokens > 0)
		return MAX(c->counted_tokens + tokens_from(c, c->counted_messages), guess / 3);
	return guess;
}

void context_counted(struct context *c, int64_t tokens)
{
	c->counted_tokens = tokens;
	c->counted_messages = json_array_size(c->messages);
}

/* The first message of the tail that is kept: at least `keep` messages and `tokens`, and no call apart from its
 * results. */
static size_t tail(const struct context *c, size_t keep, int64_t tokens)
{
	size_t n = json_array_size(c->messages), at = n;
	int64_t kept = 0;

	while (at > 0 && (n - at < keep || kept < tokens))
		kept += tokens_of(json_array_get(c->messages, --at));
	while (at > 0 && has_role(json_array_get(c->messages, at), "tool"))
		at--;
	return at;
}

static bool any_longer(const struct context *c, size_t n, size_t max)
{
	for (size_t i = 0; i < n; i++) {
		if (is_longer(json_array_get(c->messages, i), max))
			return true;
	}
	return false;
}

int context_plan(const struct context *c, int64_t window, unsigned level, struct context_cut *ret)
{
	static const struct {
		size_t keep; /* messages */
		int64_t share; /* of the window, in percent; whichever keeps more */
		bool summarise;
		size_t result_max; /* of results: before the tail on level 0, everywhere later; 0: leave them */
	} levels[CONTEXT_LEVELS] = {
	    {20, 0, false, 2048},
	    {20, 25, true, 0},
	    {4, 0, true, 2048},
	    {2, 0, true, 1024},
	};
	size_t n = json_array_size(c->messages), at;

	if (level >= CONTEXT_LEVELS)
		return ERR_EMPTY;
	at = tail(c, levels[level].keep, window * levels[level].share / 100);
	*ret = (struct context_cut){.result_max = levels[level].result_max};
	/* A summary of nothing but a summary is none. */
	if (levels[level].summarise && at > (c->compaction.summarised > 0 ? 1 : 0))
		ret->summarise = at;
	if (ret->result_max > 0 && any_longer(c, levels[level].summarise ? n : at, ret->result_max))
		ret->shorten = levels[level].summarise ? n : at;
	return ret->summarise > 0 || ret->shorten > 0 ? OK : ERR_EMPTY;
}

int64_t context_tokens_after(
    const struct context *c, const struct context_cut *cut, size_t fixed_bytes, int64_t summary)
{
	int64_t sum = tokens_of_bytes(fixed_bytes) + (cut->summarise > 0 ? summary : 0);

	for (size_t i = cut->summarise; i < json_array_size(c->messages); i++) {
		const json_t *m = json_array_get(c->messages, i);
		int64_t tokens = tokens_of(m);

		if (i < cut->shorten && has_role(m, "tool"))
			tokens = MIN(tokens, MESSAGE_TOKENS + tokens_of_bytes(cut->result_max));
		sum += tokens;
	}
	return sum;
}

static void describe_calls(struct strbuf *b, const json_t *message)
{
	size_t i;
	json_t *call;

	json_array_foreach(json_object_get(message, "toolCalls"), i, call)
	{
		AUTO_STR args = json_text(json_object_get(call, "arguments"));
		AUTO_STR cut = text_cut_middle(args, strlen(args), TRANSCRIPT_ARGS_MAX, NULL);

		strbuf_addf(b, "\n[calls %s %s]", json_word(call, "name"), cut);
	}
}

char *context_transcript(const struct context *c, size_t n, size_t max)
{
	struct strbuf b = STRBUF((size_t)256 * 1024 * 1024);
	char *cut;

	for (size_t i = 0; i < n && i < json_array_size(c->messages); i++) {
		const json_t *m = json_array_get(c->messages, i);
		const char *text = json_word(m, "text");

		if (has_role(m, "tool")) {
			AUTO_STR result = text_cut_middle(text, strlen(text), TRANSCRIPT_RESULT_MAX, NULL);

			strbuf_addf(&b, "\n[%s of %s] %s", json_word(m, "outcome"), json_word(m, "name"), result);
		} else {
			strbuf_addf(&b, "\n\n%s: %s", has_role(m, "user") ? "User" : "Agent", text);
			describe_calls(&b, m);
		}
	}
	cut = text_cut_middle(strbuf_str(&b), b.len, max, NULL);
	strbuf_fini(&b);
	return cut;
}

static const char request_mark[] = "\n\nThe user's latest request in that part, word for word:\n\n";
static const char go_on[] = "\n\nGo on from there.";

/* The user's words are carried over from summary to summary: they are the task. */
static char *latest_request(const struct context *c, size_t n)
{
	const char *text = NULL, *old = c->compaction.summary;

	for (size_t i = c->compaction.summarised > 0 ? 1 : 0; i < n; i++) {
		const json_t *m = json_array_get(c->messages, i);

		if (has_role(m, "user") && !json_is_true(json_object_get(m, "reminder")))
			text = json_word(m, "text");
	}
	if (text != NULL)
		return text_cut_middle(text, strlen(text), REQUEST_MAX, NULL);
	text = old != NULL ? strstr(old, request_mark) : NULL;
	if (text == NULL || !text_has_suffix(text, go_on))
		return str_dup("");
	text += sizeof request_mark - 1;
	return str_ndup(text, strlen(text) - (sizeof go_on - 1));
}

char *context_summary_text(const struct context *c, size_t n, const char *summary)
{
	AUTO_STR request = latest_request(c, n);

	return str_printf("The earlier part of this conversation was replaced by this summary of it:\n\n%s%s%s%s",
	    summary, request[0] != '\0' ? request_mark : "", request, go_on);
}

void context_decide(const struct context *c, const struct context_cut *cut, const char *summary, struct compaction *ret)
{
	const struct compaction *old = &c->compaction;

	*ret = (struct compaction){.seq = old->seq + 1,
	    .summarised = old->summarised,
	    .shortened = old->shortened,
	    .result_max = old->result_max};
	if (cut->shorten > 0) {
		ret->shortened = MAX(old->shortened, position(c, cut->shorten));
		ret->result_max = old->result_max > 0 ? MIN(old->result_max, cut->result_max) : cut->result_max;
	}
	if (cut->summarise > 0)
		ret->summarised = position(c, cut->summarise);
	ret->summary = str_dup(cut->summarise > 0 ? summary : old->summary);
}

int compaction_load(struct tx *tx, const char *conversation_id, struct compaction *ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT seq, loop_id, step, summarised, summary, shortened, result_max FROM compactions WHERE "
	    "conversation_id = $1"
	    " ORDER BY seq DESC LIMIT 1",
	    "s", conversation_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	*ret = (struct compaction){.seq = query_int(q, 0),
	    .loop_id = str_dup(query_str(q, 1)),
	    .step = query_int(q, 2),
	    .summarised = (size_t)query_int(q, 3),
	    .summary = str_dup(query_text(q, 4)),
	    .shortened = (size_t)query_int(q, 5),
	    .result_max = (size_t)query_int(q, 6)};
	return OK;
}

int compaction_store(struct tx *tx, const char *conversation_id, const struct compaction *c)
{
	return tx_exec(tx,
	    "INSERT INTO compactions(conversation_id, seq, loop_id, step, summarised, summary, shortened, result_max,"
	    " created_at) VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9)",
	    "sisiisiii", conversation_id, c->seq, c->loop_id, c->step, (int64_t)c->summarised, c->summary,
	    (int64_t)c->shortened, (int64_t)c->result_max, clock_wall_ms());
}
