/* `bullpen admin key …`: works on the store directly, also while the server runs. */
#include "base/mem.h"
#include "server/access/access.h"
#include "server/main/options.h"
#include <string.h>
#include <errno.h>
#include <sys/stat.h>

static int open_store(const char *data_dir, struct store **ret)
{
	struct why why = {0};

	if (data_dir == NULL)
		return usage_error("--data DIR is required: the folder that bullpen serve uses");
	if (mkdir(data_dir, 0700) != 0 && errno != EEXIST)
		return usage_error("cannot create %s: %s", data_dir, strerror(errno));
	if (store_open(data_dir, ret, &why) != OK) {
		fprintf(stderr, "error: %s\n", why.text);
		return 1;
	}
	return 0;
}

static int key_create(const char *data_dir, const char *type, const char *name, const char *email)
{
	struct store *st = NULL;
	struct why why = {0};
	AUTO_STR key = NULL;
	bool user = type != NULL && strcmp(type, "user") == 0;
	int rc;

	if (type == NULL || (!user && strcmp(type, "service_account") != 0))
		return usage_error("--type must be user or service_account");
	if (name == NULL)
		return usage_error("--name NAME is required");
	rc = open_store(data_dir, &st);
	if (rc != 0)
		return rc;
	rc = access_key_create(st, user ? KEY_USER : KEY_SERVICE_ACCOUNT, name, email, &key, &why);
	store_close(&st);
	if (rc == ERR_INVALID)
		return usage_error("%s", why.text);
	if (rc != OK) {
		fprintf(stderr, "error: %s\n", why.text);
		return 1;
	}
	puts(key);
	return 0;
}

static const char *field(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "-";
}

static int key_list(const char *data_dir)
{
	struct store *st = NULL;
	AUTO_JSON rows = NULL;
	json_t *row;
	size_t i;
	int rc = open_store(data_dir, &st);

	if (rc != 0)
		return rc;
	rc = access_key_list(st, &rows);
	store_close(&st);
	if (rc != OK) {
		fprintf(stderr, "error: the keys cannot be read: %s\n", err_text(rc));
		return 1;
	}
	printf("%-21s %-16s %-7s %-24s %-24s %s\n", "ID", "TYPE", "ENDS IN", "CREATED", "REVOKED", "NAME");
	json_array_foreach(rows, i, row)
	{
		printf("%-21s %-16s %-7s %-24s %-24s %s\n", field(row, "id"), field(row, "type"), field(row, "suffix"),
		    field(row, "createdAt"), field(row, "revokedAt"), field(row, "name"));
	}
	return 0;
}

static int key_revoke(const char *data_dir, const char *which)
{
	struct store *st = NULL;
	int rc;

	if (which == NULL)
		return usage_error("name the key to revoke: its id (bullpen admin key list) or the key itself");
	rc = open_store(data_dir, &st);
	if (rc != 0)
		return rc;
	rc = access_key_revoke(st, which);
	store_close(&st);
	if (rc == OK)
		return 0;
	fprintf(stderr, "error: %s\n", rc == ERR_NOT_FOUND ? "there is no such key" : err_text(rc));
	return 1;
}

int admin_main(int argc, char **argv)
{
	const char *data_dir = NULL, *type = NULL, *name = NULL, *email = NULL, *words[3] = {0};
	const struct option_spec specs[] = {
	    {"--data", &data_dir}, {"--type", &type}, {"--name", &name}, {"--email", &email}, {NULL, NULL}};
	struct why why = {0};
	size_t n;

	if (options_parse(argc, argv, specs, words, ARRAY_LEN(words), &n, &why) != OK)
		return usage_error("%s", why.text);
	if (n < 2 || strcmp(words[0], "key") != 0)
		return usage_error("usage: bullpen admin key create|list|revoke --data DIR …");
	if (n == 2 && strcmp(words[1], "create") == 0)
		return key_create(data_dir, type, name, email);
	if (n == 2 && strcmp(words[1], "list") == 0)
		return key_list(data_dir);
	if (strcmp(words[1], "revoke") == 0)
		return key_revoke(data_dir, words[2]);
	return usage_error("unknown command 'admin key %s': create, list or revoke", words[1]);
}
