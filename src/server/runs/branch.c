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

json_t *agent_git(const struct agent *a)
{
	AUTO_STR url = url_for_people(a->repo_url);

	if (a->pushed_branch == NULL)
		return NULL;
	return json_pack("{s:[{s:s, s:s}]}", "branches", "repoUrl", url, "branch", a->pushed_branch);
}

/* "cursor/<slug>-<4 hex>" from the agent's name. */
char *branch_for(const char *prefix, const char *name)
{
	struct strbuf slug = STRBUF(41);
	char hex[5];

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
	id_hex(hex, 2);
	AUTO_STR s = strbuf_take(&slug);

	return str_printf("%s%s-%s", prefix, s, hex);
}
