/* What a run does, line by line, in the order of its log. Output of a command that did not come through while it ran is
 * taken from the result that is stored, or said to be missing. */
#include "agent/cli/show.h"
#include "base/mem.h"
#include "base/terminal.h"
#include "base/text.h"
#include <string.h>
#include <unistd.h>

#define OPEN_CALLS 64
#define SEEN_MAX ((size_t)64 * 1024) /* a result with more than that is not in the stream */
#define STREAMED_MAX ((size_t)1024 * 1024) /* of one call */

/* What came of one output of a call. */
struct seen {
	struct strbuf text; /* its beginning */
	size_t len;
};

struct open_call {
	char *id, *subject;
	int64_t started_ms;
	struct seen seen[2]; /* stdout, stderr */
};

struct show {
	bool json, colour;
	bool at_line_start;
	char *speaker; /* the call that was shown last, itself or its output; NULL: something else was */
	char *end_status, *end_message; /* how the run ended, not told yet; NULL: not known */
	struct open_call calls[OPEN_CALLS];
};

struct show *show_new(bool json)
{
	struct show *s = NEW(struct show);

	s->json = json;
	s->colour = terminal_has_colour();
	s->at_line_start = true;
	return s;
}

static void open_call_fini(struct open_call *c)
{
	free(c->id);
	free(c->subject);
	for (size_t i = 0; i < ARRAY_LEN(c->seen); i++)
		strbuf_fini(&c->seen[i].text);
	*c = (struct open_call){0};
}

void show_free(struct show **sp)
{
	struct show *s = TAKE(*sp);

	if (s == NULL)
		return;
	for (size_t i = 0; i < OPEN_CALLS; i++)
		open_call_fini(&s->calls[i]);
	free(s->speaker);
	free(s->end_status);
	free(s->end_message);
	free(s);
}

static const char *paint(const struct show *s, const char *code)
{
	return s->colour ? code : "";
}

static int64_t event_ms(const char *id)
{
	return strtoll(id, NULL, 10);
}

void show_end(struct show *s)
{
	if (!s->at_line_start && !s->json)
		putchar('\n');
	s->at_line_start = true;
	str_free(&s->speaker);
}

/* The stream of a run that has ended begins with the end: it is told where it belongs, with the result. */
static bool is_end(const char *status)
{
	static const char *const ends[] = {"FINISHED", "ERROR", "CANCELLED", "EXPIRED"};

	for (size_t i = 0; i < ARRAY_LEN(ends); i++)
		if (strcmp(status, ends[i]) == 0)
			return true;
	return false;
}

static void print_status(const struct show *s, const char *status, const char *message)
{
	AUTO_STR clean = terminal_clean(status, TERMINAL_LINE);
	AUTO_STR why = terminal_clean(message, TERMINAL_TEXT);

	printf("%s● %s%s%s%s\n", paint(s, "\033[1m"), clean, paint(s, "\033[0m"), why[0] != '\0' ? ": " : "", why);
}

static void show_status(struct show *s, const json_t *data)
{
	const char *status = json_field(data, "status"), *message = json_field(data, "message");

	if (is_end(status)) {
		str_set(&s->end_status, status);
		str_set(&s->end_message, message);
		return;
	}
	show_end(s);
	print_status(s, status, message);
}

static struct open_call *call_of(struct show *s, const char *id)
{
	for (size_t i = 0; i < OPEN_CALLS; i++)
		if (s->calls[i].id != NULL && strcmp(s->calls[i].id, id) == 0)
			return &s->calls[i];
	return NULL;
}

static void remember_call(struct show *s, const char *id, const char *subject, int64_t ms)
{
	for (size_t i = 0; i < OPEN_CALLS; i++) {
		if (s->calls[i].id != NULL)
			continue;
		s->calls[i] = (struct open_call){.id = str_dup(id),
		    .subject = str_dup(subject),
		    .started_ms = ms,
		    .seen = {{.text = STRBUF(SEEN_MAX)}, {.text = STRBUF(SEEN_MAX)}}};
		return;
	}
}

