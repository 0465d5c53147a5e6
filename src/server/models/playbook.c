/* The built-in provider that makes no claim to intelligence: it performs the prompt's fenced blocks in order. It keeps
 * no state; where it stands follows from the conversation: each tool message since the last user message is one step
 * done. */
#include "server/models/playbook.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/models/provider.h"
#include <string.h>

#define TEXT_MAX (256 * 1024)
#define TOGETHER_MAX 8

/* Index just after the last user message, and its text. */
static size_t last_prompt(const json_t *conversation, const char **ret_text)
{
	size_t after = 0;

	*ret_text = "";
	for (size_t i = 0; i < json_array_size(conversation); i++) {
		const json_t *m = json_array_get(conversation, i);

		if (strcmp(json_word(m, "role"), "user") == 0) {
			*ret_text = json_word(m, "text");
			after = i + 1;
		}
	}
	return after;
}

static bool is_read_tool(const json_t *tools, const char *name)
{
	for (size_t i = 0; i < json_array_size(tools); i++) {
		const json_t *t = json_array_get(tools, i);

		if (strcmp(json_word(t, "name"), name) == 0)
			return strcmp(json_word(t, "class"), "read") == 0;
	}
	return false;
}

/* Blocks that cannot be performed are shown in the report; they take no call. */
struct progress {
	const struct playbook *book;
	const json_t **done; /* tool message of each step, NULL: not performed */
	size_t next; /* first step that is not settled */
	bool stopped; /* a `must` step failed */
};

static bool failed(const json_t *tool_message)
{
	return strcmp(json_word(tool_message, "outcome"), "success") != 0;
}

static void playbook_settle(struct progress *p, const json_t *conversation, size_t at)
{
	for (p->next = 0; p->next < p->book->n && !p->stopped; p->next++) {
		struct playbook_step *s = &p->book->steps[p->next];

		if (s->arguments == NULL) {
			p->stopped = s->must;
			continue;
		}
		while (at < json_array_size(conversation) &&
		       strcmp(json_word(json_array_get(conversation, at), "role"), "tool") != 0)
			at++;
		if (at == json_array_size(conversation))
			return;
		p->done[p->next] = json_array_get(conversation, at++);
		p->stopped = s->must && failed(p->done[p->next]);
	}
}

/* Reads that follow each other go together; everything else goes alone, so that a failed `must` stops what follows. */
static json_t *next_calls(const struct progress *p, const json_t *tools)
{
	json_t *calls = json_array();

	for (size_t i = p->next; i < p->book->n && json_array_size(calls) < TOGETHER_MAX; i++) {
		const struct playbook_step *s = &p->book->steps[i];
		bool alone = s->arguments == NULL || s->must || !is_read_tool(tools, s->tool);

		if (alone && json_array_size(calls) > 0)
			break;
		json_array_append_new(calls, json_pack("{s:s, s:O}", "name", s->tool, "arguments", s->arguments));
		if (alone)
			break;
	}
	return calls;
}

static void playbook_describe(struct strbuf *b, const struct playbook_step *s, const json_t *done, bool stopped)
{
	const json_t *result = json_object_get(done, "detail");
	const json_t *exit_code = json_object_get(result, "exitCode");
	const char *message = json_word(result, "message");

	if (s->problem != NULL)
		strbuf_addf(b, "not performed: %s", s->problem);
	else if (done == NULL)
		strbuf_adds(b, stopped ? "skipped, because an earlier step that must succeed failed" : "not performed");
	else if (!failed(done))
		strbuf_adds(b, "ok");
	else if (json_is_integer(exit_code))
		strbuf_addf(b, "failed, exit status %lld", (long long)json_integer_value(exit_code));
	else
		strbuf_addf(b, "failed: %.*s", (int)text_utf8_cut(message, strlen(message), 300), message);
}

static char *playbook_report(const struct progress *p)
{
	struct strbuf b = STRBUF(TEXT_MAX);
	size_t good = 0;

	for (size_t i = 0; i < p->book->n; i++)
		good += p->done[i] != NULL && !failed(p->done[i]);
	strbuf_addf(&b, "%zu of %zu steps succeeded.\n", good, p->book->n);
	for (size_t i = 0; i < p->book->n; i++) {
		strbuf_addf(&b, "%zu. %s: ", i + 1, p->book->steps[i].label);
		playbook_describe(&b, &p->book->steps[i], p->done[i], p->stopped);
		strbuf_addc(&b, '\n');
	}
	while (b.len > 0 && b.data[b.len - 1] == '\n')
		b.data[--b.len] = '\0';
	return strbuf_take(&b);
}

static const char help[] =
    "This server runs `playbook`: it performs the fenced blocks of a prompt in order (```sh, ```file PATH, ```tool "
    "NAME) "
    "and understands nothing else. The prompt had no such block, so nothing was done. To have prompts understood, "
    "configure a model provider (docs/models.md).";

/* A prompt that was read before. */
struct known {
	char *prompt;
	struct playbook book;
};

static void known_free(void *data)
{
	struct known *k = data;

	playbook_fini(&k->book);
	free(k->prompt);
	free(k);
}

/* The prompt is the same in each request of a loop, and may be long. */
static int playbook_read_prompt(const char *prompt, struct model_memo *memo, struct why *why)
{
	struct known *k = memo->data;
	int rc;

	if (k != NULL && strcmp(k->prompt, prompt) == 0)
		return OK;
	model_memo_fini(memo);
	k = NEW(struct known);
	rc = playbook_parse(prompt, &k->book);
	k->prompt = str_dup(prompt);
	*memo = (struct model_memo){.data = k, .free = known_free};
	return rc != OK ? why_set(why, rc, "the prompt has more than %d steps", PLAYBOOK_STEPS_MAX) : OK;
}

static int answer_from_book(const struct playbook *book, const struct model_request *req, size_t at,
    const struct model_sink *sink, struct model_result *ret)
{
	struct progress p = {.book = book, .done = mem_zalloc((book->n + 1) * sizeof *p.done)};
	int rc = OK;

	playbook_settle(&p, req->conversation, at);
	if (p.next < book->n && !p.stopped) {
		ret->calls = next_calls(&p, req->tools);
		ret->text = str_dup("");
	} else {
		ret->calls = json_array();
		ret->text = book->n == 0 ? str_dup(help) : playbook_report(&p);
		rc = sink->on_text(sink->ctx, ret->text, strlen(ret->text));
	}
	free(p.done);
	return rc;
}

static int playbook_request(const struct provider *self, const struct model_request *req, const struct model_sink *sink,
    struct model_result *ret, struct why *why)
{
	struct model_memo own = {0}, *memo = req->memo != NULL ? req->memo : &own;
	const char *prompt;
	size_t at = last_prompt(req->conversation, &prompt);
	int rc = playbook_read_prompt(prompt, memo, why);

	if (rc == OK)
		rc = answer_from_book(&((struct known *)memo->data)->book, req, at, sink, ret);
	else
		model_memo_fini(memo);
	if (rc != OK)
		model_result_fini(ret);
	model_memo_fini(&own);
	return rc;
}

const struct provider provider_playbook = {.name = "playbook", .request = playbook_request};
