/* The hooks of a session: reading them, choosing those that match, running them. */
#include "agent/hooks/hooks_priv.h"
#include "agent/hooks/execute.h"
#include "agent/hooks/match.h"
#include "agent/session/session.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/seal.h"
#include "base/text.h"
#include <string.h>

#define WARNINGS_SHOWN 20

char **hook_env_copy(const char *const *env)
{
	size_t n = 0;
	char **copy;

	while (env != NULL && env[n] != NULL)
		n++;
	copy = mem_zalloc((n + 1) * sizeof *copy);
	for (size_t i = 0; i < n; i++)
		copy[i] = str_dup(env[i]);
	return copy;
}

void hook_env_free(char ***env)
{
	for (size_t i = 0; *env != NULL && (*env)[i] != NULL; i++)
		str_wipe(&(*env)[i]);
	free(*env);
	*env = NULL;
}

struct hooks *hooks_of(const struct session *s)
{
	struct hooks *h = session_hooks(s);

	if (h != NULL)
		OBJ_CHECK(h, HOOKS_MAGIC);
	return h;
}

bool hooks_listen(const struct hooks *h, enum hook_event e)
{
	return h != NULL && (h->events >> e & 1) != 0;
}

void hooks_note_status(struct hooks *h, const char *status)
{
	pthread_mutex_lock(&h->lock);
	str_set(&h->end_status, status);
	pthread_mutex_unlock(&h->lock);
}

void hooks_say_end(struct hooks *h, const char *reason, const char *status, const char *error, int64_t limit_ms)
{
	str_set(&h->end_reason, reason);
	if (status != NULL)
		hooks_note_status(h, status);
	str_set(&h->end_error, error);
	h->end_limit_ms = limit_ms;
}

static void note_events(struct hooks *h)
{
	h->events = 0;
	for (size_t i = 0; i < ARRAY_LEN(h->managed); i++)
		if (h->managed[i] != NULL)
			h->events |= hook_source_events(h->managed[i]);
	for (size_t i = 0; i < h->n_own; i++)
		h->events |= hook_source_events(h->own[i]);
}

/* A policy that cannot be read must not vanish. A file that was good when the session began stays as it was then. */
static int read_managed(struct hooks *h, const json_t *facts, struct why *why)
{
	struct hook_source *machine = hooks_read_enterprise(h->set), *team = NULL;
	int rc = hooks_read_team(h->set, json_object_get(facts, "teamHooks"), &team, why);
	struct hook_source *fresh[2] = {machine, team};

	for (size_t i = 0; i < ARRAY_LEN(fresh); i++) {
		struct hook_source *bad = fresh[i] != NULL && fresh[i]->invalid ? fresh[i] : NULL;

		if (bad != NULL && rc == OK && h->managed[i] != NULL) {
			log_warn("hooks.unreadable", "file=%s reason=%s kept=yes", log_quote(bad->file),
			    log_quote(json_string_value(json_array_get(bad->warnings, 0))));
			hook_source_free(&fresh[i]);
			continue;
		}
		if (bad != NULL && rc == OK)
			rc = why_set(why, ERR_INVALID, "hooks that are managed cannot be read: %s",
			    json_string_value(json_array_get(bad->warnings, 0)));
		if (rc == OK) {
			hook_source_free(&h->managed[i]);
			h->managed[i] = TAKE(fresh[i]);
		}
		hook_source_free(&fresh[i]);
	}
	return rc;
}

static struct hooks *hooks_new(const struct hook_settings *set, struct session *s)
{
	struct hooks *h = NEW(struct hooks);

	h->magic = HOOKS_MAGIC;
	h->set = set;
	h->session = s;
	h->claim_id = str_dup("");
	h->opened_ms = clock_mono_ms();
	h->tool_hook = hooks_of_tools;
	h->tool_hook.ctx = h;
	h->tool_hooks = (struct tool_hooks){&h->tool_hook, 1};
	pthread_mutex_init(&h->lock, NULL);
	return h;
}

static void hooks_drop(struct hooks *h)
{
	for (size_t i = 0; i < ARRAY_LEN(h->managed); i++)
		hook_source_free(&h->managed[i]);
	hooks_sources_free(&h->own, h->n_own);
	hook_env_free(&h->env);
	hook_env_free(&h->run_env);
	transcripts_free(&h->transcripts);
	json_decref(h->facts);
	free(h->claim_id);
	free(h->end_reason);
	free(h->end_status);
	free(h->end_error);
	pthread_mutex_destroy(&h->lock);
	h->magic = 0;
	free(h);
}

