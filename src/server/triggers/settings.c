/* The table `triggers` of the settings. */
#include "base/mem.h"
#include "base/table.h"
#include "base/text.h"
#include "server/triggers/surface.h"
#include <string.h>

#define REDELIVER_S 600
#define WORDS_MAX 20

static void words_fini(char **words)
{
	for (char **w = words; w != NULL && *w != NULL; w++)
		free(*w);
	free(words);
}

void trigger_settings_fini(struct trigger_settings *s)
{
	words_fini(s->mentions);
	words_fini(s->trusted);
	words_fini(s->labels);
}

/* A list of words; absent: the default, a text with commas. */
static int read_words(const struct table *t, const char *key, const char *otherwise, const char *extra, char ***ret)
{
	json_t *list = NULL;
	const json_t *e;
	size_t i, n = 0;
	int rc = table_array(t, key, &list);

	if (rc != OK)
		return rc;
	*ret = mem_zalloc((WORDS_MAX + 1) * sizeof **ret);
	if (list != NULL) {
		json_array_foreach(list, i, e)
		{
			const char *word = json_string_value(e);

			if (word == NULL || !text_is_token(word, extra, 64) || n == WORDS_MAX)
				return table_wrong(t, key, "a list of at most 20 words");
			(*ret)[n++] = str_dup(word);
		}
		return n > 0 ? OK : table_wrong(t, key, "a list of words, not empty");
	}
	while (*otherwise != '\0') {
		size_t len = strcspn(otherwise, ",");

		(*ret)[n++] = str_ndup(otherwise, len);
		otherwise += len + (otherwise[len] == ',');
	}
	return OK;
}

/* Labels are what people call them: any text of one line. */
static int read_labels(const struct table *t, const char *key, char ***ret)
{
	json_t *list = NULL;
	const json_t *e;
	size_t i;
	int rc = table_array(t, key, &list);

	if (rc != OK || list == NULL || json_array_size(list) == 0)
		return rc;
	*ret = mem_zalloc((WORDS_MAX + 1) * sizeof **ret);
	json_array_foreach(list, i, e)
	{
		const char *word = json_string_value(e);

		if (i == WORDS_MAX || word == NULL || text_is_blank(word) || strlen(word) > 255 ||
		    strpbrk(word, "\r\n") != NULL)
			return table_wrong(t, key, "a list of at most 20 names of labels");
		(*ret)[i] = str_dup(word);
	}
	return OK;
}

int trigger_settings_read(const json_t *json, struct trigger_settings *ret, struct why *why)
{
	static const char *const keys[] = {"grammar", "mentions", "github_trusted", "github_trust",
	    "cloud_pool_untrusted", "redeliver_seconds", "labels", NULL};
	AUTO_JSON none = json_object();
	const struct table t = {.json = json != NULL ? json : none, .where = "triggers", .why = why};
	const char *grammar = "compat", *trust = "association";
	int rc = table_keys(&t, keys);

	if (rc == OK)
		rc = table_text(&t, "grammar", &grammar);
	if (rc == OK)
		rc = table_text(&t, "github_trust", &trust);
	if (rc == OK)
		rc = table_bool(&t, "cloud_pool_untrusted", &ret->cloud_pool_untrusted);
	ret->redeliver_s = REDELIVER_S;
	if (rc == OK)
		rc = table_int(&t, "redeliver_seconds", 0, 86400, &ret->redeliver_s);
	if (rc == OK)
		rc = read_words(&t, "mentions", "@cursoragent,@cursor", "@-_", &ret->mentions);
	if (rc == OK)
		rc = read_words(&t, "github_trusted", "OWNER,COLLABORATOR", "_", &ret->trusted);
	if (rc == OK)
		rc = read_labels(&t, "labels", &ret->labels);
	if (rc != OK)
		return rc;
	if (strcmp(grammar, "compat") != 0 && strcmp(grammar, "strict") != 0)
		return table_wrong(&t, "grammar", "compat or strict");
	if (strcmp(trust, "association") != 0 && strcmp(trust, "permission") != 0)
		return table_wrong(&t, "github_trust", "association or permission");
	ret->strict = strcmp(grammar, "strict") == 0;
	ret->asks_permission = strcmp(trust, "permission") == 0;
	return OK;
}
