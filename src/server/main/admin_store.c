/* `bullpen admin store copy`: from SQLite in the data folder to PostgreSQL. */
#include "base/mem.h"
#include "base/options.h"
#include "server/main/admin_priv.h"
#include "server/main/commands.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct store_options {
	const char *data_dir, *to, *password_file;
};

static void tell(void *ctx, const char *table, int64_t rows)
{
	int64_t *total = ctx;

	*total += rows;
	printf("%-28s %lld\n", table, (long long)rows);
	fflush(stdout);
}

static int fail_store(const struct why *why)
{
	fprintf(stderr, "error: %s\n", why->text);
	return 1;
}

static int copy_locked(const struct store_options *g, const char *place)
{
	struct why why = {""};
	int64_t rows = 0;

	if (store_copy(g->data_dir, place, tell, &rows, &why) != OK)
		return fail_store(&why);
	if (store_moved(g->data_dir, place, &why) != OK)
		return fail_store(&why);
	printf("%lld rows were copied, each was compared. The data folder belongs to PostgreSQL now: set store.url for "
	       "the "
	       "server. What was before is kept as bullpen.db.copied.\n",
	    (long long)rows);
	return 0;
}

/* A server that writes meanwhile would write what is not copied. */
static int copy(const struct store_options *g, const char *place)
{
	AUTO_STR lock = str_printf("%s/bullpen.lock", g->data_dir);
	struct why why = {""};
	int fd, status;

	if (!store_exists(g->data_dir))
		return usage_error("there is no store in %s: name the data folder of the server", g->data_dir);
	fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0) {
		why_set(&why, ERR_CONFLICT, "a server uses %s: stop it first", g->data_dir);
		status = fail_store(&why);
	} else if (!store_is_sqlite(g->data_dir)) {
		why_set(&why, ERR_CONFLICT, "%s belongs to a database in PostgreSQL already", g->data_dir);
		status = fail_store(&why);
	} else {
		status = copy_locked(g, place);
	}
	if (fd >= 0)
		close(fd);
	return status;
}

int admin_store(int argc, char **argv)
{
	struct store_options g = {0};
	const struct option_row rows[] = {{.name = "data",
					      .value = "DIR",
					      .text = &g.data_dir,
					      .help = "the folder that bullpen serve uses (required)"},
	    {.name = "to",
		.value = "URL",
		.text = &g.to,
		.help = "postgresql://USER@HOST:PORT/DATABASE, an empty database (required)"},
	    {.name = "password-file",
		.value = "FILE",
		.text = &g.password_file,
		.help = "the password for it, one line"},
	    {0}};
	const struct options o = {.usage = "bullpen admin store copy --data DIR --to URL [--password-file FILE]",
	    .about = "Copies the store of a server that is stopped from SQLite to PostgreSQL, and compares each row.",
	    .rows = rows,
	    .help_word = true};
	struct option_words words;
	struct why why = {0};
	AUTO_STR file = NULL;
	AUTO_STR place = NULL;
	int rc = options_parse(&o, argc, argv, 2, &words, &why);

	if (rc == ERR_EMPTY) {
		options_help(&o, stdout);
		return 0;
	}
	if (rc != OK)
		return usage_error("%s", why.text);
	if (words.n != 1 || strcmp(words.v[0], "copy") != 0)
		return usage_error("usage: %s", o.usage);
	if (g.data_dir == NULL || g.to == NULL)
		return usage_error("--data DIR and --to URL are required");
	if (!store_is_url(g.to))
		return usage_error("--to must be a URL: postgresql://USER@HOST:PORT/DATABASE");
	if (g.password_file != NULL && (file = realpath(g.password_file, NULL)) == NULL)
		return usage_error("cannot read %s: %s", g.password_file, strerror(errno));
	place = str_printf("%s\n%s", g.to, file != NULL ? file : "");
	return copy(&g, place);
}