static void tell_warnings(const struct hook_source *s, json_t *info)
{
	json_t *warnings = json_object_get(info, "warnings"), *w;
	size_t i;

	json_array_foreach(s->warnings, i, w)
	{
		AUTO_STR text = str_printf("hooks: %s", json_string_value(w));

		log_warn("hooks.config", "%s", log_quote(json_string_value(w)));
		if (json_is_array(warnings) && json_array_size(warnings) < WARNINGS_SHOWN)
			json_array_append_new(warnings, json_string(text));
	}
}

static void tell_events(const struct hooks *h, json_t *info)
{
	json_t *names = json_array();

	for (int e = 0; e < HOOK_EVENTS; e++)
		if (hooks_listen(h, (enum hook_event)e))
			json_array_append_new(names, json_string(hook_event_name((enum hook_event)e)));
	json_put_new(info, "hookEvents", names);
}

static void keep_run(struct hooks *h, const struct hook_run *run)
{
	json_decref(h->facts);
	h->facts = run->facts != NULL ? json_deep_copy(run->facts) : NULL;
	json_object_del(h->facts, "teamHooks");
	json_object_del(h->facts, "transcript");
	hook_env_free(&h->run_env);
	h->run_env = hook_env_copy(run->env);
}

/* The control plane begins where it stopped telling. */
static void open_transcripts(struct hooks *h, const struct hook_run *run, json_t *info)
{
	const char *conversation = json_string_value(json_object_get(run->facts, "conversationId"));
	AUTO_STR dir = h->events != 0 && h->transcripts == NULL ? session_transcript_dir(h->session) : NULL;

	if (dir != NULL)
		h->transcripts = transcripts_new(dir, h->set->keep_transcripts_dir);
	if (h->transcripts != NULL && conversation != NULL)
		json_put_int(info, "transcriptNext", transcripts_next(h->transcripts, conversation));
}

void hooks_take_news(struct hooks *h, const json_t *facts)
{
	if (h != NULL && h->transcripts != NULL)
		transcripts_take(h->transcripts, json_string_value(json_object_get(facts, "conversationId")),
		    json_object_get(facts, "transcript"));
}

static void read_own(struct hooks *h, json_t *info)
{
	const char *const *roots;
	size_t n = session_roots(h->session, &roots);

	h->n_own = hooks_read_own(h->set, roots, n, &h->own);
	for (size_t i = 0; i < h->n_own; i++)
		tell_warnings(h->own[i], info);
}

int hooks_open(
    const struct hook_settings *set, struct session *s, const struct hook_run *run, json_t *info, struct why *why)
{
	struct hooks *h = hooks_of(s);
	bool is_new = h == NULL;
	int rc;

	if (is_new)
		h = hooks_new(set, s);
	rc = read_managed(h, run->facts, why);
	if (rc != OK) {
		if (is_new)
			hooks_drop(h);
		return rc;
	}
	if (is_new)
		read_own(h, info);
	for (size_t i = 0; i < ARRAY_LEN(h->managed); i++)
		if (h->managed[i] != NULL)
			tell_warnings(h->managed[i], info);
	note_events(h);
	keep_run(h, run);
	/* Nothing stands before the tools of a session that nobody has hooks for. */
	session_set_hooks(s, h->events != 0 ? &h->tool_hooks : NULL, h, hooks_end);
	if (strcmp(h->claim_id, session_claim_id(s)) != 0) {
		str_set(&h->claim_id, session_claim_id(s));
		h->opened_ms = clock_mono_ms();
		hooks_fire_start(h, run, info);
	}
	tell_events(h, info);
	open_transcripts(h, run, info);
	return OK;
}

void hooks_end(void *state)
{
	struct hooks *h = OBJ_FROM(hooks, state, HOOKS_MAGIC);

	hooks_fire_end(h);
	hooks_drop(h);
}

/* Hooks of a project are for what is in its root; of several the innermost. NULL: no root holds the path. */
static const char *root_of(const struct hooks *h, const char *path)
{
	const char *const *roots, *best = NULL;
	size_t n = session_roots(h->session, &roots);

	for (size_t i = 0; path != NULL && i < n; i++) {
		size_t len = strlen(roots[i]);

		if (text_has_prefix(path, roots[i]) && (path[len] == '/' || path[len] == '\0') &&
		    (best == NULL || len > strlen(best)))
			best = roots[i];
	}
	return best != NULL ? best : session_primary_root(h->session);
}

static bool source_is_for(const struct hook_source *s, const char *root)
{
	return s->root == NULL || strcmp(s->root, root) == 0;
}

struct running {
	struct hooks *h;
	const struct hook_request *q;
	const char *root;
	char *payload;
	int64_t until_ms; /* of all together; INT64_MAX: each its own */
	struct hook_verdict *verdict;
};

