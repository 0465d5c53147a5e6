#include "server/notices/notices.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/outbox/outbox.h"
#include <string.h>

#define RESULT_MAX ((size_t)60 * 1024)

static char *payload_of(const struct notice_run *r)
{
	AUTO_JSON o = json_pack("{s:s, s:s, s:s}", "tell", "ended", "run", r->run_id, "status", r->status);
	AUTO_STR cut = r->result != NULL ? text_cut_middle(r->result, strlen(r->result), RESULT_MAX, NULL) : NULL;

	json_put(o, "result", cut);
	json_put(o, "error", r->error);
	json_put(o, "pullUrl", r->pull_url);
	json_put(o, "branch", r->branch);
	return json_text(o);
}

int notice_run_ended(struct tx *tx, const struct notice_run *r)
{
	AUTO_STR payload = NULL;
	int64_t n = 0;
	int rc = tx_query_int(tx, &n, "SELECT COUNT(*) FROM conversations WHERE agent_id = $1", "s", r->agent_id);

	if (rc != OK || n == 0)
		return rc;
	payload = payload_of(r);
	return outbox_add_in_order(tx, NOTICE_KIND, r->agent_id, payload, r->at_ms);
}

int notice_drop(struct tx *tx, const char *agent_id)
{
	int rc = outbox_drop(tx, NOTICE_KIND, agent_id);

	return rc == OK ? tx_exec(tx, "DELETE FROM conversations WHERE agent_id = $1", "s", agent_id) : rc;
}
