/* Which hooks would run here, and what is wrong with them. */
#include "agent/hooks/hooks.h"
#include "agent/worker/debug_priv.h"
#include "base/mem.h"
#include <string.h>

/* Of the machine: a session is not opened with a policy that cannot be read. */
static enum health_grade grade_of(const struct hook_source *s)
{
	bool managed = s->rank == HOOKS_ENTERPRISE || s->rank == HOOKS_TEAM;

	if (s->invalid && managed)
		return HEALTH_FATAL;
	return json_array_size(s->warnings) > 0 ? HEALTH_WARN : HEALTH_PASS;
}

void debug_hooks(const struct worker_options *o, const struct worker_roots *roots, json_t *report)
{
	const struct hook_settings set = option_hook_settings(o, NULL, NULL);
	const char *paths[WORKER_MAX_DIRS];
	struct hook_source **list = NULL;
	json_t *all = json_array();
	size_t n;

	for (size_t i = 0; i < roots->n; i++)
		paths[i] = roots->root[i].path;
	n = hooks_sources_read(&set, paths, roots->n, NULL, &list);
	for (size_t i = 0; i < n; i++) {
		size_t k;
		json_t *w;

		json_array_append_new(all, hook_source_json(list[i]));
		json_array_foreach(list[i]->warnings, k, w) json_array_append_new(json_object_get(report, "checks"),
		    debug_check("hooks", k == 0 ? grade_of(list[i]) : HEALTH_WARN, json_string_value(w)));
	}
	json_put_new(report, "hooks", all);
	hooks_sources_free(&list, n);
}

void debug_print_hooks(const json_t *report)
{
	json_t *source, *h;
	size_t i, k;

	json_array_foreach(json_object_get(report, "hooks"), i, source)
	{
		json_array_foreach(json_object_get(source, "hooks"), k, h)
		{
			AUTO_STR line = str_printf("%s %s: %s", json_string_value(json_object_get(source, "source")),
			    json_string_value(json_object_get(h, "event")),
			    json_string_value(json_object_get(h, "command")));

			debug_print_line("Hook", line);
		}
	}
}