static void put_transcript(const struct running *r, json_t *p, const char *conversation)
{
	AUTO_STR path = r->h->transcripts != NULL ? transcripts_path(r->h->transcripts, conversation) : NULL;

	json_put_new(p, "transcript_path", path != NULL ? json_lossy(path, strlen(path)) : json_null());
	if (r->q->event == HOOK_SUBAGENT_STOP)
		json_put_new(p, "agent_transcript_path", json_incref(json_object_get(p, "transcript_path")));
}

static void put_common(const struct running *r, json_t *p)
{
	const json_t *facts = r->q->run->facts;
	const char *agent = session_agent_id(r->h->session);
	const char *conversation = json_string_value(json_object_get(facts, "conversationId"));
	const char *generation = json_string_value(json_object_get(facts, "generationId"));
	const char *model = json_string_value(json_object_get(facts, "model"));
	const char *email = json_string_value(json_object_get(facts, "userEmail"));
	const char *const *roots;
	size_t n = session_roots(r->h->session, &roots);
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_lossy(roots[i], strlen(roots[i])));
	json_put(p, "hook_event_name", hook_event_name(r->q->event));
	json_put(p, "conversation_id", conversation != NULL ? conversation : agent);
	json_put(p, "generation_id", generation != NULL ? generation : "");
	json_put(p, "session_id", conversation != NULL ? conversation : agent);
	json_put(p, "model", model != NULL ? model : "");
	if (json_object_get(facts, "modelId") != NULL)
		json_object_set(p, "model_id", json_object_get(facts, "modelId"));
	if (json_object_get(facts, "modelParams") != NULL)
		json_object_set(p, "model_params", json_object_get(facts, "modelParams"));
	json_put(p, "cursor_version", BULLPEN_VERSION);
	json_put_new(p, "workspace_roots", list);
	json_put_new(p, "user_email", email != NULL ? json_string(email) : json_null());
	put_transcript(r, p, conversation != NULL ? conversation : agent);
}

/* Ours come first and are the only ones of their name. The list is the caller's, the texts of the others are borrowed.
 */
struct hook_env {
	const char **v;
	size_t n, n_ours;
};

static void env_put(struct hook_env *e, char *entry)
{
	e->v[e->n++] = entry;
	e->n_ours = e->n;
}

static bool env_has(const struct hook_env *e, const char *entry)
{
	size_t len = strcspn(entry, "=") + 1;

	for (size_t i = 0; i < e->n; i++)
		if (strncmp(e->v[i], entry, len) == 0)
			return true;
	return false;
}

static void env_add_list(struct hook_env *e, const char *const *list)
{
	for (size_t i = 0; list != NULL && list[i] != NULL; i++)
		if (!env_has(e, list[i]))
			e->v[e->n++] = list[i];
}

static size_t env_count(const char *const *list)
{
	size_t n = 0;

	while (list != NULL && list[n] != NULL)
		n++;
	return n;
}

static void env_make(const struct running *r, struct hook_env *e)
{
	const char *const *start = (const char *const *)r->h->env;
	const char *email = json_string_value(json_object_get(r->q->run->facts, "userEmail"));
	const char *transcript = json_string_value(json_object_get(r->q->payload, "transcript_path"));

	e->v = mem_zalloc((env_count(r->q->run->env) + env_count(start) + 16) * sizeof *e->v);
	env_put(e, str_printf("CURSOR_PROJECT_DIR=%s", r->root));
	env_put(e, str_printf("CLAUDE_PROJECT_DIR=%s", r->root));
	env_put(e, str_dup("CURSOR_VERSION=" BULLPEN_VERSION));
	env_put(e, str_dup("CURSOR_CODE_REMOTE=true"));
	if (email != NULL)
		env_put(e, str_printf("CURSOR_USER_EMAIL=%s", email));
	if (transcript != NULL)
		env_put(e, str_printf("CURSOR_TRANSCRIPT_PATH=%s", transcript));
	/* What a hook of sessionStart set stands above what the run has. */
	env_add_list(e, start);
	env_add_list(e, r->q->run->env);
}

static void hook_env_fini(struct hook_env *e)
{
	for (size_t i = 0; i < e->n_ours; i++)
		free((char *)(uintptr_t)e->v[i]);
	free(e->v);
}

/* Whether it has more follow-ups; counts this one. */
static bool take_followup(struct running *r, struct hook_entry *e)
{
	bool may;

	pthread_mutex_lock(&r->h->lock);
	may = e->loop_limit < 0 || e->followups < e->loop_limit;
	e->followups += may;
	pthread_mutex_unlock(&r->h->lock);
	return may;
}

