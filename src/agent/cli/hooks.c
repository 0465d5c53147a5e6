/* agent hooks: which hooks a worker in a folder would run, and what they answer. */
#include "agent/cli/verbs.h"
#include "agent/endpoint.h"
#include "agent/exit_status.h"
#include "agent/hooks/execute.h"
#include "agent/hooks/hooks.h"
#include "agent/hooks/match.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/terminal.h"
#include "base/text.h"
#include <string.h>
#include <unistd.h>

#define INPUT_MAX ((size_t)4 * 1024 * 1024)

struct wish {
	const char *dir, *subject, *input;
	bool json;
};

static const char usage[] = "agent hooks ls [--worker-dir PATH] [--json]\n"
			    "agent hooks test EVENT [--subject TEXT] [--input FILE] [--worker-dir PATH]";

static int complain(const char *text)
{
	AUTO_STR clean = terminal_clean(text, TERMINAL_LINE);

	fprintf(stderr, "error: %s\n", clean);
	return EXIT_USAGE;
}

static int settings_of(struct hook_settings *ret, struct why *why)
{
	AUTO_JSON config = NULL;
	int rc = agent_config_read(&config, why);

	*ret = (struct hook_settings){.project = true, .user = true, .enterprise_dir = hook_enterprise_dir()};
	if (rc == OK)
		rc = json_get_bool(config, "third_party_hooks", &ret->third_party, why);
	return rc == OK ? json_get_bool(config, "project_hooks", &ret->project, why) : rc;
}

static void print_entry(const struct hook_entry *h)
{
	AUTO_STR command = terminal_clean(h->command, TERMINAL_LINE);
	AUTO_STR pattern = h->pattern != NULL ? terminal_clean(h->pattern, TERMINAL_LINE) : NULL;

	printf("  %-20s %s", hook_event_name(h->event), command);
	if (pattern != NULL)
		printf("  matcher %s%s", pattern, h->broken ? " (broken)" : "");
	printf("  timeout %gs", (double)h->timeout_ms / 1000);
	if (h->fail_closed)
		printf("  failClosed");
	if (hook_event_follows_up(h->event) && h->loop_limit >= 0)
		printf("  loop_limit %lld", (long long)h->loop_limit);
	printf("\n");
}

static void print_source(const struct hook_source *s)
{
	AUTO_STR file = terminal_clean(s->file, TERMINAL_LINE);
	json_t *w;
	size_t i;

	printf("%s  %s%s\n", hook_rank_name(s->rank), file, s->n == 0 ? "  (no hooks)" : "");
	for (i = 0; i < s->n; i++)
		print_entry(&s->entries[i]);
	json_array_foreach(s->warnings, i, w)
	{
		AUTO_STR clean = terminal_clean(json_string_value(w), TERMINAL_LINE);

		printf("  warning: %s\n", clean);
	}
}

static void print_json(struct hook_source **list, size_t n)
{
	AUTO_JSON all = json_array();
	AUTO_STR text = NULL;

	for (size_t i = 0; i < n; i++)
		json_array_append_new(all, hook_source_json(list[i]));
	text = json_text(all);
	puts(text);
}

static int list_hooks(const struct wish *w, struct hook_source **list, size_t n)
{
	int status = EXIT_DONE;

	for (size_t i = 0; i < n; i++)
		if (json_array_size(list[i]->warnings) > 0)
			status = EXIT_FAILED;
	if (w->json) {
		print_json(list, n);
		return status;
	}
	for (size_t i = 0; i < n; i++)
		print_source(list[i]);
	if (n == 0)
		printf("no hooks here\n");
	printf("(A team's hooks are on the control plane: GET /v1/hooks.)\n");
	return status;
}

static void print_block(const char *what, const char *text)
{
	AUTO_STR clean = terminal_clean(text, 4000);

	if (!text_is_blank(text))
		printf("  %s: %s\n", what, clean);
}

static void try_entry(const struct wish *w, const struct hook_source *s, const struct hook_entry *h,
    const char *payload, struct hook_verdict *v)
{
	AUTO_STR project = str_printf("CURSOR_PROJECT_DIR=%s", w->dir);
	AUTO_STR other = str_printf("CLAUDE_PROJECT_DIR=%s", w->dir);
	static const char version[] = "CURSOR_VERSION=" BULLPEN_VERSION;
	const char *env[] = {project, other, version, "CURSOR_CODE_REMOTE=true", NULL};
	AUTO_FINI(hook_done) done = {0};
	AUTO_FINI(hook_answer) a = {0};
	AUTO_STR command = terminal_clean(h->command, TERMINAL_LINE);

	printf("%s: %s\n", hook_rank_name(s->rank), command);
	fflush(stdout);
	hook_execute(
	    &(struct hook_process){
		.command = h->command, .dir = s->dir, .payload = payload, .env = env, .limit_ms = h->timeout_ms},
	    &done);
	hook_answer_read(s, h, HOOK_ASK_BY_EVENT, &done.output, &a);
	if (done.output.ending == HOOK_EXITED)
		printf("  exit %d after %lld ms\n", done.output.code, (long long)done.duration_ms);
	print_block("stdout", done.out);
	print_block("stderr", done.err);
	if (a.fault != NULL)
		print_block("fault", a.fault);
	printf("  means: %s\n", a.refuses ? "refused" : hook_event_is_gate(h->event) ? "allowed" : "noted");
	hook_verdict_add(v, s, &a);
}

