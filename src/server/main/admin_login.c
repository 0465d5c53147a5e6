/* `bullpen admin login-link`: signs a person in without a key. */
#include "base/mem.h"
#include "server/access/browser.h"
#include "server/access/members.h"
#include "server/main/admin_priv.h"
#include "server/main/commands.h"
#include <string.h>

static int refuse_store(int rc, const struct why *why)
{
	if (rc == ERR_INVALID)
		return usage_error("%s", why->text);
	fprintf(stderr, "error: %s\n", why->text[0] != '\0' ? why->text : err_text(rc));
	return 1;
}

int admin_login_link(const struct login_options *g)
{
	struct store *st = NULL;
	struct why why = {0};
	AUTO_STR secret = NULL;
	enum role role = ROLE_MEMBER;
	const char *url = g->url;
	int rc;

	if (g->email == NULL)
		return usage_error("--email ADDRESS is required: whom the link signs in");
	if (g->role != NULL && !role_parse(g->role, &role))
		return usage_error("--role must be member, auditor, admin or owner, not '%.40s'", g->role);
	if (url == NULL || (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0))
		return usage_error(
		    "--url URL is required: where browsers reach the server, such as https://bullpen.corp.example");
	rc = admin_open_store(g->data_dir, false, &st);
	if (rc != 0)
		return rc;
	rc = login_link_create(st, &admin_by, g->email, g->email, &secret, &why);
	if (rc == OK && g->role != NULL)
		rc = user_set_role(st, &admin_by, g->email, role);
	store_close(&st);
	if (rc != OK)
		return refuse_store(rc, &why);
	/* Behind the #: a browser sends that to nobody, so no log has it. */
	printf("%.*s/login#%s\n", (int)strcspn(url, "#?") - (url[strcspn(url, "#?") - 1] == '/'), url, secret);
	return 0;
}