static void forget_followups(struct running *r, struct hook_entry *e)
{
	if (json_integer_value(json_object_get(r->q->payload, "loop_count")) != 0)
		return;
	pthread_mutex_lock(&r->h->lock);
	e->followups = 0;
	pthread_mutex_unlock(&r->h->lock);
}

static void bound_followups(struct running *r, struct hook_entry *e, struct hook_answer *a)
{
	const char *text = json_string_value(json_object_get(a->fields, "followup_message"));

	if (text == NULL || text_is_blank(text) || take_followup(r, e))
		return;
	json_object_del(a->fields, "followup_message");
	if (a->fault == NULL) {
		AUTO_STR command = text_line(e->command, 200);

		a->fault = str_printf("hook %s for %s has had its %lld follow-ups (loop_limit)", command,
		    hook_event_name(e->event), (long long)e->loop_limit);
	}
}

static void run_entry(struct running *r, const struct hook_source *s, struct hook_entry *e)
{
	AUTO_FINI(hook_env) env = {0};
	AUTO_FINI(hook_done) done = {0};
	AUTO_FINI(hook_answer) a = {0};
	int64_t left = r->until_ms == INT64_MAX ? INT64_MAX : MAX(r->until_ms - clock_mono_ms(), 1);

	env_make(r, &env);
	if (hook_event_follows_up(e->event))
		forget_followups(r, e);
	hook_execute(&(struct hook_process){.session = r->h->session,
			 .command = e->command,
			 .dir = s->dir,
			 .payload = r->payload,
			 .env = env.v,
			 .cancel_fd = r->q->run->cancel_fd,
			 .limit_ms = MIN(e->timeout_ms, left)},
	    &done);
	hook_answer_read(s, e, r->h->set->ask, &done.output, &a);
	if (hook_event_follows_up(e->event))
		bound_followups(r, e, &a);
	log_debug("hook.done", "agent=%s event=%s source=%s ms=%lld refuses=%d", session_agent_id(r->h->session),
	    hook_event_name(e->event), hook_rank_name(s->rank), (long long)done.duration_ms, a.refuses);
	if (a.fault != NULL)
		log_warn("hook.fault", "agent=%s source=%s %s", session_agent_id(r->h->session), log_quote(s->file),
		    log_quote(a.fault));
	hook_verdict_add(r->verdict, s, &a);
}

/* OK: it runs. ERR_EMPTY: not this time. ERR_INVALID: it refuses without being run. */
static int entry_matches(const struct hook_entry *e, const char *subject)
{
	if (e->broken)
		return e->fail_closed && hook_event_is_gate(e->event) ? ERR_INVALID : ERR_EMPTY;
	if (e->matcher == NULL || subject == NULL || !hook_event_has_subject(e->event))
		return OK;
	switch (hook_matcher_test(e->matcher, subject)) {
	case OK:
		return OK;
	case ERR_TOO_LARGE:
		return e->fail_closed ? OK : ERR_EMPTY;
	default:
		return ERR_EMPTY;
	}
}

static void run_source(struct running *r, struct hook_source *s)
{
	if (s == NULL || !source_is_for(s, r->root))
		return;
	for (size_t i = 0; i < s->n; i++) {
		struct hook_entry *e = &s->entries[i];
		int rc = e->event == r->q->event ? entry_matches(e, r->q->subject) : ERR_EMPTY;

		if (rc == OK) {
			run_entry(r, s, e);
		} else if (rc == ERR_INVALID) {
			AUTO_FINI(hook_answer) a = {0};

			hook_answer_broken(e, &a);
			hook_verdict_add(r->verdict, s, &a);
		}
	}
}

void hooks_run(struct hooks *h, const struct hook_request *q, struct hook_verdict *ret)
{
	struct running r = {.h = h, .q = q, .verdict = ret, .until_ms = INT64_MAX};
	json_t *payload = q->payload;

	*ret = (struct hook_verdict){0};
	if (hooks_listen(h, q->event)) {
		r.root = root_of(h, q->path);
		if (q->limit_ms > 0)
			r.until_ms = clock_mono_ms() + q->limit_ms;
		put_common(&r, payload);
		r.payload = json_text(payload);
		for (size_t i = 0; i < ARRAY_LEN(h->managed); i++)
			run_source(&r, h->managed[i]);
		/* What the worker was started with comes after the files, whatever its rank. */
		for (size_t i = 0; i < h->n_own; i++)
			if (h->own[i]->rank != HOOKS_FLAGS)
				run_source(&r, h->own[i]);
		for (size_t i = 0; i < h->n_own; i++)
			if (h->own[i]->rank == HOOKS_FLAGS)
				run_source(&r, h->own[i]);
		str_free(&r.payload);
	}
	json_decref(payload);
}
