/* Issues that are handed over without a word: assigned to our account, or given a label of the settings. Who does that
 * is the asker; who wrote the issue may be anybody, so its text is material, and no options are read from it. */
#include "base/mem.h"
#include "base/text.h"
#include "server/triggers/hubs_priv.h"
#include <string.h>
#include <strings.h>

#define NAME_MAX_BYTES 200

static bool is_configured(const struct trigger_settings *s, const char *label)
{
	for (char **w = s->labels; w != NULL && *w != NULL; w++)
		if (strcasecmp(*w, label) == 0)
			return true;
	return false;
}

static bool list_has(const json_t *list, const char *key, const char *name)
{
	const json_t *e;
	size_t i;

	json_array_foreach(list, i, e) if (strcasecmp(json_word(e, key), name) == 0) return true;
	return false;
}

/* One of the settings in the list that is not in `before`. */
static bool has_label(const struct trigger_settings *s, const json_t *list, const json_t *before, const char *key)
{
	const json_t *e;
	size_t i;

	json_array_foreach(list, i, e)
	{
		const char *name = json_word(e, key);

		if (is_configured(s, name) && !list_has(before, key, name))
			return true;
	}
	return false;
}

static bool mentions_us(const struct trigger_settings *s, const char *text)
{
	for (char **w = s->mentions; *w != NULL; w++)
		if (strcasestr(text, *w) != NULL)
			return true;
	return false;
}

static const json_t *at(const json_t *o, const char *a, const char *b, const char *c)
{
	o = json_object_get(o, a);
	o = b != NULL ? json_object_get(o, b) : o;
	return c != NULL ? json_object_get(o, c) : o;
}

enum handed hub_handed(const struct trigger_settings *s, enum forge_kind kind, const json_t *body)
{
	const char *action = json_word(body, "action");
	const json_t *labels = at(body, "issue", "labels", NULL), *added = at(body, "changes", "added_labels", NULL);

	if (strcmp(action, "assigned") == 0)
		return HANDED_ASSIGNED;
	if (strcmp(action, "labeled") == 0)
		return is_configured(s, json_word(json_object_get(body, "label"), "name")) ? HANDED_LABELED
											   : HANDED_NOT;
	/* Older Giteas do not say which is new: an issue that has an agent gets no other. */
	if (strcmp(action, "label_updated") == 0)
		return has_label(s, json_is_array(added) ? added : labels, NULL, "name") ? HANDED_LABELED : HANDED_NOT;
	/* Gitea has no event of its own for labels of a new issue. */
	if (kind == FORGE_GITEA && strcmp(action, "opened") == 0 &&
	    !mentions_us(s, json_word(json_object_get(body, "issue"), "body")) && has_label(s, labels, NULL, "name"))
		return HANDED_LABELED;
	return HANDED_NOT;
}

bool hub_handed_to(const json_t *body, const char *login)
{
	const json_t *one = json_object_get(body, "assignee");

	if (json_is_object(one)) /* GitHub: the new one */
		return strcasecmp(json_word(one, "login"), login) == 0;
	return list_has(at(body, "issue", "assignees", NULL), "login", login);
}

enum handed gitlab_handed(const struct trigger_settings *s, const json_t *body)
{
	const json_t *issue = json_object_get(body, "object_attributes");
	bool is_new = strcmp(json_word(issue, "action"), "open") == 0;

	if (is_new && mentions_us(s, json_word(issue, "description")))
		return HANDED_NOT;
	if (has_label(s, is_new ? json_object_get(body, "labels") : at(body, "changes", "labels", "current"),
		is_new ? NULL : at(body, "changes", "labels", "previous"), "title"))
		return HANDED_LABELED;
	return json_array_size(
		   is_new ? json_object_get(body, "assignees") : at(body, "changes", "assignees", "current")) > 0
		   ? HANDED_ASSIGNED
		   : HANDED_NOT;
}

bool gitlab_handed_to(const json_t *body, const char *login)
{
	const json_t *issue = json_object_get(body, "object_attributes");

	if (strcmp(json_word(issue, "action"), "open") == 0)
		return list_has(json_object_get(body, "assignees"), "username", login);
	return list_has(at(body, "changes", "assignees", "current"), "username", login) &&
	       !list_has(at(body, "changes", "assignees", "previous"), "username", login);
}

int handed_look(struct forge_call *call, const json_t *body, const struct asked *a, struct why *why)
{
	AUTO_STR mine = NULL;
	int rc = forge_login(call, &mine);
	bool to_us;

	if (rc != OK)
		return rc;
	to_us = forge_kind(call->forge) == FORGE_GITLAB ? gitlab_handed_to(body, mine) : hub_handed_to(body, mine);
	if (a->handed == HANDED_ASSIGNED && !to_us)
		return why_set(why, ERR_EMPTY, "it was assigned to somebody else");
	if (strcasecmp(a->login, mine) == 0)
		return why_set(why, ERR_EMPTY, "a machine did it");
	return OK;
}

char *handed_text(const char *repo, int64_t number)
{
	AUTO_STR line = text_line(repo, NAME_MAX_BYTES);

	return str_printf("Resolve issue #%lld of %s.", (long long)number, line);
}
