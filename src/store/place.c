/* Which database belongs to a data folder. The folder of a server on PostgreSQL has a file that says where that is, so
 * that the commands of an administrator find it, and so that a server that was started without the setting does not
 * begin anew beside what is there. */
#include "base/mem.h"
#include "base/text.h"
#include "store/store_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLACE_MAX 4096

bool store_is_url(const char *place)
{
	return text_has_prefix(place, "postgresql://") || text_has_prefix(place, "postgres://");
}

/* ERR_NOT_FOUND: the folder's database is SQLite. */
static int read_mark(const char *dir, char **ret, struct why *why)
{
	AUTO_STR path = str_printf("%s/" STORE_MARK, dir);
	size_t len = 0;
	int rc = access(path, F_OK) != 0 ? ERR_NOT_FOUND : text_read_file(path, PLACE_MAX, ret, &len);

	if (rc == ERR_NOT_FOUND)
		return rc;
	if (rc == OK && !store_is_url(*ret))
		rc = ERR_INVALID;
	return rc == OK ? OK : why_set(why, rc, "%s cannot be read: %s", path, err_text(rc));
}

static int write_mark(const char *dir, const char *place, struct why *why)
{
	AUTO_STR path = str_printf("%s/" STORE_MARK, dir);
	AUTO_STR fresh = str_printf("%s.new", path);
	int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	size_t len = strlen(place);
	bool ok = fd >= 0 && write(fd, place, len) == (ssize_t)len && fsync(fd) == 0;

	if (fd >= 0)
		ok = close(fd) == 0 && ok;
	if (!ok || rename(fresh, path) != 0)
		return why_set(why, ERR_IO, "%s cannot be written: %s", path, strerror(errno));
	return OK;
}

int store_settle_place(const char *dir, const char *url, const char *password_file, struct why *why)
{
	AUTO_STR marked = NULL;
	AUTO_STR place = NULL;
	int rc = read_mark(dir, &marked, why);

	if (rc != OK && rc != ERR_NOT_FOUND)
		return rc;
	if (url == NULL)
		return rc == ERR_NOT_FOUND
			   ? OK
			   : why_set(why, ERR_CONFLICT,
				 "store.url is not set, but %s belongs to a database in PostgreSQL: set "
				 "it, or name another data folder",
				 dir);
	if (!store_is_url(url))
		return why_set(why, ERR_INVALID, "store.url must be a URL: postgresql://USER@HOST:PORT/DATABASE");
	if (rc == ERR_NOT_FOUND && driver_sqlite.exists(dir))
		return why_set(why, ERR_CONFLICT,
		    "store.url is set, but %s has a database of its own, bullpen.db: name another data folder, or take "
		    "the setting out",
		    dir);
	place = str_printf("%s\n%s", url, password_file != NULL ? password_file : "");
	return marked != NULL && strcmp(marked, place) == 0 ? OK : write_mark(dir, place, why);
}

/* ERR_NOT_FOUND: SQLite in that folder. */
static int find_place(const char *place, char **ret, struct why *why)
{
	if (!store_is_url(place))
		return read_mark(place, ret, why);
	*ret = str_dup(place);
	return OK;
}

bool store_exists(const char *place)
{
	AUTO_STR url = NULL;
	int rc = find_place(place, &url, NULL);

	return rc == OK ? driver_postgresql.exists(url) : rc != ERR_NOT_FOUND || driver_sqlite.exists(place);
}

int store_open(const char *place, struct store **ret, struct why *why)
{
	AUTO_STR url = NULL;
	int rc = find_place(place, &url, why);

	if (rc == ERR_NOT_FOUND)
		return store_open_with(&driver_sqlite, place, ret, why);
	return rc != OK ? rc : store_open_with(&driver_postgresql, url, ret, why);
}

bool store_is_sqlite(const char *dir)
{
	AUTO_STR place = NULL;

	return read_mark(dir, &place, NULL) == ERR_NOT_FOUND && driver_sqlite.exists(dir);
}

/* The mark first: a crash in between leaves a folder whose server is told to use what was copied. */
int store_moved(const char *dir, const char *place, struct why *why)
{
	AUTO_STR from = str_printf("%s/bullpen.db", dir);
	AUTO_STR to = str_printf("%s.copied", from);
	int rc = write_mark(dir, place, why);

	if (rc == OK && rename(from, to) != 0)
		rc = why_set(why, ERR_IO, "%s cannot be renamed: %s", from, strerror(errno));
	return rc;
}
