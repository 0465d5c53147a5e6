/* `bullpen admin account`: whose account at a forge, a chat or a tracker it is. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/options.h"
#include "server/main/admin_priv.h"
#include "server/main/commands.h"
#include "server/access/linked.h"
#include <string.h>

struct account_options {
	const char *data_dir, *email, *surface, *place, *account, *login;
};

static int fail_account(int rc, const struct why *why)
{
	if (rc == ERR_INVALID || rc == ERR_NOT_FOUND)
		return usage_error("%s", why->text);
	fprintf(stderr, "error: %s\n", why->text[0] != '\0' ? why->text : err_text(rc));
	return 1;
}

static int link_in(struct tx *tx, const struct account_options *g, struct why *why)
{
	const struct linked a = {g->surface, g->place, g->account, g->login != NULL ? g->login : g->account};
	AUTO(query) q = NULL;
	int64_t user = 0, team = 0;
	int rc = tx_query(tx, &q, "SELECT id, team_id FROM users WHERE lower(email) = lower($1)", "s", g->email);

	if (rc == OK)
		rc = query_next(q);
	if (rc == ERR_EMPTY)
		return why_set(why, ERR_NOT_FOUND,
		    "nobody has the e-mail address %s: bullpen admin key create --type user makes a person", g->email);
	if (rc != OK)
		return rc;
	user = query_int(q, 0);
	team = query_int(q, 1);
	query_free(&q);
	return linked_add(tx, &(struct audit_by){.team_id = team, .actor = admin_by.actor}, &a, user, clock_wall_ms());
}

static int list_in(struct tx *tx)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT a.surface, a.place, a.account, a.login, COALESCE(u.email, u.name) FROM accounts a JOIN users u ON "
	    "u.id = a.user_id"
	    " ORDER BY a.surface, a.place, a.login",
	    "");

	while (rc == OK && (rc = query_next(q)) == OK)
		printf("%s\t%s\t%s\t%s\t%s\n", query_str(q, 0), query_str(q, 1), query_str(q, 2), query_str(q, 3),
		    query_str(q, 4));
	return rc == ERR_EMPTY ? OK : rc;
}

static int do_account(const char *verb, const struct account_options *g)
{
	struct store *st = NULL;
	struct tx *tx = NULL;
	struct why why = {0};
	int64_t n = 0;
	int rc = admin_open_store(g->data_dir, false, &st);

	if (rc != 0)
		return rc;
	rc = tx_begin(st, strcmp(verb, "list") == 0 ? TX_READ : TX_WRITE, &tx);
	if (rc == OK && strcmp(verb, "list") == 0)
		rc = list_in(tx);
	else if (rc == OK && strcmp(verb, "link") == 0)
		rc = link_in(tx, g, &why);
	else if (rc == OK)
		rc = linked_remove(tx, &admin_by, g->surface, g->place, g->account, &n);
	if (rc == OK && strcmp(verb, "unlink") == 0 && n == 0)
		rc = why_set(
		    &why, ERR_NOT_FOUND, "no such account is linked: bullpen admin account list shows those that are");
	if (rc == OK && strcmp(verb, "list") != 0)
		rc = tx_commit(&tx);
	tx_free(&tx);
	store_close(&st);
	return rc == OK ? 0 : fail_account(rc, &why);
}

static int check_account(const char *verb, const struct account_options *g)
{
	static const char *const surfaces[] = {"github", "gitlab", "gitea", "slack", "linear"};
	bool known = false;

	if (strcmp(verb, "list") == 0)
		return 0;
	for (size_t i = 0; g->surface != NULL && i < ARRAY_LEN(surfaces); i++)
		known = known || strcmp(surfaces[i], g->surface) == 0;
	if (!known)
		return usage_error("--surface must be github, gitlab, gitea, slack or linear");
	if (g->place == NULL)
		return usage_error(
		    "--place is required: the forge's host (github.com), the id of the workspace or organisation");
	if (g->account == NULL)
		return usage_error("--account is required: the id there, which stays when the name changes "
				   "(https://api.github.com/users/NAME has GitHub's)");
	if (strcmp(verb, "link") == 0 && g->email == NULL)
		return usage_error("--email ADDRESS is required: the person whose account it is");
	return 0;
}

int admin_account(int argc, char **argv)
{
	struct account_options g = {0};
	const struct option_row rows[] = {{.name = "data",
					      .value = "DIR",
					      .text = &g.data_dir,
					      .help = "the folder that bullpen serve uses (required)"},
	    {.name = "surface", .value = "NAME", .text = &g.surface, .help = "github, gitlab, gitea, slack or linear"},
	    {.name = "place",
		.value = "PLACE",
		.text = &g.place,
		.help = "the forge's host, the id of the workspace or organisation"},
	    {.name = "account",
		.value = "ID",
		.text = &g.account,
		.help = "the account's id there (unlink: or its name)"},
	    {.name = "login", .value = "NAME", .text = &g.login, .help = "what people call it there; default: the id"},
	    {.name = "email", .value = "ADDRESS", .text = &g.email, .help = "link: the person whose account it is"},
	    {0}};
	const struct options o = {
	    .usage = "bullpen admin account link --data DIR --email ADDRESS --surface NAME --place PLACE --account ID "
		     "[--login NAME]\n"
		     "       bullpen admin account list --data DIR\n"
		     "       bullpen admin account unlink --data DIR --surface NAME --place PLACE --account ID",
	    .about =
		"Whose account at a forge, a chat or a tracker it is: what is asked there runs in that person's name.",
	    .rows = rows,
	    .help_word = true};
	struct option_words words;
	struct why why = {0};
	int rc = options_parse(&o, argc, argv, 1, &words, &why);

	if (rc == ERR_EMPTY) {
		options_help(&o, stdout);
		return 0;
	}
	if (rc != OK)
		return usage_error("%s", why.text);
	if (words.n != 1 ||
	    (strcmp(words.v[0], "link") != 0 && strcmp(words.v[0], "list") != 0 && strcmp(words.v[0], "unlink") != 0))
		return usage_error("usage: bullpen admin account link|list|unlink --data DIR …");
	rc = check_account(words.v[0], &g);
	return rc != 0 ? rc : do_account(words.v[0], &g);
}
