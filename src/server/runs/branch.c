/* The branch of an agent: what it is called, and how its pushed state is shown. */
#include "base/id.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/runs/runs_priv.h"
#include <ctype.h>
#include <string.h>

/* Without scheme, userinfo and trailing .git or slash: "github.com/org/repo". */
static char *url_for_people(const char *url)
{
	const char *s = strstr(url, "://");
	AUTO_STR out = str_dup(s != NULL ? s + 3 : url);
	char *at = strchr(out, '@');
	char *slash = strchr(out, '/');
	size_t n;

	if (at != NULL && (slash == NULL || at < slash))
		memmove(out, at + 1, strlen(at + 1) + 1);
	n = strlen(out);
	while (n > 0 && out[n - 1] == '/')
		out[--n] = '\0';
	if (text_has_suffix(out, ".git"))
		out[n - 4] = '\0';
	return TAKE(out);
}

static json_t *branch_json(const struct agent *a, const char *url, const char *branch)
{
	json_t *o = json_pack("{s:s, s:s}", "repoUrl", url, "branch", branch);

	if (a->pull_url != NULL && strcmp(branch, a->pull_head) == 0)
		json_put(o, "prUrl", a->pull_url);
	return o;
}

json_t *agent_git(const struct agent *a)
{
	AUTO_STR url = url_for_people(a->repo_url);
	json_t *list;
	const json_t *b;
	size_t i;

	if (a->pushed_branch == NULL)
		return NULL;
	if (json_array_size(a->pushed_branches) > 0) {
		list = json_array();
		json_array_foreach(a->pushed_branches, i, b)
		{
			const char *name = json_string_value(json_object_get(b, "branch"));

			if (name != NULL)
				json_array_append_new(list, branch_json(a, url, name));
		}
		return json_pack("{s:o}", "branches", list);
	}
	return json_pack("{s:[o]}", "branches", branch_json(a, url, a->pushed_branch));
}

static char *slug_of(const char *name)
{
	struct strbuf slug = STRBUF(41);

	for (; *name != '\0' && slug.len < 40; name++) {
		unsigned char c = (unsigned char)*name;

		if (isascii(c) && isalnum(c))
			strbuf_addc(&slug, (char)tolower(c));
		else if (slug.len > 0 && slug.data[slug.len - 1] != '-')
			strbuf_addc(&slug, '-');
	}
	if (*name != '\0' && isalnum((unsigned char)*name) && strchr(strbuf_str(&slug), '-') != NULL)
		while (slug.data[slug.len - 1] != '-') /* not in the middle of a word */
			slug.data[--slug.len] = '\0';
	while (slug.len > 0 && slug.data[slug.len - 1] == '-')
		slug.data[--slug.len] = '\0';
	if (slug.len == 0)
		strbuf_adds(&slug, "agent");
	return strbuf_take(&slug);
}

/* Four digits are easy on people, but agents of one name meet after some hundreds: then it is eight. */
#define SHORT_TRIES 8

int branch_for(struct tx *tx, const char *prefix, const struct agent *a, char **ret)
{
	AUTO_STR slug = slug_of(a->name);
	AUTO_STR branch = NULL;
	int64_t taken = 1;
	int rc = OK;

	for (int i = 0; rc == OK && taken > 0; i++) {
		char hex[9];

		id_hex(hex, i < SHORT_TRIES ? 2 : 4);
		free(branch);
		branch = str_printf("%s%s-%s", prefix, slug, hex);
		rc = tx_query_int(tx, &taken, "SELECT COUNT(*) FROM agents WHERE branch = $1 AND repo_url = $2", "ss",
		    branch, a->repo_url);
	}
	if (rc == OK)
		*ret = TAKE(branch);
	return rc;
}

int branch_is_free(struct tx *tx, const struct agent *a)
{
	int64_t taken = 0;
	int rc = tx_query_int(tx, &taken, "SELECT COUNT(*) FROM agents WHERE branch = $1 AND repo_url = $2", "ss",
	    a->branch, a->repo_url);

	return rc == OK && taken > 0 ? ERR_DENIED : rc;
}
