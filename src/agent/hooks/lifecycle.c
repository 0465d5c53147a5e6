/* The beginning and the end of a session. */
#include "agent/hooks/hooks_priv.h"
#include "agent/session/session.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define START_MS (600 * 1000)
#define END_MS (60 * 1000)
#define CONTEXT_MAX ((size_t)128 * 1024)

static void take_env(struct hooks *h, const json_t *env)
{
	const char *name;
	json_t *v;
	size_t n = 0;

	hook_env_free(&h->env);
	h->env = mem_zalloc((json_object_size(env) + 1) * sizeof *h->env);
	json_object_foreach((json_t *)env, name, v) h->env[n++] =
	    str_printf("%s=%s", name, json_string_value(json_object_get(v, "value")));
}

static void tell_faults(const struct hook_verdict *v, json_t *info)
{
	json_t *warnings = json_object_get(info, "warnings"), *fault;
	size_t i;

	json_array_foreach(v->faults, i, fault)
	{
		if (json_is_array(warnings))
			json_array_append(warnings, fault);
	}
}

static json_t *start_payload(const struct hooks *h, const json_t *facts)
{
	json_t *p = json_object();
	const json_t *repos = json_object_get(facts, "repos"), *mode = json_object_get(facts, "composerMode");
	json_t *urls = json_array(), *repo;
	size_t i;

	json_put_bool(p, "is_background_agent", true);
	if (json_is_string(mode))
		json_object_set(p, "composer_mode", (json_t *)mode);
	json_array_foreach((json_t *)repos, i, repo)
	{
		if (json_is_string(json_object_get(repo, "repo_url")))
			json_array_append(urls, json_object_get(repo, "repo_url"));
	}
	json_put_new(p, "repo_urls", urls);
	json_put_new(p, "repos", repos != NULL ? json_deep_copy(repos) : json_array());
	if (json_is_true(json_object_get(facts, "resumed")))
		json_put_bool(p, "resumed", true);
	return p;
}

void hooks_fire_start(struct hooks *h, const struct hook_run *run, json_t *info)
{
	AUTO_FINI(hook_verdict) v = {0};

	if (!hooks_listen(h, HOOK_SESSION_START))
		return;
	hooks_run(h,
	    &(struct hook_request){
		.event = HOOK_SESSION_START, .payload = start_payload(h, run->facts), .run = run, .limit_ms = START_MS},
	    &v);
	take_env(h, v.env);
	tell_faults(&v, info);
	if (v.context != NULL) {
		AUTO_STR cut = text_cut_middle(v.context, strlen(v.context), CONTEXT_MAX, NULL);

		json_put(info, "hookContext", cut);
	}
}

void hooks_fire_end(struct hooks *h)
{
	AUTO_FINI(hook_verdict) v = {0};
	const struct hook_run run = {.facts = h->facts, .env = (const char *const *)h->run_env};
	json_t *p;

	hooks_end_backgrounds(h);
	if (!hooks_listen(h, HOOK_SESSION_END))
		return;
	p = json_object();
	json_put_bool(p, "is_background_agent", true);
	json_put(p, "reason", h->end_reason != NULL ? h->end_reason : "completed");
	json_put(p, "final_status", h->end_status != NULL ? h->end_status : "");
	json_put(p, "error_message", h->end_error);
	json_put_int(p, "duration_ms", clock_mono_ms() - h->opened_ms);
	hooks_run(h,
	    &(struct hook_request){.event = HOOK_SESSION_END,
		.payload = p,
		.run = &run,
		.limit_ms = h->end_limit_ms > 0 ? h->end_limit_ms : END_MS},
	    &v);
}
