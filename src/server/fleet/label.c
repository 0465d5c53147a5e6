#include "server/fleet/label.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define PART_MAX 255

char *worker_label(const char *name, const char *id, const char *host)
{
	AUTO_STR clean_name = text_line(name, PART_MAX);
	AUTO_STR clean_id = text_line(id, PART_MAX);
	AUTO_STR clean_host = text_line(host, PART_MAX);
	AUTO_STR place = clean_host[0] != '\0' ? str_printf("%s on %s", clean_id, clean_host) : str_dup(clean_id);

	if (clean_name[0] == '\0' || strcmp(clean_name, clean_id) == 0)
		return TAKE(place);
	return str_printf("%s (%s)", clean_name, place);
}

void worker_names_fini(struct worker_names *n)
{
	str_free(&n->name);
	str_free(&n->host);
}

int worker_names_load(struct tx *tx, int64_t team_id, const char *id, struct worker_names *ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(
	    tx, &q, "SELECT name, host FROM worker_epochs WHERE team_id = $1 AND worker_id = $2", "is", team_id, id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK && rc != ERR_EMPTY)
		return rc;
	ret->name = text_line(rc == OK ? query_str(q, 0) : "", PART_MAX);
	ret->host = text_line(rc == OK ? query_str(q, 1) : "", PART_MAX);
	return OK;
}

int worker_label_load(struct tx *tx, int64_t team_id, const char *id, char **ret)
{
	__attribute__((cleanup(worker_names_fini))) struct worker_names n = {0};
	int rc = worker_names_load(tx, team_id, id, &n);

	if (rc == OK)
		*ret = worker_label(n.name, id, n.host);
	return rc;
}