/* What a call is about, in a line. */
static char *call_subject(const json_t *args)
{
	static const char *const keys[] = {
	    "command", "path", "file_path", "target_file", "globPattern", "pattern", "query", "description"};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const char *v = json_field(args, keys[i]);
		AUTO_STR line = NULL;

		if (v[0] == '\0')
			continue;
		line = str_ndup(v, text_utf8_cut(v, strcspn(v, "\n"), 100));
		return str_printf(" %s%s", line, strlen(line) < strlen(v) ? " …" : "");
	}
	return str_dup("");
}

static char *call_outcome(const json_t *data)
{
	const json_t *result = json_object_get(data, "result"), *success = json_object_get(result, "success");
	const json_t *exit_code = json_object_get(success, "exitCode");

	if (result == NULL)
		return str_dup("ended");
	if (success == NULL)
		return str_printf("failed: %s", json_field(json_object_get(result, "error"), "message"));
	if (json_is_true(json_object_get(success, "timedOut")))
		return str_dup("timed out");
	if (json_is_integer(exit_code) && json_integer_value(exit_code) != 0)
		return str_printf("exit status %lld", (long long)json_integer_value(exit_code));
	return str_dup("ok");
}

/* Output of a command, each line set in. Where it does not follow its call, or its own output, it says whose it is. */
static void print_output(struct show *s, const struct open_call *c, const char *id, const char *text)
{
	AUTO_STR clean = terminal_clean(text, TERMINAL_TEXT);

	if (s->speaker == NULL || strcmp(s->speaker, id) != 0) {
		show_end(s);
		printf("  ┌%s\n", c != NULL && c->subject[0] ? c->subject : " another call");
	}
	str_set(&s->speaker, id);
	for (const char *p = clean; *p != '\0'; p++) {
		if (s->at_line_start)
			fputs("  │ ", stdout);
		putchar(*p);
		s->at_line_start = *p == '\n';
	}
}

static void show_output(struct show *s, const json_t *update)
{
	const json_t *event = json_object_get(update, "event");
	const char *id = json_field(event, "callId"), *text = json_field(event, "data");
	struct open_call *c = call_of(s, id);

	if (strcmp(json_field(update, "type"), "shell-output-delta") != 0)
		return;
	if (c != NULL) {
		struct seen *seen = &c->seen[strcmp(json_field(event, "stream"), "stderr") == 0];

		seen->len += strlen(text);
		IGNORE(strbuf_adds(&seen->text, text));
	}
	print_output(s, c, id, text);
}

static void print_note(struct show *s, const char *note)
{
	if (!s->at_line_start)
		putchar('\n');
	s->at_line_start = true;
	printf("  │ %s[%s]%s\n", paint(s, "\033[2m"), note, paint(s, "\033[0m"));
}

/* Characters that two pieces shared came as more bytes than they have, so what is as long as the stored text is whole.
 */
static void fill_in(struct show *s, struct open_call *c, int i, const char *stored)
{
	struct seen *seen = &c->seen[i];
	const char *had = strbuf_str(&seen->text);

	if (seen->len >= strlen(stored))
		return;
	if (text_has_prefix(stored, had)) {
		print_output(s, c, c->id, stored + strlen(had));
		return;
	}
	print_note(s, i == 0 ? "output was lost on the way; the whole of it:"
			     : "error output was lost on the way; the whole of it:");
	print_output(s, c, c->id, stored);
}

static void complete_output(struct show *s, struct open_call *c, const json_t *data)
{
	const json_t *result = json_object_get(data, "result"), *inner = json_object_get(result, "success");
	const json_t *bytes = json_object_get(json_object_get(data, "truncated"), "outputBytes");
	size_t had = c->seen[0].len + c->seen[1].len;

	if (inner == NULL)
		inner = json_object_get(result, "error");
	if (result != NULL) {
		fill_in(s, c, 0, json_field(inner, "stdout"));
		fill_in(s, c, 1, json_field(inner, "stderr"));
	} else if (had >= STREAMED_MAX) {
		print_note(s, "output beyond 1 MiB is not shown");
	} else if (json_is_integer(bytes) && (json_int_t)had < json_integer_value(bytes)) {
		AUTO_STR note =
		    str_printf("output was lost on the way: at least %lld bytes are missing, and there is too much of "
			       "it to be told again",
			(long long)(json_integer_value(bytes) - (json_int_t)had));

		print_note(s, note);
	}
}

