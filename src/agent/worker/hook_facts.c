#include "agent/worker/hook_facts.h"
#include "agent/worker/job.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/seal.h"
#include <string.h>

/* An object of texts, as the control plane has checked it; what is not is left out. NULL-terminated. */
static char **env_list(const char *text)
{
	AUTO_JSON env = NULL;
	char **list;
	size_t n = 0;
	const char *name;
	json_t *v;

	if (text == NULL || text[0] == '\0' || json_parse(text, strlen(text), &env, NULL) != OK)
		return NULL;
	list = mem_zalloc((json_object_size(env) + 1) * sizeof *list);
	json_object_foreach(env, name, v)
	{
		if (json_is_string(v) && name[0] != '\0' && strchr(name, '=') == NULL)
			list[n++] = str_printf("%s=%s", name, json_string_value(v));
	}
	return list;
}

void hook_facts_read(const struct job *j, struct hook_facts *ret)
{
	const char *text = j->hook_json;

	*ret = (struct hook_facts){.env = env_list(j->env_json)};
	if (text != NULL && json_parse(text, strlen(text), &ret->facts, NULL) == OK && !json_is_object(ret->facts))
		json_drop(&ret->facts);
	ret->run =
	    (struct hook_run){.facts = ret->facts, .env = (const char *const *)ret->env, .cancel_fd = j->cancel_fd};
}

void hook_facts_fini(struct hook_facts *f)
{
	json_drop(&f->facts);
	for (size_t i = 0; f->env != NULL && f->env[i] != NULL; i++)
		str_wipe(&f->env[i]);
	free(f->env);
	f->env = NULL;
}
