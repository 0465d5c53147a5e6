/* Which hooks run on this worker: flags, and settings of agent.toml. */
#include "agent/endpoint.h"
#include "agent/hooks/hooks.h"
#include "agent/worker/options_priv.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

static int take_command(const char *flag, const char *given, char **ret, struct why *why)
{
	if (given == NULL)
		return OK;
	if (text_is_blank(given))
		return why_set(why, ERR_INVALID, "--%s needs a command", flag);
	*ret = str_dup(given);
	return OK;
}

static int take_ask(const json_t *config, enum hook_ask *ret, struct why *why)
{
	const char *word = NULL;

	if (json_get_string(config, "hook_ask", &word, NULL) != OK ||
	    (word != NULL && strcmp(word, "deny") != 0 && strcmp(word, "allow") != 0))
		return why_set(why, ERR_INVALID, "agent.toml: hook_ask must be \"deny\" or \"allow\"");
	if (word != NULL)
		*ret = strcmp(word, "deny") == 0 ? HOOK_ASK_DENY : HOOK_ASK_ALLOW;
	return OK;
}

int option_take_hooks(const struct given_options *g, struct worker_options *o, struct why *why)
{
	AUTO_JSON config = NULL;
	struct why inner = {""};
	int rc = agent_config_read(&config, why);

	o->project_hooks = true;
	o->enterprise_dir = str_dup(hook_enterprise_dir());
	if (rc == OK)
		rc = take_command("on-session-start", g->on_session_start, &o->on_session_start, why);
	if (rc == OK)
		rc = take_command("on-session-end", g->on_session_end, &o->on_session_end, why);
	if (rc == OK && (json_get_bool(config, "project_hooks", &o->project_hooks, &inner) != OK ||
			    json_get_bool(config, "third_party_hooks", &o->third_party_hooks, &inner) != OK ||
			    json_get_bool(config, "keep_transcripts", &o->keep_transcripts, &inner) != OK))
		rc = why_set(why, ERR_INVALID, "agent.toml: %s", inner.text);
	return rc == OK ? take_ask(config, &o->hook_ask, why) : rc;
}

struct hook_settings option_hook_settings(const struct worker_options *o, const char *team_dir, const char *transcripts)
{
	return (struct hook_settings){.project = o->project_hooks,
	    .third_party = o->third_party_hooks,
	    .user = o->pool == NULL,
	    .ask = o->hook_ask,
	    .enterprise_dir = o->enterprise_dir,
	    .team_dir = team_dir,
	    .on_session_start = o->on_session_start,
	    .on_session_end = o->on_session_end,
	    .keep_transcripts_dir = o->keep_transcripts ? transcripts : NULL};
}