static void show_tool_call(struct show *s, const char *id, const json_t *data)
{
	AUTO_STR subject = call_subject(json_object_get(data, "args"));
	AUTO_STR clean = terminal_clean(subject, TERMINAL_LINE);
	AUTO_STR name = terminal_clean(json_field(data, "name"), TERMINAL_LINE); /* the model's word */
	const char *call_id = json_field(data, "callId");
	struct open_call *c = call_of(s, call_id);

	if (strcmp(json_field(data, "status"), "running") == 0) {
		show_end(s);
		remember_call(s, call_id, clean, event_ms(id));
		printf("%s→ %s%s%s\n", paint(s, "\033[36m"), name, clean, paint(s, "\033[0m"));
		str_set(&s->speaker, call_id);
		return;
	}
	if (c != NULL)
		complete_output(s, c, data);
	show_end(s);
	AUTO_STR outcome = call_outcome(data);
	AUTO_STR line = terminal_clean(outcome, TERMINAL_TEXT);
	bool good = strcmp(line, "ok") == 0 || strcmp(line, "ended") == 0;

	printf("%s%s %s: %s%s", paint(s, good ? "\033[32m" : "\033[31m"), good ? "✓" : "✗", name, line,
	    paint(s, "\033[0m"));
	if (c != NULL) {
		printf(" (%lld ms)", (long long)(event_ms(id) - c->started_ms));
		open_call_fini(c);
	}
	putchar('\n');
}

static void show_result(struct show *s, const json_t *data)
{
	const json_t *branches = json_object_get(json_object_get(data, "git"), "branches"), *branch;
	const json_t *error = json_object_get(data, "error");
	size_t i;

	show_end(s);
	/* The error says again what the status said. */
	print_status(s, json_field(data, "status"), error == NULL && s->end_message != NULL ? s->end_message : "");
	str_free(&s->end_status);
	if (error != NULL) {
		AUTO_STR code = terminal_clean(json_field(error, "code"), TERMINAL_LINE);
		AUTO_STR message = terminal_clean(json_field(error, "message"), TERMINAL_TEXT);

		printf("%s%s: %s%s\n", paint(s, "\033[31m"), code, message, paint(s, "\033[0m"));
	}
	json_array_foreach((json_t *)branches, i, branch)
	{
		AUTO_STR name = terminal_clean(json_field(branch, "branch"), TERMINAL_LINE);
		AUTO_STR repo = terminal_clean(json_field(branch, "repoUrl"), TERMINAL_LINE);

		printf("branch %s of %s\n", name, repo);
	}
	printf("took %lld ms\n", (long long)json_integer_value(json_object_get(data, "durationMs")));
}

static void print_event_json(const char *id, const char *event, json_t *data)
{
	AUTO_JSON line = json_pack("{s:s}", "event", event);

	if (id[0] != '\0')
		json_put(line, "id", id);
	json_object_set(line, "data", data);
	client_print_json(line);
}

void show_event(struct show *s, const char *id, const char *event, json_t *data)
{
	if (s->json) {
		print_event_json(id, event, data);
		return;
	}
	if (strcmp(event, "status") == 0) {
		show_status(s, data);
	} else if (strcmp(event, "assistant") == 0) {
		AUTO_STR text = terminal_clean(json_field(data, "text"), TERMINAL_TEXT);

		if (s->speaker != NULL)
			show_end(s);
		fputs(text, stdout);
		s->at_line_start = text[0] == '\0' ? s->at_line_start : text[strlen(text) - 1] == '\n';
	} else if (strcmp(event, "tool_call") == 0) {
		show_tool_call(s, id, data);
	} else if (strcmp(event, "interaction_update") == 0) {
		show_output(s, data);
	} else if (strcmp(event, "result") == 0) {
		show_result(s, data);
	}
	fflush(stdout);
}

void show_run(struct show *s, json_t *run)
{
	AUTO_STR result = terminal_clean(json_field(run, "result"), TERMINAL_TEXT);

	if (s->json) {
		client_print_json(run);
		return;
	}
	show_end(s);
	if (result[0] != '\0')
		printf("%s\n", result);
	show_result(s, run);
}

void show_last(struct show *s)
{
	show_end(s);
	if (s->end_status != NULL && !s->json)
		print_status(s, s->end_status, s->end_message != NULL ? s->end_message : "");
	str_free(&s->end_status);
}