static int read_payload(const struct wish *w, const char *event, char **ret, struct why *why)
{
	AUTO_STR text = NULL;
	AUTO_JSON j = NULL;
	json_t *roots;
	size_t len = 0;
	int rc;

	if (w->input != NULL) {
		rc = text_read_file(strcmp(w->input, "-") == 0 ? "/dev/stdin" : w->input, INPUT_MAX, &text, &len);
		if (rc != OK)
			return why_set(why, rc, "cannot read %.200s: %s", w->input, err_text(rc));
		rc = json_parse(text, len, &j, why);
		if (rc != OK || !json_is_object(j))
			return why_set(why, ERR_INVALID, "%.200s must be a JSON object", w->input);
	} else {
		j = json_object();
	}
	roots = json_array();
	json_array_append_new(roots, json_lossy(w->dir, strlen(w->dir)));
	json_put(j, "hook_event_name", event);
	json_put_new(j, "workspace_roots", roots);
	json_put(j, "cursor_version", BULLPEN_VERSION);
	*ret = json_text(j);
	return OK;
}

static bool entry_is_meant(const struct hook_entry *h, enum hook_event e, const char *subject)
{
	if (h->event != e || h->broken)
		return false;
	return h->matcher == NULL || subject == NULL || hook_matcher_test(h->matcher, subject) == OK;
}

static int test_hooks(const struct wish *w, const char *name, struct hook_source **list, size_t n)
{
	enum hook_event e = hook_event_find(name);
	AUTO_FINI(hook_verdict) v = {0};
	AUTO_STR payload = NULL;
	AUTO_STR text = NULL;
	AUTO_JSON j = NULL;
	struct why why = {""};

	if (e >= HOOK_EVENTS) {
		why_set(&why, ERR_INVALID, "%.80s is not an event that happens on a worker (such as preToolUse)", name);
		return complain(why.text);
	}
	if (read_payload(w, name, &payload, &why) != OK)
		return complain(why.text);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < list[i]->n; k++)
			if (entry_is_meant(&list[i]->entries[k], e, w->subject))
				try_entry(w, list[i], &list[i]->entries[k], payload, &v);
	j = hook_verdict_json(&v);
	text = json_text(j);
	printf("together: %s\n", text);
	return v.refuses ? EXIT_FAILED : EXIT_DONE;
}

int verb_hooks(int argc, char **argv)
{
	struct wish w = {.dir = "."};
	const struct option_row rows[] = {
	    {.name = "worker-dir", .value = "PATH", .text = &w.dir, .help = "the workspace; default: this folder"},
	    {.name = "subject",
		.value = "TEXT",
		.text = &w.subject,
		.help = "test: what matchers look at, such as a command; default: all hooks of the event run"},
	    {.name = "input",
		.value = "FILE",
		.text = &w.input,
		.help = "test: JSON object for the hooks' stdin; - is stdin"},
	    {.name = "json", .given = &w.json, .help = "ls: as JSON"}, {0}};
	const struct options o = {.usage = usage,
	    .about =
		"Shows the hooks that a worker in a folder would run, with what is wrong, or runs those of an event.",
	    .rows = rows};
	struct hook_settings set;
	struct hook_source **list = NULL;
	struct option_words words;
	struct why why = {""};
	int rc = options_parse(&o, argc, argv, 2, &words, &why), status;
	size_t n;

	if (rc == ERR_EMPTY) {
		options_help(&o, stdout);
		return EXIT_DONE;
	}
	if (rc == OK && (words.n == 0 || (strcmp(words.v[0], "ls") != 0 && strcmp(words.v[0], "test") != 0)))
		rc = why_set(&why, ERR_INVALID, "agent hooks needs ls, or test EVENT");
	if (rc == OK && (strcmp(words.v[0], "test") == 0) != (words.n == 2))
		rc = why_set(&why, ERR_INVALID,
		    words.n == 2 ? "agent hooks ls takes no word" : "agent hooks test needs an EVENT");
	if (rc == OK)
		rc = settings_of(&set, &why);
	if (rc != OK)
		return complain(why.text);
	AUTO_STR real = realpath(w.dir, NULL);

	if (real == NULL) {
		why_set(&why, ERR_INVALID, "--worker-dir %.200s is not a folder", w.dir);
		return complain(why.text);
	}
	w.dir = real;
	n = hooks_sources_read(&set, &w.dir, 1, NULL, &list);
	status = words.n == 2 ? test_hooks(&w, words.v[1], list, n) : list_hooks(&w, list, n);
	hooks_sources_free(&list, n);
	return status;
}
